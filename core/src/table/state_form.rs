//! A counter's state for serde: `{ key: { limit, values, window: { start, length_ms } }, value, generation, expires_at, marks:
//! { at, p0, n0 }, cells: [{ replica, version, p, n }] }`, times in milliseconds since 1970. The key of a session says `kind:
//! "session"`, that of a limit's counter its `tag`; one of a kind that is not known says its `bytes`, in hexadecimal.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::CounterState;
use crate::crdt::{Cell, Marks};
use crate::id::Version;
use crate::key::{CounterKey, CounterKind, Ends, NO_LIMIT, WindowSpan};
use crate::time::{Timestamp, whole_ms};

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct KeyForm {
    limit: String,
    values: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<WindowForm>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<KindForm>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KindForm {
    Session,
}

#[derive(Serialize, Deserialize)]
struct WindowForm {
    start: Timestamp,
    length_ms: u64,
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
        let window = |span: WindowSpan| WindowForm {
            start: span.start(),
            length_ms: whole_ms(span.length()),
        };
        let (kind, bytes) = match self.kind() {
            CounterKind::Plain | CounterKind::FixedWindow => (None, None),
            CounterKind::Session => (Some(KindForm::Session), None),
            CounterKind::Other(_) => (None, Some(to_hex(self.as_bytes()))),
        };
        let form = KeyForm {
            limit: self.limit().to_string(),
            values: self.values().map(ToString::to_string).collect(),
            window: self.window().map(window),
            kind,
            tag: Some(self.tag()).filter(|tag| *tag != NO_LIMIT),
            bytes,
        };
        form.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for CounterKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<CounterKey, D::Error> {
        let form = KeyForm::deserialize(deserializer)?;
        if let Some(text) = form.bytes {
            let bytes = from_hex(&text);
            let bytes = bytes.ok_or_else(|| D::Error::custom("a key's bytes are hexadecimal"))?;
            return CounterKey::from_bytes(&bytes).map_err(D::Error::custom);
        }
        let (kind, ends) = match (form.kind, form.window) {
            (Some(KindForm::Session), _) => (CounterKind::Session, Ends::AfterUse),
            (None, None) => (CounterKind::Plain, Ends::AfterUse),
            (None, Some(WindowForm { start, length_ms })) => {
                let window = WindowSpan::new(start, length_ms).map_err(D::Error::custom)?;
                (CounterKind::FixedWindow, Ends::WithWindow(window))
            }
        };
        let values: Vec<&str> = form.values.iter().map(String::as_str).collect();
        let tag = form.tag.unwrap_or(NO_LIMIT);
        CounterKey::spell(kind, ends, &form.limit, tag, &values, &[]).map_err(D::Error::custom)
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let byte = |two: &[u8]| {
        let two = core::str::from_utf8(two).ok().filter(|two| two.len() == 2)?;
        u8::from_str_radix(two, 16).ok()
    };
    text.as_bytes().chunks(2).map(byte).collect()
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
