//! A counter's state for serde: `{ key: { limit, values, window: { length_ms, index } }, value, generation, expires_at, cells:
//! [{ replica, version, p, n }] }`, times in milliseconds since 1970.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::CounterState;
use crate::crdt::Cell;
use crate::id::Version;
use crate::key::{CounterKey, WindowIndex};
use crate::time::Timestamp;

#[derive(Serialize, Deserialize)]
struct KeyForm {
    limit: String,
    values: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    window: Option<WindowForm>,
}

#[derive(Serialize, Deserialize)]
struct WindowForm {
    length_ms: u64,
    index: u64,
}

#[derive(Serialize, Deserialize)]
struct StateForm {
    key: CounterKey,
    value: u64,
    generation: u32,
    expires_at: Timestamp,
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
        let window = self.window();
        let form = KeyForm {
            limit: self.limit().to_string(),
            values: self.values().map(ToString::to_string).collect(),
            window: window.map(|of| WindowForm { length_ms: of.length_ms, index: of.index }),
        };
        form.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for CounterKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<CounterKey, D::Error> {
        let KeyForm { limit, values, window } = KeyForm::deserialize(deserializer)?;
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let key = match window {
            None => CounterKey::new(&limit, &values),
            Some(WindowForm { length_ms, index }) => {
                CounterKey::windowed(&limit, &values, WindowIndex { length_ms, index })
            }
        };
        key.map_err(D::Error::custom)
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
        let CounterState { value, generation, expires_at, .. } = *self;
        let (key, cells) = (self.key.clone(), cells.collect());
        StateForm { key, value, generation, expires_at, cells }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for CounterState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<CounterState, D::Error> {
        let StateForm { key, value, generation, expires_at, cells } =
            StateForm::deserialize(deserializer)?;
        let cell = |form: CellForm| {
            let cell = Cell { version: form.version, p: form.p, n: form.n };
            form.replica.parse().map(|replica| (replica, cell)).map_err(D::Error::custom)
        };
        let cells = cells.into_iter().map(cell).collect::<Result<_, _>>()?;
        Ok(CounterState { key, value, generation, expires_at, cells })
    }
}
