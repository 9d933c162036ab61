//! Peers by the SRV records of a name: each leads to a host and a port.

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::proto::rr::rdata::SRV;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinSet;

use super::{Dns, Found, LOOK_AGAIN, LOOK_UP_EVERY, Tell, Trouble};

/// How long a name server may take for one answer, and how often it is asked.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 2;
/// So many records that lead nowhere are named.
const NAMED_MAX: usize = 8;

/// Looks the records up, again and again.
pub(super) async fn follow(name: String, dns: Dns, tell: Tell) {
    loop {
        let (addresses, nonsense) = match look_up(&name, dns).await {
            Ok(found) => found,
            Err(error) => {
                let name = format!("srv:{name}");
                let trouble = Trouble::Unresolved { name, error: error.to_string() };
                if !tell.trouble(trouble).await {
                    return;
                }
                tokio::time::sleep(LOOK_AGAIN).await;
                continue;
            }
        };
        if !nonsense.is_empty() && !tell.trouble(complaint(&name, &nonsense)).await {
            return;
        }
        // Records that all lead nowhere leave what was known before.
        let again = if addresses.is_empty() { LOOK_AGAIN } else { LOOK_UP_EVERY };
        if !addresses.is_empty() && !tell.found(Found::Addresses(addresses)).await {
            return;
        }
        tokio::time::sleep(again).await;
    }
}

/// The addresses that the records lead to, and what is wrong with those that lead nowhere.
async fn look_up(name: &str, dns: Dns) -> Result<(Vec<String>, Vec<String>), NetError> {
    // Made each time: the system's name servers may change.
    let resolver = dns.resolver()?;
    let answer = resolver.srv_lookup(name).await?;
    let mut targets = JoinSet::new();
    let mut nonsense = Vec::new();
    for record in answer.answers() {
        let RData::SRV(srv) = &record.data else { continue };
        match (srv.target.is_root(), srv.port) {
            (true, _) => {
                nonsense.push("the target \".\", which says that there is none".to_owned())
            }
            (false, 0) => nonsense.push(format!("{} with port 0", srv.target)),
            (false, _) => drop(targets.spawn(addresses_of(resolver.clone(), srv.clone()))),
        }
    }
    let mut addresses = Vec::new();
    while let Some(found) = targets.join_next().await {
        match found {
            Ok(Ok(found)) => addresses.extend(found),
            Ok(Err(why)) => nonsense.push(why),
            Err(panicked) => nonsense.push(panicked.to_string()),
        }
    }
    addresses.sort();
    addresses.dedup();
    nonsense.sort();
    Ok((addresses, nonsense))
}

/// The addresses of a record's target, with its port.
async fn addresses_of(resolver: TokioResolver, srv: SRV) -> Result<Vec<String>, String> {
    let SRV { target, port, .. } = srv;
    match resolver.lookup_ip(target.clone()).await {
        Ok(found) => Ok(found.iter().map(|ip| SocketAddr::new(ip, port).to_string()).collect()),
        Err(error) => Err(format!("{target}, which cannot be looked up: {error}")),
    }
}

fn complaint(name: &str, nonsense: &[String]) -> Trouble {
    let mut named = nonsense.get(..NAMED_MAX).unwrap_or(nonsense).join("; ");
    if nonsense.len() > NAMED_MAX {
        named = format!("{named}; and {} more", nonsense.len() - NAMED_MAX);
    }
    Trouble::Nonsense(format!(
        "SRV records of {name}, named in gossip.peers, lead to no peer and are skipped: {named}"
    ))
}

impl Dns {
    fn resolver(self) -> Result<TokioResolver, NetError> {
        let mut builder = match self {
            Dns::System => TokioResolver::builder_tokio()?,
            #[cfg(test)]
            Dns::At(address) => {
                use hickory_resolver::config::{
                    ConnectionConfig, NameServerConfig, ResolverConfig,
                };
                let mut connection = ConnectionConfig::udp();
                connection.port = address.port();
                let server = NameServerConfig::new(address.ip(), true, vec![connection]);
                let config = ResolverConfig::from_name_servers(vec![server]);
                TokioResolver::builder_with_config(config, Default::default())
            }
        };
        let options = builder.options_mut();
        options.cache_size = 0;
        options.timeout = ANSWER_TIMEOUT;
        options.attempts = ATTEMPTS;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        builder.build()
    }
}
