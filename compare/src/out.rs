//! What is printed. Where it is not read any more, as behind `head`, the program ends, and quietly: to go on would be for nothing.

use std::fmt;
use std::io::{self, Write};
use std::process;

/// Prints a line on standard output, of parts as `println!` takes them.
macro_rules! out {
    ($($part:tt)*) => { $crate::out::line(format_args!($($part)*)) };
}

/// Says on standard error what is being done, of parts as `eprintln!` takes them.
macro_rules! note {
    ($($part:tt)*) => { $crate::out::complain(format_args!($($part)*)) };
}

/// Prints a line on standard output. Where it cannot be written, the program ends with a code that says so.
pub(crate) fn line(line: fmt::Arguments<'_>) {
    if writeln!(io::stdout(), "{line}").is_err() {
        process::exit(1);
    }
}

/// Prints a line on standard error. Where that cannot be written, there is no one left to tell.
pub(crate) fn complain(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{line}");
}
