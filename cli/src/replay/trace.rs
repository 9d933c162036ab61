//! A trace of tool calls, as CSV.

use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use tallymesh::Request;

/// One call of a trace.
#[derive(Debug, Deserialize)]
pub(super) struct Call {
    session: String,
    /// Kept as text: it is only ever compared.
    turn: String,
    tool: String,
}

impl Call {
    /// The call as a request, with every column a label.
    pub fn request(&self) -> Request<'_> {
        Request::tool_call(&self.session, &self.tool).with("turn", &self.turn)
    }
}

/// Reads a whole trace.
///
/// # Errors
/// When the file cannot be read, lacks a column, or has no call; with the file and the line.
pub(super) fn read(path: &Path) -> Result<Vec<Call>, Box<dyn Error>> {
    let path_shown = path.display();
    let file = File::open(path).map_err(|error| format!("trace {path_shown}: {error}"))?;
    Ok(parse(file).map_err(|error| format!("trace {path_shown}: {error}"))?)
}

fn parse(source: impl Read) -> Result<Vec<Call>, String> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::Headers).from_reader(source);
    let headers = reader.headers().map_err(|error| explain(&error))?;
    for column in ["session", "turn", "tool"] {
        if headers.iter().all(|header| header != column) {
            return Err(format!(
                "line 1: the column {column:?} is missing; expected the header session,turn,tool"
            ));
        }
    }
    let rows = reader.deserialize::<Call>().collect::<Result<Vec<_>, _>>();
    let calls = rows.map_err(|error| explain(&error))?;
    if calls.is_empty() {
        return Err("line 2: no calls; expected a row session,turn,tool for each call".into());
    }
    Ok(calls)
}

fn explain(error: &csv::Error) -> String {
    let Some(position) = error.position() else { return error.to_string() };
    let line = position.line();
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("line {line}: {len} fields; expected {expected_len}, as in the header")
        }
        csv::ErrorKind::Utf8 { .. } => format!("line {line}: not UTF-8; expected text in UTF-8"),
        _ => format!("line {line}: {error}; expected a session, a turn and a tool"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_becomes_a_label() {
        let calls = parse("tool,turn, session,more\nbook,03,s1,x\n".as_bytes()).unwrap();
        let request = calls[0].request();
        let labels = ["session", "turn", "tool"].map(|label| request.value(label));
        assert_eq!(labels, [Some("s1"), Some("03"), Some("book")]);
    }

    #[test]
    fn what_is_no_trace_is_refused_with_its_line() {
        for (text, expected) in [
            ("session,tool\ns1,book\n", ["line 1", "\"turn\""]),
            ("", ["line 1", "\"session\""]),
            ("session,turn,tool\n", ["line 2", "no calls"]),
            ("session,turn,tool\ns1,1,book\ns1,1\n", ["line 3", "2 fields; expected 3"]),
        ] {
            let message = parse(text.as_bytes()).unwrap_err();
            assert!(expected.iter().all(|part| message.contains(part)), "{message}");
        }
        let message = parse(&b"session,turn,tool\ns1,1,\xff\n"[..]).unwrap_err();
        assert!(message.contains("line 2") && message.contains("UTF-8"), "{message}");
    }
}
