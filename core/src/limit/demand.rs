//! What a request asks of its counters: one demand for each limit that matches.

use alloc::vec::Vec;
use core::ops::Range;

use smallvec::SmallVec;

use super::WhenCutOff;
use super::rule::Reading;
use super::window::Term;

/// So many limits match a request as a rule, at most; more demands are kept in a block of memory of their own.
const DEMANDS_HERE: usize = 3;

/// The counters that a request is charged to, if it is admitted.
#[derive(Debug, Default)]
pub struct Demands {
    /// All keys, one after the other.
    pub(super) keys: Vec<u8>,
    /// One for each limit that matches, in the order of the policy.
    pub list: SmallVec<[Demand; DEMANDS_HERE]>,
    /// Labels that were found missing for the first time; nearly always none.
    pub(super) missing_labels: Vec<MissingLabel>,
}

/// What a request asks of one counter: that a cost be charged to it.
#[derive(Debug)]
pub struct Demand {
    /// The limit's index in the policy.
    pub limit_index: usize,
    /// Where the charged counter's key is among the keys of all demands.
    pub(super) key: Range<usize>,
    /// How much is charged.
    pub cost: u64,
    /// What the limit allows in one window.
    pub max: u64,
    /// How long the charged counter lives, if this request is the last to use it.
    pub term: Term,
    /// What the limit allows while some member of the cluster is silent.
    pub when_cut_off: WhenCutOff,
}

/// A request matched a limit and lacks one of its `per` labels. Reported once for each limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MissingLabel {
    /// The limit's index in the policy.
    pub limit_index: usize,
    /// The label's index in the limit's `per`.
    pub label_index: usize,
}

/// A request that matches a limit and cannot be counted under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DemandError {
    /// The limit and the label values of the request make a key longer than allowed.
    KeyTooLong {
        /// The limit's index in the policy.
        limit_index: usize,
    },
    /// The request lacks a label of the limit's `per`.
    MissingLabel(MissingLabel),
}

impl Demands {
    /// None yet, with memory for their keys that was used before.
    #[inline]
    pub fn with_buffer(keys: Vec<u8>) -> Demands {
        Demands { keys, list: SmallVec::new(), missing_labels: Vec::new() }
    }

    /// The memory for keys, to be used again.
    #[inline]
    pub fn into_buffer(self) -> Vec<u8> {
        self.keys
    }

    /// The key of the counter that a demand is charged to. The demand must be one of these.
    #[inline]
    pub fn key(&self, demand: &Demand) -> &[u8] {
        // A demand that is none of these has no key here: a mistake of the caller, but no reason to panic.
        self.keys.get(demand.key.clone()).unwrap_or_default()
    }

    /// Labels that this request lacks and that no request lacked before: worth a line in the log.
    #[inline]
    pub fn missing_labels(&self) -> &[MissingLabel] {
        &self.missing_labels
    }

    #[inline]
    pub(super) fn clear(&mut self) {
        self.keys.clear();
        self.list.clear();
        self.missing_labels.clear();
    }
}

impl Demand {
    /// The reading for this demand's limit, once its window's counters are read.
    #[inline(always)]
    pub fn reading(&self, used: u64) -> Reading {
        Reading { used, max: self.max }
    }

    /// Whether the limit allows the same, whatever members are silent.
    #[inline(always)]
    pub fn is_never_cut_off(&self) -> bool {
        self.when_cut_off == WhenCutOff::Allow
    }
}
