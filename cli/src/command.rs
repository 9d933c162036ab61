//! The program's commands.

pub mod check;
pub mod demo;
pub mod inspect;
pub mod node;
pub mod replay;

use std::error::Error;
use std::io;
use std::process::ExitCode;

/// What a command ends with.
pub type Outcome = Result<ExitCode, Box<dyn Error>>;

/// The outcome of writing to standard output. Whoever reads it may have seen enough, as `head` has.
fn written(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}
