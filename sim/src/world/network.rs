//! What the machines send, and what becomes of it on the way.

use std::time::Duration;

use rand::RngExt;
use tallymesh::simulation::{Input, LinkId, Output};

use super::{End, Event, World};
use crate::options::Fault;

impl World<'_> {
    pub(super) fn timer(&mut self, place: usize) {
        let resumes = self.nodes[place].paused_until;
        if resumes > self.now {
            self.nodes[place].timer_at = Some(resumes);
            return self.after(resumes - self.now, Event::Timer { node: place });
        }
        if self.nodes[place].timer_at != Some(self.now) {
            return;
        }
        self.nodes[place].timer_at = None;
        let now = self.time(place);
        if let Some(life) = &mut self.nodes[place].life {
            life.gossip.handle_timeout(now);
            self.outputs(place);
        }
    }

    pub(super) fn input(&mut self, place: usize, input: Input<'_>) {
        let now = self.time(place);
        if let Some(life) = &mut self.nodes[place].life {
            life.gossip.handle_input(now, input);
            self.outputs(place);
        }
    }

    pub(super) fn input_of_link(&mut self, link: LinkId, input: Input<'_>) {
        let Some(end) = self.links.get(&link) else { return };
        let place = end.node;
        if self.life(place).is_some_and(|life| life.number == end.life) {
            self.input(place, input);
        }
    }

    pub(super) fn outputs(&mut self, place: usize) {
        while let Some(output) =
            self.nodes[place].life.as_mut().and_then(|life| life.gossip.poll_output())
        {
            match output {
                Output::Dial { address } => self.dial(place, address),
                Output::Send { link, frame } => {
                    self.send(link, frame);
                    let now = self.time(place);
                    if let Some(life) = &mut self.nodes[place].life {
                        life.gossip.handle_input(now, Input::Sent { link, frames: 1 });
                    }
                }
                Output::Close { link } => {
                    if let Some(end) = self.links.remove(&link) {
                        let delay = Duration::from_millis(self.options.delay_ms_max + 1);
                        self.after(delay, Event::LinkDown { link: end.far });
                    }
                }
                Output::Report(_) => {}
            }
        }
        let Some(life) = self.life(place) else { return };
        let due = life.gossip.poll_timeout().max(self.now);
        if self.nodes[place].timer_at.is_none_or(|at| due < at) {
            self.nodes[place].timer_at = Some(due);
            self.after(due - self.now, Event::Timer { node: place });
        }
    }

    pub(super) fn dial(&mut self, from: usize, address: String) {
        // Proven: the addresses are the numbers that were handed out as addresses.
        let to: usize = address.parse().expect("a number");
        let life = self.life(from).map_or(0, |life| life.number);
        let reachable = !self.cut.contains(&(from, to)) && !self.cut.contains(&(to, from));
        let delay = self.draw_ms(self.options.delay_ms_max);
        let Some(far_life) = self.life(to).map(|life| life.number).filter(|_| reachable) else {
            return self.after(delay, Event::DialFailed { node: from, life, address });
        };
        let (near, far) = (LinkId(self.next_link), LinkId(self.next_link + 1));
        self.next_link += 2;
        self.links.insert(near, End { node: from, life, far, far_node: to });
        self.links.insert(far, End { node: to, life: far_life, far: near, far_node: from });
        self.after(delay, Event::LinkUp { link: near, dialed: Some(address) });
        self.after(delay, Event::LinkUp { link: far, dialed: None });
    }

    pub(super) fn send(&mut self, link: LinkId, frame: Vec<u8>) {
        let Some(end) = self.links.get(&link) else { return };
        let (from, to, far) = (end.node, end.far_node, end.far);
        if self.cut.contains(&(from, to)) {
            return;
        }
        let loss = if self.healed { 0.0 } else { self.options.loss };
        let copies = match self.random.get_mut().random::<f64>() {
            drawn if drawn < loss => 0,
            drawn if drawn < loss * 1.5 => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let mut frame = frame.clone();
            if !self.healed && self.options.faults.has(Fault::Corruption) && self.chance(0.003) {
                self.corrupt(&mut frame);
            }
            let late = loss > 0.0 && self.chance(0.01);
            let delay = self.draw_ms(if late { 5_000 } else { self.options.delay_ms_max });
            self.after(delay, Event::Deliver { link: far, frame });
        }
    }

    pub(super) fn corrupt(&mut self, frame: &mut Vec<u8>) {
        let random = self.random.get_mut();
        if random.random_bool(0.3) {
            frame.truncate(random.random_range(0..frame.len()));
        } else {
            let place = random.random_range(0..frame.len());
            frame[place] ^= 1 << random.random_range(0..8_u32);
        }
    }

    pub(super) fn deliver(&mut self, link: LinkId, frame: Vec<u8>) {
        let Some(end) = self.links.get(&link) else { return };
        let resumes = self.nodes[end.node].paused_until;
        if resumes > self.now {
            return self.after(resumes - self.now, Event::Deliver { link, frame });
        }
        self.hasher.update(&frame);
        self.input_of_link(link, Input::Frame { link, bytes: &frame });
    }
}
