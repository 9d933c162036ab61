//! The simulator's output, piped.

use std::process::{Command, Stdio};

#[test]
fn a_closed_pipe_ends_the_program_quietly_and_with_a_failure() {
    let (reader, closed) = std::io::pipe().unwrap();
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_tallymesh-sim"))
        .args(["traces", "--seeds", "0..1", "--jobs", "1"])
        .stdout(closed)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*told), (Some(1), ""));
}
