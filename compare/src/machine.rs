//! Where it ran.

use std::fs;
use std::thread::available_parallelism;

/// Processor, cores, memory, kernel, and how busy all of it was just before.
pub fn description() -> String {
    let cores = available_parallelism().map_or(1, usize::from);
    let system = rustix::system::uname();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("unknown").to_owned();
    format!(
        "Machine: {cores} cores of {}, {} GiB of memory, {} {}; load average {load} at the start. Built by {}.",
        field("/proc/cpuinfo", "model name"),
        memory_gib(),
        system.sysname().to_string_lossy(),
        system.release().to_string_lossy(),
        if cfg!(debug_assertions) {
            "the debug profile, which proves nothing"
        } else {
            "the release profile"
        },
    )
}

fn memory_gib() -> u64 {
    let kib = field("/proc/meminfo", "MemTotal");
    kib.trim_end_matches(" kB").parse::<u64>().map_or(0, |kib| (kib + (1 << 19)) >> 20)
}

/// The value of the first line `name : value`.
fn field(path: &str, name: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let found = lines.find(|(held, _)| held.trim() == name);
    found.map_or("unknown".to_owned(), |(_, value)| value.trim().to_owned())
}
