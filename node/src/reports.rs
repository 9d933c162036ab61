//! What operators look at: counters, peers, health.

use std::time::Duration;

use napi::Result;
use napi::bindgen_prelude::BigInt;
use napi_derive::napi;
use tallymesh::{CounterState, PeerStatus};

use crate::decisions::number;
use crate::error::guard;
use crate::limiters::with;

/// One counter as it stands.
#[napi(object)]
pub struct CounterReport {
    /// The name of the limit that counts in it.
    pub limit: String,
    /// The values of the labels that it is counted apart for.
    pub values: Vec<String>,
    /// When its window began, in milliseconds since 1970.
    pub window_start: Option<f64>,
    /// How long its window is, in milliseconds.
    pub window_ms: Option<f64>,
    /// Its value.
    pub value: BigInt,
    /// When it ends, in milliseconds since 1970.
    pub expires_at: f64,
}

/// One peer, as of the last round.
#[napi(object)]
pub struct PeerReport {
    /// The address from the config.
    pub address: Option<String>,
    /// Who it is.
    pub replica: Option<String>,
    /// Whether a link to it is up.
    pub connected: bool,
    /// How many of our own updates it has not confirmed.
    pub lag: f64,
    /// Its clock minus ours, in milliseconds.
    pub clock_offset_ms: Option<f64>,
    /// How long a message there and back took last, in milliseconds.
    pub round_trip_ms: Option<f64>,
    /// The limits of ours that say something else there.
    pub different_limits: Vec<String>,
    /// How long ago it was last heard, in milliseconds.
    pub last_heard_ms: Option<f64>,
}

/// Whether counts reach the disk, and what went wrong since the start.
#[napi(object)]
pub struct HealthReport {
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
    /// How many counters are held.
    pub counters: f64,
    /// Counters that were needed and not made.
    pub counters_refused: f64,
    /// Cells from peers that were not believed.
    pub cells_implausible: f64,
    /// Cells from peers that came too late.
    pub cells_late: f64,
    /// Messages from peers that this version does not know.
    pub messages_unknown: f64,
}

/// Every counter that has not ended.
#[napi]
pub fn counters(handle: u32) -> Result<Vec<CounterReport>> {
    guard(|| with(handle, |local| Ok(local.store().iter().map(counter_report).collect())))
}

/// The peers.
#[napi]
pub fn peers(handle: u32) -> Result<Vec<PeerReport>> {
    guard(|| with(handle, |local| Ok(local.store().peers().into_iter().map(peer_report).collect())))
}

/// How the limiter is.
#[napi]
pub fn health(handle: u32) -> Result<HealthReport> {
    guard(|| {
        with(handle, |local| {
            let status = local.store().status();
            let health = status.health;
            Ok(HealthReport {
                state: health.state.to_string(),
                durable: health.is_durable(),
                durability: health.durability.to_string(),
                reasons: health.reasons,
                counters: status.counters as f64,
                counters_refused: number(status.rejections.counters_refused),
                cells_implausible: number(status.rejections.cells_implausible),
                cells_late: number(status.rejections.cells_late),
                messages_unknown: number(status.rejections.messages_unknown),
            })
        })
    })
}

fn counter_report(state: CounterState) -> CounterReport {
    let window = state.key.window();
    CounterReport {
        limit: state.key.limit().to_owned(),
        values: state.key.values().map(str::to_owned).collect(),
        window_start: window.map(|window| number(window.start().0)),
        window_ms: window.map(|window| window.length().as_millis() as f64),
        value: state.value.into(),
        expires_at: number(state.expires_at.0),
    }
}

fn peer_report(peer: PeerStatus) -> PeerReport {
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    PeerReport {
        address: peer.address,
        replica: peer.replica.map(|replica| replica.to_string()),
        connected: peer.connected,
        lag: number(peer.lag),
        clock_offset_ms: peer.clock_offset_ms.map(|offset| offset as f64),
        round_trip_ms: peer.round_trip.map(ms),
        different_limits: peer.different_limits,
        last_heard_ms: peer.last_heard.map(ms),
    }
}
