//! Directories that are not ours to use, or cannot be used: each is refused, with what to do, and left as it was.

use std::path::Path;

use crate::cluster::{is_helpful, open, value};
use crate::small_disk::SmallDisk;
use tallymesh::Request;

/// A directory in which a node has lived and counted once.
async fn lived_in(dir: &Path) {
    let node = open(dir, None).await.unwrap();
    assert!(node.acquire(&Request::tool_call("s", "tool")).is_allowed());
    node.close().await.unwrap();
}

async fn refusal(dir: &Path) -> String {
    let error = open(dir, None).await.expect_err("it is refused").to_string();
    assert!(is_helpful(&error), "it does not say what to do: {error}");
    error
}

#[tokio::test]
async fn a_directory_of_another_format_is_refused_and_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    lived_in(temp.path()).await;
    let identity = temp.path().join("identity.toml");
    let ours = std::fs::read_to_string(&identity).unwrap();
    let line = ours.lines().find(|line| line.starts_with("format")).unwrap();
    std::fs::write(&identity, ours.replace(line, "format = 4711")).unwrap();
    let error = refusal(temp.path()).await;
    assert!(error.contains("4711"), "{error}");
    // With its own version it is as it was.
    std::fs::write(&identity, ours).unwrap();
    let node = open(temp.path(), None).await.unwrap();
    assert_eq!((node.counters().set_aside(), value(&node, "s")), (None, 1));
    node.close().await.unwrap();
}

#[tokio::test]
async fn another_program_s_database_is_refused_and_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("db");
    let foreign = sled::open(&path).unwrap();
    foreign.insert("another", "program's").unwrap();
    foreign.flush().unwrap();
    drop(foreign);
    for _ in 0..2 {
        refusal(temp.path()).await;
    }
    let foreign = sled::open(&path).unwrap();
    assert_eq!(foreign.get("another").unwrap().as_deref(), Some(&b"program's"[..]));
}

#[tokio::test]
async fn a_file_where_the_directory_should_be_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("file");
    std::fs::write(&file, "text").unwrap();
    let error = refusal(&file).await;
    assert!(error.contains(file.to_str().unwrap()), "{error}");
    refusal(&file.join("below")).await;
}

#[tokio::test]
async fn a_directory_that_is_open_already_is_refused_until_it_is_closed() {
    let temp = tempfile::tempdir().unwrap();
    let holder = open(temp.path(), None).await.unwrap();
    assert!(holder.acquire(&Request::tool_call("s", "tool")).is_allowed());
    for _ in 0..3 {
        let error = open(temp.path(), None).await.expect_err("it is refused").to_string();
        assert!(error.contains("open in this process already: close it first"), "{error}");
    }
    let durable = holder.acquire_durable(&Request::tool_call("s", "tool")).await;
    assert!(durable.unwrap().is_allowed(), "the attempts do the holder no harm");
    holder.close().await.unwrap();
    let next = open(temp.path(), None).await.unwrap();
    assert_eq!(value(&next, "s"), 2);
    next.close().await.unwrap();
}

#[tokio::test]
async fn a_read_only_disk_is_refused_and_nothing_on_it_is_lost() {
    let Some(disk) = SmallDisk::mount() else { return };
    let dir = disk.path().join("a");
    lived_in(&dir).await;
    disk.remount("ro");
    let error = refusal(&dir).await;
    assert!(error.to_lowercase().contains("read-only"), "{error}");
    disk.remount("rw");
    let node = open(&dir, None).await.unwrap();
    assert_eq!((node.counters().set_aside(), value(&node, "s")), (None, 1));
    node.close().await.unwrap();
}

#[tokio::test]
async fn a_full_disk_is_refused_and_nothing_on_it_is_lost() {
    let Some(disk) = SmallDisk::mount() else { return };
    let dir = disk.path().join("a");
    lived_in(&dir).await;
    disk.fill();
    let error = refusal(&dir).await;
    assert!(error.to_lowercase().contains("no space left"), "{error}");
    disk.free();
    let node = open(&dir, None).await.unwrap();
    assert_eq!((node.counters().set_aside(), value(&node, "s")), (None, 1));
    node.close().await.unwrap();
}

#[tokio::test]
async fn a_full_disk_is_refused_to_a_new_node_which_begins_when_there_is_room() {
    let Some(disk) = SmallDisk::mount() else { return };
    let dir = disk.path().join("a");
    disk.fill();
    let error = refusal(&dir).await;
    assert!(error.to_lowercase().contains("no space left"), "{error}");
    disk.free();
    lived_in(&dir).await;
    let node = open(&dir, None).await.unwrap();
    assert_eq!((node.counters().set_aside(), value(&node, "s")), (None, 1));
    node.close().await.unwrap();
}
