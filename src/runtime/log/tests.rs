//! What an operator reads, and how often.

use std::io::Write;
use std::sync::{Arc, Mutex};

use tallymesh_core::id::{Incarnation, ReplicaId};
use tracing_subscriber::EnvFilter;

use super::*;
use crate::runtime::clock_watch::ClockWatch;

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
    log_by(|reporter| {
        for (second, report) in reports.into_iter().enumerate() {
            reporter.report(Duration::from_secs(second as u64), &Cause::Own, &report);
        }
    })
}

fn log_by(report: impl FnOnce(&mut Reporter)) -> Vec<String> {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("warn,tallymesh=info"))
        .with_ansi(false)
        .without_time()
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || report(&mut Reporter::default()));
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
fn a_partition_and_its_end_are_warned_of_at_a_bounded_rate() {
    let replica = |boot| ReplicaId {
        node: "b".parse().unwrap(),
        incarnation: Incarnation { boot, nonce: 2 },
    };
    let lost = |boot| Report::PeerLost {
        replica: replica(boot),
        silent_for: Duration::from_micros(5_000_400),
        connected: 0,
    };
    let back = |boot| Report::PeerBack { replica: replica(boot), away: Duration::from_secs(9) };
    let lines = log_of([lost(1), back(1)]);
    let begins = ["WARN peer lost: it crashed, hangs, or the network is cut", "WARN peer is back"];
    for (line, begin) in lines.iter().zip(begins) {
        assert!(line.starts_with(begin), "{line}");
    }
    assert!(lines[0].contains("silent_for=5s connected=0"), "{}", lines[0]);
    assert!(lines[1].contains("away=9s"), "{}", lines[1]);
    let crashes = (1..=31).flat_map(|boot| [lost(boot), back(boot)]);
    assert_eq!(log_of(crashes).len(), 2 * 3, "61 seconds of crashes of one peer");
}

#[test]
fn a_name_that_is_not_resolved_is_warned_of_again_and_again() {
    let (name, error) = ("not-yet.invalid:1".to_owned(), "no such host".to_owned());
    let trouble = Trouble::Unresolved { name, error };
    let lines = log_by(|reporter| {
        (0..62).for_each(|second| reporter.trouble(Duration::from_secs(second), &trouble));
    });
    let line = "WARN this peer's name cannot be looked up peer=\"not-yet.invalid:1\" error=\"no such host\"";
    assert_eq!(lines, [line; 3]);
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
fn an_empty_slot_is_no_warning_and_one_that_was_lost_is() {
    let empty = ("127.0.0.1:2", PeerAbsence::Unanswered);
    let log = |absent: &[(&str, PeerAbsence)]| {
        log_by(|reporter| {
            *reporter = Reporter::new(["127.0.0.1:2".to_owned()].into());
            let (address, error) = ("127.0.0.1:2".to_owned(), "refused".to_owned());
            reporter.report(Duration::ZERO, &Cause::Own, &Report::NoAnswer { address, error });
            reporter.opened_without(Duration::ZERO, absent.to_vec());
        })
    };
    assert_eq!(log(&[empty]), Vec::<String>::new());
    let [line] = &log(&[empty, ("127.0.0.1:2", PeerAbsence::Lost)])[..] else { panic!("a line") };
    assert!(line.ends_with("missing 127.0.0.1:2 (it was lost)"), "{line}");
    let [line] = &log(&[empty, ("127.0.0.1:9", PeerAbsence::Unanswered)])[..] else {
        panic!("a line")
    };
    assert!(line.ends_with("missing 127.0.0.1:9 (it has not answered)"), "{line}");
}

#[test]
fn a_handshake_that_fails_is_logged_with_its_reason_and_its_address() {
    use HandshakeFailure::{Closed, PushedOut, TimedOut};
    for (dialed, reason, expected) in [
        (Some("b:1"), TimedOut, "WARN the peer at b:1 did not introduce itself in time"),
        (None, TimedOut, "WARN a peer that connected to us did not introduce itself in time"),
        (None, PushedOut, "WARN a peer that connected to us had not introduced itself when others"),
        (Some("b:1"), Closed, "WARN the peer at b:1 closed the connection before"),
        (None, Closed, "INFO a peer that connected to us closed the connection before"),
    ] {
        let lines = log_of(std::iter::repeat_n(handshake_failed(dialed, reason), 31));
        assert_eq!(lines.len(), 2, "once in 30 seconds: {lines:?}");
        assert!(lines.iter().all(|line| line.starts_with(expected)), "{lines:?}");
    }
}

#[test]
fn a_bound_is_warned_of_once_in_a_while_with_what_to_do_and_blames_no_peer() {
    let of_gossip = |bound: &Bound| *bound != Bound::Counters;
    for bound in Bound::ALL.into_iter().filter(of_gossip) {
        let lines = log_of(std::iter::repeat_n(Report::BoundReached { bound }, 31));
        assert_eq!(lines, [format!("WARN {}", words(bound)), format!("WARN {}", words(bound))]);
    }
    for (reason, part) in [
        (CloseReason::Full, "as many connections as it allows"),
        (CloseReason::FrameTooLong, "longer than it allows"),
    ] {
        let lines = log_of([Report::Refused { reason }]);
        assert!(lines[0].starts_with("WARN ") && lines[0].contains(part), "{lines:?}");
    }
}

#[test]
fn a_clock_that_is_behind_is_said_when_it_begins_and_when_it_ends() {
    let behind = [0, 999, 90_000, 86_000, 500, 0, 0, 3_000].map(Duration::from_millis);
    let lines = log_by(|_| {
        let mut watch = ClockWatch::default();
        behind.into_iter().for_each(|behind| watch.look(behind));
    });
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines.iter().all(|line| line.starts_with("WARN ")), "{lines:?}");
    assert!(
        lines[0].contains("the system clock is behind the latest")
            && lines[0].contains("behind=1m 30s")
    );
    assert!(lines[0].contains("tallymesh clock DIR --lower"), "the way out is told");
    assert!(lines[1].contains("the system clock has caught up"), "{lines:?}");
    assert!(lines[2].contains("behind=3s"), "{lines:?}");
}

#[test]
fn a_complaint_is_repeated_only_after_a_while() {
    let mut reporter = Reporter::default();
    assert!(reporter.is_due((Duration::ZERO, &Cause::Own), "a"));
    assert!(!reporter.is_due((Duration::from_secs(29), &Cause::Own), "a"));
    assert!(reporter.is_due((Duration::from_secs(29), &Cause::Own), "b"));
    assert!(reporter.is_due((Duration::from_secs(31), &Cause::Own), "a"));
}

#[test]
fn who_holds_counts_that_were_never_given_out_is_named_once_in_a_while() {
    let replica =
        ReplicaId { node: "b".parse().unwrap(), incarnation: Incarnation { boot: 1, nonce: 2 } };
    let report = |found| Report::NeverGivenOut {
        from: replica.clone(),
        found: tallymesh_core::id::Version(found),
    };
    let lines = log_of([report(7), report(8)]);
    assert_eq!(lines.len(), 1);
    assert!(lines[0].starts_with("WARN b#1.") && lines[0].contains("never gave out"), "{lines:?}");
}
