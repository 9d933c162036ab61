//! What signals end, and what they leave behind.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::{code, config, node, start, tallymesh, text, wait_until};

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(sent.success(), "kill {name}");
}

/// A node whose standard input stays open, and its answers; `ready` is the first.
fn idle(config: &Path) -> (Child, impl Iterator<Item = Value> + use<>) {
    let mut child = start(config);
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = move || answers.next()?.ok();
    let ready = next().unwrap();
    assert!(ready.contains("\"ready\":true"), "{ready}");
    (child, std::iter::from_fn(move || serde_json::from_str(&next()?).ok()))
}

#[test]
fn a_request_to_terminate_ends_an_idle_node_and_what_it_admitted_is_written() {
    for round in 0..50 {
        let dir = tempfile::tempdir().unwrap();
        let (mut child, mut answers) = idle(&config(dir.path()));
        let mut stdin = child.stdin.take().unwrap();
        writeln!(stdin, "acquire session=s").unwrap();
        assert_eq!(answers.next().unwrap()["allowed"], true);
        signal(&child, if round % 2 == 0 { "-TERM" } else { "-INT" });
        assert_eq!(code(&mut child), Some(0), "round {round}");
        drop(stdin);
        let counters = tallymesh::inspect(dir.path().join("data")).unwrap().counters;
        assert_eq!(counters.iter().map(|counter| counter.value).sum::<u64>(), 1, "round {round}");
    }
}

#[test]
fn a_request_to_terminate_ends_a_node_whose_answers_are_not_read() {
    for round in 0..10 {
        let dir = tempfile::tempdir().unwrap();
        let (mut child, answers) = idle(&config(dir.path()));
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all("help\n".repeat(500).as_bytes()).unwrap();
        signal(&child, "-TERM");
        assert_eq!(code(&mut child), Some(0), "round {round}");
        drop(answers);
    }
}

#[test]
fn a_request_to_terminate_ends_a_node_that_waits_for_its_peers() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("a.toml");
    let data = dir.path().join("data");
    let settings = format!(
        "[node]\nid = \"a\"\ndata_dir = {data:?}\n[gossip]\nsync_timeout = \"1m\"\npeers = [\"127.0.0.1:1\"]\n"
    );
    std::fs::write(&config, settings).unwrap();
    let mut child = start(&config);
    wait_until("it opens", || data.join("db").exists());
    signal(&child, "-TERM");
    assert_eq!(code(&mut child), Some(0));
}

#[test]
fn a_request_to_terminate_ends_a_node_whose_peer_hangs() {
    let dir = tempfile::tempdir().unwrap();
    let mut addresses = Vec::new();
    let mut nodes = Vec::new();
    for name in ["a", "b"] {
        let config = dir.path().join(format!("{name}.toml"));
        let settings = format!(
            "[node]\nid = {name:?}\n[storage]\nin_memory = true\n[gossip]\nlisten = \"127.0.0.1:0\"\n\
             peers = {addresses:?}\n"
        );
        std::fs::write(&config, settings).unwrap();
        let mut child = start(&config);
        let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready: Value = serde_json::from_str(&answers.next().unwrap().unwrap()).unwrap();
        addresses.push(ready["listen"].as_str().unwrap().to_owned());
        nodes.push((child, answers));
    }
    let (mut b, mut answers) = nodes.pop().unwrap();
    let (mut a, _) = nodes.pop().unwrap();
    let mut stdin = b.stdin.take().unwrap();
    wait_until("they are connected", || {
        writeln!(stdin, "peers").unwrap();
        let peers: Value = serde_json::from_str(&answers.next().unwrap().unwrap()).unwrap();
        peers[0]["connected"] == true
    });
    signal(&a, "-STOP");
    signal(&b, "-TERM");
    let ended = code(&mut b);
    signal(&a, "-CONT");
    signal(&a, "-TERM");
    assert_eq!((ended, code(&mut a)), (Some(0), Some(0)));
}

