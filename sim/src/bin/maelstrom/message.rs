//! Maelstrom's messages: what is read from a line, what is answered, and why something is refused.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One message, from a line or for one.
#[derive(Debug, Serialize, Deserialize)]
pub struct Message {
    pub src: String,
    pub dest: String,
    pub body: Map<String, Value>,
}

/// A body of these fields.
pub fn body<const FIELDS: usize>(fields: [(&str, Value); FIELDS]) -> Map<String, Value> {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

impl Message {
    /// What kind of message this is.
    pub fn kind(&self) -> Result<&str, Refusal> {
        let kind = self.body.get("type").and_then(Value::as_str);
        kind.ok_or_else(|| Refusal::malformed("the body has no \"type\""))
    }

    /// The fields that belong to this kind of message.
    pub fn fields<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        serde_json::from_value(Value::Object(self.body.clone())).map_err(Refusal::malformed)
    }

    /// The answer with this body; `None` for a message that asks for no answer, by having no `msg_id`.
    pub fn reply(&self, mut body: Map<String, Value>) -> Option<Message> {
        let request = self.body.get("msg_id").filter(|id| id.is_u64() || id.is_i64())?;
        body.insert("in_reply_to".to_owned(), request.clone());
        Some(Message { src: self.dest.clone(), dest: self.src.clone(), body })
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

/// Why a request was not carried out. Each of these codes says for certain that it was not, and never will be.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    code: u16,
    text: String,
}

impl Refusal {
    pub fn not_supported(kind: &str) -> Refusal {
        Refusal { code: 10, text: format!("{kind:?} is no request of this node") }
    }

    pub fn temporarily_unavailable(why: impl fmt::Display) -> Refusal {
        Refusal { code: 11, text: why.to_string() }
    }

    pub fn malformed(why: impl fmt::Display) -> Refusal {
        Refusal { code: 12, text: why.to_string() }
    }

    pub fn abort(why: impl fmt::Display) -> Refusal {
        Refusal { code: 14, text: why.to_string() }
    }

    pub fn precondition_failed(why: impl fmt::Display) -> Refusal {
        Refusal { code: 22, text: why.to_string() }
    }

    /// The body of an answer.
    pub fn body(&self) -> Map<String, Value> {
        let text = self.text.as_str();
        body([("type", "error".into()), ("code", self.code.into()), ("text", text.into())])
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (error {})", self.text, self.code)
    }
}
