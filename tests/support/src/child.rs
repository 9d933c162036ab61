//! The test program once more, as a process of its own.

use std::process::{Child, Command, Stdio};

use crate::load::Load;

const ASKED_TO: &str = "TALLYMESH_CHILD_LOAD";
const NAME: &str = "child::a_process_of_its_own_runs_the_load_that_it_is_asked_to";

/// Runs the load in a process of its own; `prepare` may add to its environment.
pub fn spawn(load: &Load, prepare: impl FnOnce(&mut Command)) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    // Unbuffered and uncaptured, or lines would wait in a buffer for a kill to lose them.
    command.args([NAME, "--exact", "--nocapture", "--test-threads=1"]);
    command.env(ASKED_TO, serde_json::to_string(load).unwrap());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    prepare(&mut command);
    command.spawn().unwrap()
}

/// Does nothing unless [`spawn`] asks for it.
#[test]
fn a_process_of_its_own_runs_the_load_that_it_is_asked_to() {
    if let Ok(load) = std::env::var(ASKED_TO) {
        serde_json::from_str::<Load>(&load).unwrap().run();
    }
}
