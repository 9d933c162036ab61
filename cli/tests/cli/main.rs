//! The program, as its users run it.

// There is no control socket elsewhere.
#[cfg(unix)]
mod ctl;
mod directories;
mod keygen;
// They are ended by `kill`, and begun by `sh`.
#[cfg(unix)]
mod log;
mod node;
#[cfg(unix)]
mod operator;
mod pipes;
mod replay;
// They are sent by `kill`; a test would send Windows' only from a console that it shares with what it sends them to.
#[cfg(unix)]
mod signals;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tallymesh_test_support::until;

/// How long something may take to come about.
const PATIENCE: Duration = Duration::from_secs(30);

fn tallymesh(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tallymesh")).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Starts a node with these settings, to be talked to.
fn start(config: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_tallymesh"))
        .args(["node", "--config", config.to_str().unwrap()])
        // Several tests have a node of one name in memory, each with a control socket of its own.
        .env("XDG_RUNTIME_DIR", config.parent().unwrap())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[expect(clippy::disallowed_methods, reason = "waits by a real clock")]
fn now() -> Instant {
    Instant::now()
}

/// Waits until it is so; panics with what never came about.
fn wait_until(what: &str, is_so: impl FnMut() -> bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(until(what, PATIENCE, is_so));
}

/// Waits for the end of a process, and returns its exit code. One that does not end is killed.
fn code(child: &mut Child) -> Option<i32> {
    let mut ended = None;
    let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait_until("the program ends", || {
            ended = child.try_wait().unwrap();
            ended.is_some()
        });
    }));
    if let Err(panic) = waited {
        child.kill().unwrap();
        std::panic::resume_unwind(panic);
    }
    ended.unwrap().code()
}

/// Runs a node on these commands, and returns its answers.
fn node(dir: &Path, commands: &str) -> Vec<Value> {
    answers(dir, commands.as_bytes())
}

/// As [`node`], for input that may be no text.
fn answers(dir: &Path, input: &[u8]) -> Vec<Value> {
    let mut child = start(&config(dir));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writing = std::thread::spawn(move || stdin.write_all(&input).unwrap());
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    assert!(output.status.success());
    let lines = text(&output.stdout);
    let lines = lines.lines().map(|line| serde_json::from_str(line).unwrap());
    let mut answers: Vec<Value> = lines.collect();
    // Its last word is how it ended; there is no peer that could have confirmed anything.
    let end = answers.pop().unwrap();
    assert_eq!((&end["closed"], &end["unconfirmed"]), (&true.into(), &0.into()));
    answers
}

/// The settings of a node whose data is in a directory `data`: two calls in a session.
fn config(dir: &Path) -> PathBuf {
    let config = dir.join("a.toml");
    let data = dir.join("data");
    let settings = format!(
        "[node]\nid = \"a\"\ndata_dir = {data:?}\n[gossip]\nlisten = \"127.0.0.1:0\"\n\
         [[limit]]\nname = \"calls\"\nper = [\"session\"]\nmax = 2\nwindow = \"session\"\n"
    );
    std::fs::write(&config, settings).unwrap();
    config
}

#[test]
fn bad_input_fails_with_a_message_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.toml");
    std::fs::write(&file, "[node]\nid = \"a\"\ndata_dir = \"d\"\n[gossip]\ninterval = \"0s\"\n")
        .unwrap();
    let file = file.to_str().unwrap();
    for (args, expected) in [
        (&["node", "--config", file][..], "gossip.interval = 0s"),
        (&["node", "--config", "none.toml"], "none.toml"),
        (&["inspect", "no/such/dir"], "no/such/dir"),
        (&["check", "no/such/dir"], "no/such/dir"),
        (&["replay", "--trace", "none.csv", "--nodes", "2"], "none.csv"),
        (&["replay", "--trace", file, "--nodes", "2"], "\"session\""),
        (&["replay", "--trace", file, "--pace", "fast"], "settle"),
        (&["frobnicate"], "frobnicate"),
    ] {
        let output = tallymesh(args);
        assert!(!output.status.success(), "{args:?}");
        let message = text(&output.stderr);
        assert!(message.contains(expected), "{args:?} gave {message:?}");
    }
}

/// A file of the folder `shared` beside the checkout, which is not part of it. Where it is missing, a test that reads it is
/// skipped and says so; with `TALLYMESH_REQUIRE_SHARED` set, as `.ci/run` does where the folder exists, that is a failure.
fn shared(file: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(file);
    if path.exists() {
        return Some(path);
    }
    let required = std::env::var_os("TALLYMESH_REQUIRE_SHARED").is_some();
    assert!(!required, "TALLYMESH_REQUIRE_SHARED is set, and there is no {}", path.display());
    eprintln!("SKIPPED: there is no {}", path.display());
    None
}
