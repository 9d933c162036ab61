//! Whether the process may open as many sockets as connections are allowed.

#[cfg(any(unix, test))]
use tallymesh_core::gossip::STRANGERS_MAX;

/// So many descriptors are for what is no link: connections that have not proven or said who they are, and the database, the event
/// loops, standard streams.
#[cfg(any(unix, test))]
const RESERVED: u64 = STRANGERS_MAX as u64 + 64;

/// How many connections can be held, and what an operator is told if those are fewer than are allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Room {
    pub connections_max: usize,
    pub lacks: Option<String>,
}

/// How many of these connections the process may open. Raises its limit if that is allowed and needed.
pub(super) fn make_room(connections_max: usize) -> Room {
    #[cfg(unix)]
    if let Some(limit) = unix::raised(needed(connections_max)) {
        return room(connections_max, limit);
    }
    Room { connections_max, lacks: None }
}

#[cfg(any(unix, test))]
fn needed(connections_max: usize) -> u64 {
    RESERVED.saturating_add(connections_max as u64)
}

/// What fits where the process may open so many files.
#[cfg(any(unix, test))]
fn room(connections_max: usize, limit: u64) -> Room {
    if limit >= needed(connections_max) {
        return Room { connections_max, lacks: None };
    }
    // A process without any room is no use, and the system refuses what it refuses.
    let fits = limit.saturating_sub(RESERVED).max(1);
    let lacks = format!(
        "gossip.max_connections is {connections_max}, and the process may open {limit} files at once, {RESERVED} of which are for \
         other things: no more than {fits} connections are held; raise the limit (`ulimit -n`, `LimitNOFILE`) to {}, or lower \
         gossip.max_connections",
        needed(connections_max)
    );
    Room { connections_max: usize::try_from(fits).unwrap_or(connections_max), lacks: Some(lacks) }
}

#[cfg(unix)]
mod unix {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    use crate::log_line;

    /// How many files the process may open at once, after that was raised to what is needed if it may be; `None` if there is no
    /// limit.
    pub(super) fn raised(needed: u64) -> Option<u64> {
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        let soft = current?;
        let wanted = needed.min(maximum.unwrap_or(u64::MAX));
        if wanted <= soft {
            return Some(soft);
        }
        // Some systems refuse more than a bound of the kernel's, whatever the limit says.
        if setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).is_err() {
            return Some(soft);
        }
        log_line::write(|| {
            tracing::info!(
                from = soft,
                to = wanted,
                "the limit of open files was raised for this process, so that gossip.max_connections fit"
            );
        });
        Some(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_connections_are_held_as_fit_and_it_is_said_when_those_are_fewer() {
        assert_eq!(room(2_048, 2_176), Room { connections_max: 2_048, lacks: None });
        let Room { connections_max, lacks } = room(2_048, 1_024);
        assert_eq!(connections_max, 896);
        let lacks = lacks.unwrap();
        for part in ["max_connections is 2048", "1024 files", "no more than 896", "to 2176"] {
            assert!(lacks.contains(part), "{part}: {lacks}");
        }
        assert_eq!(room(2_048, 10).connections_max, 1);
    }
}
