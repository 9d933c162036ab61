//! A limit that was found to match a request, for handles that ask again and again.

use alloc::boxed::Box;

/// A limit that matches a request, and the request's key in it without the window.
#[derive(Debug)]
pub struct Matched {
    /// The limit's index in the policy.
    pub limit_index: usize,
    pub(super) without_window: Box<[u8]>,
}
