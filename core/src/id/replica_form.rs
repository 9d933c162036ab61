//! A replica on the wire: `[node, [boot, nonce]]`. It is a name, not a message, and in nearly every message.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::id::{Incarnation, NodeId, ReplicaId};

pub(crate) fn serialize<S: Serializer>(replica: &ReplicaId, to: S) -> Result<S::Ok, S::Error> {
    let Incarnation { boot, nonce } = replica.incarnation;
    (&replica.node, (boot, nonce)).serialize(to)
}

// Once in a program, not once for each message and record that has one.
#[inline(never)]
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<ReplicaId, D::Error> {
    let (node, (boot, nonce)): (NodeId, (u64, u64)) = Deserialize::deserialize(from)?;
    Ok(ReplicaId { node, incarnation: Incarnation { boot, nonce } })
}

/// The same, of one that may be left out.
pub(crate) mod optional {
    use super::{Deserializer, ReplicaId, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        replica: &Option<ReplicaId>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match replica {
            Some(replica) => super::serialize(replica, to),
            None => to.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<ReplicaId>, D::Error> {
        super::deserialize(from).map(Some)
    }
}
