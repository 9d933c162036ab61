//! Messages without end, of a peer that is listened to; and the same of one that is not.

use tallymesh::{ReplicaId, Timestamp, Version};
use tallymesh_core::crdt::{Delta, DigestEntry};
use tallymesh_core::wire::Message;
use tallymesh_test_support::hostile::{Hostile, frame, hello};
use tallymesh_test_support::until;

use super::{MIB, PATIENCE, Pair, key, resident, stranger, within};

/// A replica with a long name that no node has.
fn unmet(number: u64) -> ReplicaId {
    format!("{}{number:014}#1.1", "y".repeat(50)).parse().unwrap()
}

fn digest(from: u64) -> Message {
    let entry = |number: u64| DigestEntry {
        replica: unmet(number),
        watermark: Version(1),
        ahead: 0,
        end: Timestamp(0),
    };
    let entries = (from..from + 600).map(entry).collect();
    Message::Digest {
        after: None,
        entries,
        last: false,
        others: None,
        buckets: Vec::new(),
        operator: None,
    }
}

/// The next part of the digest before.
fn digest_goes_on(from: u64) -> Message {
    let Message::Digest { entries, last, others, buckets, operator, .. } = digest(from) else {
        unreachable!()
    };
    let after = (from > 0).then(|| unmet(from - 1));
    Message::Digest { after, entries, last, others, buckets, operator }
}

fn part(replica: ReplicaId, chain: u32, part: u32) -> Message {
    Message::Delta(Delta {
        replica,
        from: Version::ZERO,
        chain,
        part,
        watermark: None,
        as_of: None,
        begun: Vec::new(),
        updates: Vec::new(),
    })
}

type Flood = (&'static str, fn(&Pair, u64) -> Vec<Message>, u64);

/// Each with how many frames there are of it.
const DIGESTS: &[Flood] = &[
    ("digests that begin again", |_, number| vec![digest(number * 600)], 400),
    ("a digest that does not end", |_, number| vec![digest_goes_on(number * 600)], 400),
    (
        "chains of replicas that none is",
        |_, number| (0..400).map(|one| part(unmet(number * 400 + one), 1, 0)).collect(),
        400,
    ),
    (
        "parts of a chain whose first is missing",
        |_, number| {
            (0..400).map(|one| part(unmet(1), 1, 1 + (number * 400 + one) as u32 * 2)).collect()
        },
        400,
    ),
];

const PINGS: &[Flood] = &[
    ("pings", |_, _| vec![Message::Ping {}; 4_000], 50),
    (
        "requests",
        |pair, _| {
            let request = Message::Request { replica: pair.a.replica(), from: Version::ZERO };
            vec![request; 400]
        },
        50,
    ),
];

/// Says all of it; who does not read what it is told may be closed meanwhile.
async fn pour(pair: &Pair, mut peer: Hostile, (what, messages, frames): Flood, reads: bool) {
    for number in 0..frames {
        let words = frame(&messages(pair, number));
        let said = peer.say_bytes(&words);
        let said = match tokio::time::timeout(std::time::Duration::from_secs(2), said).await {
            Ok(said) => said,
            // The node reads no more, as it may.
            Err(_) => break,
        };
        if said.is_err() {
            break;
        }
        if reads {
            let short = std::time::Duration::from_millis(1);
            while let Ok(Ok(_)) = tokio::time::timeout(short, peer.hear()).await {}
        }
        if number % 50 == 0 {
            pair.converges(what).await;
        }
    }
    pair.converges(what).await;
    peer.reset();
}

#[tokio::test]
async fn messages_of_strangers_are_not_read() {
    let pair = Pair::open(Some(key())).await;
    let before = resident();
    let clock = |_: &Pair, _| vec![Message::Pong { wall: Timestamp(1 << 63) }];
    let rows =
        [DIGESTS, PINGS, &[("a clock", clock as fn(&Pair, u64) -> Vec<Message>, 1)]].concat();
    for ((what, messages, _), number) in rows.into_iter().zip(1..) {
        let mut peer = pair.connect(number).await;
        let all = [vec![hello(&stranger(1))], messages(&pair, 0)].concat();
        let _ = peer.send(&frame(&all)).await;
        assert!(within(what, peer.all_until_the_end()).await.is_empty(), "{what}");
        pair.converges(what).await;
        pair.is_untouched();
    }
    assert!(resident() < before + 64 * MIB);
    pair.close().await;
}

async fn are_bounded(floods: &[Flood], reads: &[bool]) {
    for key in [None, Some(key())] {
        let pair = Pair::open(key).await;
        for number in 0..1_000 {
            pair.a.add(&super::counter(&format!("held {number}")), 1).unwrap();
        }
        for flood in floods {
            for (reads, number) in reads.iter().zip(1..) {
                let before = resident();
                let peer = pair.join(number, &stranger(number.into())).await;
                pour(&pair, peer, *flood, *reads).await;
                let grown = resident().saturating_sub(before) / MIB;
                assert!(grown < 64, "{}: {grown} MiB", flood.0);
            }
        }
        pair.goes_on();
        pair.close().await;
    }
}

#[tokio::test]
async fn digests_and_chains_that_do_not_end_are_bounded() {
    are_bounded(DIGESTS, &[true]).await;
}

#[tokio::test]
async fn floods_of_pings_and_requests_are_bounded() {
    are_bounded(PINGS, &[true, false]).await;
}

#[tokio::test]
async fn a_clock_beyond_all_times_is_only_a_complaint() {
    for key in [None, Some(key())] {
        let pair = Pair::open(key).await;
        for (wall, number) in [0, 1 << 53, i64::MAX as u64, 1 << 63, u64::MAX].into_iter().zip(1..)
        {
            let mut peer = pair.join(number, &stranger(number.into())).await;
            // It is asked, and only then an answer counts.
            let asked = async { while !peer.hear().await.unwrap().contains(&Message::Ping {}) {} };
            within("it is asked", asked).await;
            peer.say(&[Message::Pong { wall: Timestamp(wall) }]).await.unwrap();
            let named = |one: &tallymesh::PeerStatus| one.replica == Some(stranger(number.into()));
            let answered =
                |one: &tallymesh::PeerStatus| named(one) && one.clock_offset_ms.is_some();
            until("it is heard", PATIENCE, || pair.a.peers().iter().any(answered)).await;
            pair.converges("beside it").await;
        }
        pair.goes_on();
        pair.close().await;
    }
}
