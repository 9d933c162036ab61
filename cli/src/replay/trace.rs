//! A trace of tool calls, as CSV.

use std::error::Error;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use csv::StringRecord;
use tallymesh::Request;

use super::limits::Limits;
use super::moment::Moment;

/// Calls in the order in which they were made.
#[derive(Debug)]
pub(super) struct Trace {
    labels: Vec<String>,
    calls: Vec<Call>,
    /// Whether it says when each call was made.
    pub has_times: bool,
}

/// One call of a trace.
#[derive(Debug)]
pub(super) struct Call {
    /// For each label of the trace, its value; `None` if the field is empty.
    values: Vec<Option<String>>,
    /// What it costs.
    pub cost: u64,
    /// How long after the first call it was made; 0 in a trace without times.
    pub after: Duration,
}

/// What a column holds.
enum Column {
    Label,
    Cost,
    Time,
    Ignored,
}

/// Columns that a trace may have whatever the limits look at.
const USUAL: [&str; 3] = ["session", "turn", "tool"];
const TIME: &str = "time";
const COST: &str = "cost";

/// The most bytes of a call's labels, so that a counter's key has room for them.
const LABEL_BYTES_MAX: usize = 7000;

impl Trace {
    /// The calls, in order.
    pub fn calls(&self) -> &[Call] {
        &self.calls
    }

    /// How many labels a call may have.
    pub fn labels_count(&self) -> usize {
        self.labels.len()
    }

    /// A call as a request.
    pub fn request<'a>(&'a self, call: &'a Call) -> Request<'a> {
        let labels = self.labels.iter().zip(&call.values);
        labels.fold(Request::new().cost(call.cost), |request, (label, value)| match value {
            Some(value) => request.with(label, value),
            None => request,
        })
    }

    /// A call's session, if it has one.
    pub fn session<'a>(&'a self, call: &'a Call) -> Option<&'a str> {
        let index = self.labels.iter().position(|label| label == "session")?;
        call.values.get(index)?.as_deref()
    }

    /// Whether there is a column of this label.
    pub fn has_label(&self, label: &str) -> bool {
        self.labels.iter().any(|held| held == label)
    }

    /// From the first call to the last.
    pub fn span(&self) -> Duration {
        self.calls.last().map_or(Duration::ZERO, |call| call.after)
    }
}

/// Reads a whole trace; `-` is standard input. Columns to be ignored are named.
///
/// # Errors
/// When the file cannot be read, has a column that is not known, lacks one that a limit counts by, or has no call; with the
/// file and the line.
pub(super) fn read(
    path: &Path,
    limits: &Limits,
    ignored: &[String],
) -> Result<Trace, Box<dyn Error>> {
    let path_shown = path.display();
    let in_file = |error: &dyn std::fmt::Display| format!("trace {path_shown}: {error}");
    let source: Box<dyn Read> = match path == Path::new("-") {
        true => Box::new(io::stdin()),
        false => Box::new(File::open(path).map_err(|error| in_file(&error))?),
    };
    Ok(parse(source, limits, ignored).map_err(|error| in_file(&error))?)
}

fn parse(source: impl Read, limits: &Limits, ignored: &[String]) -> Result<Trace, String> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::Headers).from_reader(source);
    let headers = reader.headers().map_err(|error| explain(&error))?.clone();
    let columns = columns(&headers, limits, ignored).map_err(|why| format!("line 1: {why}"))?;
    let mut rows = Vec::new();
    let mut first: Option<(Moment, u64)> = None;
    for row in reader.records() {
        let row = row.map_err(|error| explain(&error))?;
        let line = row.position().map_or(0, csv::Position::line);
        let (call, moment) = call(&row, &columns).map_err(|why| format!("line {line}: {why}"))?;
        if let Some(moment) = moment {
            let (of_first, first_line) = *first.get_or_insert((moment, line));
            if of_first.form != moment.form {
                return Err(format!(
                    "line {line}: the time is written in another form than in line {first_line}"
                ));
            }
        }
        rows.push((moment.map_or(0.0, |moment| moment.seconds), call));
    }
    if rows.is_empty() {
        return Err("line 2: no calls; expected a row for each call".into());
    }
    Ok(Trace {
        labels: labels(&headers, &columns),
        calls: in_order(rows)?,
        has_times: first.is_some(),
    })
}

