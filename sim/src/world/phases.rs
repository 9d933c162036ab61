//! The course of a run: busy and broken, then in part repaired, then all of it, then hours later.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::RngExt;
use rand::seq::SliceRandom;

use super::cuts::Step;
use super::{Checked, Event, World};
use crate::checker::Violation;
use crate::faults::Fault;
use crate::options::{Kind, Scene};

/// A part of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Calls and faults everywhere.
    Busy,
    /// Some nodes are repaired and cut off from the rest, where calls and faults go on.
    PartMended,
    /// Everything is repaired, and there are no calls.
    Mended,
    /// After hours in which every process slept, there are calls for a second more.
    HoursLater,
    /// Then again there are none.
    MendedAgain,
    /// The run is over.
    Over,
}

/// How long nodes that are repaired may take to agree.
const PATIENCE: Duration = Duration::from_secs(30);
const HOURS: Duration = Duration::from_secs(7_200);

impl World<'_> {
    pub(super) fn begin_phases(&mut self) {
        let busy = Duration::from_millis(self.options.busy_ms);
        let after_busy = match self.options.kind {
            Kind::Safety => Phase::Over,
            Kind::Liveness if self.options.faults.is_empty() => Phase::Mended,
            Kind::Liveness => Phase::PartMended,
        };
        self.after(busy, Event::Phase(after_busy));
        match self.options.scene {
            Scene::None => {}
            Scene::Clone => self.after(Duration::from_secs(1), Event::Clone { node: 0 }),
            Scene::Halves { .. } => self.after(Duration::from_secs(1), Event::CutHalves),
            Scene::News { .. } => self.after(super::news::SETTLED, Event::News),
            Scene::Cuts => self.after(super::cuts::SETTLED, Event::Step(Step::Drawn)),
            Scene::Sides { at_ms, .. } => {
                self.after(Duration::from_millis(at_ms), Event::Step(Step::Sides));
            }
        }
    }

    pub(super) fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        let seconds = Duration::from_secs;
        match phase {
            Phase::Busy | Phase::Over => {}
            Phase::PartMended => {
                let mut places: Vec<usize> = (0..self.options.nodes).collect();
                places.shuffle(self.random.get_mut());
                places.truncate(self.random.get_mut().random_range(2..=self.options.nodes.max(2)));
                self.calls_until = self.now + PATIENCE;
                self.mend(places.into_iter().collect());
                self.after(PATIENCE, Event::Phase(Phase::Over));
            }
            Phase::Mended | Phase::MendedAgain => {
                self.calls_until = self.now;
                self.mended_at = self.now;
                let clones = self.options.nodes..self.nodes.len();
                clones.for_each(|place| self.kill(place));
                self.mend((0..self.options.nodes).collect());
                self.note_survivors();
                self.after(PATIENCE, Event::Phase(Phase::Over));
            }
            Phase::HoursLater => {
                for place in 0..self.options.nodes {
                    self.nodes[place].paused_until = self.now + HOURS;
                    self.nodes[place].clock.correct(self.now + HOURS);
                }
                self.calm.clear();
                self.calls_until = self.now + HOURS + seconds(1);
                self.after(HOURS, Event::Call);
                // By then every table has been swept, and each late frame has arrived.
                self.after(HOURS + seconds(12), Event::Phase(Phase::MendedAgain));
            }
        }
    }

    /// Looks whether the present phase has reached its end, and enters the next; whether the run is over.
    pub(super) fn look_at_phase(&mut self) -> Result<bool, Violation> {
        match self.phase {
            Phase::Busy | Phase::HoursLater => Ok(false),
            Phase::PartMended => {
                let places: Vec<usize> = self.calm.iter().copied().collect();
                // What a liar has told some and not others, they need not agree on.
                if self.liar().is_some() || self.agree(&places) {
                    self.cancel_phase();
                    self.enter(Phase::Mended);
                }
                Ok(false)
            }
            Phase::Mended | Phase::MendedAgain => {
                let places: Vec<usize> = (0..self.options.nodes).collect();
                if self.liar().is_some() {
                    return Ok(self.not_healed().is_none());
                }
                if !self.agree(&places) {
                    return Ok(false);
                }
                self.measured.converged_after.get_or_insert(self.now - self.mended_at);
                self.account(&places)?;
                self.check_survivors(&places)?;
                if self.remembered(&places).is_some() {
                    return Ok(false);
                }
                if self.phase == Phase::Mended && self.options.faults.has(Fault::Late) {
                    self.cancel_phase();
                    self.enter(Phase::HoursLater);
                    return Ok(false);
                }
                Ok(true)
            }
            Phase::Over => match self.options.kind {
                Kind::Safety => Ok(true),
                Kind::Liveness if self.liar().is_some() => self.not_healed().map_or(Ok(true), Err),
                Kind::Liveness => self.still_differ().map(|()| true),
            },
        }
    }

    /// I3, I14: what was repaired must have come to agree by now, and have forgotten what has ended.
    fn still_differ(&mut self) -> Checked {
        let places: Vec<usize> = self.calm.iter().copied().collect();
        if self.agree(&places)
            && let Some(remembered) = self.remembered(&places)
        {
            return Err(remembered);
        }
        let states = self.states(&places);
        let what =
            format!("nodes {places:?} were repaired {PATIENCE:?} ago and differ: {states:?}");
        Err(Violation { invariant: "I3", what, counter: self.first_difference(&places) })
    }

    fn cancel_phase(&mut self) {
        self.queue.retain(|_, event| !matches!(event, Event::Phase(_)));
    }

    /// Makes these nodes and everything between them whole, and cuts them off from the rest.
    fn mend(&mut self, calm: BTreeSet<usize>) {
        for place in 0..self.nodes.len() {
            if !calm.contains(&place) {
                continue;
            }
            for other in (0..self.nodes.len()).filter(|other| *other != place) {
                for pair in [(place, other), (other, place)] {
                    if calm.contains(&other) {
                        self.cut.remove(&pair);
                    } else {
                        self.cut.insert(pair);
                    }
                }
            }
            let node = &mut self.nodes[place];
            node.paused_until = node.paused_until.min(self.now);
            node.clock.correct(self.now);
            node.sends_left = None;
            node.mend_disk();
            node.disk.cut_fuse();
            self.lower_mark(place);
            if self.life(place).is_none() {
                self.after(Duration::from_millis(1), Event::Start { node: place });
            }
        }
        self.calm = calm;
    }

    /// Whether a node is repaired: nothing is done to it any more.
    pub(super) fn is_calm(&self, place: usize) -> bool {
        self.calm.contains(&place)
    }

    /// Whether there are no faults any more.
    pub(super) fn is_over(&self) -> bool {
        !matches!(self.phase, Phase::Busy | Phase::PartMended)
    }

    pub(super) fn cut_halves(&mut self) {
        let Scene::Halves { cut_ms } = self.options.scene else { return };
        let half = self.options.nodes / 2;
        if !self.cut.is_empty() {
            return self.cut.clear();
        }
        for place in 0..half {
            for other in half..self.options.nodes {
                self.cut.insert((place, other));
                self.cut.insert((other, place));
            }
        }
        self.after(Duration::from_millis(cut_ms), Event::CutHalves);
    }
}
