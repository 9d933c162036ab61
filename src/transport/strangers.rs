//! Places for connections that came in and have not proven yet who they are: a bounded number, of which the oldest gives way. And how
//! many of them are heard in a second: a handshake costs time of the processor, of which a flood must not take much.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::sync::oneshot;

use tallymesh_core::gossip::STRANGERS_MAX;

/// How many there are at a time.
const PLACES: usize = STRANGERS_MAX;

/// So many handshakes may begin at once after a while without any.
const BURST: u32 = 2 * PLACES as u32;
/// How often there is room for more of them.
pub(super) const REFILL_EVERY: Duration = Duration::from_millis(20);
/// Of so many hosts it is known that this node dials them.
const HOSTS_MAX: usize = 4096;

/// Those that have a place, from the oldest on.
#[derive(Debug)]
pub(super) struct Strangers {
    places: VecDeque<(u64, oneshot::Sender<()>)>,
    last: u64,
    /// How many have not left: those with a place, and those that are just being pushed out.
    there: usize,
    /// How many handshakes may begin now, with hosts that this node dials itself, and with all others.
    budgets: [u32; 2],
    dialed: BTreeSet<IpAddr>,
}

impl Default for Strangers {
    fn default() -> Strangers {
        Strangers {
            places: VecDeque::new(),
            last: 0,
            there: 0,
            budgets: [BURST; 2],
            dialed: BTreeSet::new(),
        }
    }
}

impl Strangers {
    /// This node dials that address: a peer is expected there, so that strangers from elsewhere do not keep it from being heard.
    pub(super) fn expect(&mut self, address: &str) {
        let Ok(address) = address.parse::<SocketAddr>() else { return };
        if self.dialed.len() >= HOSTS_MAX {
            // They are dialed again, those that are there still.
            self.dialed.clear();
        }
        self.dialed.insert(address.ip().to_canonical());
    }

    /// Whether a connection from there is heard; if not, as many were in the last moment as may be.
    pub(super) fn may_be_heard(&mut self, from: IpAddr) -> bool {
        let is_dialed = self.dialed.contains(&from.to_canonical());
        let [of_dialed, of_others] = &mut self.budgets;
        let budget = if is_dialed { of_dialed } else { of_others };
        let may = *budget > 0;
        *budget = budget.saturating_sub(1);
        may
    }

    /// Whether some were heard, so that there may be room for more in a while.
    pub(super) fn is_short(&self) -> bool {
        self.budgets.iter().any(|budget| *budget < BURST)
    }

    /// [`REFILL_EVERY`] has passed, where so many handshakes may begin in a second.
    pub(super) fn refill(&mut self, per_second: u32) {
        let more =
            per_second / (Duration::from_secs(1).as_millis() / REFILL_EVERY.as_millis()) as u32;
        for budget in &mut self.budgets {
            *budget = (*budget + more).min(BURST);
        }
    }

    /// Whether one more may come: until those that were pushed out are gone, a flood of others waits in the system's queue.
    pub(super) fn may_enter(&self) -> bool {
        self.there < 2 * PLACES
    }

    /// Takes one in; the oldest is pushed out if there is no place left. Returns its number, and what resolves when it is pushed
    /// out itself.
    pub(super) fn enter(&mut self) -> (u64, oneshot::Receiver<()>) {
        if self.places.len() >= PLACES {
            self.places.pop_front();
        }
        let (place, pushed_out) = oneshot::channel();
        self.last += 1;
        self.there += 1;
        self.places.push_back((self.last, place));
        (self.last, pushed_out)
    }

    /// This one, which has entered, is a stranger no more, or is gone.
    pub(super) fn leave(&mut self, number: u64) {
        self.there = self.there.saturating_sub(1);
        self.places.retain(|(held, _)| *held != number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_heard_at_a_pace_and_takes_no_turn_of_hosts_that_are_dialed() {
        let mut strangers = Strangers::default();
        strangers.expect("10.0.0.7:7946");
        strangers.expect("a name that was not looked up:7946");
        let (peer, other) = ("10.0.0.7".parse().unwrap(), "10.0.0.8".parse().unwrap());
        assert!(!strangers.is_short());
        assert_eq!((0..1_000).filter(|_| strangers.may_be_heard(other)).count(), BURST as usize);
        assert!(strangers.is_short() && strangers.may_be_heard(peer));
        assert!(strangers.may_be_heard("::ffff:10.0.0.7".parse().unwrap()), "the same host");
        let mut heard = 0;
        for _ in 0..50 {
            strangers.refill(500);
            heard += (0..200).filter(|_| strangers.may_be_heard(other)).count();
        }
        assert_eq!(heard, 500, "in a second");
        (0..50).for_each(|_| strangers.refill(500));
        assert!(!strangers.is_short());
    }

    #[test]
    fn hosts_that_are_dialed_take_a_bounded_memory() {
        let mut strangers = Strangers::default();
        (0..2 * HOSTS_MAX)
            .for_each(|n| strangers.expect(&format!("10.0.{}.{}:1", n / 256, n % 256)));
        assert!(strangers.dialed.len() <= HOSTS_MAX);
    }

    #[test]
    fn the_oldest_gives_way_and_who_left_takes_no_place() {
        let mut strangers = Strangers::default();
        let mut entered: Vec<_> = (0..PLACES).map(|_| strangers.enter()).collect();
        let is_out = |(_, place): &mut (u64, oneshot::Receiver<()>)| {
            place.try_recv() == Err(oneshot::error::TryRecvError::Closed)
        };
        assert_eq!(entered.iter_mut().filter_map(|one| is_out(one).then_some(())).count(), 0);
        strangers.leave(entered[3].0);
        let mut last = strangers.enter();
        assert!(!is_out(&mut entered[0]), "there was a place");
        strangers.enter();
        assert!(is_out(&mut entered[0]) && !is_out(&mut entered[1]) && !is_out(&mut last));
        strangers.leave(entered[0].0);
        assert_eq!(strangers.places.len(), PLACES);
        let mut more = Vec::new();
        while strangers.may_enter() {
            more.push(strangers.enter());
        }
        assert_eq!(more.len(), PLACES, "as many as have a place are pushed out at most");
        strangers.leave(entered[1].0);
        assert!(strangers.may_enter());
    }
}
