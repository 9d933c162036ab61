//! `tallymesh ctl`.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::Duration;

use serde_json::Value;
use tallymesh::{Config, Limit, Limiter, ReplicaId, Request, Window};
use tallymesh_test_support::hostile::{Hostile, count, hello};
use tallymesh_test_support::until;

use crate::{PATIENCE, code, config, start, text, wait_until};

/// A node that runs, and what it is asked by.
pub(crate) struct Node {
    child: Child,
    config: PathBuf,
    socket: PathBuf,
    answers: BufReader<std::process::ChildStdout>,
    /// Its first line.
    pub(crate) first: Value,
}

impl Node {
    pub(crate) fn start(dir: &Path) -> Node {
        Node::of(config(dir), dir.join("data/control.sock"))
    }

    pub(crate) fn of(config: PathBuf, socket: PathBuf) -> Node {
        let mut child = start(&config);
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut node = Node { child, config, socket, answers, first: Value::Null };
        node.first = node.heard();
        assert_eq!(node.first["ready"], true);
        node
    }

    /// The next line of its standard output.
    pub(crate) fn heard(&mut self) -> Value {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    pub(crate) fn tell(&mut self, command: &str) -> Value {
        writeln!(self.child.stdin.as_mut().unwrap(), "{command}").unwrap();
        self.heard()
    }

    pub(crate) fn ctl(&self, args: &[&str]) -> Output {
        ctl(&["--config", self.config.to_str().unwrap()], args)
    }

    /// What it answers, for programs.
    pub(crate) fn asked(&self, args: &[&str]) -> Value {
        let output = self.ctl(&[args, &["--json"]].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    pub(crate) fn close(mut self) {
        drop(self.child.stdin.take());
        assert_eq!(code(&mut self.child), Some(0));
        assert!(!self.socket.exists(), "it is removed");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ctl(whom: &[&str], args: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_tallymesh");
    Command::new(program).arg("ctl").args(whom).args(args).output().unwrap()
}

/// Sends bytes, and returns all that comes until the connection ends.
fn said(mut stream: UnixStream, bytes: &[u8]) -> String {
    // It may be closed before all is sent.
    let _ = stream.write_all(bytes);
    let mut heard = Vec::new();
    let _ = stream.read_to_end(&mut heard);
    text(&heard)
}

#[test]
fn the_status_has_every_number_and_each_bound() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(dir.path());
    assert_eq!(node.tell("acquire session=s")["allowed"], true);
    let status = node.asked(&["status"]);
    assert_eq!((&status["state"], &status["durability"]), (&"running".into(), &"durable".into()));
    assert_eq!((&status["counters"], &status["ready"]), (&1.into(), &true.into()));
    let state = node.tell("state");
    for name in ["replica", "clock_behind_ms", "requests_unmatched", "thread_restarts", "keys"] {
        assert_eq!(status[name], state[name], "{name}");
    }
    assert_eq!(status["rejections"].as_object().unwrap().len(), 14);
    let bounds = status["bounds"].as_array().unwrap();
    assert_eq!(
        (bounds.len(), &bounds[0]["held"], &bounds[0]["max"]),
        (7, &1.into(), &1_000_000.into())
    );
    let shown = text(&node.ctl(&["status"]).stdout);
    for part in ["running, durable", "counters.max_counters", "1 of 1000000, 0 refused"] {
        assert!(shown.contains(part), "{shown}");
    }
    // By its socket, too.
    let by_path = ctl(&["--socket", node.socket.to_str().unwrap()], &["status"]);
    assert!(by_path.status.success(), "{}", text(&by_path.stderr));
    node.close();
}

#[test]
fn a_node_that_does_not_run_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let whom = ["--config", config.to_str().unwrap()];
    let output = ctl(&whom, &["status"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("there is no such socket"), "{}", text(&output.stderr));
    let mut node = Node::start(dir.path());
    node.child.kill().unwrap();
    node.child.wait().unwrap();
    assert!(node.socket.exists(), "a crash leaves it");
    let output = ctl(&whom, &["status"]);
    assert!(text(&output.stderr).contains("no process answers"), "{}", text(&output.stderr));
    // The next start replaces it.
    Node::start(dir.path()).close();
}

#[test]
fn a_live_socket_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path());
    let other = dir.path().join("b.toml");
    let settings =
        format!("[node]\nid = \"b\"\ncontrol = {:?}\n[storage]\nin_memory = true\n", node.socket);
    std::fs::write(&other, settings).unwrap();
    let output = crate::tallymesh(&["node", "--config", other.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let message = text(&output.stderr);
    let parts = ["another live process answers", node.socket.to_str().unwrap(), "node.control"];
    assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    assert_eq!(node.asked(&["status"])["state"], "running");
    node.close();
}

#[test]
fn a_node_runs_without_a_socket_that_it_was_not_told_to_have() {
    let dir = tempfile::tempdir().unwrap();
    let long = dir.path().join("x".repeat(100));
    let config = config(dir.path());
    let settings = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, settings.replace("/data\"", &format!("/{}\"", "x".repeat(100))))
        .unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_tallymesh"))
        .args(["node", "--config", config.to_str().unwrap()])
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    assert_eq!(code(&mut child), Some(0));
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(
        log.contains("there is no control socket") && log.contains("at most 100 bytes"),
        "{log}"
    );
    assert!(long.exists());
}

#[test]
fn garbage_is_answered_and_long_lines_end_the_connection() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path());
    let mut stream = node.connect();
    stream
        .write_all(
            b"\n{}\n{\"v\":9}\n{\"v\":1,\"verb\":\"dance\"}\n{\"v\":1,\"verb\":\"status\"}\n",
        )
        .unwrap();
    let kinds = BufReader::new(stream)
        .lines()
        .take(5)
        .map(|line| -> Value { serde_json::from_str(&line.unwrap()).unwrap() });
    let kinds: Vec<Value> = kinds.map(|answer| answer["error"]["kind"].clone()).collect();
    let expected = ["request", "version", "version", "request"].map(Value::from);
    assert_eq!(kinds[..4], expected);
    assert!(kinds[4].is_null(), "what follows garbage is answered");
    for (bytes, part) in
        [(vec![b'x'; 65_537], "at most 65536 bytes"), (vec![0xff, b'\n'], "a line is UTF-8")]
    {
        let heard = said(node.connect(), &bytes);
        assert!(heard.contains(part) && heard.lines().count() == 1, "{heard}");
    }
    assert_eq!(node.asked(&["status"])["state"], "running");
    node.close();
}

#[test]
fn of_many_clients_sixteen_are_served_and_the_slow_are_ended() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(dir.path());
    let mut slow: Vec<UnixStream> = (0..16).map(|_| node.connect()).collect();
    for stream in &mut slow {
        // Part of a line, so that it is known to be served.
        stream.write_all(b"{\"v\":1,\"verb\":\"status\"}\n{").unwrap();
        let mut first = String::new();
        BufReader::new(&*stream).read_line(&mut first).unwrap();
        assert!(first.contains("\"ok\""), "{first}");
    }
    let heard = said(node.connect(), b"");
    assert!(heard.contains("\"busy\""), "{heard}");
    let output = node.ctl(&["status"]);
    assert!(text(&output.stderr).contains("16 connections are served at once"));
    // Decisions are none of their business.
    assert_eq!(node.tell("acquire session=s")["allowed"], true);
    for stream in slow {
        let heard = said(stream, b"");
        assert!(heard.contains("did not come in time"), "{heard}");
    }
    wait_until("there is room again", || node.ctl(&["status"]).status.success());
    node.close();
}

