//! Three nodes as processes of their own, with a proxy between every two of them.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tallymesh::ClusterKey;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::proxy::Proxy;

/// The nodes' names.
pub const NAMES: [&str; 3] = ["A", "B", "C"];

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The running nodes.
pub struct Cluster {
    dir: PathBuf,
    nodes: Vec<Option<Node>>,
    /// `proxies[from][to]`.
    proxies: Vec<Vec<Proxy>>,
}

struct Node {
    process: Child,
    input: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Cluster {
    /// Nodes that are not started yet, with their files under `dir` and these limits.
    pub async fn prepare(dir: &Path, limits: &str) -> io::Result<Cluster> {
        let mut proxies = Vec::new();
        for _ in NAMES {
            let mut row = Vec::new();
            for _ in NAMES {
                row.push(Proxy::start().await?);
            }
            proxies.push(row);
        }
        // In a directory that only its owner can read.
        let key = ClusterKey::generate()?.reveal();
        for (from, name) in NAMES.iter().enumerate() {
            let others = (0..NAMES.len()).filter(|to| *to != from);
            let peers: Vec<String> =
                others.map(|to| proxies[from][to].address().to_string()).collect();
            // The proxies are to be the only way between two nodes. The first nodes wait in vain for those that start later, and need not for long.
            let config = format!(
                "[node]\nid = {name:?}\ndata_dir = {:?}\n[gossip]\nlisten = \"127.0.0.1:0\"\nkey = {key:?}\npeers = {peers:?}\n\
                 peer_exchange = false\nsync_timeout = \"200ms\"\n{limits}",
                dir.join(name),
            );
            std::fs::write(config_of(dir, from), config)?;
        }
        let nodes = NAMES.iter().map(|_| None).collect();
        Ok(Cluster { dir: dir.to_owned(), nodes, proxies })
    }

    /// Starts all nodes, and waits until they are ready.
    pub async fn start(&mut self) -> io::Result<()> {
        for index in 0..NAMES.len() {
            self.start_node(index).await?;
        }
        Ok(())
    }

    /// Starts one node, and waits until it is ready.
    pub async fn start_node(&mut self, index: usize) -> io::Result<()> {
        let log = File::options().create(true).append(true).open(self.log_of(index))?;
        let mut process = Command::new(std::env::current_exe()?)
            .arg("node")
            .arg("--config")
            .arg(config_of(&self.dir, index))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let pipes = (process.stdin.take(), process.stdout.take());
        let (Some(input), Some(output)) = pipes else {
            return Err(io::Error::other("the node's input and output are not connected"));
        };
        let node = Node { process, input, answers: BufReader::new(output).lines() };
        // Held from the start, so that `end` finds it whenever a signal comes.
        let ready = self.nodes[index].insert(node).answer().await?;
        let address: Option<SocketAddr> =
            ready["listen"].as_str().and_then(|address| address.parse().ok());
        let address = address.ok_or_else(|| io::Error::other("the node does not listen"))?;
        for row in &self.proxies {
            row[index].lead_to(address);
        }
        Ok(())
    }

    /// Kills one node on the spot, as the kernel does with signal 9.
    pub async fn kill(&mut self, index: usize) -> io::Result<()> {
        if let Some(node) = &mut self.nodes[index] {
            node.process.kill().await?;
        }
        self.nodes[index] = None;
        Ok(())
    }

    /// Kills what still runs, and waits for its end: nothing writes a file any more then.
    pub async fn end(&mut self) {
        for index in 0..NAMES.len() {
            // What was not there to be killed has ended.
            let _ = self.kill(index).await;
        }
    }

    /// Cuts one node off from the others, or joins it to them again.
    pub fn isolate(&self, index: usize, cut: bool) {
        for other in (0..NAMES.len()).filter(|other| *other != index) {
            self.proxies[index][other].cut(cut);
            self.proxies[other][index].cut(cut);
        }
    }

    /// Gives a node a command and returns its answer.
    pub async fn ask(&mut self, index: usize, command: &str) -> io::Result<Value> {
        let node = self.nodes[index].as_mut();
        let node = node.ok_or_else(|| io::Error::other(format!("{} is down", NAMES[index])))?;
        node.input.write_all(format!("{command}\n").as_bytes()).await?;
        node.answer().await
    }

    /// The counters of a node.
    pub async fn counters(&mut self, index: usize) -> io::Result<Vec<Value>> {
        let first = self.ask(index, "counters").await?;
        let node = self.nodes[index].as_mut();
        let node = node.ok_or_else(|| io::Error::other(format!("{} is down", NAMES[index])))?;
        let mut counters = Vec::new();
        for _ in 0..first["shown"].as_u64().unwrap_or(0) {
            counters.push(node.answer().await?);
        }
        Ok(counters)
    }

    /// Whether all these nodes have the same counters.
    pub async fn agree(&mut self, indices: &[usize]) -> io::Result<bool> {
        let mut states = Vec::new();
        for index in indices {
            let state = self.ask(*index, "state").await?;
            states.push((state["version_vector"].clone(), state["state_checksum"].clone()));
        }
        Ok(states.windows(2).all(|pair| pair[0] == pair[1]))
    }

    /// Tells all nodes to close, and waits until they have.
    pub async fn stop(&mut self) -> io::Result<()> {
        for index in 0..NAMES.len() {
            if self.nodes[index].is_some() {
                self.ask(index, "close").await?;
            }
        }
        for node in self.nodes.iter_mut().flatten() {
            within(PATIENCE, node.process.wait()).await?;
        }
        Ok(())
    }

    /// The end of what a node logged.
    pub fn log(&self, index: usize) -> String {
        let text = std::fs::read_to_string(self.log_of(index)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn log_of(&self, index: usize) -> PathBuf {
        self.dir.join(format!("{}.log", NAMES[index]))
    }
}

impl Node {
    async fn answer(&mut self) -> io::Result<Value> {
        let line = within(PATIENCE, self.answers.next_line()).await?;
        let line = line.ok_or_else(|| io::Error::other("the node has stopped"))?;
        let answer: Value = serde_json::from_str(&line)?;
        match answer["error"].as_str() {
            Some(error) => Err(io::Error::other(error.to_owned())),
            None => Ok(answer),
        }
    }
}

async fn within<T>(
    patience: Duration,
    waiting: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    let timeout = io::Error::new(io::ErrorKind::TimedOut, "a node does not answer");
    tokio::time::timeout(patience, waiting).await.unwrap_or(Err(timeout))
}

fn config_of(dir: &Path, index: usize) -> PathBuf {
    dir.join(format!("{}.toml", NAMES[index]))
}
