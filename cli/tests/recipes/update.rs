//! A rolling update under calls: processes are replaced one after the other, and after each it is checked what was promised.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::network::Process;
use super::page::Program;

/// How long something may take to come about.
const PATIENCE: Duration = Duration::from_secs(30);
/// Calls in each session: below the limit of the recipes, so that none is denied.
const CALLS_PER_SESSION: usize = 500;

/// What each session was counted.
type Counts = BTreeMap<String, u64>;

/// The processes of a recipe, and the calls that they are sent.
pub struct Update {
    pub processes: Vec<Process>,
    program: Program,
    calls: Calls,
    caller: Option<JoinHandle<usize>>,
    ready_after: Vec<Duration>,
    ended_after: Vec<Duration>,
    settled_after: Vec<Duration>,
}

#[derive(Clone, Default)]
struct Calls(Arc<CallsState>);

#[derive(Default)]
struct CallsState {
    /// Where calls may go, as a service knows it.
    endpoints: Mutex<Vec<SocketAddr>>,
    /// What was admitted, and the caller told.
    admitted: Mutex<Counts>,
    failed: Mutex<Vec<String>>,
    is_over: AtomicBool,
}

impl Update {
    pub fn new(program: &Program) -> Update {
        Update {
            processes: Vec::new(),
            program: program.clone(),
            calls: Calls::default(),
            caller: None,
            ready_after: Vec::new(),
            ended_after: Vec::new(),
            settled_after: Vec::new(),
        }
    }

    /// Starts a process, and takes it in as soon as it says that it is ready. It then has all that those had before that stay.
    pub fn add(
        &mut self,
        start: impl FnOnce(&[Process]) -> Process,
        is_ready: impl FnOnce(SocketAddr),
    ) {
        let held: Vec<Counts> = self.addresses().map(counts).collect();
        let since = now();
        let process = start(&self.processes);
        let address = address_of(&process);
        self.processes.push(process);
        is_ready(address);
        let (status, body) = http(address, "GET /ready", "").unwrap();
        assert_eq!((status, &body["waiting_for"]), (200, &json!([])), "ready, and without nothing");
        let own = counts(address);
        for held in &held {
            assert!(covers(&own, held), "a ready node lacks counts: {}", lacking(&own, held));
        }
        self.ready_after.push(since.elapsed_now());
        self.calls.0.endpoints.lock().unwrap().push(address);
        if self.caller.is_none() {
            let calls = self.calls.clone();
            self.caller = Some(std::thread::spawn(move || calls.run()));
        }
    }

    /// Ends a process as the recipe does: no more calls, what runs before the signal, the signal.
    pub fn end(&mut self, index: usize) -> Process {
        let mut process = self.processes.remove(index);
        let address = address_of(&process);
        self.calls.0.endpoints.lock().unwrap().retain(|endpoint| *endpoint != address);
        let since = now();
        // What a recipe waits before the signal is time that passes, and no condition.
        std::thread::sleep(self.program.pre_stop);
        let signal = now();
        process.terminate();
        let mut code = None;
        wait_until("the process ends", self.program.grace, || {
            code = process.child.try_wait().unwrap();
            code.is_some()
        });
        assert!(since.elapsed_now() < self.program.grace, "within the grace period");
        self.ended_after.push(signal.elapsed_now());
        assert_eq!(code.unwrap().code(), Some(0), "{}: {}", process.name, process.log());
        assert_eq!(process.last_line(), r#"{"closed":true,"unconfirmed":0}"#, "{}", process.name);
        process
    }

    /// Waits until each process counts the members right, and has all that was admitted up to now.
    pub fn settle(&mut self) {
        let since = now();
        let admitted = self.calls.0.admitted.lock().unwrap().clone();
        let others = self.processes.len() - 1;
        for address in self.addresses() {
            let mut seen = Value::Null;
            let settled = within(PATIENCE, || {
                let state = ask(address, "state");
                let peers = ask(address, "peers");
                let connected = peers
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter(|peer| peer["connected"] == true)
                    .count();
                seen = json!({ "size": state["cluster_size"], "peers": peers });
                state["cluster_size"] == others + 1 && connected == others
            });
            assert!(settled, "{address} counts {} members as {seen:#}", others + 1);
            let mut own = Counts::new();
            let has_all = within(PATIENCE, || {
                own = counts(address);
                covers(&own, &admitted)
            });
            assert!(has_all, "{address} lacks {}", lacking(&own, &admitted));
        }
        self.settled_after.push(since.elapsed_now());
    }

    /// Waits until each connection is under the key of the fingerprint that the node at its other end has.
    pub fn are_under(&self, key_of: impl Fn(&str) -> String) {
        for address in self.addresses() {
            let mut peers = Value::Null;
            let is_under = |peer: &Value| {
                let replica = peer["replica"].as_str().unwrap();
                let (node, _) = replica.split_once('#').unwrap();
                peer["key"] == key_of(node)
            };
            let are_under = within(PATIENCE, || {
                peers = ask(address, "peers");
                let connected = peers.as_array().unwrap().iter();
                let mut connected = connected.filter(|peer| peer["connected"] == true).peekable();
                connected.peek().is_some() && connected.all(is_under)
            });
            assert!(are_under, "{address} has not all under those keys: {peers:#}");
        }
    }

    /// Ends the calls. Each process then has exactly what was admitted. Returns what was measured, in a line.
    pub fn finish(mut self, name: &str, may_fail: bool) -> String {
        self.calls.0.is_over.store(true, Ordering::Relaxed);
        let calls = self.caller.take().unwrap().join().expect("calls are answered");
        let admitted = self.calls.0.admitted.lock().unwrap().clone();
        for address in self.addresses() {
            let mut own = Counts::new();
            let equal = within(PATIENCE, || {
                own = counts(address);
                own == admitted
            });
            assert!(equal, "{address} has {own:?}, and admitted were {admitted:?}");
        }
        let failed = self.calls.0.failed.lock().unwrap();
        assert!(may_fail || failed.is_empty(), "{failed:?}");
        assert_eq!(admitted.values().sum::<u64>() as usize + failed.len(), calls);
        let replaced = self.ended_after.len();
        for _ in 0..self.processes.len() {
            let index = self.processes.len() - 1;
            let mut process = self.processes.remove(index);
            process.terminate();
            wait_until("all end", self.program.grace, || {
                process.child.try_wait().unwrap().is_some()
            });
        }
        let of = |times: &[Duration]| {
            let mut ms: Vec<u128> = times.iter().map(Duration::as_millis).collect();
            ms.sort_unstable();
            format!("{} / {} ms", ms[ms.len() / 2], ms[ms.len() - 1])
        };
        format!(
            "| {name} | {replaced} | {calls} | {} | 0 | {} | {} | {} |",
            failed.len(),
            of(&self.ready_after[self.program.replicas..]),
            of(&self.ended_after),
            of(&self.settled_after)
        )
    }

    fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.calls.0.endpoints.lock().unwrap().clone().into_iter()
    }
}

