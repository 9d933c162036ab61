//! Bytes that are no messages, and time that passes without any.

use std::time::Duration;

use tallymesh_core::wire::Message;
use tallymesh_test_support::hostile::{Hostile, count, frame, frame_of, hello};
use tallymesh_test_support::until;

use super::{MIB, PATIENCE, Pair, counter, key, resident, stranger, within};

#[tokio::test]
async fn what_it_says_truly_is_counted() {
    for key in [None, Some(key())] {
        let pair = Pair::open(key).await;
        let (evil, x) = (stranger(1), counter("x"));
        let mut peer = pair.join(1, &evil).await;
        let now = pair.a.now().0;
        peer.say(&[Message::Ping {}, count(&evil, &x, 5, now)]).await.unwrap();
        until("both have it", PATIENCE, || {
            [&pair.a, &pair.b].iter().all(|store| store.value(&x) == 5)
        })
        .await;
        // What a node says is read as it is meant, too.
        let hears_pong = async {
            while !peer.hear().await.unwrap().iter().any(|one| matches!(one, Message::Pong { .. }))
            {
            }
        };
        within("its pong", hears_pong).await;
        peer.reset();
        pair.converges("after it").await;
        pair.close().await;
        if let Some(key) = Some(super::key()) {
            // The same words of who has no key are none.
            let pair = Pair::open(Some(key)).await;
            let mut peer = pair.connect(1).await;
            let said = frame(&[hello(&evil), count(&evil, &x, 5, now)]);
            let _ = peer.send(&said).await;
            assert!(within("its end", peer.all_until_the_end()).await.is_empty());
            pair.converges("after it").await;
            assert_eq!((pair.a.value(&x), pair.b.value(&x)), (0, 0));
            pair.is_untouched();
            pair.close().await;
        }
    }
}

/// Payloads that are nested, or announce more than there is.
fn absurd() -> Vec<(String, Vec<u8>)> {
    let mut absurd: Vec<(&str, Vec<u8>)> = vec![
        ("arrays 60,000 deep", vec![0x91; 60_000]),
        ("maps 15,000 deep", [0x81, 0xa1, b'x'].repeat(15_000)),
        ("an array of 2^32 - 1", vec![0xdd, 0xff, 0xff, 0xff, 0xff]),
        ("a map of 2^32 - 1", vec![0xdf, 0xff, 0xff, 0xff, 0xff]),
        ("a text of 4 GiB", vec![0xdb, 0xff, 0xff, 0xff, 0xff]),
        ("bytes of 4 GiB", vec![0xc6, 0xff, 0xff, 0xff, 0xff]),
    ];
    let bare = absurd.clone();
    let mut rows: Vec<(String, Vec<u8>)> = Vec::new();
    for (what, content) in absurd.drain(..) {
        for name in ["h", "b", "p", "z"] {
            let payload = [&[0x81, 0xa1][..], name.as_bytes(), &content].concat();
            rows.push((format!("{what} in {name}"), frame_of(&payload)));
        }
    }
    rows.extend(bare.into_iter().map(|(what, content)| (what.to_owned(), frame_of(&content))));
    rows
}

/// What a connection may begin with that is no beginning.
fn rows() -> Vec<(String, Vec<u8>)> {
    let mut rows = absurd();
    let whole = frame(&[hello(&stranger(2))]);
    for end in 0..whole.len() {
        rows.push((format!("a hello cut at {end}"), whole[..end].to_vec()));
        let mut changed = whole.clone();
        changed[end] ^= 0xff;
        rows.push((format!("a hello with byte {end} inverted"), changed));
    }
    for length in [0, 65_537, i32::MAX as u32, u32::MAX] {
        rows.push((format!("a length of {length}"), [length.to_le_bytes(), [0xff; 4]].concat()));
    }
    for size in [1, 8, 64, 5_000] {
        let garbage = (0..size).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        rows.push((format!("{size} bytes of garbage"), garbage));
    }
    rows.push(("a message before a hello".to_owned(), frame(&[Message::Ping {}])));
    rows
}

#[tokio::test]
async fn nothing_comes_of_bytes_that_are_none() {
    for key in [None, Some(key())] {
        let is_keyed = key.is_some();
        let pair = Pair::open(key).await;
        let before = resident();
        let rows = rows();
        for (some, number) in rows.chunks(32).zip((0..).step_by(32)) {
            let mut ends = tokio::task::JoinSet::new();
            for ((what, bytes), number) in some.iter().cloned().zip(number..) {
                let mut peer = pair.connect(number).await;
                ends.spawn(async move {
                    // It may be closed before it has taken all in.
                    let _ = peer.send(&bytes).await;
                    let said = within(&what, peer.all_until_the_end()).await;
                    assert!(!is_keyed || said.is_empty(), "{what}: {said:?}");
                });
            }
            pair.converges("beside them").await;
            while let Some(ended) = ends.join_next().await {
                ended.unwrap();
            }
        }
        if is_keyed {
            let refused = || pair.a.rejections().strangers_refused;
            until("all are counted", PATIENCE, || refused() == rows.len() as u64).await;
        }
        pair.is_untouched();
        assert!(resident() < before + 64 * MIB);
        pair.close().await;
    }
}

#[tokio::test]
async fn a_link_ends_over_bytes_that_are_none() {
    for key in [None, Some(key())] {
        let pair = Pair::open(key).await;
        let before = resident();
        let mut rows = absurd();
        for length in [65_537, i32::MAX as u32, u32::MAX] {
            let header = [length.to_le_bytes(), [0xff; 4]].concat();
            rows.push((format!("a length of {length}"), header));
        }
        for ((what, bytes), number) in rows.into_iter().zip(1..) {
            let mut peer = pair.join(number, &stranger(number.into())).await;
            let _ = peer.say_bytes(&bytes).await;
            within(&what, async { while peer.hear().await.is_ok() {} }).await;
        }
        pair.converges("after them").await;
        pair.goes_on();
        assert!(resident() < before + 64 * MIB);
        pair.close().await;
    }
}

/// Sends these, a byte at a time, until the connection ends.
async fn drip(mut peer: Hostile, bytes: &[u8], in_records: bool) {
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    for byte in bytes {
        pace.tick().await;
        let sent = match in_records {
            true => peer.say_bytes(&[*byte]).await,
            false => peer.send(&[*byte]).await,
        };
        if sent.is_err() {
            return;
        }
    }
    panic!("{} single bytes were waited for", bytes.len());
}

#[tokio::test]
async fn silence_and_single_bytes_end_in_time() {
    for key in [None, Some(key())] {
        let is_keyed = key.is_some();
        let quick = |config: tallymesh::ConfigBuilder| {
            config
                .silence_timeout(Duration::from_secs(2))
                .digest_interval(Duration::from_millis(200))
        };
        let pair = Pair::open_with(key, quick).await;
        let mut silent = pair.connect(1).await;
        let said = within("the end of a silent one", silent.all_until_the_end()).await;
        assert!(!is_keyed || said.is_empty());
        // A length that may be, and single bytes of what it announces.
        let length = if is_keyed { [2, 0, 0, 0] } else { 1_000_u32.to_le_bytes() };
        let bytes = [&length[..], &[7; 996]].concat();
        within("the end before a hello", drip(pair.connect(2).await, &bytes, false)).await;
        pair.is_untouched();
        let bytes = [&1_000_u32.to_le_bytes()[..], &[7; 996]].concat();
        let link = pair.join(3, &stranger(3)).await;
        within("the end after a hello", drip(link, &bytes, true)).await;
        pair.converges("after them").await;
        pair.goes_on();
        pair.close().await;
    }
}
