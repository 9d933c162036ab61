//! What a limit does with a request that matches it and lacks a label of its `per`. As text it is `deny` or `skip`.

use alloc::string::{String, ToString};
use core::fmt;
use core::str::FromStr;

/// What happens to a request that matches a limit and lacks one of the labels that the limit counts apart by.
///
/// ```
/// use tallymesh::{InvalidWhenLabelMissing, WhenLabelMissing};
///
/// assert_eq!("skip".parse(), Ok(WhenLabelMissing::Skip));
/// let refused: Result<WhenLabelMissing, InvalidWhenLabelMissing> = "ignore".parse();
/// assert!(refused.is_err());
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenLabelMissing {
    /// It is denied: there is no telling which counter to charge.
    #[default]
    Deny,
    /// The limit does not apply to it.
    Skip,
}

impl WhenLabelMissing {
    const ALL: [WhenLabelMissing; 2] = [WhenLabelMissing::Deny, WhenLabelMissing::Skip];

    fn word(self) -> &'static str {
        match self {
            WhenLabelMissing::Deny => "deny",
            WhenLabelMissing::Skip => "skip",
        }
    }
}

/// A text that says nothing about missing labels.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not what can be done when a label is missing: use \"deny\" or \"skip\"")]
pub struct InvalidWhenLabelMissing(String);

impl fmt::Display for WhenLabelMissing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for WhenLabelMissing {
    type Err = InvalidWhenLabelMissing;

    fn from_str(text: &str) -> Result<WhenLabelMissing, InvalidWhenLabelMissing> {
        let found = WhenLabelMissing::ALL.into_iter().find(|action| action.word() == text);
        found.ok_or_else(|| InvalidWhenLabelMissing(text.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_is_written() {
        for action in WhenLabelMissing::ALL {
            assert_eq!(action.to_string().parse(), Ok(action));
        }
        let refused = "ignore".parse::<WhenLabelMissing>().unwrap_err().to_string();
        assert!(refused.contains("\"ignore\"") && refused.contains("\"skip\""), "{refused}");
    }
}
