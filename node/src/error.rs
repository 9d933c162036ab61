//! How errors cross into JavaScript: as `CODE message`, which the TypeScript half makes one of its classes of.

use std::any::Any;
use std::fmt::Display;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};

use napi::{Error, Result};
use serde_json::json;
use tallymesh::{
    ConfigError, CountError, DurabilityError, InvalidKey, OpenError, RefundError, ResetError,
    SetKeysError, SetMembersError, SetPeersError,
};
use tokio::task::JoinError;

/// What went wrong, as users see it in `error.code`.
#[derive(Debug, Clone, Copy)]
pub enum Code {
    InvalidInput,
    Config,
    Open,
    Durability,
    Closed,
    Counter,
    Panic,
}

impl Code {
    fn name(self) -> &'static str {
        match self {
            Code::InvalidInput => "TALLYMESH_INVALID_INPUT",
            Code::Config => "TALLYMESH_CONFIG",
            Code::Open => "TALLYMESH_OPEN",
            Code::Durability => "TALLYMESH_DURABILITY",
            Code::Closed => "TALLYMESH_CLOSED",
            Code::Counter => "TALLYMESH_COUNTER",
            Code::Panic => "TALLYMESH_PANIC",
        }
    }
}

/// An error of this code.
pub fn error(code: Code, message: impl Display) -> Error {
    Error::from_reason(format!("{} {message}", code.name()))
}

/// The limiter is closed, or was never one of this thread.
pub fn closed() -> Error {
    error(Code::Closed, "the limiter is closed; open it again, or close it after its last use")
}

pub fn config(source: ConfigError) -> Error {
    error(Code::Config, source)
}

/// What is wrong with settings that were an object, in parts: which setting it is, of which limit if it is one's, its value and
/// what is allowed. The TypeScript half says it with the names of the object. What has no such parts is said as it is.
pub fn settings(source: ConfigError) -> Error {
    let parts = match &source {
        ConfigError::Invalid { key, value, allowed, .. } => {
            json!({ "key": key, "value": value, "allowed": allowed })
        }
        ConfigError::Limit(limit) => json!({
            "limit": limit.limit(), "key": limit.key(), "value": limit.value(), "allowed": limit.allowed(),
        }),
        // The text was made of the object: where in it an error is would tell users nothing.
        ConfigError::Syntax { source, .. } => {
            return match source.downcast_ref::<toml::de::Error>() {
                Some(syntax) => unreadable(syntax.message()),
                None => unreadable(source),
            };
        }
        other => return unreadable(other),
    };
    error(Code::Config, parts)
}

/// Settings in which no one setting is the reason.
pub fn unreadable(said: impl Display) -> Error {
    error(Code::Config, json!({ "said": said.to_string() }))
}

pub fn open(source: OpenError) -> Error {
    error(Code::Open, source)
}

pub fn durability(source: DurabilityError) -> Error {
    match source {
        DurabilityError::Closed => closed(),
        source => error(Code::Durability, source),
    }
}

pub fn set_peers(source: SetPeersError) -> Error {
    match source {
        SetPeersError::Closed => closed(),
        source => error(Code::Config, source),
    }
}

pub fn set_keys(source: SetKeysError) -> Error {
    match source {
        SetKeysError::Closed => closed(),
        source => error(Code::Config, source),
    }
}

pub fn set_members(source: SetMembersError) -> Error {
    match source {
        SetMembersError::Closed => closed(),
        source => error(Code::Config, source),
    }
}

pub fn reset(source: ResetError) -> Error {
    match source {
        ResetError::Counter(source) => counter(source),
        source => error(Code::InvalidInput, source),
    }
}

/// A refund that is refused, by one of the codes of `RefundError` in `lib/errors.ts`.
pub fn refund(code: &'static str, message: impl Display) -> Error {
    Error::from_reason(format!("{code} {message}"))
}

/// A refund that the limiter itself refuses. `NOT_MINE` is followed by the name of the node.
pub fn refused(source: RefundError) -> Error {
    let code = match &source {
        RefundError::Closed => return closed(),
        RefundError::OtherLimiter => "OTHER_LIMITER",
        RefundError::NotMine { node } => return refund("NOT_MINE", format!("{node} {source}")),
        RefundError::OtherLife => "OTHER_LIFE",
        RefundError::Used => "USED",
        RefundError::Expired => "EXPIRED",
        // `Invalid`, and what this version does not know.
        _ => "INVALID",
    };
    refund(code, source)
}

/// Where a setting is the reason, it is named as the object of the config has it.
pub fn counter(source: CountError) -> Error {
    match source {
        CountError::Closed => closed(),
        CountError::TooManyCounters { max } => error(
            Code::Counter,
            format!(
                "{max} counters are held, as many as counters.maxCounters allows, and waiting does not help: raise it or count \
                 less finely"
            ),
        ),
        CountError::KeyTooLong { bytes, max } => error(
            Code::Counter,
            format!(
                "the key has {bytes} bytes, counters.maxKeyBytes allows {max}: give shorter values, or raise it"
            ),
        ),
        source => error(Code::Counter, source),
    }
}

pub fn key(source: InvalidKey) -> Error {
    match source {
        InvalidKey::Length(bytes) => error(
            Code::Counter,
            format!(
                "the key has {bytes} bytes, more than counters.maxKeyBytes can allow: give shorter values, for example a hash"
            ),
        ),
        source => error(Code::Counter, source),
    }
}

/// Runs an export, and makes a panic an error: one that left the export would end the process.
pub fn guard<T>(run: impl FnOnce() -> Result<T>) -> Result<T> {
    // What a panic may leave half done are this thread's own lists, each of which is changed in one step.
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|payload| Err(panicked(&*payload)))
}

/// The same for what runs on threads of its own.
pub async fn guard_future<T: Send + 'static>(
    future: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let joined = napi::tokio::spawn(future).await;
    joined.unwrap_or_else(|ended: JoinError| match ended.try_into_panic() {
        Ok(payload) => Err(panicked(&*payload)),
        Err(_) => Err(closed()),
    })
}

fn panicked(payload: &(dyn Any + Send)) -> Error {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("no message");
    error(Code::Panic, format!("a bug in tallymesh, please report it: {text}"))
}
