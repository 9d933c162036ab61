//! Where the peers are: what each entry of the list of peers leads to, looked up again and again.
//!
//! Each source has a task of its own, so that one that takes long does not keep the others waiting. What a source said last is
//! kept until it says something else: a name server that is down, or a file that is gone, takes no peer away.

mod file;
mod host;
#[cfg(feature = "srv")]
mod srv;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::config::{PEERS_MAX, PeerEntry};
use tallymesh_core::gossip::PeerAddresses;

/// How often names are looked up again: a pod that is replaced has another address.
const LOOK_UP_EVERY: Duration = Duration::from_secs(5);
/// How often names that could not be looked up are, and files are read.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Answers on their way in.
const TOLD_MAX: usize = 64;

/// The entries of the list of peers, and what they lead to.
pub(super) struct PeerSources {
    /// The list.
    wanted: Vec<PeerEntry>,
    /// What is followed: the list, and the lines of its files.
    followed: BTreeMap<PeerEntry, Followed>,
    /// How many lines of files are not followed, since there are too many.
    lines_left_out: usize,
    next_id: u64,
    dns: Dns,
    tell: mpsc::Sender<Told>,
    told: mpsc::Receiver<Told>,
}

struct Followed {
    /// Tells its answers from those of a task that was stopped.
    id: u64,
    /// What it said last; `None` until it has said something.
    found: Option<Found>,
    task: Option<AbortHandle>,
}

impl Drop for Followed {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// What a source leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Found {
    /// These addresses.
    Addresses(Vec<String>),
    /// The lines of a file, each of them a `host:port`.
    Lines(Vec<String>),
}

/// What the task of a source says.
pub(super) struct Told {
    id: u64,
    answer: Answer,
}

enum Answer {
    Found(Found),
    Trouble(Trouble),
}

/// What an operator should know of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// This name of a peer cannot be looked up.
    Unresolved { name: String, error: String },
    /// It says something that is no address of a peer, or cannot be read: a sentence.
    Nonsense(String),
}

/// Which name servers are asked for SRV records.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum Dns {
    /// Those of the system.
    #[default]
    System,
    /// The one at this address.
    #[cfg(all(test, feature = "srv"))]
    At(std::net::SocketAddr),
}

/// What a task answers with.
#[derive(Clone)]
struct Tell {
    id: u64,
    to: mpsc::Sender<Told>,
}

impl Tell {
    /// Returns whether it still matters.
    async fn tell(&self, answer: Answer) -> bool {
        self.to.send(Told { id: self.id, answer }).await.is_ok()
    }

    async fn found(&self, found: Found) -> bool {
        self.tell(Answer::Found(found)).await
    }

    async fn trouble(&self, trouble: Trouble) -> bool {
        self.tell(Answer::Trouble(trouble)).await
    }
}

/// What came of what a source said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It leads somewhere else than before.
    Changed,
    /// It does not.
    Same,
    /// It could not say.
    Trouble(Trouble),
}

impl PeerSources {
    /// No sources yet.
    pub(super) fn new(dns: Dns) -> PeerSources {
        let (tell, told) = mpsc::channel(TOLD_MAX);
        PeerSources {
            wanted: Vec::new(),
            followed: BTreeMap::new(),
            lines_left_out: 0,
            next_id: 0,
            dns,
            tell,
            told,
        }
    }

    /// Makes this the list. What is in it already goes on.
    pub(super) fn set(&mut self, sources: Vec<PeerEntry>) {
        self.wanted = sources;
        self.follow();
    }

    /// What a source says next. Cancelling the future loses nothing.
    pub(super) async fn next(&mut self) -> Told {
        match self.told.recv().await {
            Some(told) => told,
            // We hold a sender ourselves.
            None => std::future::pending().await,
        }
    }

    /// Takes in what a source said.
    pub(super) fn take(&mut self, told: Told) -> Outcome {
        let mut followed = self.followed.values_mut();
        let Some(source) = followed.find(|source| source.id == told.id) else {
            return Outcome::Same;
        };
        match told.answer {
            Answer::Trouble(trouble) => Outcome::Trouble(trouble),
            Answer::Found(found) if source.found.as_ref() == Some(&found) => Outcome::Same,
            Answer::Found(found) => {
                source.found = Some(found);
                self.follow();
                Outcome::Changed
            }
        }
    }

    /// What the sources lead to: at most [`PEERS_MAX`] addresses, and how many are left out.
    pub(super) fn peers(&self) -> (Vec<PeerAddresses>, usize) {
        let (mut known, mut left_out) = (BTreeSet::new(), self.lines_left_out);
        let mut peers = Vec::new();
        for (source, followed) in &self.followed {
            let mut addresses = match &followed.found {
                Some(Found::Addresses(addresses)) => addresses.clone(),
                Some(Found::Lines(_)) => continue,
                None => Vec::new(),
            };
            addresses.retain(|address| {
                let has_room = known.contains(address) || known.len() < PEERS_MAX;
                match has_room {
                    true => drop(known.insert(address.clone())),
                    false => left_out += 1,
                }
                has_room
            });
            peers.push(PeerAddresses { name: source.to_string(), addresses });
        }
        (peers, left_out)
    }

    /// Follows the list and the lines of its files, and nothing else.
    fn follow(&mut self) {
        let mut sources: BTreeSet<PeerEntry> = self.wanted.iter().cloned().collect();
        let lines = self.wanted.iter().filter_map(|source| {
            match self.followed.get(source)?.found.as_ref()? {
                Found::Lines(lines) => Some(lines),
                Found::Addresses(_) => None,
            }
        });
        self.lines_left_out = 0;
        for line in lines.flatten() {
            let host = PeerEntry::Host(line.clone());
            match sources.len() < PEERS_MAX || sources.contains(&host) {
                true => drop(sources.insert(host)),
                false => self.lines_left_out += 1,
            }
        }
        self.followed.retain(|source, _| sources.contains(source));
        for source in sources {
            if !self.followed.contains_key(&source) {
                let followed = self.begin(&source);
                self.followed.insert(source, followed);
            }
        }
    }

    fn begin(&mut self, source: &PeerEntry) -> Followed {
        self.next_id += 1;
        let id = self.next_id;
        let tell = Tell { id, to: self.tell.clone() };
        let task = match source {
            PeerEntry::Host(host) => match host::address_in(host) {
                Some(address) => {
                    let found = Some(Found::Addresses(vec![address]));
                    return Followed { id, found, task: None };
                }
                None => tokio::spawn(host::follow(host.clone(), tell)),
            },
            PeerEntry::File(path) => tokio::spawn(file::follow(path.clone(), tell)),
            #[cfg(feature = "srv")]
            PeerEntry::Srv(name) => tokio::spawn(srv::follow(name.clone(), self.dns, tell)),
            // The config refuses them.
            #[cfg(not(feature = "srv"))]
            PeerEntry::Srv(_) => {
                let Dns::System = self.dns;
                return Followed { id, found: None, task: None };
            }
        };
        Followed { id, found: None, task: Some(task.abort_handle()) }
    }
}
