//! A node under load that reports what it does, line by line, as it does it. Meant for a process of its own that may be
//! killed at any moment: each line is a single write.
//!
//! ```text
//! opened BOOT REPLICA      the node is open
//! holds SESSION VALUE      what it found, for every session
//! ready                    all of that is said
//! tries SESSION            about to make a call
//! counted SESSION TIME_MS  the call is admitted (and durable, if the load is)
//! flushed VALUE...         what each session had been counted when a flush began that is over now
//! ```

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tallymesh::{Config, Durability, Limit, Limiter, Request, Window};
use tokio::task::JoinSet;

/// The sessions that are called in.
pub const SESSIONS: [&str; 4] = ["s0", "s1", "s2", "s3"];
/// How many others there are.
const OTHERS: u64 = 500;
const LIMIT: &str = "calls per session";

/// The limit under which a node and its peer count; never reached.
pub fn limit() -> Limit {
    let ttl = Duration::from_secs(24 * 3600);
    Limit::new(LIMIT, u64::from(u32::MAX), Window::Session { ttl }).per("session")
}

/// What to do; handed to the child process as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Load {
    /// The data directory of the node.
    pub data_dir: PathBuf,
    /// Where the lines go; opened to append. `None` for the standard error.
    pub report_to: Option<PathBuf>,
    /// Time between checkpoints; `None` for `Durability::Sync`.
    pub every: Option<Duration>,
    /// The address of a peer.
    pub peer: Option<String>,
    /// How often the node is opened and closed.
    pub lives: u64,
    /// How many callers each session has.
    pub callers: u64,
    /// How many calls each makes in a life.
    pub calls: u64,
    /// How many calls in other sessions go with each of them, unreported and not waited for, to make checkpoints larger.
    pub beside: u64,
    /// Whether the callers wait until each call is durable. Otherwise they make a call every millisecond.
    pub durable: bool,
    /// Whether the node is flushed all the while.
    pub flushes: bool,
}

impl Load {
    /// The settings of the node.
    pub fn config(&self) -> Config {
        let config = match self.every {
            Some(every) => Config::builder("a").persist_every(every),
            None => Config::builder("a").durability(Durability::Sync),
        };
        config
            .data_dir(&self.data_dir)
            .peers(self.peer.clone())
            .gossip_interval(Duration::from_millis(5))
            .sync_timeout(Duration::from_secs(30))
            .limit(limit())
            .build()
            .unwrap()
    }

    /// Does it.
    pub fn run(self) {
        let report = match &self.report_to {
            Some(path) => Report::To(OpenOptions::new().append(true).open(path).unwrap()),
            None => Report::Stderr,
        };
        let (load, report) = (Arc::new(self), Arc::new(report));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        for _ in 0..load.lives {
            runtime.block_on(live(&load, &report));
        }
    }
}

async fn live(load: &Arc<Load>, report: &Arc<Report>) {
    let limiter = Limiter::open(load.config()).await.unwrap();
    let replica = limiter.counters().replica();
    report.line(&format!("opened {} {replica}", replica.incarnation.boot));
    for session in SESSIONS {
        report.line(&format!("holds {session} {}", value(&limiter, session)));
    }
    report.line("ready");
    let counted = Arc::new([const { AtomicU64::new(0) }; SESSIONS.len()]);
    let mut callers = JoinSet::new();
    for index in 0..SESSIONS.len() {
        for _ in 0..load.callers {
            let (load, report) = (load.clone(), report.clone());
            let (limiter, counted) = (limiter.clone(), counted.clone());
            callers.spawn(async move {
                load.call(&limiter, &report, SESSIONS[index], &counted[index]).await;
            });
        }
    }
    let called = async {
        while let Some(ended) = callers.join_next().await {
            ended.unwrap();
        }
    };
    if load.flushes {
        tokio::select! {
            () = called => {}
            () = flush(&limiter, report, &*counted) => {}
        }
    } else {
        called.await;
    }
    limiter.close().await.unwrap();
}

impl Load {
    async fn call(&self, limiter: &Limiter, report: &Report, session: &str, counted: &AtomicU64) {
        let request = Request::tool_call(session, "tool");
        let mut pace = tokio::time::interval(Duration::from_millis(1));
        for call in 0..self.calls {
            for beside in 0..self.beside {
                let other = format!("other {}", (call * self.beside + beside) % OTHERS);
                assert!(limiter.acquire(&Request::tool_call(&other, "tool")).is_allowed());
            }
            if !self.durable {
                pace.tick().await;
            }
            report.line(&format!("tries {session}"));
            let decision = match self.durable {
                true => limiter.acquire_durable(&request).await.unwrap(),
                false => limiter.acquire(&request),
            };
            assert!(decision.is_allowed(), "the limit is out of reach");
            counted.fetch_add(1, Ordering::SeqCst);
            report.line(&format!("counted {session} {}", limiter.counters().now().0));
        }
    }
}

async fn flush(limiter: &Limiter, report: &Report, counted: &[AtomicU64]) {
    loop {
        let before = counted.iter().map(|count| count.load(Ordering::SeqCst).to_string());
        let before: Vec<String> = before.collect();
        limiter.counters().flush().await.unwrap();
        report.line(&format!("flushed {}", before.join(" ")));
    }
}

/// What a node holds of a session.
pub fn value(limiter: &Limiter, session: &str) -> u64 {
    limiter.counters().value(&limiter.keys(&Request::new().with("session", session))[0])
}

enum Report {
    To(File),
    Stderr,
}

impl Report {
    fn line(&self, line: &str) {
        // Once the test has failed, nothing reads this any more, and the test says so itself.
        let line = format!("{line}\n");
        let _ = match self {
            Report::To(file) => (&*file).write_all(line.as_bytes()),
            Report::Stderr => std::io::stderr().write_all(line.as_bytes()),
        };
    }
}
