//! What a limit is to its counters and to the peers: the tag in its keys, and a hash of all that it says.
//!
//! Both are the same on every machine, and stay the same from version to version.

use alloc::{string::String, sync::Arc, vec::Vec};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use siphasher::sip::SipHasher13;

use super::window::Window;
use super::{Limit, WhenCutOff, WhenLabelMissing};
use crate::time::whole_ms;

/// What every limit counts: there is one unit so far.
const UNIT: &str = "calls";

/// A limit by its name, with a hash of what it says: on the wire `[name, hash]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LimitHash {
    /// Its name.
    pub name: Arc<str>,
    /// A hash of all that it says.
    pub hash: u32,
}

impl Serialize for LimitHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&*self.name, self.hash).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for LimitHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<LimitHash, D::Error> {
        let (name, hash): (String, u32) = Deserialize::deserialize(deserializer)?;
        Ok(LimitHash { name: name.into(), hash })
    }
}

impl LimitHash {
    /// The hash of a limit.
    pub(super) fn of(limit: &Limit) -> LimitHash {
        let mut said = Said::default();
        said.text(UNIT);
        limit.per_labels().for_each(|label| said.text(label));
        // All patterns must fit, so their order says nothing.
        let mut patterns: Vec<(&str, String)> = limit.patterns().collect();
        patterns.sort_unstable();
        said.number(patterns.len() as u64);
        for (label, pattern) in &patterns {
            said.text(label);
            said.text(pattern);
        }
        said.number(limit.max());
        let (kind, length) = match limit.window() {
            Window::Session { ttl } => (1, ttl),
            Window::Fixed(length) => (2, length),
        };
        said.number(kind);
        said.number(whole_ms(length));
        if limit.when_label_is_missing() != WhenLabelMissing::Deny {
            said.text("when_label_missing");
        }
        match limit.when_is_cut_off() {
            WhenCutOff::Allow => {}
            WhenCutOff::Share => said.text("when_cut_off: share"),
            WhenCutOff::Deny => said.text("when_cut_off: deny"),
        }
        LimitHash { name: limit.name().into(), hash: said.hash() as u32 }
    }

    /// A digest of many, in whatever order they stand. 0 for none.
    pub fn digest(limits: &[LimitHash]) -> u64 {
        limits.iter().fold(0, |sum, limit| {
            let mut said = Said::default();
            said.text(&limit.name);
            said.number(limit.hash.into());
            sum.wrapping_add(said.hash())
        })
    }
}

/// A mark of what the values in a limit's keys mean: the labels of its `per`, in their order, and the unit. Never 0, which
/// marks a counter of no limit.
pub(super) fn tag_of(limit: &Limit) -> u16 {
    let mut said = Said::default();
    said.text(UNIT);
    limit.per_labels().for_each(|label| said.text(label));
    (said.hash() as u16).max(1)
}

/// What is hashed, with the length before each text, so that none runs into the next.
#[derive(Default)]
struct Said(Vec<u8>);

impl Said {
    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn hash(&self) -> u64 {
        SipHasher13::new().hash(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn limit() -> Limit {
        Limit::new("l", 5, Window::Fixed(MINUTE))
    }

    #[test]
    fn the_tag_follows_the_labels_and_their_order() {
        let tags = [
            tag_of(&limit()),
            tag_of(&limit().per("user")),
            tag_of(&limit().per("session")),
            tag_of(&limit().per("user").per("session")),
            tag_of(&limit().per("session").per("user")),
        ];
        for (index, tag) in tags.iter().enumerate() {
            assert!(*tag > 0 && !tags[..index].contains(tag), "{tags:x?}");
        }
        let other =
            Limit::new("m", 9, Window::Session { ttl: MINUTE }).when("tool", "*").per("user");
        assert_eq!(tag_of(&other), tags[1], "what else a limit says is no matter of its values");
        assert_eq!(tag_of(&limit().when_cut_off(WhenCutOff::Share)), tags[0]);
    }

    #[test]
    fn these_tags_stand_on_disks() {
        let tags =
            [tag_of(&limit()), tag_of(&limit().per("session")), tag_of(&limit().per("user"))];
        assert_eq!(tags, [53_272, 54_688, 54_386]);
    }

    #[test]
    fn the_hash_follows_all_that_a_limit_says() {
        let of = |limit: Limit| LimitHash::of(&limit).hash;
        let hashes = [
            of(limit()),
            of(limit().per("user")),
            of(limit().when("user", "a")),
            of(limit().when("user", "b")),
            of(Limit::new("l", 6, Window::Fixed(MINUTE))),
            of(Limit::new("l", 5, Window::Fixed(MINUTE * 2))),
            of(Limit::new("l", 5, Window::Session { ttl: MINUTE })),
            of(limit().when_cut_off(WhenCutOff::Share)),
            of(limit().when_cut_off(WhenCutOff::Deny)),
        ];
        for (index, hash) in hashes.iter().enumerate() {
            assert!(!hashes[..index].contains(hash), "{hashes:x?}");
        }
        assert_eq!(of(limit()), hashes[0]);
        let [one, other] = [("a", "1"), ("b", "2")];
        assert_eq!(
            of(limit().when(one.0, one.1).when(other.0, other.1)),
            of(limit().when(other.0, other.1).when(one.0, one.1))
        );
    }

    #[test]
    fn the_digest_is_of_a_set() {
        let [a, b] = ["a", "b"].map(|name| LimitHash { name: name.into(), hash: 7 });
        let digest = LimitHash::digest(&[a.clone(), b.clone()]);
        assert_eq!(digest, LimitHash::digest(&[b.clone(), a.clone()]));
        assert!(digest != LimitHash::digest(&[a]) && digest != LimitHash::digest(&[]));
        assert_eq!(LimitHash::digest(&[]), 0);
    }
}
