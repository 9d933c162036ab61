//! Clocks, memory, directories and tables.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use hdrhistogram::Histogram;
use tallymesh::{Config, CounterKey};
use tempfile::TempDir;

pub const MIB: f64 = 1024.0 * 1024.0;

/// The time, which a benchmark may read.
#[allow(clippy::disallowed_methods)]
pub fn now() -> Instant {
    Instant::now()
}

/// An empty directory on a disk: below `base`, or else where temporary files go that survive a restart of the machine.
pub fn fresh_dir(base: Option<PathBuf>) -> TempDir {
    let base = base.unwrap_or_else(|| PathBuf::from("/var/tmp"));
    let dir = TempDir::with_prefix_in("tallymesh-disk-", &base).expect("the directory is writable");
    assert!(
        !file_system_of(dir.path()).contains("tmpfs"),
        "{} is in memory: set TALLYMESH_BENCH_DIR to a directory on a disk",
        base.display()
    );
    dir
}

/// The mount that a path is on: device, type and place.
pub fn file_system_of(path: &Path) -> String {
    let path = path.canonicalize().expect("the directory is there");
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mut found = (String::from("unknown file system"), 0);
    for mount in mounts.lines() {
        let mut fields = mount.split(' ');
        let (Some(device), Some(at), Some(kind)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        // The last of several mounts in one place is the one that is seen.
        if path.starts_with(at) && at.len() >= found.1 {
            found = (format!("{kind} on {device}, mounted at {at}"), at.len());
        }
    }
    found.0
}

/// Memory of this process that is in RAM, in bytes.
pub fn resident_bytes() -> f64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux tells about processes");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok());
    kib.expect("Linux tells the resident size") * 1024.0
}

/// Disk space that the files below a directory take, in bytes.
pub fn disk_bytes(dir: &Path) -> f64 {
    let mut bytes = 0;
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        // sled removes files of its own at any time, so one that is gone is no error.
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => left.push(entry.path()),
                Ok(metadata) => bytes += metadata.blocks() * 512,
                Err(_) => {}
            }
        }
    }
    bytes as f64
}

/// A histogram of latencies in nanoseconds, up to a minute.
pub fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are in order")
}

pub fn milliseconds(nanoseconds: u64) -> String {
    format!("{:.2} ms", nanoseconds as f64 / 1e6)
}

/// Keys of 44 bytes, as a limit per session makes them.
pub fn keys(count: usize) -> Vec<CounterKey> {
    let key = |n| {
        CounterKey::new("tool calls per session", &[&format!("session-{n:08}")])
            .expect("a short key")
    };
    (0..count).map(key).collect()
}

/// A node without peers, with counters that live for `ttl_seconds` after their last change. It writes when asked to, so that
/// each change of a counter makes one write.
pub fn config(dir: &Path, ttl_seconds: u64) -> Config {
    // A JSON string is a TOML string.
    let dir = serde_json::to_string(dir).expect("the path is text");
    let text = format!(
        "[node]\nid = \"bench\"\ndata_dir = {dir}\n[storage]\npersist_every = \"60s\"\n\
         [counters]\nttl = \"{ttl_seconds}s\"\ngrace = \"1s\""
    );
    Config::from_toml(&text).expect("the settings are valid")
}

/// Prints the head of a table.
pub fn head(columns: &[&str]) {
    println!("| {} |\n|{}", columns.join(" | "), "---|".repeat(columns.len()));
}

/// Prints a row of a table.
pub fn row(cells: &[String]) {
    println!("| {} |", cells.join(" | "));
}
