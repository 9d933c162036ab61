//! What is believed by the clock, and what an honest cluster needs of it.

use core::time::Duration;

use proptest::prelude::*;

use super::plausible::{generation_max, version_max};
use super::tests::{replica, table, ttl};
use super::*;
use crate::crdt::{Marks, Update};
use crate::id::Version;
use crate::key::CounterKey;
use crate::time::Timestamp;

const NOW: u64 = 1_796_000_000_000;

fn update(version: u64, generation: u32, p: u64) -> Update {
    let key = CounterKey::new("x", &[]).unwrap().as_bytes().to_vec();
    let marks = Marks { at: NOW, p0: 3_600_000, n0: 0 };
    Update { key, version: Version(version), generation, p, n: 0, marks }
}

#[test]
fn a_version_is_believed_up_to_its_bound_and_no_further() {
    let (table, writer) = (table("a"), replica("b", NOW - 1_000));
    let most = table.version_max(Timestamp(NOW), &writer).0;
    assert!((1 << 47..1 << 48).contains(&most));
    for beyond in [most + 1, 1 << 48, u64::MAX] {
        let applied = table.apply(Timestamp(NOW), &writer, &[update(beyond, 0, 1)]);
        assert_eq!((applied.implausible, applied.new.len()), (1, 0));
    }
    assert_eq!(table.apply(Timestamp(NOW), &writer, &[update(most, 0, 1)]).new.len(), 1);
    assert_eq!(table.rejections().cells_implausible, 3);
}

#[test]
fn a_lie_at_the_bound_is_outgrown_and_what_follows_is_believed_a_moment_later() {
    let (writer, reader) = (Table::new(replica("b", NOW), Bounds::default(), [1; 4]), table("a"));
    let own = writer.own_replica();
    let key = CounterKey::new("x", &[]).unwrap();
    writer.execute(Timestamp(NOW), &key, Op::Add(5), ttl(3_600_000)).unwrap();
    writer.harvest(DirtySet::All);
    let lie = reader.version_max(Timestamp(NOW), &own);
    reader.apply(Timestamp(NOW), &own, &[update(lie.0, 0, 900)]);
    reader.complete(&own, Version::ZERO, lie);

    assert!(!writer.outgrow(Timestamp(NOW), Version(1)), "that was given out");
    assert!(!writer.outgrow(Timestamp(NOW), Version(lie.0 + 1)), "no node believes that");
    assert!(writer.outgrow(Timestamp(NOW), lie));
    writer.harvest(DirtySet::All);
    let part = writer.updates_after(&own, lie, usize::MAX).unwrap();
    assert_eq!((part.updates.len(), part.updates[0].version), (1, Version(lie.0 + 1)));
    let applied = reader.apply(Timestamp(NOW + 1), &own, &part.updates);
    assert_eq!((applied.implausible, applied.new.len()), (0, 1));
    assert_eq!(reader.value(Timestamp(NOW + 1), key.as_bytes()), 5);
}

#[test]
fn the_last_generation_is_not_believed_and_the_next_reset_is() {
    let (table, writer) = (table("a"), replica("b", NOW));
    let key = CounterKey::new("x", &[]).unwrap();
    let most = generation_max(Timestamp(NOW).plus(Bounds::default().future_max));
    for beyond in [most + 1, u32::MAX] {
        let applied = table.apply(Timestamp(NOW), &writer, &[update(1, beyond, 9)]);
        assert_eq!((applied.implausible, applied.new.len()), (1, 0));
    }
    assert_eq!(table.apply(Timestamp(NOW), &writer, &[update(1, most, 9)]).new.len(), 1);
    table.execute(Timestamp(NOW), &key, Op::Reset, ttl(3_600_000)).unwrap();
    assert_eq!(table.value(Timestamp(NOW), key.as_bytes()), 0);
    assert_eq!(table.counter(key.as_bytes()).unwrap().generation, most + 1);
    assert!(generation_max(Timestamp(NOW + 601_000)) > most, "peers believe it a second later");
}

proptest! {
    /// A node that was cut off for long brings all that it did meanwhile at once.
    #[test]
    fn honest_versions_and_generations_stay_below_their_bounds(
        boot in NOW..NOW * 2,
        away_s in 0_u64..10 * 365 * 86_400,
        stamps_per_ms in 0_u64..=1_000,
        (burst, resets_per_s) in (0_u64..16_000_000, 0_u64..=2),
    ) {
        let now = Timestamp(boot).plus(Duration::from_secs(away_s));
        prop_assert!(Version(away_s * 1_000 * stamps_per_ms) <= version_max(boot, now));
        prop_assert!(burst + away_s * resets_per_s <= u64::from(generation_max(now)));
    }

    /// Whatever the time, what follows the highest number that is believed is believed soon.
    #[test]
    fn a_lie_at_the_bound_takes_nothing_that_lasts(boot in any::<u32>(), age in 0_u64..1 << 40) {
        let boot = NOW + u64::from(boot);
        let (now, next) = (Timestamp(boot + age), Timestamp(boot + age + 1));
        prop_assert!(version_max(boot, now).0 + 1_000 <= version_max(boot, next).0);
        let later = now.plus(Duration::from_secs(1));
        prop_assert!(generation_max(now) < generation_max(later));
    }
}
