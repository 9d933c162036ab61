//! The end of counting, such that nothing is acknowledged and then lost.
//!
//! Every call that counts reads the flag under the lock of the shard that it counts in. To close is to set the flag and then
//! to take each of these locks once: a call that had a lock before has counted by now, and what follows, such as the last
//! checkpoint, finds it; a call that gets it later finds the flag set. So the flag needs no order of its own, and costs a
//! decision one plain load.

use core::sync::atomic::Ordering;

use super::Table;
use crate::mutant::mutant;

impl Table {
    /// Refuses decisions and operations from now on. When this returns, what was admitted before is counted, and nothing is
    /// counted here any more; what peers counted is still merged.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        (0..self.shards.len()).for_each(|number| drop(self.lock(number)));
    }

    /// Whether [`close`](Self::close) was called. Only under the lock of a shard it tells whether to count in that.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed) && !mutant!(CountsWhenClosed)
    }
}

#[cfg(test)]
mod tests {
    use alloc::sync::Arc;
    use alloc::vec::Vec;
    use core::time::Duration;
    use std::sync::Barrier;
    use std::thread;

    use super::super::{Admission, Bounds, CachedSlot, CountError, Debit, NO_LIMIT, Op};
    use super::*;
    use crate::id::{Incarnation, ReplicaId};
    use crate::key::CounterKey;
    use crate::limit::{Demands, DenialReason, Lifetime, Limit, Policy, Request, Window};
    use crate::time::Timestamp;

    const NOW: Timestamp = Timestamp(1_000);

    fn lifetime() -> Lifetime {
        Lifetime::new(Duration::from_secs(3600))
    }

    fn table() -> Table {
        let incarnation = Incarnation { boot: 1, nonce: 1 };
        let own = ReplicaId { node: "a".parse().unwrap(), incarnation };
        Table::new(own, Bounds::default(), [1, 2, 3, 4])
    }

    fn policy(limits: usize) -> Policy {
        let window = Window::Session { ttl: Duration::from_secs(3600) };
        let names = ["a", "b", "c"];
        let limits = names.iter().take(limits);
        Policy::new(limits.map(|name| Limit::new(*name, 1_000_000, window).per("session"))).unwrap()
    }

    fn demands(policy: &Policy, session: &str) -> Demands {
        let mut demands = Demands::default();
        let request = Request::new().with("session", session);
        policy.find_demands(&request, NOW, 512, &mut demands).unwrap();
        demands
    }

    fn is_closed(admission: &Admission) -> bool {
        let closed = DenialReason::Closed;
        matches!(admission, Admission::Denied { limit_index: NO_LIMIT, reason, .. } if *reason == closed)
    }

    fn total(table: &Table) -> u64 {
        let (mut sum, mut next) = (0, None);
        loop {
            let (page, following) = table.page(next);
            sum += page.iter().map(|counter| counter.value).sum::<u64>();
            next = following;
            if next.is_none() {
                return sum;
            }
        }
    }

    #[test]
    fn a_closed_table_answers_every_way_of_counting_alike_and_changes_nothing() {
        let table = table();
        let key = CounterKey::new("plain", &[]).unwrap();
        table.execute(NOW, &key, Op::Add(2), lifetime()).unwrap();
        let (none, one, three) = (policy(0), policy(1), policy(3));
        let asked = demands(&one, "s");
        let Admission::Allowed { debits, .. } = table.acquire(NOW, &asked) else {
            panic!("there is room")
        };
        let cached = CachedSlot::default();
        cached.set(table.resolve(key.as_bytes()));
        table.close();
        for policy in [&none, &one, &three] {
            assert!(is_closed(&table.acquire(NOW, &demands(policy, "s"))));
            assert!(is_closed(&table.peek(NOW, &demands(policy, "s"))));
        }
        let slot = [table.resolve(asked.key(&asked.list[0]))];
        let by_ref = table.acquire_by_ref(NOW, &asked.list, slot).unwrap();
        assert!(is_closed(&by_ref));
        for op in [Op::Add(1), Op::Subtract(1), Op::Reset, Op::TryAdd { amount: 1, max: 9 }] {
            assert_eq!(table.execute(NOW, &key, op, lifetime()).unwrap_err(), CountError::Closed);
            let by_ref = table.execute_by_ref(NOW, cached.get(), &key, op, lifetime());
            assert_eq!(by_ref.unwrap_err(), CountError::Closed);
        }
        assert!(!table.refund(&debits, 1));
        assert_eq!(total(&table), 3);
    }

    /// Threads count in all ways, until they are refused; what they were told is what is there once `close` returns.
    #[test]
    fn what_was_admitted_is_there_when_close_returns_and_nothing_comes_after() {
        for round in 0..100 {
            let (table, policies) = (Arc::new(table()), Arc::new([policy(1), policy(3)]));
            let start = Arc::new(Barrier::new(5));
            let counting: Vec<_> = (0..4)
                .map(|thread: usize| {
                    let (table, policies, start) = (table.clone(), policies.clone(), start.clone());
                    thread::spawn(move || {
                        start.wait();
                        count_until_closed(&table, &policies[thread % 2], thread)
                    })
                })
                .collect();
            start.wait();
            (0..round * 50).for_each(|_| core::hint::spin_loop());
            table.close();
            let at_close = total(&table);
            let told: u64 = counting.into_iter().map(|thread| thread.join().unwrap()).sum();
            assert_eq!((at_close, total(&table)), (told, told), "round {round}");
        }
    }

    /// How much it counted: admissions, minus refunds, plus what it added to a plain counter.
    fn count_until_closed(table: &Table, policy: &Policy, thread: usize) -> u64 {
        let key = CounterKey::new("plain", &[]).unwrap();
        let mut counted = 0;
        for call in 0.. {
            let session = alloc::format!("{thread} {}", call % 7);
            let Admission::Allowed { debits, .. } = table.acquire(NOW, &demands(policy, &session))
            else {
                break;
            };
            counted += debits.len() as u64;
            let taken: Vec<Debit> = debits.into_iter().collect();
            if call % 3 == 0 && table.refund(&taken, 1) {
                counted -= taken.len() as u64;
            }
            if table.execute(NOW, &key, Op::Add(1), lifetime()).is_ok() {
                counted += 1;
            }
        }
        counted
    }
}