/// What is open when it closes ends, and does not keep it from closing.
#[test]
fn open_connections_end_with_the_node() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path());
    let stream = node.connect();
    node.close();
    assert_eq!(said(stream, b""), "");
}

#[test]
fn another_user_may_not_ask() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path());
    let mode = std::fs::metadata(&node.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let id = text(&Command::new("id").arg("-u").output().unwrap().stdout);
    if id.trim() != "0" {
        eprintln!("SKIPPED: only root can run a program as another user");
        return node.close();
    }
    // The way there is open to all, the socket is not.
    for path in [dir.path(), &dir.path().join("data")] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let program = dir.path().join("tallymesh");
    std::fs::copy(env!("CARGO_BIN_EXE_tallymesh"), &program).unwrap();
    let as_other = || {
        let socket = node.socket.to_str().unwrap();
        let mut command = Command::new(&program);
        command.args(["ctl", "--socket", socket, "status"]).uid(65_534).gid(65_534);
        loop {
            match command.output() {
                // Another test's child had the copy open for writing when it was begun.
                Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                    std::thread::yield_now();
                }
                output => return output.unwrap(),
            }
        }
    };
    let refused = as_other();
    assert!(text(&refused.stderr).contains("only the user"), "{}", text(&refused.stderr));
    // Whatever the mode of the file is, who connects is asked who it is.
    std::fs::set_permissions(&node.socket, std::fs::Permissions::from_mode(0o666)).unwrap();
    let refused = as_other();
    assert!(!refused.status.success() && refused.stdout.is_empty());
    assert!(text(&refused.stderr).contains("closed the connection"), "{}", text(&refused.stderr));
    assert_eq!(node.asked(&["status"])["state"], "running");
    node.close();
}