/// Sorts the calls by their times, and those of one time as they are written.
fn in_order(mut rows: Vec<(f64, Call)>) -> Result<Vec<Call>, String> {
    rows.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    let first = rows.first().map_or(0.0, |(seconds, _)| *seconds);
    let after = |(seconds, call): (f64, Call)| {
        let after = Duration::try_from_secs_f64(seconds - first)
            .map_err(|_| "the times are too far apart".to_owned())?;
        Ok(Call { after, ..call })
    };
    rows.into_iter().map(after).collect()
}

/// What each column holds.
fn columns(
    headers: &StringRecord,
    limits: &Limits,
    ignored: &[String],
) -> Result<Vec<Column>, String> {
    let mut unknown = Vec::new();
    let mut columns = Vec::new();
    for (index, header) in headers.iter().enumerate() {
        if headers.iter().take(index).any(|earlier| earlier == header) {
            return Err(format!("the column {header:?} is there twice"));
        }
        columns.push(match header {
            _ if ignored.iter().any(|ignored| ignored == header) => Column::Ignored,
            TIME => Column::Time,
            COST => Column::Cost,
            _ if USUAL.contains(&header) || limits.look_at(header) => Column::Label,
            _ => {
                unknown.push(header);
                Column::Ignored
            }
        });
    }
    let mut complaints = Vec::new();
    let is_there = |column: &str| headers.iter().any(|header| header == column);
    if let Some(missing) = ignored.iter().find(|ignored| !is_there(ignored)) {
        complaints.push(format!("there is no column {missing:?} to ignore"));
    }
    let labels = labels(headers, &columns);
    if let Some((label, limit)) = limits.missing(&labels) {
        complaints
            .push(format!("the column {label:?} is missing, by which the limit {limit:?} counts"));
    }
    if !unknown.is_empty() {
        let shown = unknown.iter().map(|header| format!("{header:?}")).collect::<Vec<_>>();
        let mut known: Vec<&str> = USUAL.into_iter().chain([TIME, COST]).collect();
        known.extend(limits.labels().filter(|label| !USUAL.contains(label)));
        complaints.push(format!(
            "unknown: {}; known are {}, which are the labels that the limits look at and the usual ones; \
             --ignore leaves a column out",
            shown.join(", "),
            known.join(", ")
        ));
    }
    match complaints.is_empty() {
        true => Ok(columns),
        false => Err(complaints.join("; ")),
    }
}

/// The names of the columns that are labels.
fn labels(headers: &StringRecord, columns: &[Column]) -> Vec<String> {
    let columns = headers.iter().zip(columns);
    let labels = columns.filter(|(_, column)| matches!(column, Column::Label));
    labels.map(|(header, _)| header.to_owned()).collect()
}

/// The call of a row, and when it was made.
fn call(row: &StringRecord, columns: &[Column]) -> Result<(Call, Option<Moment>), String> {
    let mut call = Call { values: Vec::new(), cost: 1, after: Duration::ZERO };
    let mut moment = None;
    for (field, column) in row.iter().zip(columns) {
        match column {
            Column::Ignored => {}
            Column::Label => call.values.push((!field.is_empty()).then(|| field.to_owned())),
            Column::Time => moment = Some(Moment::parse(field)?),
            Column::Cost if field.trim().is_empty() => {}
            Column::Cost => {
                call.cost = field.trim().parse().map_err(|_| {
                    format!(
                        "cost {field:?} is not a whole number of at least 0; count in a smaller unit, such as cents"
                    )
                })?;
            }
        }
    }
    let bytes: usize = call.values.iter().flatten().map(String::len).sum();
    match bytes <= LABEL_BYTES_MAX {
        true => Ok((call, moment)),
        false => Err(format!("labels of {bytes} bytes; allowed are {LABEL_BYTES_MAX} in a call")),
    }
}

