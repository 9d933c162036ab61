//! The names of labels.

use alloc::string::String;

/// A label's name. The two that nearly every request has need no comparison of strings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Label {
    Session,
    Tool,
    Other(String),
}

impl Label {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Label::Session => "session",
            Label::Tool => "tool",
            Label::Other(name) => name,
        }
    }

    /// Whether no request can carry it.
    pub(super) fn is_reserved(&self) -> bool {
        is_reserved(self.as_str())
    }
}

/// Whether no label can have this name: none, or that of a request's cost.
pub(super) fn is_reserved(name: &str) -> bool {
    matches!(name, "" | "cost")
}

impl From<String> for Label {
    fn from(name: String) -> Label {
        match &*name {
            "session" => Label::Session,
            "tool" => Label::Tool,
            _ => Label::Other(name),
        }
    }
}