#[test]
fn a_hangup_is_logged_and_does_not_end_a_node() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_tallymesh"))
        .args(["node", "--config", config(dir.path()).to_str().unwrap()])
        .env_remove("RUST_LOG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(answers.next().unwrap().unwrap().contains("ready"));
    let log = Arc::new(Mutex::new(String::new()));
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let reading = std::thread::spawn({
        let log = log.clone();
        move || {
            let mut line = String::new();
            while stderr.read_line(&mut line).unwrap() > 0 {
                log.lock().unwrap().push_str(&std::mem::take(&mut line));
            }
        }
    });
    for times in 1..=3 {
        signal(&child, "-HUP");
        wait_until("it is in the log", || {
            log.lock().unwrap().matches("SIGHUP changes nothing").count() == times
        });
    }
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "acquire session=s").unwrap();
    assert!(answers.next().unwrap().unwrap().contains("\"allowed\":true"));
    signal(&child, "-TERM");
    assert_eq!(code(&mut child), Some(0));
    reading.join().unwrap();
}

/// Runs the program with an empty directory for temporary files, sends it a signal when that has what `is_due` waits for,
/// and returns its exit code. Nothing may be left in the directory.
fn interrupted(args: &[&str], name: &str, is_due: impl Fn(&Path) -> bool) -> Option<i32> {
    let temporary = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_tallymesh"))
        .args(args)
        .env("TMPDIR", temporary.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ended = None;
    wait_until("there is something to interrupt", || {
        ended = child.try_wait().unwrap();
        ended.is_some() || is_due(temporary.path())
    });
    if ended.is_none() {
        signal(&child, name);
    }
    let code = code(&mut child);
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    let left: Vec<_> = std::fs::read_dir(temporary.path()).unwrap().collect();
    assert!(left.is_empty(), "{args:?} {name} left {left:?}: {log}");
    code
}

/// Whether there is a file of this name somewhere below.
fn has(dir: &Path, name: &str) -> bool {
    let Ok(entries) = std::fs::read_dir(dir) else { return false };
    entries
        .flatten()
        .any(|entry| entry.file_name() == name || entry.path().is_dir() && has(&entry.path(), name))
}

fn trace(dir: &Path) -> String {
    let trace = dir.join("trace.csv");
    let rows: String = (0..50).map(|n| format!("s{n},1,t\n")).collect();
    std::fs::write(&trace, format!("session,turn,tool\n{rows}")).unwrap();
    trace.to_str().unwrap().to_owned()
}

#[test]
fn a_replay_that_is_interrupted_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let trace = trace(dir.path());
    let slow = ["replay", "--trace", &trace, "--pace", "0.01"];
    for (name, code) in [("-INT", 130), ("-TERM", 143), ("-HUP", 129)] {
        // From when the directory is there, over the opening of the first instance and the last, to the calls.
        for file in ["", "node-1", "db", "node-3"] {
            let is_due = |dir: &Path| match file {
                "" => std::fs::read_dir(dir).unwrap().next().is_some(),
                file => has(dir, file),
            };
            assert_eq!(interrupted(&slow, name, is_due), Some(code), "{name} at {file:?}");
        }
    }
}

#[test]
fn a_demonstration_that_is_interrupted_leaves_nothing_behind() {
    for (name, code) in [("-INT", 130), ("-TERM", 143), ("-HUP", 129)] {
        for file in ["C.toml", "A.log", "B.log", "C.log", "db"] {
            let ended = interrupted(&["demo"], name, |dir| has(dir, file));
            assert_eq!(ended, Some(code), "{name} at {file}");
        }
    }
}

