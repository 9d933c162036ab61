//! `tallymesh node`.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{answers, node, now, start, tallymesh, text};

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
    assert_eq!((&answers[10]["counters"], &answers[10]["shown"]), (&1.into(), &1.into()));
    assert_eq!((&answers[11]["value"], &answers[11]["max"]), (&1.into(), &2.into()));
    assert_eq!(answers[12], Value::Array(Vec::new()));
    assert_eq!(
        (&answers[13]["durable"], &answers[13]["clock_behind_ms"]),
        (&true.into(), &0.into())
    );
    assert_eq!(answers[14]["durable"], true);

    let data = dir.path().join("data");
    let seen = tallymesh(&["inspect", data.to_str().unwrap()]);
    assert!(seen.status.success());
    let seen = text(&seen.stdout);
    for part in ["node         a", "boot         ", "calls of \"s\" = 1", "+2 -1"] {
        assert!(seen.contains(part), "{seen}");
    }
    let seen = tallymesh(&["inspect", data.to_str().unwrap(), "--json"]);
    let seen: Value = serde_json::from_slice(&seen.stdout).unwrap();
    assert_eq!(&seen["counters"][0]["value"], &1);
    // The time of the start, in milliseconds.
    assert!(seen["boot"].as_u64() > Some(1_700_000_000_000), "{}", seen["boot"]);

    let answers = node(dir.path(), "acquire session=s\nacquire session=s\n");
    assert_eq!((&answers[1]["allowed"], &answers[2]["allowed"]), (&true.into(), &false.into()));
}

#[test]
fn each_counter_has_a_line_and_they_are_sorted_and_filtered() {
    let dir = tempfile::tempdir().unwrap();
    let calls = "acquire session=s1\nacquire session=s2\nacquire session=s2\nacquire session=t3\n";
    let shown = |command: &str| {
        let answers = node(dir.path(), &format!("{calls}{command}\npeek\n"));
        let [head, counters @ .., last] = &answers[5..] else { panic!("{answers:?}") };
        assert_eq!(last["allowed"], false, "what comes next is answered after them: {last}");
        assert_eq!(head["shown"], counters.len(), "{head}");
        let labels = counters.iter().map(|counter| {
            assert_eq!((&counter["limit"], &counter["max"]), (&"calls".into(), &2.into()));
            assert!(counter["left_ms"].as_u64().unwrap() > 3_000_000, "{counter}");
            format!("{} {}", counter["labels"]["session"].as_str().unwrap(), counter["percent"])
        });
        labels.collect::<Vec<_>>()
    };
    assert_eq!(shown("counters"), ["s2 100.0", "s1 50.0", "t3 50.0"]);
    // What was denied is no less counted than before.
    assert_eq!(shown("counters --sort name"), ["s1 100.0", "s2 100.0", "t3 100.0"]);
    assert_eq!(shown("counters --sort name --top 1"), ["s1 100.0"]);
    assert_eq!(shown("counters session=s* --top 9"), ["s1 100.0", "s2 100.0"]);
    assert_eq!(shown("counters --limit other*"), Vec::<String>::new());
    let wrong = node(dir.path(), "counters --sort size\ncounters session\n");
    assert!(wrong[1]["error"].as_str().unwrap().contains("used, value, left or name"));
    assert!(wrong[2]["error"].as_str().unwrap().contains("label=value"));
}

#[test]
fn help_lists_every_command_and_so_does_the_documentation() {
    let dir = tempfile::tempdir().unwrap();
    let help = node(dir.path(), "help\n").remove(1);
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cli.md");
    let page = std::fs::read_to_string(page).unwrap();
    let listed: Vec<&str> =
        help["help"].as_array().unwrap().iter().flat_map(Value::as_str).collect();
    for command in [
        "acquire",
        "peek",
        "refund",
        "reset",
        "counters",
        "peers",
        "state",
        "flush",
        "reload-tls",
        "help",
        "close",
    ] {
        let line = listed.iter().find(|line| line.starts_with(command));
        let line = line.unwrap_or_else(|| panic!("{command} is not in {listed:?}"));
        // In a table, a bar is escaped.
        let (usage, _) = line.split_once(": ").unwrap();
        let usage = usage.replace('|', "\\|");
        assert!(page.contains(&format!("`{usage}`")), "docs/cli.md lacks {usage}");
    }
    for args in [&["help"][..], &["--help"], &["help", "node"], &["node", "--help"]] {
        let help = tallymesh(args);
        assert!(help.status.success() && help.stderr.is_empty(), "{args:?}");
        assert!(text(&help.stdout).contains("Usage: tallymesh"), "{args:?}");
    }
}

#[test]
fn a_line_over_64_kib_is_one_error_and_what_it_ends_with_no_command() {
    let dir = tempfile::tempdir().unwrap();
    let long = |length: usize| vec![b'x'; length];
    let reset = &b"reset session=victim"[..];
    let calls = &b"acquire session=victim\nacquire session=victim\n"[..];
    let denied = &b"\nacquire session=victim\n"[..];
    let input = [calls, &long(65_536), reset, denied, &long(300_000), reset, denied].concat();
    let seen = answers(dir.path(), &input);
    assert_eq!(seen.len(), 7, "{seen:?}");
    for index in [3, 5] {
        let error = seen[index]["error"].as_str().unwrap();
        assert!(error.contains("more than 65536 bytes"), "{error}");
        assert_eq!(seen[index + 1]["allowed"], false, "nothing was reset");
    }
    // As long as is allowed, and without a line break at the end.
    for (length, expected) in
        [(65_536, "is no command; use one of"), (65_537, "more than 65536 bytes")]
    {
        let seen = answers(dir.path(), &long(length));
        let error = seen[1]["error"].as_str().unwrap();
        assert!(error.contains(expected) && seen.len() == 2, "{length}: {error}");
    }
    // What stands for bytes that are no text would be one counter for many.
    let seen = answers(dir.path(), b"acquire session=\xff\nacquire session=\xfe\ncounters\n");
    assert!(seen[1]["error"].as_str().unwrap().contains("not UTF-8"), "{seen:?}");
    assert!(seen[2]["error"].as_str().unwrap().contains("not UTF-8"), "{seen:?}");
    assert_eq!(seen[3]["counters"], 1, "the victim's");
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

/// A peer that hangs: its connections stand, and nothing answers. Windows has no signal that halts a process.
#[cfg(unix)]
#[test]
fn a_peer_that_is_halted_stays_listed_with_what_it_had_confirmed() {
    use std::process::Command;

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
