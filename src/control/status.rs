//! The status as JSON: every number, every member, and each bound with what to do about it.

use serde_json::{Value, json};

use crate::runtime::BoundReport;
use crate::status::{Health, Status};
use tallymesh_core::gossip::PeerStatus;
use tallymesh_core::table::{EntryStatus, Rejections};
use tallymesh_core::time::Timestamp;

/// The answer. It names each field, so that one that is added to the status is not forgotten here.
pub(super) fn json(
    status: &Status,
    bounds: &[BoundReport],
    (cluster, now): (&str, Timestamp),
) -> Value {
    let Status {
        replica,
        address,
        health: Health { state, durability, reasons },
        set_aside,
        peers,
        keys,
        cluster_size,
        cut_off,
        ready,
        waiting_for,
        counters,
        rejections,
        clock_behind_ms,
        requests_unmatched,
        log_lines_dropped,
        thread_restarts,
        operator,
    } = status;
    json!({
        "replica": replica.to_string(),
        "cluster": cluster,
        "now_unix_ms": now.0,
        "address": address.map(|address| address.to_string()),
        "state": state.to_string(),
        "durability": durability.to_string(),
        "reasons": reasons,
        "set_aside": set_aside,
        "members": peers.iter().map(peer).collect::<Vec<_>>(),
        "keys": keys,
        "cluster_size": cluster_size,
        "cut_off": cut_off.as_ref().map(|cut| json!({
            "members": cut.members,
            "side": cut.side,
            "heard": cut.heard,
            "suspected": cut.suspected,
            "since": cut.since.to_string(),
        })),
        "ready": ready,
        "waiting_for": waiting_for,
        "counters": counters,
        "rejections": rejected(rejections),
        "bounds": bounds.iter().map(bound).collect::<Vec<_>>(),
        "clock_behind_ms": clock_behind_ms,
        "requests_unmatched": requests_unmatched,
        "log_lines_dropped": log_lines_dropped,
        "thread_restarts": thread_restarts,
        "operator": operator.iter().map(entry).collect::<Vec<_>>(),
    })
}

fn peer(peer: &PeerStatus) -> Value {
    json!({
        "address": peer.address,
        "replica": peer.replica.as_ref().map(ToString::to_string),
        "source": peer.source.map(|source| source.to_string()),
        "since": peer.since.map(|since| since.to_string()),
        "connected": peer.connected,
        "absence": peer.absence.map(|absence| absence.to_string()),
        "lag": peer.lag,
        "clock_offset_ms": peer.clock_offset_ms,
        "different_limits": peer.different_limits,
        "key": peer.key,
        "round_trip_us": peer.round_trip.map(|time| time.as_micros() as u64),
        "last_heard_ms": peer.last_heard.map(|time| time.as_millis() as u64),
    })
}

/// What the operator said, as it stands.
pub(super) fn entry(entry: &EntryStatus) -> Value {
    json!({
        "action": entry.action,
        "subject": entry.subject,
        "at_unix_ms": entry.at.0,
        "until_unix_ms": entry.until.0,
        "is_told": entry.is_told,
        "is_in_force": entry.is_in_force,
        "progress": entry.progress,
    })
}

fn rejected(rejections: &Rejections) -> Value {
    json!({
        "cells_implausible": rejections.cells_implausible,
        "cells_late": rejections.cells_late,
        "messages_unknown": rejections.messages_unknown,
        "addresses_implausible": rejections.addresses_implausible,
        "strangers_refused": rejections.strangers_refused,
        "counters_refused": rejections.counters_refused,
        "replicas_refused": rejections.replicas_refused,
        "cells_refused": rejections.cells_refused,
        "connections_refused": rejections.connections_refused,
        "frames_refused": rejections.frames_refused,
        "frames_delayed": rejections.frames_delayed,
        "addresses_refused": rejections.addresses_refused,
        "cells_forgotten": rejections.cells_forgotten,
        "entries_refused": rejections.entries_refused,
    })
}

fn bound(bound: &BoundReport) -> Value {
    json!({
        "name": bound.name,
        "held": bound.held,
        "max": bound.max,
        "refused": bound.refused,
        "what_to_do": bound.what_to_do,
    })
}
