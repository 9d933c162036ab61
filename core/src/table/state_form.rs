//! A counter's state for serde: `{ key: { limit, values, window: { start, length_ms }, bytes }, value, generation, expires_at,
//! marks: { at, p0, n0 }, cells: [{ replica, version, p, n }] }`, times in milliseconds since 1970. What makes the key are its
//! bytes, in hexadecimal; the rest of it is for readers.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};

use core::fmt::Write;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::CounterState;
use crate::crdt::{Cell, Marks};
use crate::id::Version;
use crate::key::{CounterKey, WindowSpan};
use crate::time::{Timestamp, whole_ms};

#[derive(Serialize)]
struct KeyForm<'a> {
    limit: &'a str,
    values: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<WindowForm>,
    bytes: String,
}

#[derive(Serialize)]
struct WindowForm {
    start: Timestamp,
    length_ms: u64,
}

#[derive(Deserialize)]
struct KeyBytes {
    bytes: String,
}

#[derive(Serialize, Deserialize)]
struct StateForm {
    key: CounterKey,
    value: u64,
    generation: u32,
    expires_at: Timestamp,
    marks: Marks,
    cells: Vec<CellForm>,
}

#[derive(Serialize, Deserialize)]
struct CellForm {
    replica: String,
    version: Version,
    p: u64,
    n: u64,
}

impl Serialize for CounterKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let window = |span: WindowSpan| {
            WindowForm { start: span.start(), length_ms: whole_ms(span.length()) }
        };
        let mut bytes = String::new();
        for byte in self.as_bytes() {
            write!(bytes, "{byte:02x}").map_err(serde::ser::Error::custom)?;
        }
        let (limit, values) = (self.limit(), self.values().collect());
        KeyForm { limit, values, window: self.window().map(window), bytes }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for CounterKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<CounterKey, D::Error> {
        let KeyBytes { bytes: text } = KeyBytes::deserialize(deserializer)?;
        let byte = |two: &[u8]| {
            let two = core::str::from_utf8(two).ok().filter(|two| two.len() == 2)?;
            u8::from_str_radix(two, 16).ok()
        };
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
        let bytes = bytes.ok_or_else(|| D::Error::custom("the bytes of a key are hexadecimal"))?;
        CounterKey::from_bytes(&bytes).map_err(D::Error::custom)
    }
}

impl Serialize for CounterState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let cells = self.cells.iter().map(|(replica, Cell { version, p, n })| CellForm {
            replica: replica.to_string(),
            version: *version,
            p: *p,
            n: *n,
        });
        let CounterState { value, generation, expires_at, marks, .. } = *self;
        let (key, cells) = (self.key.clone(), cells.collect());
        StateForm { key, value, generation, expires_at, marks, cells }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for CounterState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<CounterState, D::Error> {
        let StateForm { key, value, generation, expires_at, marks, cells } =
            StateForm::deserialize(deserializer)?;
        let cell = |form: CellForm| {
            let cell = Cell { version: form.version, p: form.p, n: form.n };
            form.replica.parse().map(|replica| (replica, cell)).map_err(D::Error::custom)
        };
        let cells = cells.into_iter().map(cell).collect::<Result<_, _>>()?;
        Ok(CounterState { key, value, generation, expires_at, marks, cells })
    }
}
