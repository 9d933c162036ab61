//! Connections in great numbers.

use std::time::Duration;

use tallymesh::ReplicaId;
use tallymesh_core::wire::Message;
use tallymesh_test_support::hostile::{Hostile, frame, hello};
use tallymesh_test_support::until;
use tokio::task::JoinSet;

use super::{
    MIB, PATIENCE, Pair, config, counter, is_connected, key, open, resident, stranger, within,
};

/// So many places have those who have not proven anything.
const PLACES: u64 = 64;

#[tokio::test]
async fn idle_connections_take_no_place_of_peers() {
    let pair = Pair::open_with(Some(key()), |config| config.max_connections(4)).await;
    let before = resident();
    let mut idle = Vec::new();
    for number in 0..1_300 {
        let mut peer = pair.connect(number).await;
        // The length of a record, and no more.
        let _ = match number % 2 {
            0 => peer.send(&1_024_u16.to_be_bytes()).await,
            _ => Ok(()),
        };
        idle.push(peer);
        if number % 100 == 0 {
            pair.converges("beside them").await;
        }
    }
    let refused = || pair.a.rejections().strangers_refused;
    until("all but the last are gone", PATIENCE, || refused() >= 1_300 - PLACES).await;
    let late = open(config("c").gossip_key([key()]).peers([pair.address().to_string()])).await;
    late.add(&counter("late"), 1).unwrap();
    until("a member comes in", PATIENCE, || pair.a.value(&counter("late")) == 1).await;
    pair.converges("after them").await;
    pair.goes_on();
    assert!(resident() < before + 64 * MIB);
    late.close().await.unwrap();
    pair.close().await;
}

#[tokio::test]
async fn announced_lengths_take_little() {
    for key in [None, Some(key())] {
        let pair = Pair::open(key).await;
        let before = resident();
        let mut waiting = Vec::new();
        for number in 0..250 {
            let mut peer = match number % 2 {
                0 => pair.prove(number, &stranger(number.into())).await,
                _ => pair.connect(number).await,
            };
            let _ = peer.say_bytes(&[0xff, 0xff, 0, 0, 1, 2, 3, 4]).await;
            waiting.push(peer);
        }
        pair.converges("beside them").await;
        pair.goes_on();
        assert!(resident() < before + 64 * MIB, "{} MiB", (resident() - before) / MIB);
        drop(waiting);
        pair.close().await;
    }
}

/// Says hello, and answers and asks as a peer does that only stays; comes again when it is closed.
async fn stay(to: std::net::SocketAddr, number: u32, replica: ReplicaId) {
    let mut pace = tokio::time::interval(Duration::from_millis(500));
    loop {
        pace.tick().await;
        let Ok(mut peer) = Hostile::connect(to, number).await else { continue };
        if peer.send(&frame(&[hello(&replica)])).await.is_err() {
            continue;
        }
        loop {
            tokio::select! {
                heard = peer.hear() => if heard.is_err() { break },
                _ = pace.tick() => {
                    let ping = [Message::Ping {}, Message::Pong { wall: tallymesh::Timestamp(1) }];
                    if peer.send(&frame(&ping)).await.is_err() {
                        break;
                    }
                }
            }
        }
    }
}

fn strangers_at(pair: &Pair, count: u32) -> JoinSet<()> {
    let mut all = JoinSet::new();
    for number in 0..count {
        for (store, half) in [(&pair.a, 0), (&pair.b, 1)] {
            let replica = stranger(u64::from(2 * number + half));
            all.spawn(stay(store.address().unwrap(), number, replica));
        }
    }
    all
}

fn strangers_linked(pair: &Pair) -> usize {
    let peers = pair.a.peers();
    let named = |name: &ReplicaId| name.node.as_str().starts_with("stranger");
    let connected = peers.iter().filter(|peer| peer.connected);
    connected.filter(|peer| peer.replica.as_ref().is_some_and(named)).count()
}

#[tokio::test]
async fn those_that_greet_are_not_met() {
    for count in [40, 150, 600] {
        let pair = Pair::open_with(Some(key()), |config| config.max_connections(4)).await;
        let all = strangers_at(&pair, count);
        let refused =
            || pair.a.rejections().strangers_refused.min(pair.b.rejections().strangers_refused);
        until("all have come", PATIENCE, || refused() >= u64::from(count)).await;
        for _ in 0..5 {
            pair.converges("beside them").await;
        }
        pair.is_untouched();
        let late = open(config("c").gossip_key([key()]).peers([pair.address().to_string()])).await;
        until("a member comes in", PATIENCE, || is_connected(&late, "a")).await;
        late.close().await.unwrap();
        drop(all);
        pair.close().await;
    }
}

#[tokio::test]
async fn those_that_greet_do_not_crowd_out_peers() {
    for count in [25, 150, 600] {
        let pair = Pair::open(None).await;
        let all = strangers_at(&pair, count);
        // Not many at a time have a place before they have greeted.
        until("they have come", PATIENCE, || strangers_linked(&pair) >= count as usize).await;
        for _ in 0..5 {
            pair.converges("beside them").await;
        }
        pair.goes_on();
        drop(all);
        pair.close().await;
    }
}

#[tokio::test]
async fn a_peer_has_a_place_among_strangers() {
    let pair = Pair::open_with(None, |config| config.max_connections(80)).await;
    let all = strangers_at(&pair, 200);
    until("they have come", PATIENCE, || strangers_linked(&pair) >= 60).await;
    // b restarts, and comes to a again; and a dials c, which the config then names.
    pair.b.close().await.unwrap();
    let b = open(config("b").peers([pair.address().to_string()])).await;
    let x = counter("x");
    b.add(&x, 1).unwrap();
    let c = open(config("c")).await;
    pair.a
        .set_peers([b.address().unwrap(), c.address().unwrap()].map(|one| one.to_string()))
        .await
        .unwrap();
    until("both have a place", PATIENCE, || pair.a.value(&x) == 1 && c.value(&x) == 1).await;
    drop(all);
    for store in [&pair.a, &b, &c] {
        within("its end", store.close()).await.unwrap();
    }
}
