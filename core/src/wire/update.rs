//! An update on the wire: `[key, version, generation, p, n, at, p0, n0]`, without the zeroes at its end. There are many, so
//! they alone are no maps.

use core::fmt;

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeSeq, Serializer};
use serde_bytes::{ByteBuf, Bytes};

use crate::crdt::{Marks, Update, without_trailing_zeroes};
use crate::id::Version;

impl Serialize for Update {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Marks { at, p0, n0 } = self.marks;
        let numbers = [self.version.0, self.generation.into(), self.p, self.n, at, p0, n0];
        let numbers = without_trailing_zeroes(&numbers);
        let mut seq = serializer.serialize_seq(Some(1 + numbers.len()))?;
        seq.serialize_element(Bytes::new(&self.key))?;
        numbers.iter().try_for_each(|number| seq.serialize_element(number))?;
        seq.end()
    }
}

impl<'de> Deserialize<'de> for Update {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Update, D::Error> {
        deserializer.deserialize_seq(Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Update;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an update: a key and up to seven numbers")
    }

    // Once in a program, not once for each message that has some.
    #[inline(never)]
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Update, A::Error> {
        let key: ByteBuf =
            seq.next_element()?.ok_or_else(|| de::Error::invalid_length(0, &self))?;
        let mut number = || Ok::<u64, A::Error>(seq.next_element()?.unwrap_or(0));
        let (version, generation) = (Version(number()?), number()?);
        let generation = u32::try_from(generation)
            .map_err(|_| de::Error::invalid_value(de::Unexpected::Unsigned(generation), &self))?;
        let (p, n) = (number()?, number()?);
        let marks = Marks { at: number()?, p0: number()?, n0: number()? };
        if seq.next_element::<de::IgnoredAny>()?.is_some() {
            return Err(de::Error::invalid_length(9, &self));
        }
        Ok(Update { key: key.into_vec(), version, generation, p, n, marks })
    }
}
