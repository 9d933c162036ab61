//! Rounds that take turns, so that a busy machine slows all of them down alike.

use std::sync::Barrier;
use std::thread;

use super::contenders::{CONTENDERS, Contender};
use crate::clock::now;
use crate::keys::Order;
use crate::peers::{Answer, Peer};
use crate::size::Size;

/// What all contenders took in one setting.
pub struct Scenario {
    pub keys: usize,
    pub answer: Answer,
    pub order: Order,
    pub callers: usize,
    /// Seconds per decision, all callers together, in the order of the contenders.
    pub seconds: Vec<Option<f64>>,
}

impl Scenario {
    /// The first cells of a row.
    pub fn labels(&self) -> [String; 3] {
        [thousands(self.keys), self.order.name().to_owned(), self.answer.name().to_owned()]
    }

    /// Seconds per decision of one of them.
    pub fn of(&self, name: &str) -> Option<f64> {
        self.seconds[CONTENDERS.iter().position(|held| *held == name)?]
    }
}

/// Seconds per decision of each, in the order of the contenders: the medians of all rounds.
pub fn medians(
    contenders: &[Contender],
    sequence: &[u32],
    callers: usize,
    answer: Answer,
    size: &Size,
) -> Vec<Option<f64>> {
    let mut rounds = vec![Vec::new(); CONTENDERS.len()];
    for round in 0..size.rounds {
        for (contender, rounds) in contenders.iter().zip(&mut rounds) {
            let operations = contender.operations(size);
            let begin = (round * operations) % (sequence.len() - callers * operations + 1);
            let keys = &sequence[begin..begin + callers * operations];
            let (seconds, allowed) = time(&*contender.peer, keys, callers);
            if contender.limits {
                let expected = if answer == Answer::Allowed { keys.len() } else { 0 };
                assert_eq!(allowed, expected, "{} decides otherwise", contender.name);
            }
            contender.peer.settle();
            rounds.push(seconds / keys.len() as f64);
        }
    }
    rounds.into_iter().map(median).collect()
}

/// Seconds for all of these keys, shared out among the callers, and how many were allowed.
fn time(peer: &dyn Peer, keys: &[u32], callers: usize) -> (f64, usize) {
    if callers == 1 {
        let begun = now();
        let allowed = peer.decide_all(0, keys);
        return ((now() - begun).as_secs_f64(), allowed);
    }
    let barrier = &Barrier::new(callers);
    let shares = keys.chunks(keys.len() / callers).enumerate();
    let ran: Vec<_> = thread::scope(|scope| {
        let decide = |(caller, keys)| {
            scope.spawn(move || {
                barrier.wait();
                let begun = now();
                let allowed = peer.decide_all(caller, keys);
                (begun, now(), allowed)
            })
        };
        let threads: Vec<_> = shares.map(decide).collect();
        threads.into_iter().map(|thread| thread.join().expect("no decision panics")).collect()
    });
    let first = ran.iter().map(|(begun, _, _)| *begun).min();
    let last = ran.iter().map(|(_, ended, _)| *ended).max();
    let seconds = first.zip(last).map_or(0.0, |(first, last)| (last - first).as_secs_f64());
    (seconds, ran.iter().map(|(_, _, allowed)| allowed).sum())
}

fn median(mut rounds: Vec<f64>) -> Option<f64> {
    rounds.sort_by(f64::total_cmp);
    rounds.get(rounds.len() / 2).copied()
}

/// With commas.
pub fn thousands(number: usize) -> String {
    match number {
        1_000.. => format!("{},{:03}", thousands(number / 1_000), number % 1_000),
        _ => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(Vec::new()), None);
    }

    #[test]
    fn thousands_have_commas() {
        assert_eq!([7, 1_000, 1_234_567].map(thousands), ["7", "1,000", "1,234,567"]);
    }
}
