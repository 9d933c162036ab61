//! A disk that fills up under a running node, and has room again.

use tallymesh::{DurabilityError, Limiter, Request};
use tallymesh_test_support::{copy_moment, until};

use crate::cluster::{PATIENCE, open, value};
use crate::small_disk::SmallDisk;

/// Fills the disk and counts until the node has noticed; returns how many calls it has counted by then.
async fn count_until_degraded(node: &Limiter, disk: &SmallDisk) -> u64 {
    let request = Request::tool_call("s", "tool");
    let durable = node.acquire_durable(&request).await;
    assert!(durable.unwrap().is_allowed());
    assert!(node.counters().health().is_durable());
    disk.fill();
    let mut counted = 1;
    until("the node is degraded", PATIENCE, || {
        // New sessions too, since what is rewritten in place needs no more room.
        let session = format!("new {counted}");
        assert!(node.acquire(&Request::tool_call(&session, "tool")).is_allowed());
        assert!(node.acquire(&request).is_allowed());
        counted += 1;
        node.counters().health().is_failed()
    })
    .await;
    counted
}

#[tokio::test]
async fn a_disk_that_fills_up_degrades_durability_and_admission_goes_on() {
    let Some(disk) = SmallDisk::mount() else { return };
    let node = open(&disk.path().join("a"), None).await.unwrap();
    let counted = count_until_degraded(&node, &disk).await;
    let health = node.counters().health();
    assert!(health.is_failed());
    let [health] = &health.reasons[..] else { panic!("one reason: {health:?}") };
    let request = Request::tool_call("s", "tool");
    let error = node.acquire_durable(&request).await.unwrap_err();
    assert!(matches!(&error, DurabilityError::Degraded { reason } if reason == health), "{error}");
    assert!(node.counters().flush().await.is_err());
    assert!(node.acquire(&request).is_allowed());
    assert_eq!(value(&node, "s"), counted + 1, "an error charges nothing");
    assert!(node.close().await.is_err(), "closing does not claim that all is written");
}

#[tokio::test]
async fn what_was_durable_before_the_disk_filled_up_is_found_by_the_next_life() {
    let Some(disk) = SmallDisk::mount() else { return };
    let dir = disk.path().join("a");
    let node = open(&dir, None).await.unwrap();
    let counted = count_until_degraded(&node, &disk).await;
    assert!(node.close().await.is_err());
    disk.free();
    let node = open(&dir, None).await.unwrap();
    assert_eq!(node.counters().set_aside(), None);
    assert!((1..=counted).contains(&value(&node, "s")), "{} of {counted}", value(&node, "s"));
    node.close().await.unwrap();
}

#[tokio::test]
async fn durability_comes_back_when_there_is_room_again() {
    let Some(disk) = SmallDisk::mount() else { return };
    let dir = disk.path().join("a");
    let node = open(&dir, None).await.unwrap();
    let counted = count_until_degraded(&node, &disk).await;
    disk.free();
    until("it is durable again", PATIENCE, || node.counters().health().is_durable()).await;
    node.counters().flush().await.unwrap();
    let again = node.acquire_durable(&Request::tool_call("s", "tool")).await;
    assert!(again.unwrap().is_allowed());
    let state_checksum = node.counters().state_checksum();
    // What a kill at this moment would leave.
    let copy = tempfile::tempdir().unwrap();
    copy_moment(&dir, copy.path());
    let next = open(copy.path(), None).await.unwrap();
    assert_eq!(next.counters().set_aside(), None);
    assert_eq!(value(&next, "s"), counted + 1);
    assert_eq!(
        next.counters().state_checksum(),
        state_checksum,
        "all that was counted meanwhile too"
    );
    next.close().await.unwrap();
    node.close().await.unwrap();
}
