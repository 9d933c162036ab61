//! How an instance is doing: one snapshot, which everything that shows it reads.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::clock::STANDS_STILL_FROM;
use crate::runtime::{Runtime, Seen};
use tallymesh_core::gossip::{CutOff, PeerStatus};
use tallymesh_core::id::ReplicaId;
use tallymesh_core::table::Rejections;
use tallymesh_core::time::{format_duration, whole_ms};

/// How an instance is doing, as of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Status {
    /// The replica that this instance writes as.
    pub replica: ReplicaId,
    /// Where this instance listens, with the real port if the config said port 0; `None` if it does not listen.
    pub address: Option<SocketAddr>,
    /// Whether the instance runs, and whether counts reach the disk.
    pub health: Health,
    /// Where the database went, if it was found damaged when the store was opened.
    pub set_aside: Option<PathBuf>,
    /// The peers, as of the last round.
    pub peers: Vec<PeerStatus>,
    /// The [fingerprints](crate::ClusterKey::fingerprint) of the cluster keys that are accepted, first that of the one to dial with;
    /// or that of the node's [own key](crate::NodeKey).
    /// Empty where there is no key: nothing is encrypted then.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Vec::is_empty"))]
    pub keys: Vec<String>,
    /// How many members the cluster has, as far as this instance knows, itself included: those that are connected, those that were
    /// lost less than a day ago, and those that others tell of. Who said goodbye is none any more.
    #[cfg_attr(feature = "serde", serde(default))]
    pub cluster_size: usize,
    /// Which members are silent without a goodbye, and on which side of the cut this instance is; `None` while none is, or where no
    /// limit says [`when_cut_off`](crate::Limit::when_cut_off).
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub cut_off: Option<CutOff>,
    /// Whether this instance is ready to be asked: see [`CounterStore::ready`](crate::CounterStore::ready).
    #[cfg_attr(feature = "serde", serde(default))]
    pub ready: bool,
    /// What it waits for before it is ready, or does without because that took too long, each in a sentence.
    #[cfg_attr(feature = "serde", serde(default))]
    pub waiting_for: Vec<String>,
    /// How many counters are held, including those that have expired but are kept for late updates.
    pub counters: usize,
    /// What was refused or dropped since the start.
    pub rejections: Rejections,
    /// How far the system's clock is behind the latest time that this instance acted on, in milliseconds: 0, unless the clock
    /// was set back by more than 10 ms. Until it has caught up, time stands still here: windows do not roll over, and waits are
    /// longer by so much.
    pub clock_behind_ms: u64,
    /// Requests that no limit applied to since the start, allowed or denied as `counters.unmatched` says.
    #[cfg_attr(feature = "serde", serde(default))]
    pub requests_unmatched: u64,
    /// Lines that were left out of the log since the start, because this node, a peer, or all strangers together had caused as many as
    /// they may; and those of the whole process that could not be written.
    #[cfg_attr(feature = "serde", serde(default))]
    pub log_lines_dropped: u64,
    /// How often a thread of this instance stopped and was started again since the start. Over 0, there is something to report.
    #[cfg_attr(feature = "serde", serde(default))]
    pub thread_restarts: u64,
}

/// Whether an instance runs, whether counts reach the disk, and what an operator should look at.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Health {
    /// Whether it runs.
    pub state: RunState,
    /// Whether counts reach the disk. A reached bound does not change this.
    pub durability: DurabilityState,
    /// What is wrong, each in a sentence: why the disk failed, which thread stopped and is started again, which bound is reached, by
    /// how much the clock is behind, that others can reach it and need no key. Empty when nothing is.
    pub reasons: Vec<String>,
}

/// Whether an instance runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum RunState {
    /// It does.
    Running,
    /// It tells its peers goodbye and writes its last checkpoint.
    Closing,
    /// It has stopped: nothing is replicated or written any more.
    Closed,
}

/// Whether counts reach the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum DurabilityState {
    /// They do.
    Durable,
    /// They are not meant to: the config has `storage.in_memory`.
    InMemory,
    /// They do not, since the disk failed. Decisions continue from memory, and the disk is tried again.
    Failed,
}

