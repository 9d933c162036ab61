//! What operators look at: peers and health. Counters have a file of their own.

use std::time::Duration;

use napi::Result;
use napi_derive::napi;
use tallymesh::{CutOff, PeerStatus, Status};

use crate::decisions::number;
use crate::error::guard;
use crate::limiters::with;
use crate::operate::{OperatorReport, operator_report};

/// One peer, as of the last round.
#[napi(object)]
pub struct PeerReport {
    /// Where it can be dialed.
    pub address: Option<String>,
    /// How that was learned.
    #[napi(ts_type = "'config' | 'exchange' | 'dialed_us'")]
    pub source: Option<String>,
    /// Since when it has been a member, in milliseconds since 1970.
    pub since: Option<f64>,
    /// Who it is.
    pub replica: Option<String>,
    /// Whether a link to it is up.
    pub connected: bool,
    /// Why none is.
    #[napi(
        ts_type = "'unresolved' | 'unanswered' | 'stopped' | 'removed' | 'refused' | 'lost' | 'unreachable' | 'other_cluster' | 'unproven'"
    )]
    pub absence: Option<String>,
    /// How many of our own updates it has not confirmed.
    pub lag: f64,
    /// Its clock minus ours, in milliseconds.
    pub clock_offset_ms: Option<f64>,
    /// How long a message there and back took last, in milliseconds.
    pub round_trip_ms: Option<f64>,
    /// The limits of ours that say something else there.
    pub different_limits: Vec<String>,
    /// The fingerprint of the key that the link was proven with.
    pub key: Option<String>,
    /// How long ago it was last heard, in milliseconds.
    pub last_heard_ms: Option<f64>,
}

/// Whether it runs, whether counts reach the disk, and what is wrong.
#[napi(object)]
pub struct Health {
    /// Whether it runs: `running`, `closing` or `closed`.
    #[napi(ts_type = "'running' | 'closing' | 'closed'")]
    pub state: String,
    /// Whether they do.
    pub durable: bool,
    /// `durable`, `in_memory` or `failed`.
    #[napi(ts_type = "'durable' | 'in_memory' | 'failed'")]
    pub durability: String,
    /// What is wrong.
    pub reasons: Vec<String>,
}

/// What was rejected since the start.
#[napi(object)]
pub struct Rejections {
    /// Counters that were needed and not made.
    pub counters_refused: f64,
    /// Cells from peers that were not believed.
    pub cells_implausible: f64,
    /// Cells from peers that came too late.
    pub cells_late: f64,
    /// Messages from peers that this version does not know.
    pub messages_unknown: f64,
    /// Addresses that peers told and that cannot be dialed.
    pub addresses_implausible: f64,
    /// What was sent of replicas that there was no room for.
    pub replicas_refused: f64,
    /// Cells that had no room in their counter.
    pub cells_refused: f64,
    /// Connections that there was no room for.
    pub connections_refused: f64,
    /// Frames that were too long.
    pub frames_refused: f64,
    /// Frames that waited for long.
    pub frames_delayed: f64,
    /// Addresses of peers that were left out.
    pub addresses_refused: f64,
    /// Cells of replicas that were forgotten.
    pub cells_forgotten: f64,
    /// Entries of the operator that were not believed.
    pub entries_refused: f64,
    /// Connections that did not prove a key.
    pub strangers_refused: f64,
}

/// Which members are silent, and on which side this one is.
#[napi(object)]
pub struct CutOffReport {
    /// How many members there were.
    pub members: f64,
    /// How many of them are on this side.
    pub side: f64,
    /// Who is heard.
    pub heard: Vec<String>,
    /// Who is silent.
    pub suspected: Vec<String>,
    /// Since when, in milliseconds since 1970.
    pub since: f64,
}

