//! The log on standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::Directive;

use crate::command::complain;

/// Logs what the variable `RUST_LOG` asks for, or `default`.
pub fn to_standard_error(default: &str) {
    let asked = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|asked| !asked.trim().is_empty());
    tracing_subscriber::fmt()
        .with_env_filter(filter(asked.as_deref().unwrap_or(default)))
        .with_ansi(io::stderr().is_terminal() && has_colours(|name| std::env::var(name).ok()))
        .with_writer(io::stderr)
        // Else it prints each line that it cannot write, which panics for the same reason, in a node's thread.
        .log_internal_errors(false)
        .init();
}

/// What can be read of a filter; the rest is complained of.
fn filter(asked: &str) -> EnvFilter {
    let mut filter = EnvFilter::default();
    for part in asked.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match part.parse::<Directive>() {
            Ok(directive) => filter = filter.add_directive(directive),
            Err(error) => {
                complain(&format_args!("{}: {part:?} is left out: {error}", EnvFilter::DEFAULT_ENV))
            }
        }
    }
    filter
}

/// Whether a terminal in this environment is to be given colours.
fn has_colours(variable: impl Fn(&str) -> Option<String>) -> bool {
    let is_set = |name| variable(name).is_some_and(|value| !value.is_empty());
    !is_set("NO_COLOR") && variable("TERM").is_none_or(|terminal| terminal != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_has_colours_unless_its_user_wants_none() {
        for (variables, expected) in [
            (&[][..], true),
            (&[("TERM", "xterm"), ("NO_COLOR", "")], true),
            (&[("TERM", "dumb")], false),
            (&[("NO_COLOR", "1")], false),
        ] {
            let value = |name: &str| {
                let set = variables.iter().find(|(set, _)| *set == name);
                set.map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(has_colours(value), expected, "{variables:?}");
        }
    }

    #[test]
    fn what_can_be_read_of_a_filter_applies() {
        assert_eq!(filter("warn, tallymesh=info,").to_string(), "tallymesh=info,warn");
        assert_eq!(filter("tallymesh=loud,warn").to_string(), "warn");
    }
}
