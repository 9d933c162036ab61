//! The network between the processes: it loses, doubles, delays and so reorders what they tell one another, and partitions
//! them. What clients ask and are answered is left alone, since they do not ask twice.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
const LOSS: f64 = 0.1;
const DOUBLING: f64 = 0.1;
const DELAY_MS_MAX: u64 = 20;
/// Some messages come when no node expects them any more.
const LATE: f64 = 0.02;
const LATE_MS_MAX: u64 = 400;

/// Processes and the messages under way between them.
pub struct Network {
    processes: Vec<(Child, ChildStdin)>,
    printed: Receiver<Value>,
    random: StdRng,
    under_way: BTreeMap<(Instant, u64), Value>,
    /// The nodes cut off from the others.
    cut_off: BTreeSet<String>,
    /// Every link of which a message was stopped by the partition.
    links_across: BTreeSet<String>,
    replies: BTreeMap<u64, Value>,
    numbered: u64,
}

impl Network {
    /// Starts this many nodes; `seed` decides what becomes of which message.
    pub fn start(nodes: usize, seed: u64) -> Network {
        let (tell, printed) = mpsc::channel();
        let start = |_| {
            let mut child = Command::new(env!("CARGO_BIN_EXE_maelstrom"))
                .args(["--interval-ms", "10", "--digest-interval-ms", "50", "--timeout-ms", "300"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let output = BufReader::new(child.stdout.take().unwrap());
            let tell = tell.clone();
            std::thread::spawn(move || {
                for line in output.lines() {
                    let message = serde_json::from_str(&line.unwrap()).expect("only messages");
                    // The test may be over.
                    let _ = tell.send(message);
                }
            });
            let input = child.stdin.take().unwrap();
            (child, input)
        };
        let mut network = Network {
            processes: (0..nodes).map(start).collect(),
            printed,
            random: StdRng::seed_from_u64(seed),
            under_way: BTreeMap::new(),
            cut_off: BTreeSet::new(),
            links_across: BTreeSet::new(),
            replies: BTreeMap::new(),
            numbered: 0,
        };
        let names: Vec<String> = (0..nodes).map(name).collect();
        for node in 0..nodes {
            let init = json!({ "type": "init", "node_id": name(node), "node_ids": names });
            assert_eq!(network.call(node, init)["type"], "init_ok");
            let topology = json!({ "type": "topology", "topology": {} });
            assert_eq!(network.call(node, topology)["type"], "topology_ok");
        }
        network
    }

    /// Adds to a node's counter.
    pub fn add(&mut self, node: usize, delta: i64) {
        let reply = self.call(node, json!({ "type": "add", "delta": delta }));
        assert_eq!(reply["type"], "add_ok", "{reply}");
    }

    /// What a node has for the counter.
    pub fn read(&mut self, node: usize) -> i64 {
        let reply = self.call(node, json!({ "type": "read" }));
        assert_eq!(reply["type"], "read_ok", "{reply}");
        reply["value"].as_i64().expect("a whole number")
    }

    /// Waits until these nodes all read `value`, and until what was then under way has not changed that.
    pub fn settle_at(&mut self, nodes: &[usize], value: i64) {
        let until = now() + PATIENCE;
        while nodes.iter().any(|node| self.read(*node) != value) {
            if now() > until {
                let values: Vec<i64> = nodes.iter().map(|node| self.read(*node)).collect();
                panic!("the nodes {nodes:?} read {values:?} instead of {value}");
            }
            self.carry(now() + Duration::from_millis(5));
        }
        let last_under_way = self.under_way.last_key_value().map(|((at, _), _)| *at);
        while last_under_way.is_some_and(|last| now() < last) {
            self.carry(last_under_way.unwrap_or_else(now));
        }
        for node in nodes {
            assert_eq!(self.read(*node), value, "node {node} after all had read {value}");
        }
    }

    /// Cuts these nodes off from the others.
    pub fn cut(&mut self, nodes: &[usize]) {
        self.cut_off = nodes.iter().copied().map(name).collect();
        self.links_across.clear();
    }

    /// How many links have tried to get across the partition since its begin.
    pub fn links_across(&self) -> usize {
        self.links_across.len()
    }

    /// Ends the partition.
    pub fn heal(&mut self) {
        self.cut_off.clear();
    }

    /// Ends every process by the end of its input.
    pub fn stop(mut self) {
        for (mut child, input) in self.processes.drain(..) {
            drop(input);
            assert!(child.wait().unwrap().success());
        }
    }

    /// Sends a request and waits for the answer.
    fn call(&mut self, node: usize, mut body: Value) -> Value {
        self.numbered += 1;
        let number = self.numbered;
        body["msg_id"] = json!(number);
        self.deliver(&json!({ "src": "c1", "dest": name(node), "body": body }));
        let until = now() + PATIENCE;
        loop {
            if let Some(reply) = self.replies.remove(&number) {
                return reply;
            }
            assert!(now() < until, "{} does not answer {body}", name(node));
            self.carry(until);
        }
    }

    /// Carries messages until the next one is printed, or until then.
    fn carry(&mut self, until: Instant) {
        while let Some(due) = self.under_way.first_entry().filter(|due| due.key().0 <= now()) {
            let message = due.remove();
            if !self.is_cut(&message) {
                self.deliver(&message);
            }
        }
        let next = self.under_way.first_key_value().map_or(until, |((at, _), _)| until.min(*at));
        if let Ok(message) = self.printed.recv_timeout(next.saturating_duration_since(now())) {
            self.take(message);
        }
    }

    fn take(&mut self, message: Value) {
        if message["dest"] == "c1" {
            let number = message["body"]["in_reply_to"].as_u64().expect("an answer to a request");
            let again = self.replies.insert(number, message["body"].clone());
            assert_eq!(again, None, "a request is answered once");
            return;
        }
        if self.is_cut(&message) {
            self.links_across.insert(message["body"]["link"].to_string());
            return;
        }
        let copies = match self.random.random::<f64>() {
            drawn if drawn < LOSS => 0,
            drawn if drawn < LOSS + DOUBLING => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let late = self.random.random_bool(LATE);
            let delay_ms =
                self.random.random_range(0..if late { LATE_MS_MAX } else { DELAY_MS_MAX });
            self.numbered += 1;
            let at = now() + Duration::from_millis(delay_ms);
            self.under_way.insert((at, self.numbered), message.clone());
        }
    }

    fn is_cut(&self, message: &Value) -> bool {
        let is_off = |end: &str| self.cut_off.contains(message[end].as_str().expect("a name"));
        is_off("src") != is_off("dest")
    }

    fn deliver(&mut self, message: &Value) {
        let dest = message["dest"].as_str().expect("a name");
        let node: usize =
            dest.strip_prefix('n').and_then(|node| node.parse().ok()).expect("a node");
        writeln!(self.processes[node].1, "{message}").expect("the process lives");
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for (child, _) in &mut self.processes {
            // One that has ended already needs no ending.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn name(node: usize) -> String {
    format!("n{node}")
}

#[allow(clippy::disallowed_methods, reason = "the processes run in real time")]
fn now() -> Instant {
    Instant::now()
}