#[test]
fn a_check_that_is_interrupted_leaves_no_copy_of_the_database_behind() {
    let dir = tempfile::tempdir().unwrap();
    let calls: String = (0..3000).map(|n| format!("acquire session=s{n}\n")).collect();
    node(dir.path(), &calls);
    let data = dir.path().join("data");
    for command in ["check", "inspect"] {
        for name in ["-INT", "-TERM", "-HUP"] {
            let ended = interrupted(&[command, data.to_str().unwrap()], name, |dir| has(dir, "db"));
            // It may have come to its end before the signal came.
            assert!([Some(0), Some(130), Some(143), Some(129)].contains(&ended), "{ended:?}");
        }
    }
    assert!(tallymesh(&["check", data.to_str().unwrap()]).status.success());
}

#[cfg(target_os = "linux")]
#[test]
fn a_replay_under_nohup_outlives_its_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let temporary = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_tallymesh");
    let trace = trace(dir.path());
    let mut child = Command::new("sh")
        .args(["-c", &format!("trap '' HUP; exec {program} replay --trace {trace} --pace 0.01")])
        .env("TMPDIR", temporary.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("the instances are open", || has(temporary.path(), "node-3"));
    signal(&child, "-HUP");
    signal(&child, "-TERM");
    assert_eq!(code(&mut child), Some(143));
    let mut shown = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut shown).unwrap();
    assert_eq!(text(&shown), "");
}

/// One request to a node's HTTP; its status and its answer.
fn asked(address: &str, what: &str, body: &str) -> (String, Value) {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let length = body.len();
    write!(stream, "{what} HTTP/1.1\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (
        head.split(' ').nth(1).unwrap().to_owned(),
        serde_json::from_str(body.lines().next().unwrap()).unwrap(),
    )
}

#[test]
fn a_node_over_http_answers_commands_and_ends_by_a_signal_alone() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let node = |http: &str| {
        Command::new(env!("CARGO_BIN_EXE_tallymesh"))
            .args(["node", "--config", config.to_str().unwrap(), "--http", http])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let mut child = node("127.0.0.1:0");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    let address = first["http"].as_str().unwrap().to_owned();
    let command = |line: &str| asked(&address, "POST /", line);
    wait_until("it is ready", || asked(&address, "GET /ready", "").0 == "200");
    for (line, allowed) in
        [("acquire session=s", true), ("acquire session=s\n", true), ("acquire session=s", false)]
    {
        let (status, answer) = command(line);
        assert_eq!((status.as_str(), &answer["allowed"]), ("200", &allowed.into()), "{answer}");
    }
    assert_eq!(command("refund 1").1["refunded"], 1);
    assert_eq!(command("ready").1["ready"], true);
    assert_eq!(command("counters").1["counters"], 1);
    for (line, why) in [
        ("close", "SIGTERM ends the node"),
        ("frobnicate", "is no command; use one of acquire"),
        ("acquire session", "is not label=value"),
        ("", "the body is a command"),
        ("peek a=b\npeek c=d", "one command a request"),
    ] {
        let (status, answer) = command(line);
        assert_eq!(status, "400");
        assert!(answer["error"].as_str().unwrap().contains(why), "{line}: {answer}");
    }

    // Another node, to which the port is not free.
    let other = tempfile::tempdir().unwrap();
    let other = crate::config(other.path());
    let taken = tallymesh(&["node", "--config", other.to_str().unwrap(), "--http", &address]);
    assert_eq!(taken.status.code(), Some(1));
    let said = text(&taken.stderr);
    assert!(said.contains(&format!("cannot listen at {address} (--http)")), "{said}");
    let nonsense = tallymesh(&["node", "--config", "x", "--http", "8080"]);
    assert!(text(&nonsense.stderr).contains("--http"), "{}", text(&nonsense.stderr));

    // One that has sent half of a request does not keep the node from ending.
    let mut half = std::net::TcpStream::connect(&address).unwrap();
    half.write_all(b"POST / HTTP/1.1\r\n").unwrap();
    signal(&child, "-TERM");
    assert_eq!(code(&mut child), Some(0));
    assert_eq!(lines.last().unwrap().unwrap(), "{\"closed\":true,\"unconfirmed\":0}");
}
