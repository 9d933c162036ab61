//! Several processes of one program that share their settings. Each has a slot, a number from 0 on, which makes an id, a directory
//! and a port of its own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tallymesh_core::id::NodeId;

use super::error::invalid;
use super::validate::Values;
use super::{Config, ConfigError, PeerEntry};

/// The slots of a config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slots {
    /// How many there are.
    pub count: usize,
    /// The one of this process; `None` for the first that is free.
    pub own: Option<usize>,
}

impl Slots {
    /// Those that these settings ask for.
    pub(super) fn of(values: &Values) -> Result<Option<Slots>, ConfigError> {
        let own = values.count_if_set("node.slot")?;
        match (values.count_if_set("node.slots")?, own) {
            (None, None) => Ok(None),
            (None, Some(own)) => {
                let allowed =
                    "only with node.slots, the number of processes that share the settings";
                Err(invalid("node.slot", own.to_string(), allowed))
            }
            (Some(count), Some(own)) if own >= count => {
                let allowed = format!("0 to {}, since node.slots = {count}", count - 1);
                Err(invalid("node.slot", own.to_string(), &allowed))
            }
            (Some(count), own) => Ok(Some(Slots { count, own })),
        }
    }

    /// The slots that this process may take, in the order in which it tries them.
    pub(crate) fn candidates(self) -> std::ops::Range<usize> {
        match self.own {
            Some(own) => own..own + 1,
            None => 0..self.count,
        }
    }
}

/// Whether each slot of the config can have an id and ports of its own.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    let Some(Slots { count, .. }) = config.slots else { return Ok(()) };
    let refused = |allowed: &str| Err(invalid("node.slots", count.to_string(), allowed));
    let Some(listen) = config.listen else {
        return refused(
            "only with gossip.listen: the processes find each other at its port and those after it",
        );
    };
    if listen.ip().is_unspecified() && config.gossip.advertised.is_none() {
        return refused(
            "only with an address of this machine as gossip.listen, or with gossip.advertise: others would be told an address that \
             only this machine can dial",
        );
    }
    if listen.port() == 0 {
        return refused(
            "only with a port of at least 1 in gossip.listen: the others are at those after it",
        );
    }
    let last = count - 1;
    let ports = [Some(listen), advertised(config)];
    if let Some(address) =
        ports.into_iter().flatten().find(|address| in_slot(*address, last).is_none())
    {
        let most = usize::from(u16::MAX - address.port()) + 1;
        return refused(&format!(
            "at most {most}: there are no more ports from that of {address} on"
        ));
    }
    match id(&config.node, last) {
        Some(_) => Ok(()),
        None => refused(
            "a shorter node.id: \"-\" and the slot are added to it, and 64 characters are the most",
        ),
    }
}

impl Config {
    /// The config of the process in this slot; this one, if it has no slots.
    pub(crate) fn in_slot(&self, slot: usize) -> Config {
        let mut config = self.clone();
        let Some(Slots { count, .. }) = config.slots.take() else { return config };
        if let Some(id) = id(&self.node, slot) {
            config.node = id;
        }
        config.data_dir = self.data_dir.as_ref().map(|dir| dir.join(slot.to_string()));
        config.control = self.control.as_ref().map(|control| control.in_slot(slot));
        config.listen = self.listen.and_then(|address| in_slot(address, slot));
        let advertised = advertised(self).and_then(|address| in_slot(address, slot));
        config.gossip.advertised = advertised.map(|address| address.to_string());
        let others = (0..count).filter(|other| *other != slot);
        for address in others.filter_map(|other| in_slot(dialed(self.listen?), other)) {
            config.other_slots.insert(address.to_string());
            let entry = PeerEntry::Host(address.to_string());
            if !config.peers.contains(&entry) {
                config.peers.push(entry);
            }
        }
        config
    }
}

pub(super) fn id(base: &NodeId, slot: usize) -> Option<NodeId> {
    format!("{base}-{slot}").parse().ok()
}

fn in_slot(address: SocketAddr, slot: usize) -> Option<SocketAddr> {
    let port = address.port().checked_add(u16::try_from(slot).ok()?)?;
    Some(SocketAddr::new(address.ip(), port))
}

fn advertised(config: &Config) -> Option<SocketAddr> {
    config.gossip.advertised.as_ref()?.parse().ok()
}

/// Where a process of the same machine finds what listens at this address.
fn dialed(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}
