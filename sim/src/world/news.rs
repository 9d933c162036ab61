//! Single counts, each followed until every node has heard of it.

use std::collections::BTreeSet;
use std::time::Duration;

use tallymesh_core::key::CounterKey;
use tallymesh_core::limit::Lifetime;
use tallymesh_core::table::Op;

use super::{Checked, Event, World};
use crate::checker::Violation;
use crate::options::Scene;

/// By then all links stand.
pub(super) const SETTLED: Duration = Duration::from_secs(2);

/// Within how many rounds a count must have reached every node.
const ROUNDS_MAX: u32 = 8;

/// How one count became known.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    /// How long it took, on average over the nodes that have heard of it, the counting one left out.
    pub mean: Duration,
    /// How long it took to the last node; `None` if some had not heard of it when the next one was due.
    pub last: Option<Duration>,
}

/// The count that is followed now.
#[derive(Debug)]
pub(super) struct News {
    key: CounterKey,
    begun: Duration,
    heard: BTreeSet<usize>,
    took: Duration,
    last: Duration,
}

impl World<'_> {
    /// Counts once on some node, under a new key.
    pub(super) fn spread_one(&mut self) -> Checked {
        let Scene::News { every_ms } = self.options.scene else { return Ok(()) };
        self.end_news();
        if self.now >= self.calls_until {
            return Ok(());
        }
        self.after(Duration::from_millis(every_ms), Event::News);
        let Some(place) = self.who_is_called() else { return Ok(()) };
        let number = format!("{}", self.spreads.len());
        // Proven: the key is short.
        let key = CounterKey::new("news", &[&number]).expect("a short key");
        let now = self.wall(place);
        let Some(life) = &self.nodes[place].life else { return Ok(()) };
        let lifetime = Lifetime::new(Duration::from_secs(3_600));
        // Proven: no other call is made here.
        life.table.execute(now, &key, Op::Add(1), lifetime).expect("there is room");
        let (begun, zero) = (self.now, Duration::ZERO);
        self.news = Some(News { key, begun, heard: [place].into(), took: zero, last: zero });
        self.changed(place)
    }

    /// Looks whether a node has heard by now.
    pub(super) fn hear_news(&mut self, place: usize) {
        let now = self.now;
        let Some(news) = self.news.as_mut().filter(|news| !news.heard.contains(&place)) else {
            return;
        };
        let Some(life) = &self.nodes[place].life else { return };
        if life.table.counter(news.key.as_bytes()).is_some() {
            news.heard.insert(place);
            news.last = now - news.begun;
            news.took += news.last;
        }
    }

    /// Every count that was followed must have reached all nodes soon.
    pub(super) fn check_news(&self) -> Checked {
        let within = Duration::from_millis(self.options.gossip_interval_ms) * ROUNDS_MAX;
        let is_late = |spread: &&Spread| spread.last.is_none_or(|last| last > within);
        let late: Vec<_> = self.spreads.iter().filter(is_late).collect();
        if late.is_empty() {
            return Ok(());
        }
        let what = format!("{} of {} counts were late: {late:?}", late.len(), self.spreads.len());
        Err(Violation { invariant: "news", what, counter: None })
    }

    fn end_news(&mut self) {
        let Some(news) = self.news.take() else { return };
        let others = news.heard.len() as u32 - 1;
        let last = (news.heard.len() == self.options.nodes).then_some(news.last);
        self.spreads.push(Spread { mean: news.took / others.max(1), last });
    }
}