fn explain(error: &csv::Error) -> String {
    let Some(position) = error.position() else { return error.to_string() };
    let line = position.line();
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("line {line}: {len} fields; expected {expected_len}, as in the header")
        }
        csv::ErrorKind::Utf8 { .. } => format!("line {line}: not UTF-8; expected text in UTF-8"),
        _ => format!("line {line}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PER_USER: &str = "[[limit]]\nname = \"per user\"\nper = [\"user\"]\nwhen = { model = \"*\" }\nmax = 1\nwindow = \"1h\"\n";

    fn usual(text: &str) -> Result<Trace, String> {
        parse(text.as_bytes(), &Limits::usual(), &[])
    }

    /// The labels and the cost of each call.
    fn shown(trace: &Trace) -> Vec<String> {
        let show = |call: &Call| {
            let request = trace.request(call);
            let labels = request.labels().map(|(label, value)| format!("{label}={value}"));
            format!("{} {}", labels.collect::<Vec<_>>().join(" "), call.cost)
        };
        trace.calls().iter().map(show).collect()
    }

    #[test]
    fn every_column_becomes_a_label_but_time_and_cost() {
        let trace = usual("tool,turn, session\nbook,03,s1\n").unwrap();
        assert_eq!(shown(&trace), ["session=s1 tool=book turn=03 1"]);
        assert_eq!((trace.session(&trace.calls()[0]), trace.has_times), (Some("s1"), false));

        let limits = Limits::from_toml(PER_USER).unwrap();
        let text = "cost,user,model,time,session\n7,u1,m,5,\n,,m,2.5,s\n";
        let trace = parse(text.as_bytes(), &limits, &[]).unwrap();
        // By their times; an empty field is no label.
        assert_eq!(shown(&trace), ["session=s model=m 1", "user=u1 model=m 7"]);
        assert_eq!(trace.span(), Duration::from_millis(2500));
        assert_eq!((trace.session(&trace.calls()[1]), trace.has_times), (None, true));
    }

    #[test]
    fn unknown_columns_are_named_with_what_is_known_unless_ignored() {
        let header = "sesion,turn,tool,latency ms\ns1,1,book,3\n";
        let message = usual(header).unwrap_err();
        for part in [
            "line 1",
            "\"session\" is missing, by which the limit \"per session, turn and tool\" counts",
            "unknown: \"sesion\", \"latency ms\"; known are session, turn, tool, time, cost,",
            "--ignore",
        ] {
            assert!(message.contains(part), "{message}");
        }
        let limits = Limits::from_toml(PER_USER).unwrap();
        let message = parse("user,uzer\n".as_bytes(), &limits, &[]).unwrap_err();
        assert!(message.contains("turn, tool, time, cost, model, user"), "{message}");

        let ignored = ["latency".to_owned(), "time".to_owned()];
        let text = "session,turn,tool,latency,time\ns1,1,book,3,noon\n";
        let trace = parse(text.as_bytes(), &Limits::usual(), &ignored).unwrap();
        assert_eq!(shown(&trace), ["session=s1 tool=book turn=1 1"]);
        let message = parse(&b"session,turn,tool\n"[..], &Limits::usual(), &ignored).unwrap_err();
        assert!(message.contains("no column \"latency\" to ignore"), "{message}");
    }

    #[test]
    fn what_is_no_trace_is_refused_with_its_line() {
        for (text, expected) in [
            ("session,tool\ns1,book\n", ["line 1", "\"turn\""]),
            ("", ["line 1", "\"session\""]),
            ("session,turn,tool\n", ["line 2", "no calls"]),
            ("session,turn,tool\ns1,1,book\ns1,1\n", ["line 3", "2 fields; expected 3"]),
            ("session,turn,tool,turn\n", ["line 1", "\"turn\" is there twice"]),
            ("session,turn,tool,cost\ns,1,t,0.5\n", ["line 2", "cost \"0.5\""]),
            ("session,turn,tool,cost\ns,1,t,1\ns,1,t,-1\n", ["line 3", "cost \"-1\""]),
            ("session,turn,tool,time\ns,1,t,noon\n", ["line 2", "time \"noon\""]),
            ("session,turn,tool,time\ns,1,t,1\ns,1,t,\n", ["line 3", "time \"\""]),
            (
                "session,turn,tool,time\ns,1,t,1\ns,1,t,1790000000000\n",
                ["line 3", "another form than in line 2"],
            ),
        ] {
            let message = usual(text).unwrap_err();
            assert!(expected.iter().all(|part| message.contains(part)), "{message}");
        }
        let usual = Limits::usual();
        let message = parse(&b"session,turn,tool\ns1,1,\xff\n"[..], &usual, &[]).unwrap_err();
        assert!(message.contains("line 2") && message.contains("UTF-8"), "{message}");
        let long = format!("session,turn,tool\n{},1,t\n", "s".repeat(70_000));
        let message = parse(long.as_bytes(), &usual, &[]).unwrap_err();
        assert!(message.contains("line 2: labels of 70002 bytes"), "{message}");
    }
}
