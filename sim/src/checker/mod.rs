//! What really happened, and what must therefore be true: an oracle that sees everything at once.
//!
//! Two ledgers: what each replica really counted (by call), and every state that it gave a version to (by stamp). The
//! first says what decisions and totals may be, the second what others may hold.

mod disk;
mod stamps;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use tallymesh_core::crdt::Cell;
use tallymesh_core::id::ReplicaId;
use tallymesh_core::key::CounterKey;
use tallymesh_core::table::CounterState;
use tallymesh_core::time::Timestamp;

use stamps::Writer;

/// A broken promise, and the counter that shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which invariant is broken.
    pub invariant: &'static str,
    /// How.
    pub what: String,
    /// Where, if it is about one counter.
    pub counter: Option<CounterKey>,
}

pub type Checked = Result<(), Violation>;

fn broken<T>(
    invariant: &'static str,
    key: Option<&CounterKey>,
    what: String,
) -> Result<T, Violation> {
    Err(Violation { invariant, what, counter: key.cloned() })
}

/// The truth about one counter.
#[derive(Debug)]
struct Truth {
    key: CounterKey,
    /// By generation and writer.
    counted: BTreeMap<(u32, usize), Ledger>,
    /// A reset of it was requested.
    was_reset: bool,
    /// It ended and started again, on some node.
    restarted: bool,
}

/// What one replica counted in one generation of one counter.
#[derive(Debug, Default)]
struct Ledger {
    p: u64,
    n: u64,
    /// The same, of times that ended with the counter's being forgotten.
    earlier: (u64, u64),
    /// The counter's end as the writer knew it when it last counted.
    ends: Timestamp,
}

/// The oracle.
#[derive(Debug)]
pub struct Checker {
    keys: HashMap<CounterKey, usize>,
    truths: Vec<Truth>,
    writers: Vec<Writer>,
    writer_numbers: HashMap<ReplicaId, usize>,
    /// The highest generation of each counter that was given a version.
    generations: HashMap<Vec<u8>, u32>,
    grace: Duration,
    /// A member lies, so that what is held is not what was counted.
    has_liar: bool,
    /// Something that was counted may be lost: a process was killed, or a disk failed.
    pub may_lose: bool,
    /// An operator has lowered a node's high-water mark.
    mark_lowered: bool,
    /// The latest time that each node, by its place, is known to have made durable.
    durable_clocks: BTreeMap<usize, Timestamp>,
    conflicts: BTreeSet<usize>,
    /// Each counter as each replica held it when it was looked at last.
    held: HashMap<(ReplicaId, CounterKey), CounterState>,
}

/// One admitted charge of one counter.
pub struct Counted<'a> {
    pub key: &'a CounterKey,
    pub replica: &'a ReplicaId,
    pub generation: u32,
    pub cost: u64,
    /// The highest limit that any node has on it.
    pub max: u64,
    /// The counter as it stands after the charge, where it was counted.
    pub after: Option<&'a CounterState>,
}

impl Checker {
    pub fn new(grace: Duration, has_liar: bool) -> Checker {
        Checker {
            keys: HashMap::new(),
            truths: Vec::new(),
            writers: Vec::new(),
            writer_numbers: HashMap::new(),
            generations: HashMap::new(),
            grace,
            has_liar,
            may_lose: false,
            mark_lowered: false,
            durable_clocks: BTreeMap::new(),
            conflicts: BTreeSet::new(),
            held: HashMap::new(),
        }
    }

    /// I1: a new life must write under an id that no process ever had.
    pub fn born(&mut self, replica: &ReplicaId) -> Checked {
        if self.writer_numbers.contains_key(replica) {
            return broken("I1", None, format!("{replica} lives twice"));
        }
        self.writer_numbers.insert(replica.clone(), self.writers.len());
        self.writers.push(Writer::new(replica.clone()));
        Ok(())
    }

    /// A node was told that its name is used twice.
    pub fn told_of_conflict(&mut self, place: usize) {
        self.conflicts.insert(place);
    }

    /// Which nodes were told that their name is used twice.
    pub fn conflicts(&self) -> &BTreeSet<usize> {
        &self.conflicts
    }

