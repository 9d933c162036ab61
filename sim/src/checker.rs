//! What really happened, and what must therefore hold.

use std::collections::{BTreeMap, BTreeSet};

use tallymesh::{CounterKey, CounterState, ReplicaId, Timestamp};

/// The truth about one counter.
#[derive(Debug, Default)]
struct Truth {
    /// What each replica really counted, over all its generations.
    counted: BTreeMap<ReplicaId, (u64, u64)>,
    was_reset: bool,
}

/// The ghost that sees everything at once.
#[derive(Debug, Default)]
pub struct Checker {
    truth: BTreeMap<CounterKey, Truth>,
    /// What each replica was told to be durable, by counter.
    acknowledged: BTreeMap<ReplicaId, BTreeMap<CounterKey, u64>>,
    replicas: BTreeSet<ReplicaId>,
    /// Something that was counted may be lost: a process was killed, or a disk failed.
    pub may_lose: bool,
}

/// A broken promise, and the counter that shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub invariant: &'static str,
    pub what: String,
    pub counter: Option<String>,
}

type Checked = Result<(), Violation>;

fn broken(invariant: &'static str, key: Option<&CounterKey>, what: String) -> Checked {
    Err(Violation { invariant, what, counter: key.map(ToString::to_string) })
}

impl Checker {
    /// I1: a new life must write under an id that nobody ever had.
    pub fn born(&mut self, replica: &ReplicaId) -> Checked {
        if !self.replicas.insert(replica.clone()) {
            return broken("I1", None, format!("{replica} lives twice"));
        }
        Ok(())
    }

    /// Something was admitted, or counted otherwise.
    pub fn counted(&mut self, key: &CounterKey, replica: &ReplicaId, cost: u64) {
        let truth = self.truth.entry(key.clone()).or_default();
        truth.counted.entry(replica.clone()).or_default().0 += cost;
    }

    pub fn refunded(&mut self, key: &CounterKey, replica: &ReplicaId, cost: u64) {
        let truth = self.truth.entry(key.clone()).or_default();
        truth.counted.entry(replica.clone()).or_default().1 += cost;
    }

    pub fn reset(&mut self, key: &CounterKey) {
        self.truth.entry(key.clone()).or_default().was_reset = true;
    }

    /// I5: however few hear of each other, each life admits at most the limit.
    pub fn admitted_at_most(&self, key: &CounterKey, max: u64) -> Checked {
        let Some(truth) = self.truth.get(key).filter(|truth| !truth.was_reset) else {
            return Ok(());
        };
        let admitted: u64 = truth.counted.values().map(|(p, n)| p - n).sum();
        let lives = truth.counted.len() as u64;
        if admitted > lives * max {
            let what = format!("{admitted} admitted by {lives} lives under a limit of {max}");
            return broken("I5", Some(key), what);
        }
        Ok(())
    }

    /// I7: who denies for want of room must be right.
    pub fn denied(&self, key: &CounterKey, cost: u64, max: u64) -> Checked {
        let truth = self.truth.get(key);
        if truth.is_some_and(|truth| truth.was_reset) {
            return Ok(());
        }
        let counted: u64 = truth.map_or(0, |truth| truth.counted.values().map(|(p, _)| p).sum());
        if counted + cost <= max {
            let what = format!("denied {cost} although {counted} of {max} were ever counted");
            return broken("I7", Some(key), what);
        }
        Ok(())
    }

    /// I2: nobody holds more of a cell than its owner ever counted.
    pub fn holds(&self, holder: &ReplicaId, counter: &CounterState) -> Checked {
        let truth = self.truth.get(&counter.key);
        for (replica, cell) in &counter.cells {
            let (p, n) =
                truth.and_then(|truth| truth.counted.get(replica)).copied().unwrap_or_default();
            if cell.p > p || cell.n > n {
                let what = format!(
                    "{holder} holds +{} -{} of {replica}, which counted +{p} -{n}",
                    cell.p, cell.n
                );
                return broken("I2", Some(&counter.key), what);
            }
        }
        Ok(())
    }

    /// A checkpoint was reported to be durable: these are the replica's own cells in it.
    pub fn acknowledged(&mut self, replica: &ReplicaId, counters: &[CounterState]) {
        let own = counters.iter().filter_map(|counter| {
            let cell = counter.cells.iter().find(|(owner, _)| owner == replica)?;
            Some((counter.key.clone(), cell.1.p))
        });
        self.acknowledged.insert(replica.clone(), own.collect());
    }

    /// Nothing acknowledged as durable is missing after a restart.
    pub fn recovered(
        &self,
        now: Timestamp,
        former: &ReplicaId,
        counters: &[CounterState],
    ) -> Checked {
        let by_key: BTreeMap<&CounterKey, &CounterState> =
            counters.iter().map(|counter| (&counter.key, counter)).collect();
        let present = |key: &CounterKey| key.window().is_none_or(|window| window.end() > now);
        let acknowledged = self.acknowledged.get(former).into_iter().flatten();
        for (key, p) in acknowledged.filter(|(key, _)| present(key)) {
            if self.truth.get(key).is_some_and(|truth| truth.was_reset) {
                continue;
            }
            let found = by_key.get(key).and_then(|counter| {
                counter.cells.iter().find(|(owner, _)| owner == former).map(|(_, cell)| cell.p)
            });
            if found.unwrap_or(0) < *p {
                let what = format!("{former} had {p} durable, and {found:?} was found again");
                return broken("durability", Some(key), what);
            }
        }
        Ok(())
    }

    pub fn forget_disk(&mut self, replica: &ReplicaId) {
        self.acknowledged.remove(replica);
    }

    /// I4: at the end, nothing is missing that nobody was allowed to lose, and nothing is there that nobody counted.
    pub fn accounts(&self, now: Timestamp, counters: &[CounterState]) -> Checked {
        let values: BTreeMap<&CounterKey, u64> =
            counters.iter().map(|counter| (&counter.key, counter.value)).collect();
        let present = |key: &CounterKey| key.window().is_none_or(|window| window.end() > now);
        for (key, truth) in self.truth.iter().filter(|(key, _)| present(key)) {
            if truth.was_reset {
                continue;
            }
            let p: u64 = truth.counted.values().map(|(p, _)| p).sum();
            let n: u64 = truth.counted.values().map(|(_, n)| n).sum();
            let value = values.get(key).copied();
            let lost = value.is_none_or(|value| value < p.saturating_sub(n));
            if lost && !self.may_lose {
                let what = format!("+{p} -{n} were counted and {value:?} is held");
                return broken("I4", Some(key), what);
            }
            if value.is_some_and(|value| value > p) {
                let what = format!("{value:?} is held and only {p} were counted");
                return broken("I4", Some(key), what);
            }
        }
        Ok(())
    }
}
