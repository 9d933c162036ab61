//! What a link sends: a stream of our own updates, which follows our watermark and goes on by itself, and chains about other
//! replicas, which the peer asked for or rumors began. At most one chain about a replica is under way at a time.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use super::chain::{CHAINS_MAX, OutgoingChain};
use crate::crdt::Delta;
use crate::id::{ReplicaId, Version};
use crate::table::Table;

#[derive(Debug)]
pub(super) struct Streams {
    chains: BTreeMap<ReplicaId, OutgoingChain>,
    mark: u16,
    next_chain: u16,
    /// Up to where our own updates were sent, but for a chain under way; `None` until the peer has said where to begin.
    own_sent: Option<Version>,
    /// When own updates were last sent.
    own_sent_at: Duration,
    /// The peer's watermark of our own replica, as the peer said.
    acked: Version,
}

impl Streams {
    /// Nothing under way. `mark` is random and tells the chains of this link from those of earlier links: a frame that
    /// strayed from one of them must not pass for a part of a chain of this one.
    pub(super) fn new(now: Duration, mark: u16) -> Streams {
        Streams {
            chains: BTreeMap::new(),
            mark,
            next_chain: 0,
            own_sent: None,
            own_sent_at: now,
            acked: Version::ZERO,
        }
    }

    /// Begins a chain that sends what follows `from`, in the place of the one about this replica that is under way.
    pub(super) fn begin(&mut self, replica: &ReplicaId, from: Version) {
        self.next_chain = self.next_chain.wrapping_add(1);
        let number = u32::from(self.mark) << 16 | u32::from(self.next_chain);
        self.chains.insert(replica.clone(), OutgoingChain::new(from, number));
    }

    /// Whether a chain about this replica is under way.
    pub(super) fn is_sending(&self, replica: &ReplicaId) -> bool {
        self.chains.contains_key(replica)
    }

    /// The replicas whose chains go on now: the own one first, and no more than a peer takes in at a time.
    pub(super) fn replicas(&self, own: &ReplicaId) -> Vec<ReplicaId> {
        let first = self.chains.contains_key(own).then_some(own);
        let others = self.chains.keys().filter(|replica| *replica != own);
        first.into_iter().chain(others.take(CHAINS_MAX - 1)).cloned().collect()
    }

    /// The next part of a chain, if there is anything to send; ends the chain with its last part.
    pub(super) fn next_delta(
        &mut self,
        table: &Table,
        own: &ReplicaId,
        replica: &ReplicaId,
        bytes_max: usize,
    ) -> Option<Delta> {
        let chain = self.chains.get_mut(replica)?;
        let delta = chain.next_delta(table, replica, bytes_max);
        let watermark = delta.as_ref().map_or(Some(Version::ZERO), |delta| delta.watermark);
        if let Some(watermark) = watermark {
            self.chains.remove(replica);
            if replica == own {
                self.own_sent = self.own_sent.map(|sent| sent.max(watermark));
            }
        }
        delta
    }

    /// Whether the peer has said where the stream of own updates begins.
    pub(super) fn has_own_stream(&self) -> bool {
        self.own_sent.is_some()
    }

    /// Begins a chain of the own updates up to `watermark` that were not sent yet, unless one is under way.
    pub(super) fn follow_own(&mut self, own: &ReplicaId, watermark: Version) {
        if let Some(sent) = self.own_sent.filter(|sent| *sent < watermark)
            && !self.is_sending(own)
        {
            self.begin(own, sent);
        }
    }

    /// Own updates up to `watermark` are being sent now, if there are any that were not; returns whether there are.
    pub(super) fn own_is_sent(&mut self, now: Duration, watermark: Version) -> bool {
        let has_more = self.own_sent.is_some_and(|sent| sent < watermark);
        if has_more {
            self.own_sent_at = now;
        }
        has_more
    }

    /// Begins or corrects the stream of own updates: the peer says that it has them up to `held`. What was sent beyond is
    /// taken for lost once nothing was sent for `patience`; until then it may still be on its way.
    pub(super) fn place_own(
        &mut self,
        own: &ReplicaId,
        held: Version,
        now: Duration,
        patience: Duration,
    ) {
        self.acked(held);
        let quiet = now.saturating_sub(self.own_sent_at) >= patience;
        match self.own_sent {
            None => self.own_sent = Some(held),
            Some(sent) if held < sent && quiet => {
                self.own_sent = Some(held);
                self.chains.remove(own);
            }
            Some(_) => {}
        }
    }

    /// The peer confirms our own updates up to this version.
    pub(super) fn acked(&mut self, version: Version) {
        self.acked = self.acked.max(version);
    }

    /// The peer's watermark of our own replica, as it said.
    pub(super) fn acknowledged(&self) -> Version {
        self.acked
    }

    /// How many own updates the peer has not confirmed, seen that our watermark is this.
    pub(super) fn lag(&self, watermark: Version) -> u64 {
        watermark.0.saturating_sub(self.acked.0)
    }

    /// Whether no chain is under way, and the own updates were sent up to `own` if that is given.
    pub(super) fn has_sent_all(&self, own: Option<Version>) -> bool {
        self.chains.is_empty() && own.is_none_or(|own| self.own_sent >= Some(own))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Incarnation;
    use crate::key::CounterKey;
    use crate::limit::Lifetime;
    use crate::table::{Bounds, DirtySet, Op};
    use crate::time::Timestamp;

    const SECOND: Duration = Duration::from_secs(1);

    fn own() -> ReplicaId {
        ReplicaId { node: "own".parse().unwrap(), incarnation: Incarnation { boot: 1, nonce: 1 } }
    }

    #[test]
    fn the_own_stream_follows_the_watermark_once_the_peer_has_said_where_to_begin() {
        let table = Table::new(own(), Bounds::default(), [1, 2, 3, 4]);
        let key = CounterKey::new("x", &[]).unwrap();
        table
            .execute(Timestamp(1), &key, Op::Add(1), Lifetime::new(Duration::from_secs(90_000)))
            .unwrap();
        table.harvest(DirtySet::All);
        let watermark = table.own_watermark();

        let mut streams = Streams::new(Duration::ZERO, 7);
        streams.follow_own(&own(), watermark);
        assert!(!streams.is_sending(&own()) && !streams.has_sent_all(Some(watermark)));
        streams.place_own(&own(), Version::ZERO, SECOND, SECOND);
        streams.follow_own(&own(), watermark);
        assert_eq!(streams.replicas(&own()), [own()]);
        let delta = streams.next_delta(&table, &own(), &own(), 1_000).unwrap();
        assert_eq!((delta.chain, delta.watermark), (7 << 16 | 1, Some(watermark)));
        assert!(streams.has_sent_all(Some(watermark)));
        assert_eq!(streams.lag(watermark), watermark.0);
        streams.acked(watermark);
        assert_eq!(streams.lag(watermark), 0);
    }

    #[test]
    fn what_was_sent_is_sent_again_only_after_a_while() {
        let mut streams = Streams::new(Duration::ZERO, 0);
        streams.place_own(&own(), Version(5), Duration::ZERO, SECOND);
        streams.own_is_sent(SECOND, Version(6));
        streams.place_own(&own(), Version(4), SECOND, SECOND);
        assert!(streams.has_sent_all(Some(Version(5))), "it may be on its way");
        streams.place_own(&own(), Version(4), SECOND * 2, SECOND);
        assert!(!streams.has_sent_all(Some(Version(5))) && streams.has_sent_all(None));
    }
}
