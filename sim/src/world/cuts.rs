//! Cuts that are silent and clean, and what may be admitted over all of their sides: I12.
//!
//! All sides together may admit the limit, what each admits before it notices, and what is under way between members of a side.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use rand::RngExt;
use rand::seq::SliceRandom;

use super::{Checked, Event, World};
use crate::checker::Violation;
use crate::options::{Limits, Scene};

/// When the first cut may come: all have met by then.
pub(super) const SETTLED: Duration = Duration::from_millis(1_500);

/// What is done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The scene's sides are cut off from each other.
    Sides,
    /// Something drawn by chance.
    Drawn,
    /// The first side comes and goes, so many times more.
    Flap(u32),
}

/// The present cut, and what was admitted because of it.
#[derive(Debug)]
pub(super) struct Cuts {
    /// The side of each node.
    side_of: Vec<usize>,
    /// Since when some node may not have noticed who is silent for it.
    changed_at: Duration,
    /// The sides on which a member has not noticed yet.
    blind: BTreeSet<usize>,
    /// What was admitted on sides that had not noticed.
    unnoticed: u64,
    /// When the latest calls were admitted, and the most that were within the age of news.
    latest: VecDeque<Duration>,
    at_once_max: u64,
    /// How many sides there were, one after the other.
    sides: u64,
    kills: u64,
}

impl Cuts {
    pub(super) fn new(nodes: usize) -> Cuts {
        Cuts {
            side_of: vec![0; nodes],
            changed_at: Duration::ZERO,
            blind: BTreeSet::new(),
            unnoticed: 0,
            latest: VecDeque::new(),
            at_once_max: 0,
            sides: 1,
            kills: 0,
        }
    }
}

