//! What `docs/operating/incidents.md` says, followed: its settings, its commands, and what they print.
//!
//! With `TALLYMESH_WRITE_DOCS=1`, what they print is written into the page. What differs from run to run is not compared: numbers of starts,
//! ports, times.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tallymesh::{CounterKey, Limiter, OperatorKey, ReplicaId, Request};
use tallymesh_test_support::hostile::{Hostile, count, hello};
use tallymesh_test_support::until;

use super::page::block;

const PAGE: &str = "incidents.md";
const PATIENCE: Duration = Duration::from_secs(30);

/// A pod that runs the program, with the settings of the page.
struct Pod {
    child: Child,
    dir: tempfile::TempDir,
    listen: String,
}

impl Pod {
    fn start(operator: &OperatorKey) -> Pod {
        let dir = tempfile::tempdir().unwrap();
        let limits = block(PAGE, "incident.toml");
        let settings = format!(
            "[node]\nid = \"limits-0\"\ndata_dir = {:?}\n[gossip]\nlisten = \"127.0.0.1:0\"\n\
             [operator]\npublic_key = \"{}\"\n{limits}",
            dir.path().join("data"),
            operator.public()
        );
        fs::write(dir.path().join("operator.key"), operator.reveal()).unwrap();
        fs::write(dir.path().join("tallymesh.toml"), settings).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_tallymesh"))
            .args(["node", "--config", "tallymesh.toml"])
            .current_dir(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut first).unwrap();
        let first: Value = serde_json::from_str(&first).unwrap();
        Pod { child, dir, listen: first["listen"].as_str().unwrap().to_owned() }
    }

