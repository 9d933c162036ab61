//! A request for admission: labels and a cost.

use smallvec::SmallVec;

use super::DenialReason;
use super::label::{Label, is_reserved};

/// A request for admission: label/value pairs that the limits look at, and a cost.
///
/// ```
/// use tallymesh::Request;
///
/// let request = Request::tool_call("session-42", "book_service").with("user", "u7").cost(2);
/// assert_eq!(request.value("tool"), Some("book_service"));
/// assert_eq!(request.value("colour"), None);
/// ```
#[derive(Debug, Clone)]
pub struct Request<'a> {
    session: Option<&'a str>,
    tool: Option<&'a str>,
    others: SmallVec<[(&'a str, &'a str); 4]>,
    has_reserved: bool,
    cost: u64,
}

impl<'a> Request<'a> {
    /// A request without labels, of cost 1.
    #[inline]
    pub fn new() -> Request<'a> {
        Request { session: None, tool: None, others: SmallVec::new(), has_reserved: false, cost: 1 }
    }

    /// The request of one tool call: the labels `session` and `tool`, cost 1.
    #[inline]
    pub fn tool_call(session: &'a str, tool: &'a str) -> Request<'a> {
        Request { session: Some(session), tool: Some(tool), ..Request::new() }
    }

    /// Adds a label; a label given twice keeps the later value. A request with a label named `""` or `"cost"` is denied
    /// ([`DenialReason::ReservedLabel`]): what it costs is set by [`cost`](Self::cost).
    #[must_use]
    pub fn with(mut self, label: &'a str, value: &'a str) -> Request<'a> {
        let held = match label {
            "session" => self.session.insert(value),
            "tool" => self.tool.insert(value),
            _ => match self.others.iter_mut().find(|(held, _)| *held == label) {
                Some(held) => &mut held.1,
                None => {
                    self.has_reserved |= is_reserved(label);
                    self.others.push((label, value));
                    return self;
                }
            },
        };
        *held = value;
        self
    }

    /// Sets what the request costs in each of its counters: calls, tokens, cents, whatever the limits count.
    ///
    /// A cost of 0 charges nothing and is admitted unless a counter is past its limit already.
    #[must_use]
    pub fn cost(mut self, cost: u64) -> Request<'a> {
        self.cost = cost;
        self
    }

    /// The value of a label.
    pub fn value(&self, label: &str) -> Option<&'a str> {
        match label {
            "session" => self.session,
            "tool" => self.tool,
            _ => self.other(label),
        }
    }

    /// All labels with their values: session and tool first, the others in the order in which they were added.
    ///
    /// ```
    /// use tallymesh::Request;
    ///
    /// let request = Request::tool_call("s42", "search").with("user", "u7");
    /// let labels: Vec<String> = request.labels().map(|(label, value)| format!("{label}={value}")).collect();
    /// assert_eq!(labels.join(" "), "session=s42 tool=search user=u7");
    /// ```
    pub fn labels(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let session = self.session.map(|value| ("session", value));
        let tool = self.tool.map(|value| ("tool", value));
        session.into_iter().chain(tool).chain(self.others.iter().copied())
    }

    #[inline]
    pub(super) fn value_of(&self, label: &Label) -> Option<&'a str> {
        match label {
            Label::Session => self.session,
            Label::Tool => self.tool,
            Label::Other(name) => self.other(name),
        }
    }

    #[inline]
    fn other(&self, label: &str) -> Option<&'a str> {
        self.others.iter().find(|(held, _)| *held == label).map(|(_, value)| *value)
    }
}

/// Why a request is denied whatever the limits say: for more labels than `labels_max`, or for one that none can have.
#[inline]
pub fn refused_for_labels(request: &Request<'_>, labels_max: usize) -> Option<DenialReason> {
    let (session, tool) = (request.session.is_some(), request.tool.is_some());
    let labels = usize::from(session) + usize::from(tool) + request.others.len();
    if labels > labels_max {
        return Some(DenialReason::TooManyLabels);
    }
    request.has_reserved.then_some(DenialReason::ReservedLabel)
}

/// What a request costs in each of its counters, as set with [`Request::cost`].
#[inline]
pub fn cost_of(request: &Request<'_>) -> u64 {
    request.cost
}

impl Default for Request<'_> {
    fn default() -> Self {
        Request::new()
    }
}
