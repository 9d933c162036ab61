//! What the node and its cluster are called.

use std::ffi::OsStr;
use std::sync::Arc;

use tallymesh_core::id::NodeId;
use tallymesh_core::wire::DEFAULT_CLUSTER;

use super::ConfigError;
use super::error::invalid;
use super::validate::Values;

pub(super) fn cluster(values: &Values) -> Result<Arc<str>, ConfigError> {
    let name = values.text("gossip.cluster")?;
    let name = name.as_deref().unwrap_or(DEFAULT_CLUSTER);
    // A cluster is called what a node may be.
    match name.parse::<NodeId>() {
        Ok(_) => Ok(name.into()),
        Err(_) => Err(invalid("gossip.cluster", format!("{name:?}"), NODE_ID_ALLOWED)),
    }
}

pub(super) fn node_id(values: &Values) -> Result<NodeId, ConfigError> {
    let text = values.text("node.id")?.unwrap_or_default();
    match text.as_str() {
        HOST_NAME => node_id_of_host(&gethostname::gethostname()),
        text => text.parse().map_err(|_| invalid("node.id", format!("{text:?}"), NODE_ID_ALLOWED)),
    }
}

/// The id that stands for the machine's host name.
const HOST_NAME: &str = "@hostname";
const NODE_ID_ALLOWED: &str = "1 to 64 ASCII letters, digits, '.', '_' or '-'";

pub(super) fn node_id_of_host(name: &OsStr) -> Result<NodeId, ConfigError> {
    name.to_str().and_then(|name| name.parse().ok()).ok_or_else(|| {
        let allowed = format!(
            "the host name, {name:?}, must be {NODE_ID_ALLOWED}; give the node a name of its own"
        );
        invalid("node.id", format!("{HOST_NAME:?}"), &allowed)
    })
}
