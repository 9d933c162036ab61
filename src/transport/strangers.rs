//! Places for connections that came in and have not proven yet who they are: a bounded number, of which the oldest gives way.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use tallymesh_core::gossip::STRANGERS_MAX;

/// How many there are at a time.
const PLACES: usize = STRANGERS_MAX;

/// Those that have a place, from the oldest on.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    places: VecDeque<(u64, oneshot::Sender<()>)>,
    last: u64,
    /// How many have not left: those with a place, and those that are just being pushed out.
    there: usize,
}

impl Strangers {
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
