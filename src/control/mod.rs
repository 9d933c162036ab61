//! What operators ask a running node, and what it answers: the verbs behind the control socket.
//!
//! A line is a request, a line its answer, both one JSON object; `docs/operating/control.md` lists them. What is asked is carried out a few
//! slots at a time, by what the public API has too: nothing here decides anything.

mod counters;
mod request;
mod status;

use std::sync::{Arc, Weak};

use serde_json::{Value, json};

use crate::engine::Engine;
use crate::runtime::{Answer, Answers, CONNECTIONS_MAX, LINE_BYTES_MAX, NoLine, OpenError};
use crate::status::Status;
use request::{Refusal, Request};
use tallymesh_core::operator::{EntryError, OperatorEntry};
use tallymesh_core::time::Timestamp;

/// The version of the protocol, in each request and answer. What is added keeps it; what an older client would misread does not.
const VERSION: u64 = 1;

/// Serves the control socket of an instance, if it has one.
///
/// # Errors
/// When there is no thread to be had.
pub(crate) fn serve(engine: &Arc<Engine>) -> Result<(), OpenError> {
    match &engine.runtime().control {
        // Weak, since the instance ends with its last handle, not with the socket.
        Some(socket) => socket.serve(Arc::new(Verbs { engine: Arc::downgrade(engine) })),
        None => Ok(()),
    }
}

/// Answers for an instance.
struct Verbs {
    engine: Weak<Engine>,
}

impl Answers for Verbs {
    fn answer(&self, asked: Result<String, NoLine>) -> Answer {
        let engine = self.engine.clone();
        Box::pin(async move {
            let request = asked.map_err(of_no_line).and_then(|line| Request::parse(&line));
            let answer = match request {
                Ok(request) => carry_out(&engine, request).await,
                Err(refusal) => Err(refusal),
            };
            let answer = match answer {
                Ok(answer) => json!({ "v": VERSION, "ok": answer }),
                Err(Refusal { kind, message }) => {
                    json!({ "v": VERSION, "error": { "kind": kind, "message": message } })
                }
            };
            answer.to_string()
        })
    }
}

async fn carry_out(engine: &Weak<Engine>, request: Request) -> Result<Value, Refusal> {
    // Held for a moment only: an instance whose last handle is dropped ends.
    let held = || engine.upgrade().ok_or_else(|| Refusal::new("closed", "the node has closed"));
    match request {
        Request::Status => {
            let engine = held()?;
            let status = Status::of(engine.runtime(), engine.requests_unmatched());
            let about = (engine.cluster(), engine.now());
            Ok(status::json(&status, &engine.runtime().bounds(), about))
        }
        Request::Counters { selection, order, max, after } => {
            let engine = held()?;
            let page = engine.page(&selection, order, max, after);
            Ok(counters::page(&page, engine.table().len()))
        }
        Request::Explain { selection, max, after } => {
            Ok(counters::explanation(&held()?.explain(&selection, max, after)))
        }
        Request::Quarantine { node, term } => {
            let engine = held()?;
            let give = |now| engine.give_entry(OperatorEntry::quarantine(&node, now, term), None);
            said(&engine, node.as_str(), |now| give(now).map(drop))
        }
        Request::Release { node } => {
            let engine = held()?;
            let give = |now| engine.give_entry(OperatorEntry::release(&node, now), None);
            said(&engine, node.as_str(), |now| give(now).map(drop))
        }
        Request::Forget { replica } => {
            let engine = held()?;
            let give = |now| engine.give_entry(OperatorEntry::forget(&replica, now), None);
            said(&engine, &replica.to_string(), |now| give(now).map(drop))
        }
        Request::Take { entry } => {
            let engine = held()?;
            let subject = entry.subject().to_owned();
            said(&engine, &subject, |_| engine.take_entry(*entry).map(drop))
        }
        Request::Reset { selection } => {
            let (mut resets, mut next) = (0, None);
            loop {
                let page = held()?.reset_page(&selection, next);
                let page = page.map_err(|error| Refusal::new("closed", error.to_string()))?;
                resets += page.resets;
                next = page.next;
                if next.is_none() {
                    return Ok(json!({ "reset": resets }));
                }
                // Others are answered between two pages.
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Has the entry taken, and answers how it stands.
fn said(
    engine: &Engine,
    subject: &str,
    taken: impl FnOnce(Timestamp) -> Result<(), EntryError>,
) -> Result<Value, Refusal> {
    taken(engine.now()).map_err(|error| Refusal::new("operator", error.to_string()))?;
    let standing = Status::of(engine.runtime(), engine.requests_unmatched()).operator;
    let entries = standing.iter().filter(|entry| entry.subject == subject);
    Ok(json!({ "operator": entries.map(status::entry).collect::<Vec<_>>() }))
}

fn of_no_line(why: NoLine) -> Refusal {
    let kind = "line";
    match why {
        NoLine::TooLong => Refusal::new(
            kind,
            format!("a line has at most {LINE_BYTES_MAX} bytes; this connection ends"),
        ),
        NoLine::TooSlow => {
            Refusal::new(kind, "the line did not come in time; this connection ends")
        }
        NoLine::NotText => Refusal::new(kind, "a line is UTF-8; this connection ends"),
        NoLine::Busy => Refusal::new(
            "busy",
            format!(
                "{CONNECTIONS_MAX} connections are served at once, and there are as many: try again"
            ),
        ),
    }
}