impl World<'_> {
    /// Something of the scene happens.
    pub(super) fn step(&mut self, step: Step) -> Checked {
        if self.now >= self.calls_until {
            return Ok(());
        }
        match step {
            Step::Sides => self.cut_into_sides(),
            Step::Flap(left) => self.flap_side(left),
            Step::Drawn => self.draw_step(),
        }
        Ok(())
    }

    fn cut_into_sides(&mut self) {
        let Scene::Sides { sides: [first, second], .. } = self.options.scene else { return };
        let side = |node| usize::from(node >= first) + usize::from(node >= first + second);
        let both_ways = true;
        self.cut_off((0..self.options.nodes).map(side).collect(), both_ways);
    }

    fn draw_step(&mut self) {
        let nodes = self.options.nodes;
        let present = self.cuts.side_of.clone();
        let is_cut = present.iter().any(|side| *side != present[0]);
        let both_ways = self.chance(0.6);
        let pause = Duration::from_millis(800) + self.draw_ms(2_500);
        match (self.random.get_mut().random_range(0..10_u32), is_cut) {
            (0..=3, false) => {
                let sides = self.random.get_mut().random_range(2..=3.min(nodes));
                let mut drawn: Vec<usize> = (0..nodes).map(|node| node % sides).collect();
                drawn.shuffle(self.random.get_mut());
                self.cut_off(drawn, both_ways);
            }
            (0..=2, true) => self.cut_off(vec![0; nodes], false),
            (3..=5, true) => {
                // A second cut, within a side.
                let drawn =
                    present.iter().map(|side| side * 2 + usize::from(self.chance_of_half()));
                let drawn = drawn.collect();
                self.cut_off(drawn, true);
            }
            (4 | 5, false) => {
                let mut drawn = vec![0; nodes];
                drawn[self.random.get_mut().random_range(0..nodes)] = 1;
                self.cut_off(drawn, both_ways);
            }
            (6, _) => self.flap_side(self.options.seed as u32 % 6 + 3),
            (7, _) => {
                let place = self.random.get_mut().random_range(0..nodes);
                let stays_away = self.draw_ms(1_500);
                self.pause_alone(place, stays_away);
            }
            (8, _) => {
                let place = self.random.get_mut().random_range(0..nodes);
                self.cuts.kills += 1;
                self.kill(place);
                self.after(Duration::from_millis(500), Event::Start { node: place });
                self.side_changed();
            }
            _ => {}
        }
        self.after(pause, Event::Step(Step::Drawn));
    }

    fn chance_of_half(&self) -> bool {
        self.random.borrow_mut().random_bool(0.5)
    }

    fn flap_side(&mut self, left: u32) {
        let nodes = self.options.nodes;
        let is_cut = self.cuts.side_of.iter().any(|side| *side != 0);
        let side = |node| usize::from(node < nodes / 2);
        let drawn = if is_cut { vec![0; nodes] } else { (0..nodes).map(side).collect() };
        self.cut_off(drawn, true);
        if left > 0 {
            let delay = Duration::from_millis(30) + self.draw_ms(400);
            self.after(delay, Event::Step(Step::Flap(left - 1)));
        }
    }

    /// A process does nothing for a while: to the others it is silent.
    fn pause_alone(&mut self, place: usize, pause: Duration) {
        self.nodes[place].paused_until = self.now + pause;
        self.side_changed();
    }

    /// From now on these are the sides, and what one sends to another is lost; one way only from the lower to the higher.
    fn cut_off(&mut self, side_of: Vec<usize>, both_ways: bool) {
        self.cut.clear();
        for (a, side) in side_of.iter().enumerate() {
            for (b, other) in side_of.iter().enumerate() {
                if side < other || both_ways && side != other {
                    self.cut.insert((a, b));
                }
            }
        }
        self.cuts.side_of = side_of;
        self.side_changed();
    }

    fn side_changed(&mut self) {
        let sides: BTreeSet<usize> = self.cuts.side_of.iter().copied().collect();
        self.cuts.sides += sides.len() as u64;
        self.cuts.blind = sides;
        self.cuts.changed_at = self.now;
    }

    /// A call was admitted at a node: notes whether its side did not know yet who is silent.
    pub(super) fn admitted_on_side(&mut self, place: usize, cost: u64) {
        let age = self.age_of_news();
        let (now, cuts) = (self.now, &mut self.cuts);
        if cuts.side_of.get(place).is_some_and(|side| cuts.blind.contains(side)) {
            cuts.unnoticed += cost;
        }
        cuts.latest.push_back(now);
        while cuts.latest.front().is_some_and(|at| *at + age < now) {
            cuts.latest.pop_front();
        }
        cuts.at_once_max = cuts.at_once_max.max(cuts.latest.len() as u64);
    }

    /// I12: every side notices who is silent, in time.
    pub(super) fn look_whether_noticed(&mut self) -> Checked {
        if self.cuts.blind.is_empty() || self.options.scene != Scene::Cuts {
            return Ok(());
        }
        let blind = self.cuts.blind.clone();
        let missed: Vec<(usize, usize)> =
            blind.iter().filter_map(|side| self.not_noticed_on(*side)).collect();
        self.cuts
            .blind
            .retain(|side| missed.iter().any(|(place, _)| self.cuts.side_of[*place] == *side));
        let since = self.now.saturating_sub(self.cuts.changed_at);
        match missed.first() {
            Some((place, other)) if since > self.notice_max() => {
                let (a, b) = (&self.nodes[*place].name, &self.nodes[*other].name);
                let what = format!("{a} does not suspect {b}, which is silent for {since:?}");
                Err(Violation { invariant: "I12", what, counter: None })
            }
            _ => Ok(()),
        }
    }

    /// A node of the side, and one that is silent for it, which it does not suspect.
    fn not_noticed_on(&self, side: usize) -> Option<(usize, usize)> {
        let is_awake = |place: usize| {
            self.nodes[place].life.is_some() && self.nodes[place].paused_until <= self.now
        };
        let members = (0..self.options.nodes).filter(|node| self.cuts.side_of[*node] == side);
        members.filter(|place| is_awake(*place)).find_map(|place| {
            let life = self.life(place)?;
            let suspected = life.gossip.cut_off().map_or(Vec::new(), |cut| cut.suspected);
            let is_silent = |other: usize| {
                let is_elsewhere = self.cuts.side_of[other] != side || !is_awake(other);
                let is_it = |name: &String| {
                    *name == self.nodes[other].name.as_str() || *name == other.to_string()
                };
                other != place && is_elsewhere && !suspected.iter().any(is_it)
            };
            (0..self.options.nodes).find(|other| is_silent(*other)).map(|other| (place, other))
        })
    }

    /// How old what a node knows of its side may be.
    fn age_of_news(&self) -> Duration {
        let rounds = if self.options.direct_up_to > self.options.nodes { 2 } else { 8 };
        self.frame_time() * 2 + Duration::from_millis(self.options.gossip_interval_ms * rounds)
    }

    /// The longest that a frame takes, but for one in a hundred.
    fn frame_time(&self) -> Duration {
        let tail_ms = self.options.delay_tail_ms * 5.0;
        Duration::from_millis(self.options.delay_ms_max + tail_ms as u64)
    }

    /// Four rounds to the next ping, four and a half to its answer, and then the next round; and frames under way.
    fn notice_max(&self) -> Duration {
        self.frame_time() * 6 + Duration::from_millis(self.options.gossip_interval_ms * 12 + 50)
    }

    /// I12: what was admitted over all sides.
    pub(super) fn check_sides(&self) -> Checked {
        let (Scene::Cuts, Limits::Single { max, .. }) = (self.options.scene, self.options.limits)
        else {
            return Ok(());
        };
        let (cuts, admitted) = (&self.cuts, self.checker.admitted());
        let under_way = cuts.at_once_max * (cuts.sides + cuts.kills);
        if admitted > max + cuts.unnoticed + under_way {
            let what = format!(
                "{admitted} admitted over all sides under a limit of {max}, {} of them before their side had noticed; at most \
                 {} at once on one of {} sides",
                cuts.unnoticed, cuts.at_once_max, cuts.sides
            );
            return Err(Violation { invariant: "I12", what, counter: None });
        }
        Ok(())
    }
}
