//! What a limit allows while some members of the cluster are silent. As text it is `allow`, `share` or `deny`.

use alloc::string::{String, ToString};
use core::fmt;
use core::str::FromStr;

/// What a limit allows while this node is cut off: while some member of the cluster is silent and did not say goodbye.
///
/// A silent member may have crashed, or be on the other side of a partition, where it counts on. Which of the two cannot be told
/// from here, so a limit says what is to hold in both cases, until the member is presumed dead (`gossip.presumed_dead_after`).
///
/// ```
/// use tallymesh::{InvalidWhenCutOff, WhenCutOff};
///
/// assert_eq!("share".parse(), Ok(WhenCutOff::Share));
/// assert_eq!(WhenCutOff::default(), WhenCutOff::Allow);
/// let refused: Result<WhenCutOff, InvalidWhenCutOff> = "split".parse();
/// assert!(refused.is_err());
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenCutOff {
    /// Each side goes on by what it sees: each may admit all that was left, however many sides there are.
    #[default]
    Allow,
    /// Each side admits the share of its members of what was left when it noticed, so that all sides together keep the limit, but
    /// for what they admit before they notice.
    Share,
    /// A side of at most half of the members refuses, and one of more goes on, so that all together keep the limit, but for what
    /// they admit before they notice.
    Deny,
}

impl WhenCutOff {
    const ALL: [WhenCutOff; 3] = [WhenCutOff::Allow, WhenCutOff::Share, WhenCutOff::Deny];

    fn word(self) -> &'static str {
        match self {
            WhenCutOff::Allow => "allow",
            WhenCutOff::Share => "share",
            WhenCutOff::Deny => "deny",
        }
    }
}

/// A text that says nothing about being cut off.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not what a limit can do when it is cut off: use \"allow\", \"share\" or \"deny\""
)]
pub struct InvalidWhenCutOff(String);

impl fmt::Display for WhenCutOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for WhenCutOff {
    type Err = InvalidWhenCutOff;

    fn from_str(text: &str) -> Result<WhenCutOff, InvalidWhenCutOff> {
        let found = WhenCutOff::ALL.into_iter().find(|action| action.word() == text);
        found.ok_or_else(|| InvalidWhenCutOff(text.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_is_written() {
        for action in WhenCutOff::ALL {
            assert_eq!(action.to_string().parse(), Ok(action));
        }
        let refused = "split".parse::<WhenCutOff>().unwrap_err().to_string();
        assert!(refused.contains("\"split\"") && refused.contains("\"share\""), "{refused}");
    }
}
