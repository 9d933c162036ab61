//! Keys that nodes have alone: made, and told by their public halves.

use napi::Result;
use napi_derive::napi;
use tallymesh::NodeKey;

use crate::error::{Code, error, guard};

/// A new key of a node, 64 hex digits.
#[napi]
pub fn generate_node_key() -> Result<String> {
    guard(|| {
        let key = NodeKey::generate().map_err(|why| error(Code::Open, why))?;
        Ok(key.reveal())
    })
}

/// The public half of a key of a node.
#[napi]
pub fn public_key_of(key: String) -> Result<String> {
    guard(|| {
        let key = NodeKey::parse(&key).map_err(|why| error(Code::Config, why))?;
        Ok(key.public_key().to_string())
    })
}
