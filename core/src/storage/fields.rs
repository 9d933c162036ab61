//! What a record says that this version does not know: kept as it is, and written again with what it does know.
//!
//! A newer version may add fields to any map on disk. An older one of the same format then finds them, does not understand them,
//! and must not lose them: the newer one may come back. So each map ends in [`Fields`], which take whatever is left over.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// Fields by their names, to be flattened into the map that they came from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fields(BTreeMap<String, Value>);

impl Fields {
    /// Whether there are none, as there are not unless a newer version wrote some.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A value of any shape that a record may hold: all of MessagePack but its extensions, and all of TOML but its dates.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Nil,
    Bool(bool),
    Unsigned(u64),
    Negative(i64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Value>),
    Map(BTreeMap<String, Value>),
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Nil => to.serialize_unit(),
            Value::Bool(value) => to.serialize_bool(*value),
            Value::Unsigned(value) => to.serialize_u64(*value),
            Value::Negative(value) => to.serialize_i64(*value),
            Value::Float(value) => to.serialize_f64(*value),
            Value::Text(value) => to.serialize_str(value),
            Value::Bytes(value) => to.serialize_bytes(value),
            Value::List(values) => values.serialize(to),
            Value::Map(values) => values.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Value, D::Error> {
        from.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Nil)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Nil)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        Value::deserialize(from)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(u64::try_from(value).map_or(Value::Negative(value), Value::Unsigned))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Value, E> {
        Ok(Value::Bytes(value.to_vec()))
    }

    fn visit_byte_buf<E>(self, value: Vec<u8>) -> Result<Value, E> {
        Ok(Value::Bytes(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = from.next_element()? {
            values.push(value);
        }
        Ok(Value::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut values = BTreeMap::new();
        while let Some((name, value)) = from.next_entry()? {
            values.insert(name, value);
        }
        Ok(Value::Map(values))
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;

    /// A map of which this version knows one field.
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Known {
        known: u32,
        #[serde(flatten)]
        others: Fields,
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Nil),
            any::<bool>().prop_map(Value::Bool),
            any::<u64>().prop_map(Value::Unsigned),
            (i64::MIN..0).prop_map(Value::Negative),
            (-1e300..1e300).prop_map(Value::Float),
            ".{0,8}".prop_map(Value::Text),
            prop::collection::vec(any::<u8>(), 0..8).prop_map(Value::Bytes),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
                prop::collection::btree_map("[a-z]{1,4}", inner, 0..4).prop_map(Value::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_not_known_is_written_as_it_was_read(
            fields in prop::collection::btree_map("[a-j]{1,6}", value(), 0..5),
        ) {
            let newer = Known { known: 7, others: Fields(fields) };
            let bytes = rmp_serde::to_vec_named(&newer).unwrap();
            let read: Known = rmp_serde::from_slice(&bytes).unwrap();
            prop_assert_eq!(&read, &newer);
            prop_assert_eq!(rmp_serde::to_vec_named(&read).unwrap(), bytes);
        }
    }

    #[test]
    fn a_map_of_known_fields_has_no_others() {
        let only = Known { known: 1, others: Fields::default() };
        let bytes = rmp_serde::to_vec_named(&only).unwrap();
        assert_eq!(bytes, [&[0x81, 0xa5][..], b"known", &[1]].concat());
        let read: Known = rmp_serde::from_slice(&bytes).unwrap();
        assert!(read.others.is_empty());
        let more = Known { known: 1, others: Fields([("x".into(), Value::List(vec![]))].into()) };
        assert!(!more.others.is_empty());
    }
}