impl Health {
    fn of(runtime: &Runtime) -> Health {
        let state = match (runtime.is_closing(), runtime.disk.is_stopped()) {
            (false, _) => RunState::Running,
            (true, false) => RunState::Closing,
            (true, true) => RunState::Closed,
        };
        let failure = runtime.disk.failure();
        let durability = match (&failure, runtime.in_memory) {
            (Some(_), _) => DurabilityState::Failed,
            (None, true) => DurabilityState::InMemory,
            (None, false) => DurabilityState::Durable,
        };
        let behind = runtime.clock.behind();
        let stands_still = (behind >= STANDS_STILL_FROM).then(|| {
            format!(
                "the system clock is {} behind the latest time that was acted on: until it has caught up, windows do not roll \
                 over, and waits are longer by so much; if the later time was wrong, stop the node and lower what was \
                 remembered with `tallymesh clock DIR --lower`",
                format_duration(behind)
            )
        });
        let cut_off = runtime.seen().cut_off.map(|cut| {
            format!(
                "cut off with {} of {} members since {}: limits that share or deny while cut off allow less until these are \
                 heard again or presumed dead: {}",
                cut.side,
                cut.members,
                cut.since,
                cut.suspected.join(", ")
            )
        });
        let reasons = failure.into_iter().chain(runtime.threads_stopped());
        let reasons = reasons.chain(runtime.few_descriptors()).chain(runtime.bounds_reached());
        let reasons =
            reasons.chain(stands_still).chain(cut_off).chain(runtime.openness()).collect();
        Health { state, durability, reasons }
    }

    /// Whether counts reach the disk: [`DurabilityState::Durable`], and neither of the others.
    pub fn is_durable(&self) -> bool {
        self.durability == DurabilityState::Durable
    }

    /// Whether the disk failed: [`DurabilityState::Failed`].
    pub fn is_failed(&self) -> bool {
        self.durability == DurabilityState::Failed
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RunState::Running => "running",
            RunState::Closing => "closing",
            RunState::Closed => "closed",
        })
    }
}

impl fmt::Display for DurabilityState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DurabilityState::Durable => "durable",
            DurabilityState::InMemory => "in_memory",
            DurabilityState::Failed => "failed",
        })
    }
}

impl Status {
    pub(crate) fn of(runtime: &Runtime, requests_unmatched: u64) -> Status {
        let table = &runtime.table;
        let Seen { peers, cluster_size, cut_off, is_ready, waiting_for } = runtime.seen();
        Status {
            replica: table.own_replica(),
            address: runtime.address,
            health: Health::of(runtime),
            set_aside: runtime.set_aside.clone(),
            peers,
            keys: runtime.keys(),
            cluster_size,
            cut_off,
            ready: is_ready,
            waiting_for,
            counters: table.len(),
            rejections: table.rejections(),
            clock_behind_ms: whole_ms(runtime.clock.behind()),
            requests_unmatched,
            log_lines_dropped: runtime.log_lines_dropped(),
            thread_restarts: runtime.thread_restarts(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Config, CounterKey, CounterStore, DurabilityState, Limiter, RunState};

    #[tokio::test]
    async fn the_accessors_show_what_the_snapshot_does() {
        let config = Config::builder("a").in_memory().listen("127.0.0.1:0");
        let mut config = config.build().unwrap();
        config.bounds.counters_max = 1;
        let store = CounterStore::open(config).await.unwrap();
        store.add(&CounterKey::new("x", &[]).unwrap(), 1).unwrap();
        assert!(store.add(&CounterKey::new("y", &[]).unwrap(), 1).is_err());
        let status = store.status();
        assert_eq!(status.replica, store.replica());
        assert_eq!((status.counters, status.rejections.counters_refused), (1, 1));
        assert_eq!((status.counters, status.rejections), (store.len(), store.rejections()));
        assert!(status.address.is_some_and(|address| address.port() != 0));
        assert_eq!((status.address, &status.health), (store.address(), &store.health()));
        // A bound that is reached is a reason, and says nothing of the disk.
        assert_eq!(status.health.durability, DurabilityState::InMemory);
        assert!(status.health.reasons.concat().contains("counters.max_counters"));
        assert_eq!((status.set_aside.as_deref(), status.peers.len()), (store.set_aside(), 0));
        store.close().await.unwrap();
    }

    #[tokio::test]
    async fn health_follows_an_instance_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::builder("a").data_dir(dir.path()).build().unwrap();
        let limiter = Limiter::open(config).await.unwrap();
        let health = || limiter.counters().health();
        assert_eq!((health().state, health().is_durable()), (RunState::Running, true));
        assert!(health().reasons.is_empty());
        limiter.close().await.unwrap();
        assert_eq!((health().state, health().is_durable()), (RunState::Closed, true));
        assert_eq!(
            [RunState::Closing.to_string(), DurabilityState::InMemory.to_string()],
            ["closing", "in_memory"]
        );
    }
}
