//! Tokens: receipts as signed text, which a client may keep while its connection is gone.
//!
//! A token says which node and which life of it charged what, and carries a MAC by a key that is drawn at random for that life.
//! So no client can make one up or change one. Each has a number; a ring of bits knows which of the latest were used, so that
//! the memory for it is bounded, and what is older is refused rather than taken twice.
//!
//! The text is base64url of: the version 1 (u8); length (u8) and name of the node; life, number and cost (u64 each); for each
//! debit three numbers (u32 each); the first 16 bytes of the HMAC-SHA-256 of all that. Integers are little endian.

use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use smallvec::SmallVec;
use tallymesh_core::id::NodeId;
use tallymesh_core::table::Debit;

use crate::random::random;
use crate::receipt::{LifeId, Receipt, RefundError, TOKENS_MAX, Taken};

const VERSION: u8 = 1;
const MAC_BYTES: usize = 16;
/// More than any config's limits need; longer texts are not even decoded.
const TEXT_BYTES_MAX: usize = 65_536;

/// The tokens of one life of a limiter.
pub(crate) struct Tokens {
    node: NodeId,
    life: LifeId,
    key: [u8; 32],
    used: Mutex<UsedNumbers>,
}

/// Which numbers were used: a ring of bits, as long as there are numbers that can be.
#[derive(Default)]
struct UsedNumbers {
    next: u64,
    /// Empty before the first number is taken.
    bits: Vec<u64>,
}