#[test]
fn counters_are_listed_in_order_and_by_pattern() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(dir.path());
    for session in ["s1", "s2", "s2", "t3"] {
        assert_eq!(node.tell(&format!("acquire session={session}"))["allowed"], true);
    }
    let shown = |args: &[&str]| -> Vec<String> {
        let listing = node.asked(&[&["counters"], args].concat());
        let counters = listing["counters"].as_array().unwrap().iter();
        let show = |one: &Value| format!("{} {}", one["labels"]["session"], one["value"]);
        counters.map(show).collect()
    };
    let (s1, s2, t3) = (r#""s1" 1"#, r#""s2" 2"#, r#""t3" 1"#);
    assert_eq!(shown(&[]), [s2, s1, t3]);
    assert_eq!(shown(&["--sort", "name", "--max", "2"]), [s1, s2]);
    assert_eq!(shown(&["session=s*", "--sort", "name"]), [s1, s2]);
    assert_eq!(shown(&["session=?3", "--limit", "ca*"]), [t3]);
    assert_eq!(shown(&["--limit", "other"]), Vec::<String>::new());
    let text_of = text(&node.ctl(&["counters", "session=s2"]).stdout);
    assert_eq!(text_of, "3 counters held, 1 meant, 1 shown\ncalls session=s2: 2 of 2 (100%)\n");
    for (args, part) in [
        (&["counters", "--max", "1001"][..], "1 to 1000"),
        (&["counters", "session"], "it is not label=pattern"),
        (&["counters", "--sort", "size"], "last-use"),
        (&["reset"], "means all counters"),
    ] {
        let output = node.ctl(args);
        let message = text(&output.stderr);
        assert!(!output.status.success() && message.contains(part), "{args:?}: {message}");
    }
    node.close();
}

/// The limit of [`config`], for a node in this process that has dialed `node`.
pub(crate) async fn peer_of(node: &Value) -> Limiter {
    let limit = Limit::new("calls", 2, Window::Session { ttl: Duration::from_secs(3600) });
    let config = Config::builder("b").in_memory().limit(limit.per("session"));
    let config = config.peers([node["listen"].as_str().unwrap()]);
    Limiter::open(config.gossip_interval(Duration::from_millis(10)).build().unwrap()).await.unwrap()
}

