//! What all commands share.

use std::error::Error;
use std::io;
use std::process::ExitCode;

/// How a command ends: the program's exit code, or an error to print.
pub type CommandResult = Result<ExitCode, Box<dyn Error>>;

/// The result of writing to standard output. That its reader has closed it, as `head` does, is no error.
pub fn written(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
