//! The calls that are made, and what the checker is told of them.

use rand::RngExt;
use rand::seq::IndexedRandom;
use tallymesh::simulation::{Charges, Input, Outcome};
use tallymesh::{CounterKey, DenialReason, Request};

use super::{Checked, Event, World};

impl World<'_> {
    pub(super) fn call(&mut self) -> Checked {
        let awake: Vec<usize> = (0..self.nodes.len())
            .filter(|place| {
                self.nodes[*place].life.is_some() && self.nodes[*place].paused_until <= self.now
            })
            .collect();
        let Some(place) = awake.choose(self.random.get_mut()).copied() else { return Ok(()) };
        let sessions = self.options.sessions;
        let random = self.random.get_mut();
        let session = if random.random_bool(0.3) { 0 } else { random.random_range(0..sessions) };
        let (tool, user) = (random.random_range(0..3), session % 5);
        let cost = if random.random_bool(0.1) { random.random_range(2..4) } else { 1 };
        let texts = [format!("s{session}"), format!("t{tool}"), format!("u{user}")];
        let request = Request::tool_call(&texts[0], &texts[1]).with("user", &texts[2]).cost(cost);
        let now = self.wall(place);
        let mut charges = Charges::default();
        // Proven: the keys are short.
        self.policy.charge(&request, now, 512, &mut charges).expect("keys within bounds");
        let keys: Vec<CounterKey> = charges
            .list
            .iter()
            // Proven: charges are made of valid keys.
            .map(|charge| CounterKey::from_bytes(charges.key(charge)).expect("a key"))
            .collect();
        self.calls += 1;
        let Some(life) = self.life(place) else { return Ok(()) };
        let replica = life.replica.clone();
        match life.table.acquire(now, &charges) {
            Outcome::Allowed { charged, urgent, .. } => {
                for (key, charge) in keys.iter().zip(&charges.list) {
                    self.checker.counted(key, &replica, cost);
                    self.checker.admitted_at_most(key, charge.max)?;
                }
                if urgent {
                    self.input(place, Input::Urgent);
                }
                if self.chance(0.1) {
                    let delay = self.draw_ms(500);
                    let life = self.nodes[place].lives;
                    let counted = keys.into_iter().map(|key| (key, cost)).collect();
                    let charged = charged.into_iter().collect();
                    self.after(delay, Event::Refund { node: place, life, charged, counted });
                }
            }
            Outcome::Denied { limit, reason: DenialReason::LimitReached, .. } => {
                let place = charges.list.iter().position(|charge| charge.limit == limit);
                if let Some(place) = place {
                    self.checker.denied(&keys[place], cost, charges.list[place].max)?;
                }
            }
            Outcome::Denied { .. } => {}
        }
        Ok(())
    }
}
