//! The kinds of faults, and sets of them.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// A kind of fault that a run may inject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Frames are lost, sent twice, delayed and reordered.
    Loss,
    /// Frames arrive with flipped bits, or cut off.
    Corruption,
    /// Cells that cannot be true arrive in frames that are whole.
    Forgery,
    /// Frames arrive long after their time, hours even, over whatever connection there is then.
    Late,
    /// Nodes are cut off from each other, in one direction or both.
    Partition,
    /// A connection comes and goes many times in a row.
    Flapping,
    /// Processes are killed, at rest or in the middle of a write or a send, lose what they had not synced, and start again.
    Crash,
    /// Processes are closed while they are called, and start again.
    Close,
    /// Many processes are killed and started in quick succession.
    Storm,
    /// A record is half written when its process is killed.
    Torn,
    /// A killed process finds its disk empty.
    Wipe,
    /// A killed process finds an old copy of its disk.
    Backup,
    /// A second process is started on a copy of a node's disk.
    Clone,
    /// Syncs fail, and what they were to write is lost although it can still be read.
    DiskError,
    /// The disk is full for a while.
    FullDisk,
    /// Bits flip on the disk, and records vanish.
    BitRot,
    /// Wall clocks are off, drift and jump.
    Clock,
    /// Processes do nothing for a while, longer than a window.
    Pause,
    /// Counters are reset.
    Reset,
    /// Nodes differ in their limits.
    Limits,
    /// Processes with new names and no disk come and go.
    Pods,
    /// A member lies, of itself and of others.
    Lie,
}

impl Fault {
    const ALL: [(Fault, &'static str); 22] = [
        (Fault::Loss, "loss"),
        (Fault::Corruption, "corruption"),
        (Fault::Forgery, "forgery"),
        (Fault::Late, "late"),
        (Fault::Partition, "partition"),
        (Fault::Flapping, "flapping"),
        (Fault::Crash, "crash"),
        (Fault::Close, "close"),
        (Fault::Storm, "storm"),
        (Fault::Torn, "torn"),
        (Fault::Wipe, "wipe"),
        (Fault::Backup, "backup"),
        (Fault::Clone, "clone"),
        (Fault::DiskError, "disk-error"),
        (Fault::FullDisk, "full-disk"),
        (Fault::BitRot, "bit-rot"),
        (Fault::Clock, "clock"),
        (Fault::Pause, "pause"),
        (Fault::Reset, "reset"),
        (Fault::Limits, "limits"),
        (Fault::Pods, "pods"),
        (Fault::Lie, "lie"),
    ];
}

/// Which faults a run may inject.
#[derive(Clone, PartialEq, Eq)]
pub struct Faults(BTreeSet<Fault>);

impl Faults {
    /// All but lies, of which most that is held otherwise would be no fault.
    pub fn all() -> Faults {
        let honest = Fault::ALL.iter().filter(|(fault, _)| *fault != Fault::Lie);
        Faults(honest.map(|(fault, _)| *fault).collect())
    }

    /// None of them.
    pub fn none() -> Faults {
        Faults(BTreeSet::new())
    }

    /// Whether this kind is among them.
    pub fn has(&self, fault: Fault) -> bool {
        self.0.contains(&fault)
    }

    /// How many kinds there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// These, each time without one of them.
    pub fn each_without_one(&self) -> impl Iterator<Item = Faults> + '_ {
        self.0
            .iter()
            .map(|gone| Faults(self.0.iter().filter(|fault| *fault != gone).copied().collect()))
    }
}

impl FromIterator<Fault> for Faults {
    fn from_iter<I: IntoIterator<Item = Fault>>(faults: I) -> Faults {
        Faults(faults.into_iter().collect())
    }
}

impl FromStr for Faults {
    type Err = String;

    fn from_str(text: &str) -> Result<Faults, String> {
        match text {
            "all" => return Ok(Faults::all()),
            "none" => return Ok(Faults::none()),
            _ => {}
        }
        let fault = |name: &str| {
            let known = Fault::ALL.iter().find(|(_, known)| *known == name);
            known.map(|(fault, _)| *fault).ok_or_else(|| {
                let names: Vec<&str> = Fault::ALL.iter().map(|(_, name)| *name).collect();
                format!("{name:?} is no fault; use all, none, or some of {}", names.join(","))
            })
        };
        text.split(',').map(fault).collect()
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = Fault::ALL.iter().filter(|(fault, _)| self.has(*fault));
        let names: Vec<&str> = named.map(|(_, name)| *name).collect();
        f.write_str(if names.is_empty() { "none" } else { "" })?;
        f.write_str(&names.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_and_refused_with_what_is_allowed() {
        let some: Faults = "loss,crash".parse().unwrap();
        assert_eq!(some.to_string(), "loss,crash");
        assert_eq!("none".parse::<Faults>().unwrap().to_string(), "none");
        assert_eq!("all".parse::<Faults>().unwrap().len(), Fault::ALL.len() - 1);
        assert!("lost".parse::<Faults>().unwrap_err().contains("disk-error"));
    }
}
