//! What is piped: closed pipes are no panic, and have no colours in them.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use crate::{code, config, node};

/// A pipe whose reader is gone.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

/// A directory with a data directory, a trace and a file that is none of both.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Files {
        let dir = tempfile::tempdir().unwrap();
        node(dir.path(), "acquire session=s\nacquire session=t\n");
        let rows = "s1,1,book\ns2,1,book\n".repeat(10);
        let trace = format!("session,turn,tool\n{rows}");
        std::fs::write(dir.path().join("trace.csv"), trace).unwrap();
        std::fs::write(dir.path().join("wrong.csv"), "sesion\n").unwrap();
        Files(dir)
    }

    /// Every command, with the exit code that it has with or without readers.
    fn commands(&self) -> Vec<(Vec<String>, i32)> {
        let path = |name: &str| self.0.path().join(name).to_str().unwrap().to_owned();
        let (data, trace, wrong) = (path("data"), path("trace.csv"), path("wrong.csv"));
        let config = config(self.0.path()).to_str().unwrap().to_owned();
        let cases: &[(&[&str], i32)] = &[
            (&["demo"], 0),
            (&["replay", "--trace", &trace], 0),
            (&["replay", "--trace", &trace, "--json"], 0),
            (&["replay", "--trace", &wrong], 1),
            (&["node", "--config", &config], 0),
            (&["node", "--config", &wrong], 1),
            (&["inspect", &data], 0),
            (&["inspect", &data, "--json"], 0),
            (&["inspect", "no/such/dir"], 1),
            (&["check", &data], 0),
            (&["check", &data, "--json"], 0),
            (&["check", "no/such/dir"], 1),
            (&["clock", &data], 0),
            (&["clock", &data, "--json"], 0),
            (&["clock", "no/such/dir"], 1),
            (&["help"], 0),
            (&["help", "replay"], 0),
            (&["--help"], 0),
            (&["node", "-h"], 0),
            (&["--version"], 0),
            (&[], 2),
            (&["frobnicate"], 2),
            (&["replay"], 2),
        ];
        let owned = |args: &[&str]| args.iter().map(|arg| (*arg).to_owned()).collect();
        cases.iter().map(|(args, code)| (owned(args), *code)).collect()
    }
}

fn command(args: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallymesh"));
    command.args(args).stdin(Stdio::null());
    command
}

#[test]
fn a_closed_pipe_is_no_panic_in_any_command() {
    let files = Files::new();
    for (args, expected) in files.commands() {
        for log in ["", "tallymesh=trace", "a=b=c,=,tallymesh=loud,trace"] {
            let mut child = command(&args)
                .env("RUST_LOG", log)
                .stdout(closed())
                .stderr(closed())
                .spawn()
                .unwrap();
            assert_eq!(code(&mut child), Some(expected), "{args:?}, RUST_LOG={log:?}");
        }
        // Only one of the two is closed: a panic would be told on the other.
        let output = command(&args).stdout(closed()).stderr(Stdio::piped()).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(expected), "{args:?}: {told}");
        assert!(!told.contains("panic") && !told.contains("Broken pipe"), "{args:?}: {told}");
        assert_eq!(told.contains("error: "), expected != 0 && !args.is_empty(), "{args:?}: {told}");
    }
}

#[test]
fn a_reader_that_takes_one_line_is_no_panic_in_any_command() {
    let files = Files::new();
    for (args, expected) in files.commands().into_iter().filter(|(_, code)| *code == 0) {
        let mut child = command(&args).stdout(Stdio::piped()).stderr(closed()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "{args:?}");
        assert_eq!(code(&mut child), Some(expected), "{args:?}");
    }
}

#[test]
fn a_node_whose_log_is_closed_goes_on_and_one_whose_answers_are_writes_what_it_admitted() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_tallymesh"))
        .args(["node", "--config", config(dir.path()).to_str().unwrap()])
        .env("RUST_LOG", "trace")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(closed())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    for command in ["acquire session=s", "acquire", "acquire session=s", "flush"] {
        writeln!(stdin, "{command}").unwrap();
        answers.next().unwrap().unwrap();
    }
    writeln!(stdin, "acquire session=t").unwrap();
    while !answers.next().unwrap().unwrap().contains("\"durable\":true") {}
    drop(answers);
    // The node hears of it with its next answer, whose charge counts all the same.
    let _ = writeln!(stdin, "peek session=t");
    assert_eq!(code(&mut child), Some(0));
    let counters = tallymesh::inspect(dir.path().join("data")).unwrap().counters;
    assert_eq!(counters.iter().map(|counter| counter.value).sum::<u64>(), 3);
}

/// `/dev/full` is Linux's.
#[cfg(target_os = "linux")]
#[test]
fn an_output_that_takes_no_more_is_an_error() {
    let files = Files::new();
    for (args, _) in files.commands().into_iter().filter(|(args, code)| {
        *code == 0
            && ["demo", "replay", "node", "inspect", "check", "clock"].contains(&&*args[0])
            && !args.contains(&"-h".to_owned())
    }) {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let output = command(&args).stdout(full).stderr(Stdio::piped()).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {told}");
        assert!(told.contains("error: standard output: No space left"), "{args:?}: {told}");
    }
}

#[test]
fn what_is_piped_has_no_colours() {
    let files = Files::new();
    for (args, expected) in files.commands() {
        for no_color in [None, Some("1")] {
            let mut command = command(&args);
            command.env("RUST_LOG", "debug,nonsense=loud").env("TERM", "xterm-256color");
            command.env_remove("CLICOLOR_FORCE").env_remove("NO_COLOR");
            command.envs(no_color.map(|value| ("NO_COLOR", value)));
            let output = command.output().unwrap();
            assert_eq!(output.status.code(), Some(expected), "{args:?}");
            for bytes in [output.stdout, output.stderr] {
                let text = String::from_utf8_lossy(&bytes);
                assert!(!text.contains('\u{1b}'), "{args:?}: {text}");
            }
        }
    }
}
