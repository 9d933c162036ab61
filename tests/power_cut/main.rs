//! A node's directory is rebuilt as a loss of power at a random moment may have left it, from a recording of everything
//! that the node did to its files, and the node opened on it is held to what it had acknowledged by that moment.
//!
//! `TALLYMESH_POWER_CUTS` sets how many cuts (400), `TALLYMESH_SEED` draws the same cuts of a recording that is much the
//! same. A failure keeps the directory. What records is a library that `LD_PRELOAD` puts before the system's, so this is for Linux.
#![cfg(target_os = "linux")]

mod rebuild;
mod record;

use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use rand::RngExt;
use rand::rngs::StdRng;
use rebuild::{Disk, Fate, Syncs};
use record::Record;
use tallymesh::Limiter;
use tallymesh_test_support::load::{self, Load, SESSIONS};
use tallymesh_test_support::{child, copy_dir, seed};

/// How often what one cut left is the beginning of the next recording.
const GENERATIONS: u64 = 4;

fn cuts() -> u64 {
    seed::number("TALLYMESH_POWER_CUTS").unwrap_or(400)
}

/// Builds the recorder; `None` where there is no C compiler.
fn recorder(dir: &Path) -> Option<PathBuf> {
    let library = dir.join("recorder.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/power_cut/recorder.c");
    let mut compile = Command::new("cc");
    compile.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(&library).arg(source);
    match compile.args(["-ldl", "-lpthread"]).output() {
        Ok(output) => {
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{errors}");
            Some(library)
        }
        Err(error) => {
            eprintln!("skipped: no C compiler to build the recorder with: {error}");
            None
        }
    }
}

fn load(root: &Path) -> Load {
    Load {
        data_dir: root.join("a"),
        report_to: Some(notes(root)),
        every: None,
        peer: None,
        lives: 2,
        callers: 2,
        calls: 25,
        beside: 20,
        durable: true,
        flushes: false,
    }
}

fn notes(root: &Path) -> PathBuf {
    root.join("notes")
}

/// A node's doings on a directory, and what it must hold at the start of them.
struct Recording {
    root: PathBuf,
    /// What was in the directory before.
    before: PathBuf,
    owed: Owed,
    records: Vec<Record>,
}

impl Recording {
    /// Runs a node in `dir` on a copy of `before`.
    fn make(dir: &Path, recorder: &Path, before: PathBuf, owed: Owed) -> Recording {
        let root = dir.canonicalize().unwrap().join("root");
        copy_dir(&before, &root);
        let load = load(&root);
        std::fs::write(notes(&root), "").unwrap();
        let log = dir.join("log");
        let mut child = child::spawn(&load, |command| {
            command.env("LD_PRELOAD", recorder).env("RECORDER_ROOT", &root);
            command.env("RECORDER_NOTES", notes(&root)).env("RECORDER_LOG", &log);
        });
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(child.wait().unwrap().success(), "{said}");
        Recording { records: record::read(&log).unwrap(), root, before, owed }
    }

    /// The directory as cut off after this many records, and what must be in it.
    fn cut(&self, after: usize, at: &Path, fate: &mut Fate<'_>, syncs: Syncs) -> Owed {
        let mut disk = Disk::holding(&self.root, &self.before, syncs);
        let mut owed = self.owed.clone();
        for record in &self.records[..after] {
            disk.play(record);
            if let Record::Noted(line) = record {
                owed.note(line);
            }
        }
        disk.rebuild(at, fate);
        owed
    }

    /// A moment at which something other than a remark has just been written down; every other time during a start, when
    /// the database is put in order.
    fn draw(&self, random: &mut StdRng) -> usize {
        let starts: Vec<usize> = self.starts().flatten().collect();
        loop {
            let at = match random.random() {
                true => starts[random.random_range(0..starts.len())],
                false => random.random_range(0..self.records.len()),
            };
            if !matches!(self.records[at], Record::Noted(_)) {
                return at + 1;
            }
        }
    }

    /// From where the directory is locked to where the node says that it is open.
    fn starts(&self) -> impl Iterator<Item = Range<usize>> {
        let locked = |record: &Record| matches!(record, Record::Opened { path, .. } if path.ends_with("LOCK"));
        let opened =
            |record: &Record| matches!(record, Record::Noted(line) if line.starts_with("opened"));
        let begins = (0..self.records.len()).filter(move |at| locked(&self.records[*at]));
        begins.map(move |begin| {
            let length = self.records[begin..].iter().position(opened).unwrap();
            begin..begin + length
        })
    }
}

/// What must be found: at least what was acknowledged, at most what was tried, and a boot number not used yet.
#[derive(Debug, Clone, Default)]
struct Owed {
    boot: u64,
    acknowledged: [u64; SESSIONS.len()],
    tried: [u64; SESSIONS.len()],
}

impl Owed {
    fn note(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let index_of = |session| SESSIONS.iter().position(|known| *known == session).unwrap();
        match words[..] {
            ["opened", boot, _] => self.boot = boot.parse().unwrap(),
            ["holds", session, value] => {
                let value = value.parse().unwrap();
                (self.acknowledged[index_of(session)], self.tried[index_of(session)]) =
                    (value, value);
            }
            ["tries", session] => self.tried[index_of(session)] += 1,
            ["counted", session, _] => self.acknowledged[index_of(session)] += 1,
            _ => {}
        }
    }