    fn number(&mut self, key: &CounterKey) -> usize {
        if let Some(number) = self.keys.get(key) {
            return *number;
        }
        let number = self.truths.len();
        self.keys.insert(key.clone(), number);
        let (was_reset, restarted) = (false, false);
        self.truths.push(Truth {
            key: key.clone(),
            counted: BTreeMap::new(),
            was_reset,
            restarted,
        });
        number
    }

    fn writer(&self, replica: &ReplicaId) -> Option<usize> {
        self.writer_numbers.get(replica).copied()
    }

    /// I1, I5: something was admitted. Its writer's cell must have grown by it, and each life admits at most the limit.
    pub fn counted(&mut self, now: Timestamp, charge: &Counted<'_>) -> Checked {
        let (number, grace) = (self.number(charge.key), self.grace);
        let newest = self.generations.entry(charge.key.as_bytes().to_vec()).or_default();
        *newest = (*newest).max(charge.generation);
        let newest = *newest;
        let Some(writer) = self.writer(charge.replica) else {
            return broken("I1", None, format!("{} counts and was never born", charge.replica));
        };
        let truth = &mut self.truths[number];
        let ledger = truth.counted.entry((charge.generation, writer)).or_default();
        let held = charge.after.and_then(|state| own_cell(state, charge.replica));
        let p = held.map_or(0, |cell| cell.p);
        if p != ledger.p + charge.cost {
            // From half of the grace on, an update with a later end makes a node forget the counter and add it again.
            // So does an update of a newer generation, which may then have expired itself.
            let replaced = newest > charge.generation;
            let over = ledger.ends.plus(grace / 2) <= now;
            let forgotten = p == charge.cost && (over || replaced);
            if !forgotten {
                let what = format!(
                    "{} had counted {}, counts {} more, and its cell holds {p}",
                    charge.replica, ledger.p, charge.cost
                );
                return broken("I1", Some(charge.key), what);
            }
            ledger.begin_again();
            truth.restarted = true;
        }
        let ledger = truth.counted.entry((charge.generation, writer)).or_default();
        ledger.p += charge.cost;
        ledger.ends = charge.after.map_or(ledger.ends, |state| state.expires_at.max(ledger.ends));
        truth.restarted |= charge.generation > 0;
        let generation = truth.of_generation(charge.generation);
        let (lives, admitted) = generation.fold((0_u64, 0_u64), |(lives, admitted), ledger| {
            (lives + 1, admitted + ledger.p.saturating_sub(ledger.n))
        });
        if admitted > lives * charge.max {
            let max = charge.max;
            let what = format!("{admitted} admitted by {lives} lives under a limit of {max}");
            return broken("I5", Some(charge.key), what);
        }
        Ok(())
    }

    /// Something was admitted in a run that is not looked at closely.
    pub fn counted_unseen(&mut self, charge: &Counted<'_>) {
        let number = self.number(charge.key);
        if let Some(writer) = self.writer(charge.replica) {
            let counted = &mut self.truths[number].counted;
            counted.entry((charge.generation, writer)).or_default().p += charge.cost;
        }
    }

    /// What a refund took back, by the difference in the writer's own cell. Never more than was charged.
    pub fn refunded(
        &mut self,
        before: &CounterState,
        after: &CounterState,
        replica: &ReplicaId,
    ) -> Checked {
        let number = self.number(&after.key);
        let n = |state: &CounterState| own_cell(state, replica).map_or(0, |cell| cell.n);
        let given_back = n(after).saturating_sub(n(before));
        let Some(writer) = self.writer(replica).filter(|_| given_back > 0) else { return Ok(()) };
        let ledger = self.truths[number].counted.entry((after.generation, writer)).or_default();
        ledger.n += given_back;
        if ledger.n > ledger.p {
            let what = format!("{replica} refunded {} of {}", ledger.n, ledger.p);
            return broken("I1", Some(&after.key), what);
        }
        Ok(())
    }

