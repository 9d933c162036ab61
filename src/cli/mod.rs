//! The program's commands.

pub mod demo;
pub mod inspect;
pub mod node;
pub mod replay;

use std::error::Error;
use std::process::ExitCode;

/// What a command ends with.
pub type Outcome = Result<ExitCode, Box<dyn Error>>;
