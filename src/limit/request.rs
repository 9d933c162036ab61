//! What somebody wants to do: labels and a cost.

use smallvec::SmallVec;

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
    labels: SmallVec<[(&'a str, &'a str); 6]>,
    cost: u64,
}

impl<'a> Request<'a> {
    /// A request without labels, of cost 1.
    pub fn new() -> Request<'a> {
        Request { labels: SmallVec::new(), cost: 1 }
    }

    /// The request of one tool call: the labels `session` and `tool`, cost 1.
    pub fn tool_call(session: &'a str, tool: &'a str) -> Request<'a> {
        let mut request = Request::new();
        request.labels.push(("session", session));
        request.labels.push(("tool", tool));
        request
    }

    /// Adds a label; a label given twice keeps the later value.
    #[must_use]
    pub fn with(mut self, label: &'a str, value: &'a str) -> Request<'a> {
        match self.labels.iter_mut().find(|(held, _)| *held == label) {
            Some(held) => held.1 = value,
            None => self.labels.push((label, value)),
        }
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
        self.labels.iter().find(|(held, _)| *held == label).map(|(_, value)| *value)
    }

    /// All labels, in the order in which they were added.
    pub fn labels(&self) -> &[(&'a str, &'a str)] {
        &self.labels
    }

    pub(crate) fn charged_cost(&self) -> u64 {
        self.cost
    }
}

impl Default for Request<'_> {
    fn default() -> Self {
        Request::new()
    }
}