    /// I2: what was taken from a plain counter was there, as far as the node knew, and is what its own cell grew by.
    pub fn taken(
        &mut self,
        now: Timestamp,
        key: &CounterKey,
        replica: &ReplicaId,
        (before, after): (Option<&CounterState>, Option<&CounterState>),
        (asked, taken): (u64, u64),
    ) -> Checked {
        let there = before.filter(|state| state.expires_at > now).map_or(0, |state| state.value);
        let n = |state: Option<&CounterState>| {
            state.and_then(|state| own_cell(state, replica)).map_or(0, |cell| cell.n)
        };
        let (n_before, n_after) = (n(before), n(after));
        if taken > asked.min(there) || n_after.checked_sub(n_before) != Some(taken) {
            let what = format!(
                "{replica} takes {taken} of {there} when asked for {asked}, and its cell goes from -{n_before} to -{n_after}"
            );
            return broken("I2", Some(key), what);
        }
        let Some(writer) = self.writer(replica).filter(|_| taken > 0) else { return Ok(()) };
        let (number, generation) = (self.number(key), after.map_or(0, |state| state.generation));
        let newest = self.generations.get(key.as_bytes()).copied().unwrap_or(0);
        let p = after.and_then(|state| own_cell(state, replica)).map_or(0, |cell| cell.p);
        let truth = &mut self.truths[number];
        let ledger = truth.counted.entry((generation, writer)).or_default();
        let over = ledger.ends.plus(self.grace / 2) <= now;
        if p != ledger.p && (over || newest > generation) {
            // As where something is counted: the counter was forgotten, and has begun again.
            ledger.begin_again();
            truth.restarted = true;
        }
        ledger.n = (ledger.n + taken).max(n_after);
        ledger.ends = after.map_or(ledger.ends, |state| state.expires_at.max(ledger.ends));
        Ok(())
    }

    pub(self) fn was_reset(&self, key: &[u8]) -> bool {
        let number = CounterKey::from_bytes(key).ok().and_then(|key| self.keys.get(&key));
        number.is_some_and(|number| self.truths[*number].was_reset)
    }

    pub fn reset(&mut self, key: &CounterKey) {
        let number = self.number(key);
        self.truths[number].was_reset = true;
    }

    /// I7, I9: who denies for want of room must be right, and look at a counter that has not ended.
    pub fn denied(
        &mut self,
        now: Timestamp,
        key: &CounterKey,
        state: Option<&CounterState>,
        (cost, max): (u64, u64),
    ) -> Checked {
        let number = self.number(key);
        let Some(state) = state else {
            if cost <= max {
                return broken(
                    "I7",
                    Some(key),
                    format!("denied {cost} of {max} without a counter"),
                );
            }
            return Ok(());
        };
        if state.expires_at <= now && cost <= max {
            return broken("I9", Some(key), format!("it ended at {} and denies", state.expires_at));
        }
        let generation = self.truths[number].of_generation(state.generation);
        let counted: u64 = match self.has_liar {
            // What is believed counts.
            true => state.value,
            false => generation.map(|ledger| ledger.p + ledger.earlier.0).sum(),
        };
        if counted + cost <= max {
            let what = format!("denied {cost} although {counted} of {max} were ever counted");
            return broken("I7", Some(key), what);
        }
        Ok(())
    }

    /// I9: time does not step back, within a life or behind what a checkpoint made durable.
    pub fn shown(&self, place: usize, before: Timestamp, now: Timestamp) -> Checked {
        let durable = self.durable_clocks.get(&place).copied().unwrap_or_default();
        if now < before.max(durable) {
            let what =
                format!("node {place} acts at {now} after it acted at {}", before.max(durable));
            return broken("I9", None, what);
        }
        Ok(())
    }

    /// A node's high-water mark was lowered: what was used at a time to come counts as used now, so such marks are lower there,
    /// and reach nodes on which the counter had ended.
    pub fn lowered(&mut self) {
        self.mark_lowered = true;
    }

    /// I2: no node has more of a cell than its owner ever counted. I10: within a generation, no mark shrinks, unless the
    /// counter had ended and began as a new one.
    pub fn holds(&mut self, holder: &ReplicaId, counter: &CounterState) -> Checked {
        let before = self.held.insert((holder.clone(), counter.key.clone()), counter.clone());
        if let Some(before) = before
            && before.marks.merge(counter.marks) != counter.marks
            && counter.marks.at < before.expires_at.0
            && goes_on(&before, counter)
            && !self.mark_lowered
        {
            let what = format!("{holder} held {:?} and holds {:?}", before.marks, counter.marks);
            return broken("I10", Some(&counter.key), what);
        }
        let writers: Vec<ReplicaId> = counter.cells.iter().map(|(of, _)| of.clone()).collect();
        self.holds_at_most(holder, counter, &writers)
    }