/// How a limiter is doing, at one moment.
#[napi(object)]
pub struct StatusReport {
    /// Who it is.
    pub replica: String,
    /// Where it listens.
    pub address: Option<String>,
    /// Whether all is well.
    pub health: Health,
    /// Where a damaged database was put.
    pub set_aside: Option<String>,
    /// The peers.
    pub peers: Vec<PeerReport>,
    /// The fingerprints of the cluster keys in force.
    pub keys: Vec<String>,
    /// How many members the cluster has.
    pub cluster_size: f64,
    /// The cut that there is, if there is one.
    pub cut_off: Option<CutOffReport>,
    /// Whether it is ready to be asked.
    pub ready: bool,
    /// What it waits for, or does without.
    pub waiting_for: Vec<String>,
    /// What the operator said.
    pub operator: Vec<OperatorReport>,
    /// How many counters are held.
    pub counters: f64,
    /// What was rejected.
    pub rejections: Rejections,
    /// How far the system's clock is behind the latest time that was acted on, in milliseconds.
    pub clock_behind_ms: f64,
    /// Requests that no limit applied to.
    pub requests_unmatched: f64,
    /// Lines that were left out of the log.
    pub log_lines_dropped: f64,
    /// How often a thread stopped and was started again.
    pub thread_restarts: f64,
}

/// The peers.
#[napi]
pub fn peers(handle: u32) -> Result<Vec<PeerReport>> {
    guard(|| with(handle, |local| Ok(local.store().peers().into_iter().map(peer_report).collect())))
}

/// How the limiter is doing.
#[napi]
pub fn status(handle: u32) -> Result<StatusReport> {
    guard(|| with(handle, |local| Ok(status_report(local.store().status()))))
}

fn status_report(status: Status) -> StatusReport {
    let (health, rejections) = (status.health, status.rejections);
    StatusReport {
        replica: status.replica.to_string(),
        address: status.address.map(|address| address.to_string()),
        set_aside: status.set_aside.map(|path| path.display().to_string()),
        peers: status.peers.into_iter().map(peer_report).collect(),
        keys: status.keys,
        cluster_size: status.cluster_size as f64,
        cut_off: status.cut_off.map(cut_off_report),
        ready: status.ready,
        waiting_for: status.waiting_for,
        operator: status.operator.into_iter().map(operator_report).collect(),
        counters: status.counters as f64,
        rejections: Rejections {
            counters_refused: number(rejections.counters_refused),
            cells_implausible: number(rejections.cells_implausible),
            cells_late: number(rejections.cells_late),
            messages_unknown: number(rejections.messages_unknown),
            addresses_implausible: number(rejections.addresses_implausible),
            replicas_refused: number(rejections.replicas_refused),
            cells_refused: number(rejections.cells_refused),
            connections_refused: number(rejections.connections_refused),
            frames_refused: number(rejections.frames_refused),
            frames_delayed: number(rejections.frames_delayed),
            addresses_refused: number(rejections.addresses_refused),
            cells_forgotten: number(rejections.cells_forgotten),
            entries_refused: number(rejections.entries_refused),
            strangers_refused: number(rejections.strangers_refused),
        },
        clock_behind_ms: number(status.clock_behind_ms),
        requests_unmatched: number(status.requests_unmatched),
        log_lines_dropped: number(status.log_lines_dropped),
        thread_restarts: number(status.thread_restarts),
        health: Health {
            state: health.state.to_string(),
            durable: health.is_durable(),
            durability: health.durability.to_string(),
            reasons: health.reasons,
        },
    }
}

fn cut_off_report(cut: CutOff) -> CutOffReport {
    CutOffReport {
        members: cut.members as f64,
        side: cut.side as f64,
        heard: cut.heard,
        suspected: cut.suspected,
        since: number(cut.since.0),
    }
}

fn peer_report(peer: PeerStatus) -> PeerReport {
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    PeerReport {
        address: peer.address,
        source: peer.source.map(|source| source.to_string()),
        since: peer.since.map(|since| number(since.0)),
        replica: peer.replica.map(|replica| replica.to_string()),
        connected: peer.connected,
        absence: peer.absence.map(|absence| absence.to_string()),
        lag: number(peer.lag),
        clock_offset_ms: peer.clock_offset_ms.map(|offset| offset as f64),
        round_trip_ms: peer.round_trip.map(ms),
        different_limits: peer.different_limits,
        key: peer.key,
        last_heard_ms: peer.last_heard.map(ms),
    }
}
