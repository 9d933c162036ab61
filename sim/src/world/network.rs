//! What the machines send, and what becomes of it on the way.

use std::time::Duration;

use rand::RngExt;
use tallymesh_core::crdt::Update;
use tallymesh_core::gossip::{Input, Output, Report};
use tallymesh_core::key::CounterKey;
use tallymesh_core::link::{LinkEvent, LinkId, Proven};
use tallymesh_core::time::Timestamp;
use tallymesh_core::wire::{Message, Outbox, Received, read_frame};

use super::{Checked, Event, World};
use crate::checker::Violation;
use crate::faults::Fault;
use crate::options::{Checks, Scene};

/// How long a system waits for an answer to a dial.
const DIAL_TIMEOUT: Duration = Duration::from_secs(1);

/// One end of a connection.
pub(super) struct End {
    pub node: usize,
    pub life: u64,
    pub far: LinkId,
    pub far_node: usize,
    /// When it was dialed.
    pub since: Duration,
    /// When a frame from here was last lost, changed or much delayed.
    pub troubled_at: Option<Duration>,
    /// The least time that a frame takes from here.
    base: Duration,
    /// When the last frame in order arrives at the other end.
    last_arrival: Duration,
}

impl World<'_> {
    pub(super) fn timer(&mut self, place: usize) -> Checked {
        let resumes = self.nodes[place].paused_until;
        if resumes > self.now {
            self.nodes[place].timer_at = Some(resumes);
            self.after(resumes - self.now, Event::Timer { node: place });
            return Ok(());
        }
        if self.nodes[place].timer_at != Some(self.now) {
            return Ok(());
        }
        self.nodes[place].timer_at = None;
        let now = self.nodes[place].time(self.now);
        if let Some(life) = &mut self.nodes[place].life {
            life.gossip.handle_timeout(now);
            self.outputs(place)?;
        }
        Ok(())
    }

    pub(super) fn input(&mut self, place: usize, input: Input) -> Checked {
        let now = self.nodes[place].time(self.now);
        if let Some(life) = &mut self.nodes[place].life {
            life.gossip.handle_input(now, input);
            self.outputs(place)?;
        }
        Ok(())
    }

    /// Says that own counters changed or were touched, where the machine must be told: the node's shell does the same.
    pub(super) fn changed(&mut self, place: usize) -> Checked {
        match self.life(place).is_some_and(|life| life.gossip.must_be_told()) {
            true => self.input(place, Input::Changed),
            false => Ok(()),
        }
    }

    fn input_of_link(&mut self, link: LinkId, event: LinkEvent) -> Checked {
        let Some(end) = self.links.get(&link) else { return Ok(()) };
        let place = end.node;
        if self.life(place).is_some_and(|life| life.number == end.life) {
            self.input(place, Input::Link(event))?;
        }
        Ok(())
    }

    pub(super) fn link_up(&mut self, link: LinkId, dialed: Option<String>) -> Checked {
        self.input_of_link(link, LinkEvent::Up { link, dialed, remote: None, peer: Proven::Nobody })
    }

    pub(super) fn link_down(&mut self, link: LinkId) -> Checked {
        // What is cut off hears of it once it is not: until then, a connection is as silent as any.
        let end = self.links.get(&link).filter(|_| self.is_cut_silently());
        if end.is_some_and(|end| self.cut.contains(&(end.far_node, end.node))) {
            self.after(Duration::from_millis(200), Event::LinkDown { link });
            return Ok(());
        }
        self.input_of_link(link, LinkEvent::Down { link })?;
        self.links.remove(&link);
        Ok(())
    }

    pub(super) fn dial_failed(&mut self, place: usize, life: u64, address: String) -> Checked {
        if self.life(place).is_some_and(|alive| alive.number == life) {
            let error = "unreachable".to_owned();
            self.input(place, Input::Link(LinkEvent::DialFailed { address, error }))?;
        }
        Ok(())
    }

    fn outputs(&mut self, place: usize) -> Checked {
        while let Some(output) =
            self.nodes[place].life.as_mut().and_then(|life| life.gossip.poll_output())
        {
            match output {
                Output::Dial { address } => self.dial(place, address),
                Output::Send { link, frame } => {
                    if self.dies_sending(place) {
                        self.kill_and_restart(place);
                        return Ok(());
                    }
                    self.look_at(place)?;
                    self.send(link, frame);
                    let now = self.nodes[place].time(self.now);
                    if let Some(life) = &mut self.nodes[place].life {
                        let sent = LinkEvent::Sent { link, frames: 1 };
                        life.gossip.handle_input(now, Input::Link(sent));
                    }
                }
                Output::Close { link } => {
                    if let Some(end) = self.links.remove(&link) {
                        let delay = Duration::from_millis(self.options.delay_ms_max + 1);
                        self.after(delay, Event::LinkDown { link: end.far });
                    }
                }
                Output::Report {
                    report: Report::NodeIdInUse { .. } | Report::Refused { .. },
                    ..
                } => {
                    self.checker.told_of_conflict(place);
                }
                Output::Report { .. } => {}
            }
        }
        self.set_timer(place);
        self.look_whether_left(place)?;
        self.look_at(place)
    }

    fn set_timer(&mut self, place: usize) {
        let node = &mut self.nodes[place];
        let Some(life) = &node.life else { return };
        let due = node.clock.moment_of(life.gossip.poll_timeout()).max(self.now);
        if node.timer_at.is_none_or(|at| due < at) {
            node.timer_at = Some(due);
            self.after(due - self.now, Event::Timer { node: place });
        }
    }

    fn dies_sending(&mut self, place: usize) -> bool {
        let Some(left) = &mut self.nodes[place].sends_left else { return false };
        *left = left.saturating_sub(1);
        *left == 0
    }

    fn dial(&mut self, from: usize, address: String) {
        // Proven: the addresses are the numbers that were handed out as addresses.
        let to: usize = address.parse().expect("a number");
        let life = self.life(from).map_or(0, |life| life.number);
        let reachable = !self.cut.contains(&(from, to)) && !self.cut.contains(&(to, from));
        let base = self.draw_ms(self.options.delay_ms_max);
        let Some(far_life) = self.life(to).map(|life| life.number).filter(|_| reachable) else {
            // From behind a cut comes no word, not even that none is there.
            let is_unanswered = !reachable && self.is_cut_silently();
            let base = if is_unanswered { base + DIAL_TIMEOUT } else { base };
            return self.after(base, Event::DialFailed { node: from, life, address });
        };
        let base_back = self.draw_ms(self.options.delay_ms_max);
        let (near, far) = (LinkId(self.next_link), LinkId(self.next_link + 1));
        self.next_link += 2;
        let since = self.now;
        let end = |node, life, far, far_node, base| {
            let last_arrival = Duration::ZERO;
            End { node, life, far, far_node, since, troubled_at: None, base, last_arrival }
        };
        self.links.insert(near, end(from, life, far, to, base));
        self.links.insert(far, end(to, far_life, near, from, base_back));
        self.after(base, Event::LinkUp { link: near, dialed: Some(address) });
        self.after(base, Event::LinkUp { link: far, dialed: None });
    }

    /// Whether a cut lets nothing through, not even the end of a connection.
    fn is_cut_silently(&self) -> bool {
        matches!(self.options.scene, Scene::Cuts | Scene::Sides { .. })
    }

    fn send(&mut self, link: LinkId, mut frame: Vec<u8>) {
        let Some(end) = self.links.get(&link) else { return };
        let (from, to, far, base) = (end.node, end.far_node, end.far, end.base);
        if self.lies_now(from) {
            self.lie(to, &mut frame);
        }
        self.measured.bytes_sent += frame.len() as u64;
        self.measured.frames_sent += 1;
        if self.cut.contains(&(from, to)) {
            return self.trouble(link);
        }
        let calm = self.is_calm(from) && self.is_calm(to);
        let loss = if calm { 0.0 } else { self.options.loss };
        let copies = match self.random.get_mut().random::<f64>() {
            drawn if drawn < loss => 0,
            drawn if drawn < loss * 1.5 => 2,
            _ => 1,
        };
        if copies == 0 {
            self.trouble(link);
        }
        let has = |fault| !calm && self.options.faults.has(fault);
        let (corrupts, forges, is_late) =
            (has(Fault::Corruption), has(Fault::Forgery), has(Fault::Late));
        if is_late && self.chance(0.01) {
            let delay = self.draw_ms(20_000);
            let late_by = if self.chance(0.3) { Duration::from_secs(7_200) } else { delay };
            self.after(late_by, Event::DeliverLate { from, to, frame: frame.clone() });
        }
        for copy in 0..copies {
            let mut frame = frame.clone();
            let mut whole = true;
            if corrupts && self.chance(0.003) {
                self.corrupt(&mut frame);
                whole = false;
            } else if forges && self.chance(0.003) {
                whole = !self.forge(to, &mut frame);
            }
            let tail = -(1.0 - self.random.get_mut().random::<f64>()).ln();
            let mut delay =
                base + Duration::from_micros((self.options.delay_tail_ms * tail * 1e3) as u64);
            if loss > 0.0 && self.chance(0.01) {
                delay += self.draw_ms(5_000);
            }
            // A connection keeps the order, unless something on the way plays tricks.
            let in_order = loss == 0.0 || self.chance(0.8);
            if !whole || delay > Duration::from_millis(200) {
                self.trouble(link);
            }
            let mut at = self.now + delay;
            if in_order
                && copy == 0
                && let Some(end) = self.links.get_mut(&link)
            {
                at = at.max(end.last_arrival);
                end.last_arrival = at;
            }
            self.after(at - self.now, Event::Deliver { link: far, frame, whole });
        }
    }

    fn trouble(&mut self, link: LinkId) {
        if let Some(end) = self.links.get_mut(&link) {
            end.troubled_at = Some(self.now);
        }
    }

    fn corrupt(&mut self, frame: &mut Vec<u8>) {
        let random = self.random.get_mut();
        if random.random_bool(0.3) {
            frame.truncate(random.random_range(0..frame.len()));
        } else {
            let place = random.random_range(0..frame.len());
            frame[place] ^= 1 << random.random_range(0..8_u32);
        }
    }

    /// Makes updates in a frame such that they cannot be true; says whether there were any.
    fn forge(&mut self, to: usize, frame: &mut Vec<u8>) -> bool {
        let Ok(Received { mut messages, .. }) = read_frame(frame, usize::MAX) else { return false };
        // Beyond what is believed by the time that the node acts on, which its clock may be behind.
        let now = self.nodes[to].moment(self.now).wall;
        let random = self.random.get_mut();
        let mut forged = false;
        for message in &mut messages {
            let (Message::Delta(tallymesh_core::crdt::Delta { updates, .. })
            | Message::Push { updates, .. }) = message
            else {
                continue;
            };
            for update in updates {
                forged = true;
                forge_update(update, now, random.random_range(0..4));
            }
        }
        let mut outbox = Outbox::default();
        for message in &messages {
            // All fit in one frame, as before.
            let _ = outbox.push(message, usize::MAX);
        }
        *frame = outbox.finish().unwrap_or_default();
        forged
    }

    pub(super) fn deliver(&mut self, link: LinkId, frame: Vec<u8>, whole: bool) -> Checked {
        let Some(end) = self.links.get(&link) else { return Ok(()) };
        let place = end.node;
        let resumes = self.nodes[place].paused_until;
        if resumes > self.now {
            self.after(resumes - self.now, Event::Deliver { link, frame, whole });
            return Ok(());
        }
        if self.life(place).is_none_or(|life| life.number != end.life) {
            return Ok(());
        }
        if self.options.checks == Checks::Few {
            self.input(place, Input::Link(LinkEvent::Frame { link, bytes: frame }))?;
            self.hear_news(place);
            return Ok(());
        }
        if whole && self.liar().is_none() {
            let latest = self.latest_ever();
            self.checker.frame(latest, &frame)?;
        }
        let gone = self.ended_and_gone(place, &frame);
        self.input(place, Input::Link(LinkEvent::Frame { link, bytes: frame }))?;
        self.check_watermarks(place)?;
        let Some(life) = self.life(place) else { return Ok(()) };
        // I9: what ended long ago and was forgotten stays so.
        match gone.into_iter().find(|key| life.table.counter(key.as_bytes()).is_some()) {
            None => Ok(()),
            Some(key) => {
                let what = format!("{} takes in a counter that ended long ago", life.replica);
                Err(Violation { invariant: "I9", what, counter: Some(key) })
            }
        }
    }

    /// A frame that was thought lost arrives after all, over the connection that there is now.
    pub(super) fn deliver_late(&mut self, from: usize, to: usize, frame: Vec<u8>) -> Checked {
        let between = |end: &End| end.node == to && end.far_node == from;
        let link = self.links.iter().find(|(_, end)| between(end)).map(|(link, _)| *link);
        match link {
            None => Ok(()),
            Some(link) => self.deliver(link, frame, true),
        }
    }

    /// The counters in a frame that ended longer than the grace ago and are not held.
    fn ended_and_gone(&mut self, place: usize, frame: &[u8]) -> Vec<CounterKey> {
        let now = self.wall(place);
        let Some(life) = self.life(place) else { return Vec::new() };
        let Ok(Received { messages, .. }) = read_frame(frame, usize::MAX) else {
            return Vec::new();
        };
        let updates = messages.iter().flat_map(|message| match message {
            Message::Delta(delta) => &delta.updates[..],
            Message::Push { updates, .. } => &updates[..],
            _ => &[],
        });
        let ended = updates
            .filter(|update| update.ends().is_some_and(|end| end.plus(super::GRACE) <= now))
            .filter(|update| life.table.counter(&update.key).is_none());
        ended.filter_map(|update| CounterKey::from_bytes(&update.key).ok()).collect()
    }
}

fn forge_update(update: &mut Update, now: Timestamp, kind: u32) {
    match kind {
        0 => update.p = u64::MAX / 2,
        1 => update.n = u64::MAX - 7,
        // Less than nothing, which only a counter without a limit may hold in one cell.
        2 if CounterKey::from_bytes(&update.key).is_ok_and(|key| key.tag() != 0) => {
            update.n = update.p + 1;
        }
        _ => {
            let day = Duration::from_secs(24 * 3600);
            let window =
                tallymesh_core::key::WindowSpan::at(60_000, now.plus(day)).expect("a short key");
            let key = CounterKey::windowed("window", &["u0"], window).expect("a short key");
            update.key = key.as_bytes().to_vec();
        }
    }
}
