//! The program, as its users run it.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

fn tallymesh(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tallymesh")).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Starts a node with these settings, to be talked to.
fn start(config: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_tallymesh"))
        .args(["node", "--config", config.to_str().unwrap()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs a node on these commands, and returns its answers.
fn node(dir: &Path, commands: &str) -> Vec<Value> {
    let config = dir.join("a.toml");
    let data = dir.join("data");
    let settings = format!(
        "[node]\nid = \"a\"\ndata_dir = {data:?}\n[gossip]\nlisten = \"127.0.0.1:0\"\n\
         [[limit]]\nname = \"calls\"\nper = [\"session\"]\nmax = 2\nwindow = \"session\"\n"
    );
    std::fs::write(&config, settings).unwrap();
    let mut child = start(&config);
    child.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_node_answers_line_by_line_and_its_directory_can_be_inspected() {
    let dir = tempfile::tempdir().unwrap();
    let answers = node(
        dir.path(),
        "acquire session=s\nacquire session=s\nacquire session=s\nrefund 1\nrefund 1\npeek session=s\n\
         nonsense\nacquire session\nacquire cost=many session=s\ncounters\npeers\nstate\nflush\n",
    );
    assert_eq!(answers[0]["ready"], true);
    assert_eq!((&answers[1]["allowed"], &answers[1]["remaining"]), (&true.into(), &1.into()));
    assert_eq!(answers[2]["allowed"], true);
    assert_eq!((&answers[3]["allowed"], &answers[3]["limit"]), (&false.into(), &"calls".into()));
    assert!(answers[3]["retry_after_ms"].as_u64().unwrap() > 3_000_000);
    assert_eq!(answers[4]["refunded"], 1);
    assert!(answers[5]["error"].as_str().unwrap().contains("no receipt 1"));
    assert_eq!(answers[6]["allowed"], true);
    assert!(answers[7]["error"].as_str().unwrap().contains("acquire, peek, refund"));
    assert!(answers[8]["error"].as_str().unwrap().contains("label=value"));
    assert!(answers[9]["error"].as_str().unwrap().contains("many"));
    assert_eq!(answers[10][0]["value"], 1);
    assert_eq!(answers[11], Value::Array(Vec::new()));
    assert_eq!(
        (&answers[12]["durable"], &answers[12]["clock_behind_ms"]),
        (&true.into(), &0.into())
    );
    assert_eq!(answers[13]["durable"], true);

    let data = dir.path().join("data");
    let seen = tallymesh(&["inspect", data.to_str().unwrap()]);
    assert!(seen.status.success());
    let seen = text(&seen.stdout);
    for part in ["node         a", "boot         1", "calls of \"s\" = 1", "+2 -1"] {
        assert!(seen.contains(part), "{seen}");
    }
    let seen = tallymesh(&["inspect", data.to_str().unwrap(), "--json"]);
    let seen: Value = serde_json::from_slice(&seen.stdout).unwrap();
    assert_eq!((&seen["boot"], &seen["counters"][0]["value"]), (&1.into(), &1.into()));

    let answers = node(dir.path(), "acquire session=s\nacquire session=s\n");
    assert_eq!((&answers[1]["allowed"], &answers[2]["allowed"]), (&true.into(), &false.into()));
}

#[test]
fn of_a_thousand_waits_none_is_denied_again() {
    const KEYS: usize = 100;
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("a.toml");
    let settings = "[node]\nid = \"a\"\n[storage]\nin_memory = true\n\
         [[limit]]\nname = \"once\"\nper = [\"key\"]\nmax = 1\nwindow = \"197ms\"\n";
    std::fs::write(&config, settings).unwrap();
    let mut child = start(&config);
    let mut commands = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(answers.next().unwrap().unwrap().contains("ready"));
    let mut ask = |key: usize| -> Value {
        writeln!(commands, "acquire key={key}").unwrap();
        serde_json::from_str(&answers.next().unwrap().unwrap()).unwrap()
    };
    let mut denied = 0;
    for _ in 0..10 {
        let mut due: Vec<(Instant, usize)> = Vec::new();
        for key in 0..KEYS {
            let wait = loop {
                if let Some(wait) = ask(key)["retry_after_ms"].as_u64() {
                    break Duration::from_millis(wait);
                }
            };
            due.push((now() + wait, key));
        }
        due.sort_unstable();
        for (moment, key) in due {
            std::thread::sleep(moment - now());
            denied += usize::from(ask(key)["allowed"] != true);
        }
    }
    drop(commands);
    assert!(child.wait().unwrap().success());
    assert_eq!(denied, 0);
}

#[expect(clippy::disallowed_methods, reason = "waits by a real clock")]
fn now() -> Instant {
    Instant::now()
}

#[test]
fn a_directory_is_checked_and_a_damaged_one_still_inspected() {
    let dir = tempfile::tempdir().unwrap();
    node(dir.path(), "acquire session=s\nacquire session=t\nflush\n");
    let data = dir.path().join("data");
    let path = data.to_str().unwrap();
    let sound = tallymesh(&["check", path]);
    assert!(sound.status.success(), "{}", text(&sound.stderr));
    let sound = text(&sound.stdout);
    assert!(sound.contains("node a, boot 1,") && sound.contains("2 counters"), "{sound}");
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
    assert_eq!((&checked["sound"], &checked["records"]), (&false.into(), &4.into()));
    assert!(checked["damage"][0]["what"].as_str().unwrap().contains("calls of \"s\""));

    let seen = tallymesh(&["inspect", path]);
    assert_eq!(seen.status.code(), Some(1));
    assert_eq!(text(&seen.stderr), damaged);
    let seen = text(&seen.stdout);
    for part in ["node         a", "boot         1", "1 counters", "calls of \"t\" = 1"] {
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
fn bad_input_fails_with_a_message_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.toml");
    std::fs::write(&file, "[node]\nid = \"a\"\ndata_dir = \"d\"\n[gossip]\ninterval = \"0s\"\n")
        .unwrap();
    let file = file.to_str().unwrap();
    for (args, expected) in [
        (&["node", "--config", file][..], "gossip.interval = 0s"),
        (&["node", "--config", "none.toml"], "none.toml"),
        (&["inspect", "no/such/dir"], "no/such/dir"),
        (&["check", "no/such/dir"], "no/such/dir"),
        (&["replay", "--trace", "none.csv", "--nodes", "2"], "none.csv"),
        (&["replay", "--trace", file, "--nodes", "2"], "\"session\""),
        (&["replay", "--trace", file, "--pace", "fast"], "settle"),
        (&["frobnicate"], "frobnicate"),
    ] {
        let output = tallymesh(args);
        assert!(!output.status.success(), "{args:?}");
        let message = text(&output.stderr);
        assert!(message.contains(expected), "{args:?} gave {message:?}");
    }
}

fn replay(trace: &Path, pace: &str) -> Value {
    let args =
        ["replay", "--trace", trace.to_str().unwrap(), "--nodes", "3", "--pace", pace, "--json"];
    let output = tallymesh(&args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_replay_that_settles_between_calls_does_not_overshoot() {
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace.csv");
    let rows: String = (0..60).map(|n| format!("s{},{},book\n", n % 2, n / 30)).collect();
    std::fs::write(&trace, format!("session,turn,tool\n{rows}")).unwrap();
    let settled = replay(&trace, "settle");
    assert_eq!((&settled["overshoot"], &settled["false_denials"]), (&0.into(), &0.into()));
    assert_eq!((&settled["calls"], &settled["allowed"]), (&60.into(), &20.into()));
    let hasty = replay(&trace, "max");
    assert_eq!(hasty["false_denials"], 0);
    let allowed = hasty["allowed"].as_u64().unwrap();
    assert!((20..=60).contains(&allowed), "{hasty}");
    assert!(hasty["overshoot"].as_u64().unwrap() >= allowed - 20, "{hasty}");
}

/// A file of the folder `shared` beside the checkout, which is not part of it. Where it is missing, a test that reads it is
/// skipped and says so; with `TALLYMESH_REQUIRE_SHARED` set, as `.ci/run` does where the folder exists, that is a failure.
fn shared(file: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(file);
    if path.exists() {
        return Some(path);
    }
    let required = std::env::var_os("TALLYMESH_REQUIRE_SHARED").is_some();
    assert!(!required, "TALLYMESH_REQUIRE_SHARED is set, and there is no {}", path.display());
    eprintln!("SKIPPED: there is no {}", path.display());
    None
}

#[test]
fn the_calls_of_a_real_model_do_not_overshoot_when_settled() {
    let Some(trace) = shared("traces/tau_bench_airline.csv") else { return };
    let settled = replay(&trace, "settle");
    assert_eq!((&settled["overshoot"], &settled["false_denials"]), (&0.into(), &0.into()));
    assert_eq!(settled["calls"], 1164);
    assert!(settled["denied"].as_u64().unwrap() > 0, "some turns make more calls than allowed");
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

/// A peer that hangs: its connections stand, and nothing answers.
#[cfg(unix)]
#[test]
fn a_peer_that_is_halted_stays_listed_with_what_it_had_confirmed() {
    use std::io::{BufRead, BufReader};
    use std::time::Duration;

    use tallymesh::{Config, CounterKey, CounterStore, PeerAbsence};
    use tallymesh_test_support::until;

    const PATIENCE: Duration = Duration::from_secs(20);
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("b.toml");
    std::fs::write(
        &config,
        "[node]\nid = \"b\"\n[storage]\nin_memory = true\n[gossip]\nlisten = \"127.0.0.1:0\"\n",
    )
    .unwrap();
    let mut child = start(&config);
    let mut ready = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
    let ready: Value = serde_json::from_str(&ready).unwrap();
    let address = ready["listen"].as_str().unwrap().to_owned();
    // Halted, it would outlive a test that fails.
    struct Kill(u32);
    impl Drop for Kill {
        fn drop(&mut self) {
            let _ = Command::new("kill").args(["-KILL", &self.0.to_string()]).status();
        }
    }
    let kill = Kill(child.id());
    let signal = |name: &str| {
        let sent = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    };

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let config = Config::builder("a")
            .in_memory()
            .peers([address])
            .gossip_interval(Duration::from_millis(10))
            .digest_interval(Duration::from_millis(200))
            .silence_timeout(Duration::from_millis(600));
        let store = CounterStore::open(config.build().unwrap()).await.unwrap();
        let peer = || store.peers().remove(0);
        let add = |from: u32, to: u32| {
            for n in from..to {
                store.add(&CounterKey::new(&n.to_string(), &[]).unwrap(), 1).unwrap();
            }
        };
        add(0, 10);
        let has_counted = || store.version_vector().iter().any(|(_, version)| version.0 == 10);
        until("the changes have versions", PATIENCE, has_counted).await;
        let before = peer().last_heard;
        until("what is shown is of after that", PATIENCE, || peer().last_heard != before).await;
        until("it has confirmed", PATIENCE, || peer().connected && peer().lag == 0).await;
        signal("-STOP");
        add(10, 19);
        until("it is given up", PATIENCE, || !peer().connected).await;
        until("all is counted", PATIENCE, || peer().lag >= 9).await;
        assert_eq!((peer().lag, peer().absence), (9, Some(PeerAbsence::Lost)));
        assert!(peer().last_heard > Some(Duration::from_millis(600)), "{:?}", peer());
        signal("-CONT");
        until("it is back", PATIENCE, || peer().connected && peer().lag == 0).await;
        store.close().await.unwrap();
    });
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    std::mem::forget(kill);
}
