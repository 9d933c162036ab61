//! What the operator reads of the gossip in the log.

use std::collections::BTreeMap;
use std::time::Duration;

use tallymesh_core::gossip::Report;

/// The same complaint is logged once in this time at most.
const SAY_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// Logs reports, each kind of complaint at a bounded rate.
#[derive(Debug, Default)]
pub(super) struct Reporter {
    said_at: BTreeMap<String, Duration>,
}

impl Reporter {
    pub fn report(&mut self, now: Duration, report: &Report) {
        let complaint = match report {
            Report::PeerUp { replica } => return tracing::info!(%replica, "peer connected"),
            Report::PeerDown { replica } => return tracing::info!(%replica, "peer gone"),
            Report::OwnAddress { address } => {
                return tracing::debug!(address, "this address is our own");
            }
            Report::NodeIdInUse { other } => format!(
                "another live process, {other}, goes by our node id: a cloned data directory or a node.id given twice. \
                 The two do not count together; stop one of them and give it its own node.id and data_dir"
            ),
            Report::Refused { reason } => format!("a peer refuses us: {reason:?}"),
            Report::OtherProtocol { protocol } => {
                format!(
                    "a peer speaks version {protocol} of the protocol, which this version cannot"
                )
            }
            Report::BadFrame { error, .. } => {
                format!("a connection was closed over its bytes: {error}")
            }
            Report::Implausible { from, about, .. } => {
                format!("{from} sent cells of {about} that cannot be true; they were dropped")
            }
            Report::ClockOffset { replica, offset_ms } => {
                let direction = if *offset_ms > 0 { "ahead of" } else { "behind" };
                let kind = format!("the clock of {replica} is {direction} ours");
                if self.is_due(now, &kind) {
                    tracing::warn!(%replica, offset_ms, "{kind}: windows will not roll over together");
                }
                return;
            }
        };
        if self.is_due(now, &complaint) {
            match report {
                Report::NodeIdInUse { .. } | Report::Refused { .. } => {
                    tracing::error!("{complaint}")
                }
                _ => tracing::warn!("{complaint}"),
            }
        }
    }

    /// Like a report, for what the shell itself has to complain of.
    pub fn complain(&mut self, now: Duration, complaint: &str) {
        if self.is_due(now, complaint) {
            tracing::warn!("{complaint}");
        }
    }

    fn is_due(&mut self, now: Duration, what: &str) -> bool {
        self.said_at.retain(|_, at| now.saturating_sub(*at) < SAY_AGAIN_AFTER);
        // A peer that finds ever new things to be complained of must not fill our memory.
        if self.said_at.contains_key(what) || self.said_at.len() >= 256 {
            return false;
        }
        self.said_at.insert(what.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_repeated_only_after_a_while() {
        let mut reporter = Reporter::default();
        assert!(reporter.is_due(Duration::ZERO, "a"));
        assert!(!reporter.is_due(Duration::from_secs(29), "a"));
        assert!(reporter.is_due(Duration::from_secs(29), "b"));
        assert!(reporter.is_due(Duration::from_secs(31), "a"));
    }
}