impl Drop for Update {
    fn drop(&mut self) {
        self.calls.0.is_over.store(true, Ordering::Relaxed);
    }
}

fn address_of(process: &Process) -> SocketAddr {
    SocketAddr::new(process.ip.into(), process.http_port)
}

impl Calls {
    /// Makes calls until it is over; returns how many.
    fn run(&self) -> usize {
        let state = &self.0;
        let mut made = 0;
        while !state.is_over.load(Ordering::Relaxed) {
            let endpoints = state.endpoints.lock().unwrap().clone();
            let address = endpoints[made % endpoints.len()];
            let session = format!("s{}", made / CALLS_PER_SESSION);
            match http(address, "POST /", &format!("acquire session={session}")) {
                Ok((status, answer)) => {
                    assert_eq!((status, &answer["allowed"]), (200, &json!(true)), "{answer}");
                    *state.admitted.lock().unwrap().entry(session).or_default() += 1;
                }
                Err(error) => state.failed.lock().unwrap().push(format!("{address}: {error}")),
            }
            made += 1;
            // The pace of the calls.
            std::thread::sleep(Duration::from_millis(2));
        }
        made
    }
}

/// Waits until an address says that it is ready; before that it may say only that it is not, or nothing.
pub fn probe(address: SocketAddr) {
    wait_until("it is ready", PATIENCE, || match http(address, "GET /ready", "") {
        Ok((200, answer)) => answer["ready"] == true,
        Ok((status, answer)) => {
            assert_eq!((status, &answer["ready"]), (503, &json!(false)), "{answer}");
            false
        }
        Err(_) => false,
    });
}

/// Asks, and returns the status and the first line of the answer.
fn http(address: SocketAddr, what: &str, body: &str) -> io::Result<(u16, Value)> {
    let (status, lines) = lines(address, what, body)?;
    Ok((status, lines.into_iter().next().unwrap_or_default()))
}

fn lines(address: SocketAddr, what: &str, body: &str) -> io::Result<(u16, Vec<Value>)> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let request = format!(
        "{what} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let broken = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(broken)?;
    let status =
        head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(broken)?;
    Ok((status, body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()))
}

fn ask(address: SocketAddr, command: &str) -> Value {
    let (status, answer) = http(address, "POST /", command).unwrap();
    assert_eq!(status, 200, "{answer}");
    answer
}

/// What a process counts in each session.
fn counts(address: SocketAddr) -> Counts {
    let (status, lines) = lines(address, "POST /", "counters").unwrap();
    assert_eq!(status, 200, "{lines:?}");
    let counters = lines.iter().skip(1);
    let session = |line: &Value| line["labels"]["session"].as_str().unwrap().to_owned();
    counters.map(|line| (session(line), line["value"].as_u64().unwrap())).collect()
}

fn covers(own: &Counts, other: &Counts) -> bool {
    other.iter().all(|(session, count)| own.get(session).copied().unwrap_or(0) >= *count)
}

fn lacking(own: &Counts, other: &Counts) -> String {
    let lacks = other.iter().filter(|(session, count)| own.get(*session).unwrap_or(&0) < count);
    lacks
        .map(|(session, count)| format!("{session}: {:?} of {count}; ", own.get(session)))
        .collect()
}

fn wait_until(what: &str, patience: Duration, is_so: impl FnMut() -> bool) {
    assert!(within(patience, is_so), "never: {what}");
}

fn within(patience: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let since = now();
    loop {
        if is_so() {
            return true;
        }
        if since.elapsed_now() > patience {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[expect(clippy::disallowed_methods, reason = "waits by a real clock")]
fn now() -> Instant {
    Instant::now()
}

trait ElapsedNow {
    fn elapsed_now(&self) -> Duration;
}

impl ElapsedNow for Instant {
    fn elapsed_now(&self) -> Duration {
        now().duration_since(*self)
    }
}
