//! What the child said, life by life, and what must therefore be found by the next one.

use std::collections::HashSet;
use std::time::Duration;

use tallymesh_test_support::load::SESSIONS;

#[derive(Debug)]
pub struct Ledger {
    /// Whether what is counted is durable.
    durable: bool,
    sessions: [Session; SESSIONS.len()],
    boot: u64,
    replicas: HashSet<String>,
    /// When the last call of the life before the present one was counted.
    end_ms: u64,
    acknowledged: u64,
    found: u64,
}

#[derive(Debug, Default)]
struct Session {
    /// Must be found.
    certain: u64,
    /// May be found: every call that was begun.
    possible: u64,
    /// What the present life began with.
    base: u64,
    /// When each call of the present life was counted.
    counted_at_ms: Vec<u64>,
}

impl Ledger {
    pub fn new(durable: bool) -> Ledger {
        Ledger {
            durable,
            sessions: Default::default(),
            boot: 0,
            replicas: HashSet::new(),
            end_ms: 0,
            acknowledged: 0,
            found: 0,
        }
    }

    /// How many lives got as far as saying who they are.
    pub fn lives(&self) -> usize {
        self.replicas.len()
    }

    /// How many calls were ever counted.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// The sum of what all lives found to have been added since the one before.
    pub fn found(&self) -> u64 {
        self.found
    }

    /// So much of a session was counted already.
    pub fn is_held_elsewhere(&mut self, index: usize, value: u64) {
        let session = &mut self.sessions[index];
        session.certain = session.certain.max(value);
    }

    /// Enters the report of one life, which shows how much of the end of the life before it is lost, if that counted
    /// anything.
    pub fn enter(&mut self, report: &[String], context: &str) -> Option<Duration> {
        let mut lost = None;
        for line in report {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["opened", boot, replica] => self.opened(number(boot), replica, context),
                ["holds", session, value] => {
                    lost = lost.max(self.holds(index_of(session), number(value), context));
                }
                ["ready"] => {}
                ["tries", session] => self.sessions[index_of(session)].possible += 1,
                ["counted", session, time_ms] => {
                    let session = &mut self.sessions[index_of(session)];
                    session.counted_at_ms.push(number(time_ms));
                    session.certain += u64::from(self.durable);
                    self.acknowledged += 1;
                }
                ["flushed", ref counts @ ..] => {
                    for (session, count) in self.sessions.iter_mut().zip(counts) {
                        session.certain = session.certain.max(session.base + number(count));
                    }
                }
                _ => panic!("{context}: the child said:\n{}", report.join("\n")),
            }
        }
        lost
    }

    fn opened(&mut self, boot: u64, replica: &str, context: &str) {
        assert!(boot > self.boot, "{context}: boot {boot} after {}", self.boot);
        self.boot = boot;
        let is_new = self.replicas.insert(replica.to_owned());
        assert!(is_new, "{context}: two lives are {replica}");
        let ends = self.sessions.iter().filter_map(|session| session.counted_at_ms.last());
        self.end_ms = ends.max().copied().unwrap_or_default();
    }

    fn holds(&mut self, index: usize, value: u64, context: &str) -> Option<Duration> {
        let session = &mut self.sessions[index];
        let Session { certain, possible, base, .. } = *session;
        assert!(value >= certain, "{context}: {index} holds {value}, acknowledged were {certain}");
        assert!(value <= possible, "{context}: {index} holds {value}, tried were {possible}");
        let counted_at_ms = std::mem::take(&mut session.counted_at_ms);
        self.found += value - base;
        // Every start makes what it found durable before it says so.
        (session.certain, session.possible, session.base) = (value, value, value);
        counted_at_ms.first()?;
        let first_lost = counted_at_ms.get((value - base) as usize);
        Some(first_lost.map_or(Duration::ZERO, |at| Duration::from_millis(self.end_ms - at)))
    }
}

fn index_of(session: &str) -> usize {
    SESSIONS.iter().position(|known| *known == session).unwrap()
}

fn number(word: &str) -> u64 {
    word.parse().unwrap()
}
