//! The commands that look into data directories.

use serde_json::Value;

use crate::{node, tallymesh, text};

#[test]
fn a_directory_is_checked_and_a_damaged_one_still_inspected() {
    let dir = tempfile::tempdir().unwrap();
    node(dir.path(), "acquire session=s\nacquire session=t\nflush\n");
    let data = dir.path().join("data");
    let path = data.to_str().unwrap();
    let sound = tallymesh(&["check", path]);
    assert!(sound.status.success(), "{}", text(&sound.stderr));
    let sound = text(&sound.stdout);
    assert!(sound.contains("node a, boot ") && sound.contains("2 counters"), "{sound}");
    assert!(sound.ends_with("sound\n"), "{sound}");

    let counters = tallymesh::inspect(&data).unwrap().counters;
    let of_s = counters.into_iter().find(|counter| counter.key.values().eq(["s"]));
    let key = of_s.unwrap().key;
    let db = sled::open(data.join("db")).unwrap();
    let key = [b"c", key.as_bytes()].concat();
    db.insert(key, b"no record at all").unwrap();
    db.flush().unwrap();
    drop(db);
    let checked = tallymesh(&["check", path]);
    assert_eq!(checked.status.code(), Some(1));
    let damaged = "damaged: counter calls of \"s\": its checksum does not match; at the next start, \
                   the database will be set aside; the peers bring the state back\n";
    let checked = text(&checked.stdout);
    assert!(checked.starts_with(damaged) && checked.ends_with("1 damaged\n"), "{checked}");
    let checked = tallymesh(&["check", path, "--json"]);
    let checked: Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!((&checked["sound"], &checked["records"]), (&false.into(), &5.into()));
    assert!(checked["damage"][0]["what"].as_str().unwrap().contains("calls of \"s\""));

    let seen = tallymesh(&["inspect", path]);
    assert_eq!(seen.status.code(), Some(1));
    assert_eq!(text(&seen.stderr), damaged);
    let seen = text(&seen.stdout);
    for part in ["node         a", "boot         ", "1 counters", "calls of \"t\" = 1"] {
        assert!(seen.contains(part), "{seen}");
    }
}

#[test]
fn the_clock_of_a_closed_directory_is_shown_and_is_not_lowered_where_it_is_not_ahead() {
    let dir = tempfile::tempdir().unwrap();
    node(dir.path(), "acquire session=s\nflush\n");
    let data = dir.path().join("data");
    let path = data.to_str().unwrap();
    for args in [&["clock", path][..], &["clock", path, "--lower"]] {
        let shown = tallymesh(args);
        assert!(shown.status.success(), "{}", text(&shown.stderr));
        let shown = text(&shown.stdout);
        assert!(shown.contains("high-water mark") && shown.contains("nothing to lower"), "{shown}");
    }
    let shown = tallymesh(&["clock", path, "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert!(shown["mark_unix_ms"].as_u64().unwrap() <= shown["now_unix_ms"].as_u64().unwrap());
    assert_eq!(shown["lowered"], false);
    let missing = tallymesh(&["clock", "no/such/dir", "--lower"]);
    assert!(!missing.status.success() && text(&missing.stderr).contains("no/such/dir"));
}

#[test]
fn a_directory_that_another_process_holds_is_called_that() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = tallymesh::Config::builder("a").data_dir(dir.path()).build().unwrap();
    let store = runtime.block_on(tallymesh::CounterStore::open(config)).unwrap();
    let refused = tallymesh(&["inspect", dir.path().to_str().unwrap()]);
    let told = format!("is held by another process (process {})", std::process::id());
    assert!(text(&refused.stderr).contains(&told), "{}", text(&refused.stderr));
    runtime.block_on(store.close()).unwrap();
}