pub(crate) fn on_a_runtime(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

#[test]
fn a_reset_by_pattern_is_heard_by_other_nodes() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(dir.path());
    on_a_runtime(async {
        let peer = peer_of(&node.first).await;
        let request = |session: &'static str| Request::new().with("session", session);
        for session in ["s1", "s1", "s2", "s2", "t1", "t1"] {
            assert!(peer.acquire(&request(session)).is_allowed());
        }
        let key = |session| peer.keys(&request(session)).remove(0);
        let hears = || node.asked(&["counters"])["counters"].as_array().unwrap().len() == 3;
        until("the node has heard of all", PATIENCE, hears).await;
        assert_eq!(node.asked(&["reset", "session=s*"]), serde_json::json!({ "reset": 2 }));
        let value = |session| peer.counters().value(&key(session));
        until("the peer hears of it", PATIENCE, || value("s1") + value("s2") == 0).await;
        assert_eq!(value("t1"), 2, "that one was not meant");
        assert!(
            peer.acquire(&request("s1")).is_allowed() && !peer.acquire(&request("t1")).is_allowed()
        );
        peer.close().await.unwrap();
    });
    assert_eq!(node.tell("acquire session=s2")["allowed"], true);
    node.close();
}

/// A member tells a lie in the name of another; the cell has that one's name, and the link its own.
#[test]
fn what_a_forger_brought_is_explained_by_its_link() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(dir.path());
    on_a_runtime(async {
        let peer = peer_of(&node.first).await;
        let request = Request::new().with("session", "victim");
        assert!(peer.acquire(&request).is_allowed());
        let key = peer.keys(&request).remove(0);
        let held = |node: &Node| node.asked(&["explain", "session=victim"]);
        let cells = |node: &Node| held(node)["counters"][0]["cells"] == 1;
        until("the honest cell is there", PATIENCE, || cells(&node)).await;
        assert_eq!(held(&node)["crossings"].as_array().unwrap().len(), 0);

        let address = node.first["listen"].as_str().unwrap().parse().unwrap();
        let replica = |text: &str| text.parse::<ReplicaId>().unwrap();
        let mut forger = Hostile::connect(address, 7).await.unwrap();
        forger.say(&[hello(&replica("mallory#1.1"))]).await.unwrap();
        let now = peer.counters().now().0;
        forger.say(&[count(&replica("innocent#1.2"), &key, 5_000, now)]).await.unwrap();
        until("the lie is believed", PATIENCE, || held(&node)["counters"][0]["cells"] == 2).await;

        let explained = held(&node);
        let counter = &explained["counters"][0];
        assert_eq!((&counter["value"], &counter["max"]), (&5_001.into(), &2.into()));
        let by_replica = counter["by_replica"].as_array().unwrap();
        let [lie, honest] = &by_replica[..] else { panic!("{counter}") };
        assert_eq!(lie["replica"], replica("innocent#1.2").to_string());
        assert_eq!((&lie["p"], &lie["version"]), (&5_000.into(), &1.into()));
        let [link] = &lie["brought_by"].as_array().unwrap()[..] else { panic!("{lie}") };
        assert_eq!((&link["node"], &link["updates"]), (&"mallory".into(), &1.into()));
        assert_eq!(link["address"], "127.0.1.8");
        assert_eq!(honest["brought_by"][0]["node"], "b");
        let [crossing] = &explained["crossings"].as_array().unwrap()[..] else {
            panic!("{explained}")
        };
        assert_eq!((&crossing["before"], &crossing["after"]), (&1.into(), &5_001.into()));
        assert_eq!(crossing["brought_by"]["node"], "mallory");
        assert_eq!(crossing["replica"], lie["replica"]);
        let told = text(&node.ctl(&["explain", "session=victim"]).stdout);
        for part in [
            "calls session=victim: 5001 of 2",
            "1 updates by mallory at 127.0.1.8",
            "from 1 to 5001 of 2",
        ] {
            assert!(told.contains(part), "{told}");
        }
        // The lie is healed by a reset, which the other nodes hear.
        assert_eq!(node.asked(&["reset", "session=victim"])["reset"], 1);
        until("the peer is healed", PATIENCE, || peer.counters().value(&key) == 0).await;
        peer.close().await.unwrap();
    });
    assert_eq!(node.tell("acquire session=victim")["allowed"], true);
    node.close();
}
