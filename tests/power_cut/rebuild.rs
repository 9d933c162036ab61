//! A directory as a loss of power may leave it.
//!
//! Certain is what a sync that has ended covered: all that was done to the file, or in the directory, before that sync
//! began. Of the rest, each block of a file is as of any moment since, its length is as of any moment since, and each name
//! made, changed or removed in a directory since is there or not.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rand::RngExt;
use rand::rngs::StdRng;

use crate::record::Record;

/// What happens to that which is not certain.
pub enum Fate<'a> {
    Lost,
    Kept,
    /// All is kept but new names: what was removed before they were certain is gone, and what was to replace it too.
    NamesLost,
    /// By the toss of a coin, in blocks of this many bytes.
    Random(&'a mut StdRng, usize),
}

/// Which syncs are believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syncs {
    Hold,
    /// Files are never certain, as if there were no more than `sync_file_range`.
    OfDirectoriesOnly,
}

/// A file or directory: what was done to it and when, and up to when that is certain.
#[derive(Default)]
struct Node {
    is_dir: bool,
    /// What a directory holds at the moment.
    names: BTreeMap<OsString, usize>,
    changes: Vec<(usize, Change)>,
    certain: usize,
}

#[derive(Clone)]
enum Change {
    Written(usize, Vec<u8>),
    Resized(usize),
    Named(OsString, usize),
    Renamed(OsString, OsString, usize),
    Unnamed(OsString),
}

/// The files under one directory at one moment of a recording.
pub struct Disk {
    root: PathBuf,
    nodes: Vec<Node>,
    handles: HashMap<u64, usize>,
    begun: HashMap<u64, usize>,
    now: usize,
    syncs: Syncs,
}

impl Disk {
    /// What was under the recorded directory before the recording: certain, all of it.
    pub fn holding(root: &Path, copy: &Path, syncs: Syncs) -> Disk {
        let nodes = vec![Node { is_dir: true, ..Node::default() }];
        let (handles, begun) = (HashMap::new(), HashMap::new());
        let mut disk = Disk { root: root.to_owned(), nodes, handles, begun, now: 0, syncs };
        disk.take_in(0, copy);
        disk.now = 1;
        disk.nodes.iter_mut().for_each(|node| node.certain = 1);
        disk
    }

    fn take_in(&mut self, dir: usize, copy: &Path) {
        for entry in std::fs::read_dir(copy).unwrap().map(Result::unwrap) {
            let is_dir = entry.file_type().unwrap().is_dir();
            let node = self.make(dir, entry.file_name(), is_dir);
            match is_dir {
                true => self.take_in(node, &entry.path()),
                false => {
                    let bytes = std::fs::read(entry.path()).unwrap();
                    self.change(node, Change::Written(0, bytes));
                }
            }
        }
    }

    /// Goes on by one record.
    pub fn play(&mut self, record: &Record) {
        self.now += 1;
        match record {
            Record::Noted(_) => {}
            Record::Opened { handle, created: true, path } => {
                let (dir, name) = self.parent(path);
                let node = self.make(dir, name, false);
                self.handles.insert(*handle, node);
            }
            Record::Opened { handle, created: false, path } => {
                let node = self.find(path);
                self.handles.insert(*handle, node);
            }
            Record::Written { handle, offset, data } => {
                self.change(self.handles[handle], Change::Written(*offset as usize, data.clone()));
            }
            Record::Resized { handle, length } => {
                self.change(self.handles[handle], Change::Resized(*length as usize));
            }
            Record::SyncBegan { sync } => {
                self.begun.insert(*sync, self.now);
            }
            Record::SyncEnded { handle, sync } => {
                let node = &mut self.nodes[self.handles[handle]];
                if node.is_dir || self.syncs == Syncs::Hold {
                    node.certain = node.certain.max(self.begun[sync]);
                }
            }
            Record::Renamed { from, to } => {
                let ((dir, from), (to_dir, to)) = (self.parent(from), self.parent(to));
                assert_eq!(dir, to_dir, "renames across directories are not played");
                let node = self.nodes[dir].names.remove(&from).unwrap();
                self.nodes[dir].names.insert(to.clone(), node);
                self.change(dir, Change::Renamed(from, to, node));
            }
            Record::MadeDir { path } => {
                let (dir, name) = self.parent(path);
                self.make(dir, name, true);
            }
            Record::Removed { path } | Record::RemovedDir { path } => {
                let (dir, name) = self.parent(path);
                self.nodes[dir].names.remove(&name).unwrap();
                self.change(dir, Change::Unnamed(name));
            }
        }
    }

