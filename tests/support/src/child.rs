//! The test program once more, as a process of its own.

use std::process::{Child, Command, Stdio};

use crate::load::Load;

const ASKED_TO: &str = "TALLYMESH_CHILD_LOAD";
const TEST: &str = "a_process_of_its_own_runs_the_load_that_it_is_asked_to";

/// Runs the load in a process of its own; `prepare` may add to its environment. The calling test program must have a test
/// `a_process_of_its_own_runs_the_load_that_it_is_asked_to` that calls [`run_if_asked`].
///
/// # Panics
/// If the process cannot be started.
pub fn spawn(load: &Load, prepare: impl FnOnce(&mut Command)) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    // Unbuffered and uncaptured, or lines would wait in a buffer for a kill to lose them.
    command.args([TEST, "--exact", "--nocapture", "--test-threads=1"]);
    command.env(ASKED_TO, serde_json::to_string(load).unwrap());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    prepare(&mut command);
    command.spawn().unwrap()
}

/// Runs the load that [`spawn`] asks for; does nothing in any other process.
///
/// # Panics
/// If the load fails.
pub fn run_if_asked() {
    if let Ok(load) = std::env::var(ASKED_TO) {
        serde_json::from_str::<Load>(&load).unwrap().run();
    }
}