impl Tokens {
    /// None yet, with a new key.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub(crate) fn new(node: NodeId, life: LifeId) -> std::io::Result<Tokens> {
        Ok(Tokens { node, life, key: random()?, used: Mutex::default() })
    }

    /// Makes a receipt of this life a token.
    pub(crate) fn write(&self, receipt: &Receipt) -> String {
        let Taken::Counters(debits) = &receipt.taken;
        let number = self.with_used(UsedNumbers::issue);
        let node = self.node.as_str().as_bytes();
        let mut bytes = vec![VERSION, node.len() as u8];
        bytes.extend_from_slice(node);
        for number in [receipt.life.get(), number, receipt.cost] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for part in debits.iter().flat_map(Debit::to_parts) {
            bytes.extend_from_slice(&part.to_le_bytes());
        }
        let mac = self.mac(&bytes).finalize().into_bytes();
        bytes.extend(mac.iter().take(MAC_BYTES));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Makes a token a receipt again, and uses it up.
    ///
    /// # Errors
    /// As [`Limiter::refund_token`](crate::Limiter::refund_token).
    pub(crate) fn take(&self, text: &str) -> Result<Receipt, RefundError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(RefundError::Invalid);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| RefundError::Invalid)?;
        let (signed, mac) = bytes
            .len()
            .checked_sub(MAC_BYTES)
            .and_then(|length| bytes.split_at_checked(length))
            .ok_or(RefundError::Invalid)?;
        let fields = Fields::read(signed).ok_or(RefundError::Invalid)?;
        // Another node's key and an earlier one of ours are not known here: who it is of is what the token says.
        if fields.node != self.node {
            return Err(RefundError::NotMine { node: fields.node });
        }
        if fields.life != self.life.get() {
            return Err(RefundError::OtherLife);
        }
        self.mac(signed).verify_truncated_left(mac).map_err(|_| RefundError::Invalid)?;
        self.with_used(|used| used.take(fields.number))?;
        let taken = Taken::Counters(fields.debits);
        Ok(Receipt { life: self.life, taken, cost: fields.cost, remaining: u64::MAX })
    }

    #[expect(clippy::expect_used, reason = "an HMAC takes a key of any length")]
    fn mac(&self, bytes: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("any length is a key");
        mac.update(bytes);
        mac
    }

    fn with_used<T>(&self, ask: impl FnOnce(&mut UsedNumbers) -> T) -> T {
        // Numbers and bits, each changed in one step.
        ask(&mut self.used.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a token says.
struct Fields {
    node: NodeId,
    life: u64,
    number: u64,
    cost: u64,
    debits: SmallVec<[Debit; 2]>,
}

impl Fields {
    fn read(bytes: &[u8]) -> Option<Fields> {
        let (&[version, node_bytes], rest) = bytes.split_first_chunk()?;
        let (node, rest) = rest.split_at_checked(usize::from(node_bytes))?;
        let node = NodeId::from_str(str::from_utf8(node).ok()?).ok()?;
        let (life, rest) = rest.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (cost, rest) = rest.split_first_chunk()?;
        let (debits, rest) = rest.as_chunks::<12>();
        let debit = |bytes: &[u8; 12]| {
            let (parts, _) = bytes.as_chunks::<4>();
            let [slot, tag, generation] = parts else { return None };
            Some(Debit::from_parts([slot, tag, generation].map(|part| u32::from_le_bytes(*part))))
        };
        let fields = Fields {
            node,
            life: u64::from_le_bytes(*life),
            number: u64::from_le_bytes(*number),
            cost: u64::from_le_bytes(*cost),
            debits: debits.iter().map(debit).collect::<Option<_>>()?,
        };
        (version == VERSION && rest.is_empty()).then_some(fields)
    }
}

impl UsedNumbers {
    /// The next number.
    fn issue(&mut self) -> u64 {
        self.bits.resize(TOKENS_MAX as usize / 64, 0);
        let number = self.next;
        self.next += 1;
        if let Some((word, bit)) = self.bit(number) {
            *word &= !bit;
        }
        number
    }

    /// Notes that a number is used.
    fn take(&mut self, number: u64) -> Result<(), RefundError> {
        let age = self.next.checked_sub(number).filter(|age| *age > 0);
        if age.ok_or(RefundError::Invalid)? > TOKENS_MAX {
            return Err(RefundError::Expired);
        }
        let (word, bit) = self.bit(number).ok_or(RefundError::Invalid)?;
        if *word & bit != 0 {
            return Err(RefundError::Used);
        }
        *word |= bit;
        Ok(())
    }

    /// The word that a number's bit is in, and the bit.
    fn bit(&mut self, number: u64) -> Option<(&mut u64, u64)> {
        let index = number % TOKENS_MAX;
        let word = self.bits.get_mut(index as usize / 64)?;
        Some((word, 1 << (index % 64)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use tallymesh_core::limit::{Limit, Request, Window};

    use super::*;
    use crate::{Config, ConfigBuilder, Limiter};

    fn config(node: &str) -> ConfigBuilder {
        let hour = Duration::from_secs(3600);
        Config::builder(node)
            .limit(Limit::new("sessions", 1_000_000, Window::Session { ttl: hour }).per("session"))
            .limit(Limit::new("all", 1_000_000, Window::Fixed(hour)))
            .limit(Limit::new("tools", 1_000_000, Window::Fixed(hour)).per("tool"))
    }

    async fn open(config: ConfigBuilder) -> Limiter {
        Limiter::open(config.build().unwrap()).await.unwrap()
    }

    fn token(limiter: &Limiter) -> String {
        let request = Request::tool_call("s", "t").cost(7);
        limiter.token(limiter.acquire(&request).into_result().unwrap()).unwrap()
    }

    fn used(limiter: &Limiter) -> Vec<u64> {
        limiter.counters().iter().map(|counter| counter.value).collect()
    }

    #[tokio::test]
    async fn a_token_is_good_for_one_refund_of_all_that_was_charged() {
        let limiter = open(config("a").in_memory()).await;
        let (first, second) = (token(&limiter), token(&limiter));
        assert!(first.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
        assert_eq!(limiter.refund_token(&first), Ok(()));
        assert_eq!(used(&limiter), [7, 7, 7]);
        assert_eq!(limiter.refund_token(&first), Err(RefundError::Used));
        assert_eq!(limiter.refund_token(&second), Ok(()));
        assert_eq!(used(&limiter), [0, 0, 0]);
        limiter.close().await.unwrap();
    }

    #[tokio::test]
    async fn another_node_and_another_life_say_whose_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let limiter = open(config("a").data_dir(directory.path())).await;
        let (other, namesake) =
            (open(config("b").in_memory()).await, open(config("a").in_memory()).await);
        let text = token(&limiter);
        let receipt = limiter.acquire(&Request::tool_call("s", "t")).into_result().unwrap();
        assert_eq!(other.token(receipt), Err(RefundError::OtherLimiter));
        let node = NodeId::from_str("a").unwrap();
        assert_eq!(other.refund_token(&text), Err(RefundError::NotMine { node }));
        assert_eq!(namesake.refund_token(&text), Err(RefundError::OtherLife));
        limiter.close().await.unwrap();
        drop(limiter);
        let again = open(config("a").data_dir(directory.path())).await;
        let before = used(&again);
        assert_eq!(again.refund_token(&text), Err(RefundError::OtherLife));
        assert_eq!(used(&again), before);
        again.close().await.unwrap();
    }

    #[tokio::test]
    async fn the_oldest_tokens_expire() {
        let limiter = open(config("a").in_memory()).await;
        let (first, second) = (token(&limiter), token(&limiter));
        (1..TOKENS_MAX).for_each(|_| drop(token(&limiter)));
        assert_eq!(limiter.refund_token(&first), Err(RefundError::Expired));
        assert_eq!(limiter.refund_token(&second), Ok(()));
        assert_eq!(limiter.refund_token(&second), Err(RefundError::Used));
        limiter.close().await.unwrap();
    }

    #[test]
    fn a_number_comes_round_unused() {
        let mut used = UsedNumbers::default();
        assert_eq!(used.take(0), Err(RefundError::Invalid), "not issued yet");
        for number in 0..3 * TOKENS_MAX {
            assert_eq!(used.issue(), number);
            assert_eq!(used.take(number), Ok(()));
            assert_eq!(used.take(number), Err(RefundError::Used));
        }
        assert_eq!(used.bits.len() as u64, TOKENS_MAX / 64);
    }

    fn tokens() -> Tokens {
        Tokens::new(NodeId::from_str("a").unwrap(), LifeId::draw().unwrap()).unwrap()
    }

    fn receipt(tokens: &Tokens, debits: &[[u32; 3]]) -> Receipt {
        let debits = debits.iter().map(|parts| Debit::from_parts(*parts)).collect();
        let taken = Taken::Counters(debits);
        Receipt { life: tokens.life, taken, cost: 3, remaining: 5 }
    }

    proptest! {
        #[test]
        fn any_text_is_refused(text in ".{0,300}", bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let tokens = tokens();
            let receipt = receipt(&tokens, &[[1, 2, 3]]);
            tokens.write(&receipt);
            prop_assert!(tokens.take(&text).is_err());
            prop_assert!(tokens.take(&URL_SAFE_NO_PAD.encode(&bytes)).is_err());
            // A true head, so that what follows it is read as well.
            let mut forged = vec![VERSION, 1, b'a'];
            forged.extend_from_slice(&tokens.life.get().to_le_bytes());
            forged.extend_from_slice(&bytes);
            prop_assert_eq!(tokens.take(&URL_SAFE_NO_PAD.encode(forged)).err(), Some(RefundError::Invalid));
        }

        #[test]
        fn a_changed_token_is_refused_and_the_true_one_is_not(
            debits in proptest::collection::vec(any::<[u32; 3]>(), 0..5),
            index in any::<prop::sample::Index>(),
            flipped in 1..=255_u8,
        ) {
            let tokens = tokens();
            let text = tokens.write(&receipt(&tokens, &debits));
            let mut bytes = URL_SAFE_NO_PAD.decode(&text).unwrap();
            let index = index.index(bytes.len());
            bytes[index] ^= flipped;
            prop_assert!(tokens.take(&URL_SAFE_NO_PAD.encode(&bytes)).is_err());
            let taken = tokens.take(&text).unwrap();
            let Taken::Counters(taken_debits) = &taken.taken;
            let parts: Vec<_> = taken_debits.iter().map(Debit::to_parts).collect();
            prop_assert_eq!((parts, taken.cost), (debits, 3));
        }
    }
}