    fn make(&mut self, dir: usize, name: OsString, is_dir: bool) -> usize {
        let node = self.nodes.len();
        self.nodes.push(Node { is_dir, ..Node::default() });
        self.nodes[dir].names.insert(name.clone(), node);
        self.change(dir, Change::Named(name, node));
        node
    }

    fn change(&mut self, node: usize, change: Change) {
        self.nodes[node].changes.push((self.now, change));
    }

    fn find(&self, path: &Path) -> usize {
        let inside = path.strip_prefix(&self.root).unwrap();
        inside.iter().fold(0, |dir, name| self.nodes[dir].names[name])
    }

    fn parent(&self, path: &Path) -> (usize, OsString) {
        (self.find(path.parent().unwrap()), path.file_name().unwrap().to_owned())
    }

    /// Makes the directory what a loss of power at this moment may leave.
    pub fn rebuild(&self, at: &Path, fate: &mut Fate<'_>) {
        self.rebuild_dir(&self.nodes[0], at, fate);
    }

    fn rebuild_dir(&self, dir: &Node, at: &Path, fate: &mut Fate<'_>) {
        std::fs::create_dir_all(at).unwrap();
        let mut names = BTreeMap::new();
        for (when, change) in &dir.changes {
            let happens = *when < dir.certain
                || match fate {
                    Fate::Lost => false,
                    Fate::Kept => true,
                    Fate::NamesLost => matches!(change, Change::Unnamed(_)),
                    Fate::Random(random, _) => random.random(),
                };
            match change {
                Change::Named(name, node) if happens => {
                    names.insert(name, *node);
                }
                Change::Unnamed(name) if happens => {
                    names.remove(name);
                }
                // What is lost of a rename is all of it: a name is in one place or the other.
                Change::Renamed(from, to, node) if happens => {
                    names.remove(from);
                    names.insert(to, *node);
                }
                _ => {}
            }
        }
        for (name, node) in names {
            let (node, at) = (&self.nodes[node], at.join(name));
            match node.is_dir {
                true => self.rebuild_dir(node, &at, fate),
                false => std::fs::write(at, node.contents(fate)).unwrap(),
            }
        }
    }
}

impl Node {
    fn contents(&self, fate: &mut Fate<'_>) -> Vec<u8> {
        let certain = self.changes.partition_point(|(when, _)| *when < self.certain);
        let mut contents = Vec::new();
        self.changes[..certain].iter().for_each(|(_, change)| apply(&mut contents, change));
        let open = &self.changes[certain..];
        match fate {
            Fate::Lost => {}
            Fate::Kept | Fate::NamesLost => {
                open.iter().for_each(|(_, change)| apply(&mut contents, change))
            }
            Fate::Random(random, block) => mix(&mut contents, open, random, *block),
        }
        contents
    }
}

fn apply(contents: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Written(offset, data) => {
            let end = offset + data.len();
            contents.resize(contents.len().max(end), 0);
            contents[*offset..end].copy_from_slice(data);
        }
        Change::Resized(length) => contents.resize(*length, 0),
        _ => unreachable!("names are in directories"),
    }
}

/// Leaves each block, and the length, as of a moment of its own.
fn mix(contents: &mut Vec<u8>, open: &[(usize, Change)], random: &mut StdRng, block: usize) {
    let certain_length = contents.len();
    let (mut lengths, mut length) = (vec![certain_length], certain_length);
    let mut touched: BTreeMap<usize, Vec<&Change>> = BTreeMap::new();
    for (_, change) in open {
        let blocks = match change {
            Change::Written(offset, data) => {
                length = length.max(offset + data.len());
                offset / block..(offset + data.len()).div_ceil(block)
            }
            Change::Resized(to) => {
                let from = length.max(certain_length);
                length = *to;
                to / block..from.div_ceil(block)
            }
            _ => unreachable!("names are in directories"),
        };
        lengths.push(length);
        blocks.for_each(|number| touched.entry(number).or_default().push(change));
    }
    contents.resize(lengths.iter().copied().max().unwrap_or_default(), 0);
    for (number, changes) in touched {
        let (start, end) = (number * block, ((number + 1) * block).min(contents.len()));
        let happen = random.random_range(0..=changes.len());
        for change in &changes[..happen] {
            match change {
                Change::Written(offset, data) => {
                    let (from, to) = (start.max(*offset), end.min(offset + data.len()));
                    contents[from..to].copy_from_slice(&data[from - offset..to - offset]);
                }
                Change::Resized(to) => contents[start.max(*to).min(end)..end].fill(0),
                _ => unreachable!("names are in directories"),
            }
        }
    }
    contents.truncate(lengths[random.random_range(0..lengths.len())]);
}
