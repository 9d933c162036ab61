//! What the operator reads of the gossip in the log, and how often.

use std::collections::BTreeMap;
use std::time::Duration;

use tallymesh_core::gossip::{HandshakeFailure, Report};
use tallymesh_core::wire::PROTOCOLS;

/// The same complaint is logged once in this time at most.
const SAY_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// The most complaints that are remembered: a peer that finds ever new ones to cause must not fill our memory.
const REMEMBERED_MAX: usize = 256;

/// Logs reports, each kind of complaint at a bounded rate.
#[derive(Debug, Default)]
pub(super) struct Reporter {
    said_at: BTreeMap<String, Duration>,
    unanswered: BTreeMap<String, Unanswered>,
}

/// What was not said yet of an address that does not answer.
#[derive(Debug)]
struct Unanswered {
    said_at: Duration,
    attempts_since: u32,
}

impl Reporter {
    pub(super) fn report(&mut self, now: Duration, report: &Report) {
        match report {
            Report::PeerUp { replica } => tracing::info!(%replica, "peer connected"),
            Report::PeerDown { replica } => tracing::info!(%replica, "peer gone"),
            Report::OwnAddress { address } => {
                tracing::debug!(address, "this address is our own");
            }
            Report::NoAnswer { address, error } => {
                if let Some(attempts) = self.attempts_to_report(now, address) {
                    tracing::warn!(address, error, attempts, "peer does not answer");
                }
            }
            Report::HandshakeFailed { dialed, reason } => {
                self.handshake_failed(now, dialed.as_deref(), *reason);
            }
            Report::NodeIdInUse { other } => self.error(
                now,
                &format!(
                    "another live process, {other}, uses our node id: a cloned data directory or a node.id given twice. \
                     The two do not count together; stop one of them and give it its own node.id and data_dir"
                ),
            ),
            Report::Refused { reason } => self.error(now, &format!("a peer refuses us: {reason:?}")),
            Report::OtherProtocol { protocols } => self.complain(
                now,
                &format!(
                    "a peer speaks versions {protocols:?} of the protocol, and this one {PROTOCOLS:?}: none in common"
                ),
            ),
            Report::LimitsDiffer { replica, limits } => self.complain(
                now,
                &format!(
                    "these limits say something else at {} than here, under the same names: {limits:?}. Each instance decides \
                     by its own, and where the window or `per` differs they do not count together",
                    replica.node
                ),
            ),
            Report::BadFrame { error, .. } => {
                self.complain(now, &format!("a connection was closed over its bytes: {error}"));
            }
            Report::Implausible { from, about, .. } => self.complain(
                now,
                &format!("{from} sent cells of {about} that cannot be true; they were dropped"),
            ),
            Report::ClockOffset { replica, offset_ms } => {
                let direction = if *offset_ms > 0 { "ahead of" } else { "behind" };
                let kind = format!("the clock of {replica} is {direction} ours");
                if self.is_due(now, &kind) {
                    tracing::warn!(%replica, offset_ms, "{kind}: windows will not roll over together");
                }
            }
        }
    }

    /// Logs a warning, unless the same one was logged just now.
    pub(super) fn complain(&mut self, now: Duration, complaint: &str) {
        if self.is_due(now, complaint) {
            tracing::warn!("{complaint}");
        }
    }

    fn error(&mut self, now: Duration, complaint: &str) {
        if self.is_due(now, complaint) {
            tracing::error!("{complaint}");
        }
    }

    fn handshake_failed(&mut self, now: Duration, dialed: Option<&str>, reason: HandshakeFailure) {
        let peer = match dialed {
            Some(address) => format!("the peer at {address}"),
            None => "a peer that connected to us".to_owned(),
        };
        let what = match reason {
            HandshakeFailure::TimedOut => {
                "did not introduce itself in time and was disconnected; is it a tallymesh node?"
            }
            HandshakeFailure::Closed => "closed the connection before it introduced itself",
            HandshakeFailure::TooManyLinks => {
                "was disconnected: there are as many connections as are allowed"
            }
            _ => "was disconnected before it introduced itself",
        };
        let complaint = format!("{peer} {what}");
        match (reason, dialed) {
            // A load balancer that probes the port does this all the time.
            (HandshakeFailure::Closed, None) if self.is_due(now, &complaint) => {
                tracing::info!("{complaint}");
            }
            (HandshakeFailure::Closed, None) => {}
            _ => self.complain(now, &complaint),
        }
    }

