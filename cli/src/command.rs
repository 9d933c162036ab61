//! What all commands share.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

/// How a command ends: the program's exit code, or an error to print.
pub type CommandResult = Result<ExitCode, Box<dyn Error>>;

/// The result of writing to standard output. That its reader has closed it, as `head` does, is no error.
pub fn written(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(io::Error::new(error.kind(), format!("standard output: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// Prints a line on standard output at once.
///
/// # Errors
/// When it cannot be written, except when its reader has closed it.
pub fn print_line(line: &dyn fmt::Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    written(writeln!(out, "{line}").and_then(|()| out.flush()))
}

/// Prints a line on standard error. Where that cannot be written, there is no one left to tell.
pub fn complain(line: &dyn fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}