    /// What a command of the page prints.
    fn run(&self, words: &[&str]) -> String {
        assert_eq!(words[0], "tallymesh");
        let mut command = Command::new(env!("CARGO_BIN_EXE_tallymesh"));
        let output = command.args(&words[1..]).current_dir(self.dir.path()).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn asked(&self, words: &[&str]) -> Value {
        let ctl = ["tallymesh", "ctl", "--config", "tallymesh.toml", "--json"];
        serde_json::from_str(&self.run(&[&ctl[..], words].concat())).unwrap()
    }

    /// Runs the command of this name on the page; it prints what the page says.
    fn follows(&self, name: &str) {
        let command = block(PAGE, name);
        let printed = self.run(&command.split_whitespace().collect::<Vec<_>>());
        if std::env::var("TALLYMESH_WRITE_DOCS").is_ok_and(|value| value == "1") {
            write(name, &printed);
        }
        let said = output(&page(), name);
        assert_eq!(alike(&printed), alike(&said), "{command}");
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn an_incident_as_the_page_tells_it() {
    let operator = OperatorKey::generate().unwrap();
    let pod = Pod::start(&operator);
    let limits = block(PAGE, "incident.toml");
    let settings = format!(
        "[node]\nid = \"limits-1\"\n[storage]\nin_memory = true\n[gossip]\npeers = [{:?}]\n\
         [operator]\npublic_key = \"{}\"\n{limits}",
        pod.listen,
        operator.public()
    );
    let other = Limiter::open(tallymesh::Config::from_toml(&settings).unwrap()).await.unwrap();
    let spend = |tenant, cost| {
        let request = Request::new().with("tenant", tenant).cost(cost);
        assert!(other.acquire(&request).is_allowed());
        other.keys(&request).remove(0)
    };
    let acme: CounterKey = spend("acme", 12);
    spend("globex", 850);
    spend("initech", 40);
    let held = |pod: &Pod| pod.asked(&["counters"])["held"] == 3;
    until("the pod has heard of them", PATIENCE, || held(&pod)).await;

    let replica = |text: &str| text.parse::<ReplicaId>().unwrap();
    let mut liar = Hostile::connect(pod.listen.parse().unwrap(), 1).await.unwrap();
    let now = other.counters().now().0;
    let lie = count(&replica("limits-1#1.2"), &acme, 5_000_000, now);
    liar.say(&[hello(&replica("limits-2#1.3")), lie]).await.unwrap();
    let believed = |pod: &Pod| pod.asked(&["explain", "tenant=acme"])["counters"][0]["cells"] == 2;
    until("the lie is believed", PATIENCE, || believed(&pod)).await;
    ["counters", "explain", "crossings", "quarantine"].iter().for_each(|name| pod.follows(name));
    let is_told = || other.status().operator.iter().any(|entry| entry.subject == "limits-2");
    until("the other pod is told of the quarantine", PATIENCE, is_told).await;
    let is_everywhere = |pod: &Pod| pod.asked(&["status"])["operator"][0]["progress"] == 100;
    until("it has reached all counters", PATIENCE, || is_everywhere(&pod)).await;

    drop(liar);
    // Of the other one, all is known that is shown.
    let is_gone = |member: &Value| match member["replica"].to_string().contains("limits-2") {
        true => member["connected"] == false,
        false => !member["round_trip_us"].is_null() && !member["clock_offset_ms"].is_null(),
    };
    let gone = |pod: &Pod| {
        let status = pod.asked(&["status"]);
        let members = status["members"].as_array().unwrap();
        members.len() == 2 && members.iter().all(is_gone)
    };
    until("its end is seen", PATIENCE, || gone(&pod)).await;
    pod.follows("status");
    until("the other pod believed the lie, too", PATIENCE, || {
        other.counters().value(&acme) == 5_000_012
    })
    .await;
    pod.follows("forget");
    until("it is healed here", PATIENCE, || {
        pod.asked(&["explain", "tenant=acme"])["counters"][0]["value"] == 12
    })
    .await;
    until("the other pod hears of it", PATIENCE, || other.counters().value(&acme) == 12).await;
    pod.follows("healed");
    other.close().await.unwrap();
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operating").join(PAGE)
}

fn page() -> String {
    fs::read_to_string(path()).unwrap()
}

/// Where what a command prints begins and ends on the page.
fn span(page: &str, name: &str) -> (usize, usize) {
    let fence = format!("```text {name}\n");
    let start = page.find(&fence).unwrap_or_else(|| panic!("no {fence}")) + fence.len();
    (start, start + page[start..].find("```").unwrap())
}

fn output(page: &str, name: &str) -> String {
    let (start, end) = span(page, name);
    page[start..end].to_owned()
}

fn write(name: &str, printed: &str) {
    let mut page = page();
    let (start, end) = span(&page, name);
    page.replace_range(start..end, printed);
    fs::write(path(), page).unwrap();
}

/// The text without what differs from run to run.
fn alike(text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let word = |at: usize| {
            let word = words[at];
            let is_length = |next: &&str| ["ms", "us", "ms,", "us,"].contains(next);
            match word {
                _ if words.get(at + 1).is_some_and(is_length) => "N".to_owned(),
                // Cells that change together get their versions in any order.
                _ if at > 0 && words[at - 1] == "(version" => "V".to_owned(),
                // How far the walk over the table has come.
                _ if at > 0 && words[at - 1] == "over" && word.ends_with('%') => "N%".to_owned(),
                _ if word.contains('#') => word.split('#').next().unwrap().to_owned() + "#",
                _ if word.starts_with("127.0.0.1:") => "ADDRESS".to_owned(),
                _ if word.len() > 20 && word.contains("T") && word.contains("Z") => {
                    "TIME".to_owned()
                }
                _ => word.to_owned(),
            }
        };
        lines.push((0..words.len()).map(word).collect::<Vec<_>>().join(" "));
    }
    lines.join("\n")
}

#[test]
fn only_what_differs_from_run_to_run_is_not_compared() {
    assert_eq!(
        alike("a#1.2  is at 127.0.0.1:7946, 12 ms ago, since 2026-01-31T23:59:59.000Z"),
        alike("a#7.9 is at 127.0.0.1:1, 3 ms ago, since 2027-01-31T23:59:59.000Z")
    );
    assert_ne!(alike("5 of 10"), alike("6 of 10"));
    assert_ne!(alike("by limits-1#1.2"), alike("by limits-2#1.2"));
}