    /// I2: no node has more of a cell of these replicas than they ever counted.
    pub fn holds_at_most(
        &self,
        holder: &ReplicaId,
        counter: &CounterState,
        writers: &[ReplicaId],
    ) -> Checked {
        for (replica, cell) in counter.cells.iter().filter(|(of, _)| writers.contains(of)) {
            let (p, n) = self.ever_counted(&counter.key, counter.generation, replica);
            if cell.p > p || cell.n > n {
                let what = format!(
                    "{holder} holds +{} -{} of {replica}, which counted +{p} -{n} in generation {}",
                    cell.p, cell.n, counter.generation
                );
                return broken("I2", Some(&counter.key), what);
            }
        }
        Ok(())
    }

    fn ever_counted(&self, key: &CounterKey, generation: u32, replica: &ReplicaId) -> (u64, u64) {
        let ledger = self.keys.get(key).and_then(|number| {
            self.truths[*number].counted.get(&(generation, self.writer(replica)?))
        });
        ledger.map_or((0, 0), |ledger| {
            (ledger.p.max(ledger.earlier.0), ledger.n.max(ledger.earlier.1))
        })
    }

    /// I4: at the end, nothing is missing that no node was allowed to lose, and nothing is there that was never counted.
    pub fn accounts(&self, now: Timestamp, counters: &[CounterState]) -> Checked {
        let held: HashMap<&CounterKey, &CounterState> =
            counters.iter().map(|counter| (&counter.key, counter)).collect();
        for truth in self.truths.iter().filter(|truth| !truth.was_reset) {
            let state = held.get(&truth.key).copied();
            let generation = state.map_or(0, |state| state.generation);
            let ledgers = || truth.of_generation(generation);
            let ever: u64 = ledgers().map(|ledger| ledger.p + ledger.earlier.0).sum();
            let value = state.map(|state| state.value);
            if value.is_some_and(|value| value > ever) {
                let what = format!("{value:?} is held and only {ever} were counted");
                return broken("I4", Some(&truth.key), what);
            }
            // A counter near its end may be gone on one node and not on another, by their clocks.
            let soon = now.plus(Duration::from_secs(10));
            let (p, n) = ledgers()
                .filter(|ledger| ledger.ends > soon)
                .fold((0, 0), |(p, n), ledger| (p + ledger.p, n + ledger.n));
            let lost = p > n && value.is_none_or(|value| value < p - n);
            if lost && !truth.restarted && !self.may_lose {
                let what = format!("+{p} -{n} were counted and {value:?} is held");
                return broken("I4", Some(&truth.key), what);
            }
        }
        Ok(())
    }

    /// What was admitted in all, less what was refunded.
    pub fn admitted(&self) -> u64 {
        let ledgers = self.truths.iter().flat_map(|truth| truth.counted.values());
        ledgers.map(|ledger| ledger.p.saturating_sub(ledger.n)).sum()
    }
}

impl Ledger {
    /// The writer's cell is a new one.
    fn begin_again(&mut self) {
        self.earlier = (self.earlier.0.max(self.p), self.earlier.1.max(self.n));
        (self.p, self.n) = (0, 0);
    }
}

impl Truth {
    fn of_generation(&self, generation: u32) -> impl Iterator<Item = &Ledger> {
        self.counted.range((generation, 0)..=(generation, usize::MAX)).map(|(_, ledger)| ledger)
    }
}

/// Whether a counter is still the one that it was: of the same generation, with every cell that it had.
fn goes_on(before: &CounterState, after: &CounterState) -> bool {
    let is_kept = |(replica, cell): &(ReplicaId, Cell)| {
        after.cells.iter().any(|(held, now)| held == replica && now.version >= cell.version)
    };
    before.generation == after.generation && before.cells.iter().all(is_kept)
}

fn own_cell(state: &CounterState, replica: &ReplicaId) -> Option<Cell> {
    state.cells.iter().find(|(owner, _)| owner == replica).map(|(_, cell)| *cell)
}