    /// How many attempts to reach an address to report as failed now; `None` if it was reported just now.
    fn attempts_to_report(&mut self, now: Duration, address: &str) -> Option<u32> {
        // An address that is still ours to dial is tried again within seconds.
        self.unanswered.retain(|_, known| now.saturating_sub(known.said_at) < 2 * SAY_AGAIN_AFTER);
        let is_full = self.unanswered.len() >= REMEMBERED_MAX;
        match self.unanswered.get_mut(address) {
            Some(known) => {
                known.attempts_since += 1;
                if now.saturating_sub(known.said_at) < SAY_AGAIN_AFTER {
                    return None;
                }
                known.said_at = now;
                Some(std::mem::take(&mut known.attempts_since))
            }
            None if is_full => None,
            None => {
                let known = Unanswered { said_at: now, attempts_since: 0 };
                self.unanswered.insert(address.to_owned(), known);
                Some(1)
            }
        }
    }

    fn is_due(&mut self, now: Duration, what: &str) -> bool {
        self.said_at.retain(|_, at| now.saturating_sub(*at) < SAY_AGAIN_AFTER);
        if self.said_at.contains_key(what) || self.said_at.len() >= REMEMBERED_MAX {
            return false;
        }
        self.said_at.insert(what.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use tallymesh_core::id::{Incarnation, ReplicaId};
    use tracing_subscriber::EnvFilter;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What an operator reads at the program's default level, when these are reported one second after the other.
    fn log_of(reports: impl IntoIterator<Item = Report>) -> Vec<String> {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new("warn,tallymesh=info"))
            .with_ansi(false)
            .without_time()
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let mut reporter = Reporter::default();
            for (second, report) in reports.into_iter().enumerate() {
                reporter.report(Duration::from_secs(second as u64), &report);
            }
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| line.trim().replace("tallymesh::runtime::log: ", "")).collect()
    }

    fn handshake_failed(dialed: Option<&str>, reason: HandshakeFailure) -> Report {
        Report::HandshakeFailed { dialed: dialed.map(str::to_owned), reason }
    }

    #[test]
    fn a_peer_that_comes_and_goes_is_seen_at_the_default_level() {
        let incarnation = Incarnation { boot: 1, nonce: 2 };
        let replica = ReplicaId { node: "b".parse().unwrap(), incarnation };
        let name = replica.to_string();
        let up = Report::PeerUp { replica: replica.clone() };
        assert_eq!(log_of([up.clone()]), [format!("INFO peer connected replica={name}")]);
        let down = Report::PeerDown { replica };
        assert_eq!(log_of([down, up]).len(), 2);
        assert!(log_of([Report::OwnAddress { address: "a:1".to_owned() }]).is_empty());
    }

    #[test]
    fn an_address_that_does_not_answer_is_named_with_the_systems_error_and_the_attempts_since() {
        let no_answer = |address: &str| Report::NoAnswer {
            address: address.to_owned(),
            error: "Connection refused (os error 111)".to_owned(),
        };
        let lines = log_of(std::iter::repeat_n(no_answer("10.0.0.2:7946"), 62));
        let line = |attempts| {
            format!(
                "WARN peer does not answer address=\"10.0.0.2:7946\" error=\"Connection refused (os error 111)\" \
                 attempts={attempts}"
            )
        };
        assert_eq!(lines, [line(1), line(30), line(30)]);
        assert_eq!(log_of([no_answer("10.0.0.2:1"), no_answer("10.0.0.3:1")]).len(), 2);
    }

    #[test]
    fn a_handshake_that_fails_is_logged_with_its_reason_and_its_address() {
        use HandshakeFailure::{Closed, TimedOut, TooManyLinks};
        for (dialed, reason, expected) in [
            (Some("b:1"), TimedOut, "WARN the peer at b:1 did not introduce itself in time"),
            (None, TimedOut, "WARN a peer that connected to us did not introduce itself in time"),
            (Some("b:1"), Closed, "WARN the peer at b:1 closed the connection before"),
            (None, Closed, "INFO a peer that connected to us closed the connection before"),
            (None, TooManyLinks, "WARN a peer that connected to us was disconnected: there are as"),
        ] {
            let lines = log_of(std::iter::repeat_n(handshake_failed(dialed, reason), 31));
            assert_eq!(lines.len(), 2, "once in 30 seconds: {lines:?}");
            assert!(lines.iter().all(|line| line.starts_with(expected)), "{lines:?}");
        }
    }

    #[test]
    fn a_complaint_is_repeated_only_after_a_while() {
        let mut reporter = Reporter::default();
        assert!(reporter.is_due(Duration::ZERO, "a"));
        assert!(!reporter.is_due(Duration::from_secs(29), "a"));
        assert!(reporter.is_due(Duration::from_secs(29), "b"));
        assert!(reporter.is_due(Duration::from_secs(31), "a"));
    }
}
