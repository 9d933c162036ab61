//! A receipt: what an admitted request was charged, for a refund.
//!
//! It points to nothing: it says in which slots what was taken, and in which life of which limiter. So it may outlive the
//! limiter, wait in a queue or move to another thread; and a limiter takes back only what it gave out itself.

use std::num::NonZeroU64;

use smallvec::SmallVec;
use tallymesh_core::id::NodeId;
use tallymesh_core::table::Debit;

use crate::random::random;

/// What an admitted request was charged. Dropping it leaves the charge as it is; [`Limiter::refund`](crate::Limiter::refund) takes the charge back.
///
/// It is no copy of anything and cannot be cloned, so that a charge is taken back once at most.
#[derive(Debug)]
pub struct Receipt {
    pub(crate) life: LifeId,
    pub(crate) taken: Taken,
    pub(crate) cost: u64,
    /// `u64::MAX` if no limit matched.
    pub(crate) remaining: u64,
}

/// What a receipt's cost was taken from.
#[derive(Debug)]
pub(crate) enum Taken {
    /// The counters that were charged.
    Counters(SmallVec<[Debit; 2]>),
}

impl Receipt {
    /// What is left under the limit that is nearest to its end, as far as this instance knows; `None` if no limit matched.
    #[inline]
    pub fn remaining(&self) -> Option<u64> {
        (self.remaining != u64::MAX).then_some(self.remaining)
    }
}

/// Why a charge was not taken back. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RefundError {
    /// The receipt is of another limiter, or of this one before it was opened again.
    #[error(
        "the receipt is of another limiter, or of this one before it was opened again; refund it where it was acquired"
    )]
    OtherLimiter,
    /// The limiter is closed.
    #[error("the limiter is closed; what it had admitted when it was closed stays charged")]
    Closed,
    /// The token is of another node: ask that one.
    #[error("the token is of node {node}, not of this one; refund it there")]
    NotMine {
        /// The node that it says it is of.
        node: NodeId,
    },
    /// The token is of this node before it was opened again.
    #[error(
        "the token is of this node before it was opened again; what it was for can no longer be refunded"
    )]
    OtherLife,
    /// The token was not made by this node, or was changed since.
    #[error("this is no token of a receipt, or it was changed")]
    Invalid,
    /// The token was used before.
    #[error("the token was used before: each is good for one refund")]
    Used,
    /// The token is too old: so many were made since that it is not known whether it was used.
    #[error("the token is too old: the latest {TOKENS_MAX} of a node can be refunded")]
    Expired,
}

/// How many tokens can be refunded: the latest ones.
pub(crate) const TOKENS_MAX: u64 = 65_536;

/// Which life of a limiter: drawn at random each time that one is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LifeId(NonZeroU64);

impl LifeId {
    /// A new one.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub(crate) fn draw() -> std::io::Result<LifeId> {
        let drawn = u64::from_le_bytes(random()?);
        Ok(LifeId(NonZeroU64::new(drawn).unwrap_or(NonZeroU64::MIN)))
    }

    pub(crate) fn get(self) -> u64 {
        self.0.get()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tallymesh_core::limit::{Limit, Request, WhenLabelMissing, Window};

    use super::*;
    use crate::{Config, ConfigBuilder, Decision, Denial, Limiter};

    fn config() -> ConfigBuilder {
        with_ttl(Duration::from_secs(3600)).in_memory()
    }

    fn with_ttl(ttl: Duration) -> ConfigBuilder {
        let limit = Limit::new("calls", 3, Window::Session { ttl })
            .per("session")
            .when_label_missing(WhenLabelMissing::Skip);
        Config::builder("a").limit(limit)
    }

    async fn open(config: ConfigBuilder) -> Limiter {
        Limiter::open(config.build().unwrap()).await.unwrap()
    }

    fn acquire(limiter: &Limiter) -> Receipt {
        limiter.acquire(&request()).into_result().unwrap()
    }

    fn request() -> Request<'static> {
        Request::tool_call("s", "t")
    }

    /// What is charged in all.
    fn used(limiter: &Limiter) -> u64 {
        limiter.counters().iter().map(|counter| counter.value).sum()
    }

    #[test]
    fn answers_are_small_and_owned() {
        fn owned<T: Send + 'static>() {}
        owned::<Receipt>();
        owned::<Decision>();
        let sizes = [size_of::<Receipt>(), size_of::<Denial>(), size_of::<Decision>()];
        let expected = match usize::BITS {
            64 => [56, 40, 56],
            // By how u64 is aligned, 4 or 8.
            32 if align_of::<u64>() == 4 => [52, 28, 52],
            _ => return,
        };
        assert_eq!(sizes, expected, "what a decision writes, in bytes");
    }

    #[test]
    fn lives_differ() {
        assert_ne!(LifeId::draw().unwrap(), LifeId::draw().unwrap());
    }

    #[tokio::test]
    async fn a_refund_takes_back_what_was_charged() {
        let limiter = open(config()).await;
        let receipt = acquire(&limiter);
        assert_eq!(receipt.remaining(), Some(2));
        let elsewhere = limiter.clone();
        let refunded = std::thread::spawn(move || elsewhere.refund(receipt));
        assert_eq!(refunded.join().unwrap(), Ok(()));
        assert_eq!(used(&limiter), 0);
        let unlimited = limiter.acquire(&Request::new()).into_result().unwrap();
        assert_eq!(unlimited.remaining(), None);
        assert_eq!(limiter.refund(unlimited), Ok(()));
        limiter.close().await.unwrap();
    }

    #[tokio::test]
    async fn another_limiter_and_another_life_refuse_it() {
        let directory = tempfile::tempdir().unwrap();
        let on_disk = || with_ttl(Duration::from_secs(3600)).data_dir(directory.path());
        let (limiter, other) = (open(on_disk()).await, open(config()).await);
        let (first, second) = (acquire(&limiter), acquire(&limiter));
        drop(acquire(&other));
        assert_eq!(other.refund(first), Err(RefundError::OtherLimiter));
        assert_eq!(used(&other), 1);
        limiter.close().await.unwrap();
        drop(limiter);
        let again = open(on_disk()).await;
        drop(acquire(&again));
        assert_eq!(again.refund(second), Err(RefundError::OtherLimiter));
        assert_eq!(used(&again), 3);
        again.close().await.unwrap();
        other.close().await.unwrap();
    }

    #[tokio::test]
    async fn what_was_reset_since_is_left_as_it_is() {
        let limiter = open(config()).await;
        let receipt = acquire(&limiter);
        limiter.reset(&request()).unwrap();
        drop(acquire(&limiter));
        assert_eq!(limiter.refund(receipt), Ok(()));
        assert_eq!(used(&limiter), 1);
        limiter.close().await.unwrap();
    }

    #[tokio::test]
    async fn what_has_expired_since_is_left_as_it_is() {
        let limiter = open(with_ttl(Duration::from_millis(100)).in_memory()).await;
        let receipt = acquire(&limiter);
        tokio::time::sleep(Duration::from_millis(200)).await;
        drop(acquire(&limiter));
        assert_eq!(limiter.refund(receipt), Ok(()));
        assert_eq!(used(&limiter), 1);
        limiter.close().await.unwrap();
    }
}