    /// Opens the node, and says what is wrong if anything is.
    fn verify(&self, at: &Path) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let opened = Limiter::open(load(at).config()).await;
            let limiter = opened.map_err(|error| format!("it does not open: {error}"))?;
            let verdict = self.compare(&limiter);
            limiter.close().await.map_err(|error| format!("it does not close: {error}"))?;
            verdict
        })
    }

    fn compare(&self, limiter: &Limiter) -> Result<(), String> {
        let boot = limiter.counters().replica().incarnation.boot;
        if boot <= self.boot {
            return Err(format!("boot {boot} after boot {} was in use", self.boot));
        }
        // What the very first start left half made is kept too, since nothing tells that it was empty.
        let was_open = self.boot > 0;
        if let Some(aside) = limiter.counters().set_aside().filter(|_| was_open) {
            return Err(format!("it is taken for damage, and kept at {}", aside.display()));
        }
        for (index, session) in SESSIONS.iter().enumerate() {
            let (value, least) = (load::value(limiter, session), self.acknowledged[index]);
            if value < least {
                return Err(format!("{session} holds {value}, and {least} were acknowledged"));
            }
            if value > self.tried[index] {
                return Err(format!("{session} holds {value} of {} tried", self.tried[index]));
            }
        }
        Ok(())
    }
}

/// What an examination of the directory says.
fn damage(dir: &Path) -> String {
    match tallymesh::check(dir.join("a")) {
        Ok(report) => format!("damage {:?}", report.damage),
        Err(error) => format!("it cannot be examined: {error}"),
    }
}

fn fate(number: u64, random: &mut StdRng) -> Fate<'_> {
    match number % 8 {
        0 => Fate::Lost,
        1 => Fate::Kept,
        2 | 3 => Fate::NamesLost,
        4 | 5 => Fate::Random(random, 4096),
        _ => Fate::Random(random, 512),
    }
}

/// Does nothing unless [`child::spawn`] asks for it.
#[test]
fn a_process_of_its_own_runs_the_load_that_it_is_asked_to() {
    child::run_if_asked();
}

#[test]
fn nothing_acknowledged_is_missing_after_a_loss_of_power() {
    let (seed, mut random) = seed::generator();
    let dir = tempfile::tempdir().unwrap();
    let Some(recorder) = recorder(dir.path()) else { return };
    let (mut before, mut owed) = (dir.path().join("empty"), Owed::default());
    std::fs::create_dir(&before).unwrap();
    let mut wrong = Vec::new();
    for generation in 0..GENERATIONS {
        let root = dir.path().join(format!("generation-{generation}"));
        std::fs::create_dir(&root).unwrap();
        let recording = Recording::make(&root, &recorder, before.clone(), owed.clone());
        for number in 0..cuts().div_ceil(GENERATIONS) {
            let at = root.join(format!("cut-{number}"));
            let cut = recording.draw(&mut random);
            let owed = recording.cut(cut, &at, &mut fate(number, &mut random), Syncs::Hold);
            let kept = at.with_extension("as-cut");
            copy_dir(&at, &kept);
            match owed.verify(&at) {
                Ok(()) => std::fs::remove_dir_all(&kept).unwrap(),
                Err(why) => {
                    let all = recording.records.len();
                    let name = format!("generation {generation}, cut {number}");
                    let found = damage(&kept);
                    wrong.push(format!("{name} after {cut} of {all} records: {why}; {found}"));
                }
            }
            std::fs::remove_dir_all(&at).unwrap();
        }
        // The next recording begins in the middle of this one.
        before = root.join("next");
        let cut = recording.draw(&mut random);
        let mut fate = Fate::Random(&mut random, 4096);
        owed = recording.cut(cut, &before, &mut fate, Syncs::Hold);
        let copy = root.join("next-opened");
        copy_dir(&before, &copy);
        let verdict = owed.verify(&copy);
        wrong.extend(verdict.err().map(|why| format!("generation {generation}, its end: {why}")));
    }
    if !wrong.is_empty() {
        let (kept, number) = (dir.keep(), wrong.len());
        let some = wrong[..number.min(10)].join("\n");
        panic!("seed {seed}, kept in {}: {number} went wrong:\n{some}", kept.display());
    }
}

#[test]
fn without_syncs_of_files_acknowledged_counts_are_found_missing() {
    let (seed, mut random) = seed::generator();
    let dir = tempfile::tempdir().unwrap();
    let Some(recorder) = recorder(dir.path()) else { return };
    let before = dir.path().join("empty");
    std::fs::create_dir(&before).unwrap();
    let recording = Recording::make(dir.path(), &recorder, before, Owed::default());
    let mut missing = 0;
    for number in 0..10 {
        let at = dir.path().join(format!("cut-{number}"));
        let mut fate = Fate::Random(&mut random, 4096);
        let cut = recording.records.len() * (number + 5) / 15;
        let owed = recording.cut(cut, &at, &mut fate, Syncs::OfDirectoriesOnly);
        missing += u64::from(owed.verify(&at).is_err());
    }
    assert!(missing >= 8, "seed {seed}: of 10 cuts only {missing} lost something");
}
