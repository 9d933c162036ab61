//! Where the addresses of peers come from: the forms that an entry of `gossip.peers` may have.

use std::fmt;
use std::path::PathBuf;

use super::ConfigError;
use super::error::invalid;

/// The most entries, and the most addresses that they may lead to together.
pub(crate) const PEERS_MAX: usize = 4096;

/// An entry of `gossip.peers`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PeerEntry {
    /// `host:port`: an address, or a name that is looked up again and again.
    Host(String),
    /// `srv:name`: the targets of the SRV records of this name.
    Srv(String),
    /// `file:path`: an entry of `host:port` on each line, read again when it changes.
    File(PathBuf),
}

const SRV: &str = "srv:";
const FILE: &str = "file:";
/// What is left of a name by DNS, with its dots.
const NAME_BYTES_MAX: usize = 253;

impl PeerEntry {
    /// The entries of the setting `gossip.peers`.
    ///
    /// # Errors
    /// When one is none of the forms, or there are too many.
    pub(crate) fn parse_all(entries: &[String]) -> Result<Vec<PeerEntry>, ConfigError> {
        let path = "gossip.peers";
        if entries.len() > PEERS_MAX {
            let value = format!("{} addresses", entries.len());
            return Err(invalid(path, value, &format!("at most {PEERS_MAX}")));
        }
        let parse = |entry: &String| {
            PeerEntry::parse(entry).map_err(|why| invalid(path, format!("{entry:?}"), &why))
        };
        entries.iter().map(parse).collect()
    }

    /// The entry, or what would be allowed in its place.
    fn parse(entry: &str) -> Result<PeerEntry, String> {
        if let Some(name) = entry.strip_prefix(SRV) {
            if !is_name(name) {
                return Err("srv: and a name in the DNS without a port, such as \"srv:_gossip._tcp.tallymesh.example\"".into());
            }
            if !cfg!(feature = "srv") {
                return Err("\"host:port\" or \"file:/path\": this build of tallymesh has no lookup of SRV records, which the cargo \
                            feature `srv` adds"
                    .into());
            }
            return Ok(PeerEntry::Srv(name.to_owned()));
        }
        if let Some(path) = entry.strip_prefix(FILE) {
            return match path.trim().is_empty() || path.contains('\0') {
                true => {
                    Err("file: and the path of a file, such as \"file:/etc/tallymesh/peers\""
                        .into())
                }
                false => Ok(PeerEntry::File(path.into())),
            };
        }
        match is_host_and_port(entry) {
            true => Ok(PeerEntry::Host(entry.to_owned())),
            false => Err("\"host:port\", such as \"10.0.0.7:7946\" or \"[::1]:7946\"; \"srv:name\"; or \"file:/path\"".into()),
        }
    }
}

impl fmt::Display for PeerEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerEntry::Host(host) => f.write_str(host),
            PeerEntry::Srv(name) => write!(f, "{SRV}{name}"),
            PeerEntry::File(path) => write!(f, "{FILE}{}", path.display()),
        }
    }
}

/// Whether this is a host, by name or address, and a port that can be dialed.
pub(crate) fn is_host_and_port(entry: &str) -> bool {
    let Some((host, port)) = entry.rsplit_once(':') else { return false };
    let is_port = !port.starts_with('+') && port.parse::<u16>().is_ok_and(|port| port > 0);
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        // With a zone, as in `fe80::1%eth0`.
        Some(v6) => v6.split('%').next().is_some_and(|v6| v6.parse::<std::net::Ipv6Addr>().is_ok()),
        None => is_name(host),
    };
    is_port && is_host
}

/// Whether this can be a name: what holds a space, a slash or a colon is meant as something else.
fn is_name(name: &str) -> bool {
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || "/:,;@[]\"'".contains(c);
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && !name.contains(is_odd)
        && !name.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(entry: &str) -> Result<PeerEntry, String> {
        PeerEntry::parse(entry)
    }

    #[test]
    fn each_form_is_read_and_written_as_it_was() {
        let host = |text: &str| Ok(PeerEntry::Host(text.into()));
        for entry in
            ["10.0.0.7:7946", "[::1]:1", "[fe80::1%2]:7946", "a_b.example:65535", "büro.example:1"]
        {
            assert_eq!(parse(entry), host(entry));
        }
        let file = parse("file:/etc/peers").unwrap();
        assert_eq!(
            (&file, file.to_string()),
            (&PeerEntry::File("/etc/peers".into()), "file:/etc/peers".into())
        );
        if cfg!(feature = "srv") {
            let srv = parse("srv:_gossip._tcp.a.example.").unwrap();
            assert_eq!(srv.to_string(), "srv:_gossip._tcp.a.example.");
        }
    }

    #[test]
    fn nonsense_is_refused_with_what_is_allowed() {
        for (entry, allowed) in [
            ("", "host:port"),
            ("a", "host:port"),
            ("a:0", "host:port"),
            ("a:65536", "host:port"),
            ("a:+1", "host:port"),
            (":1", "host:port"),
            ("::1:1", "[::1]:7946"),
            ("[::g]:1", "host:port"),
            ("http://a:1", "host:port"),
            ("a b:1", "host:port"),
            ("a:1,b:1", "host:port"),
            ("dns:a:1", "srv:name"),
            ("file:", "file:/etc"),
            ("file: ", "file:/etc"),
            ("srv:", "srv:_gossip"),
            ("srv:a:1", "without a port"),
            ("srv:a b", "srv:_gossip"),
        ] {
            let why = parse(entry).unwrap_err();
            assert!(why.contains(allowed), "{entry:?}: {why}");
        }
    }

    #[test]
    #[cfg(not(feature = "srv"))]
    fn without_the_feature_the_refusal_names_it() {
        assert!(parse("srv:_gossip._tcp.a").unwrap_err().contains("feature `srv`"));
    }

    #[test]
    fn there_are_at_most_so_many_entries() {
        let many: Vec<String> = (0..=PEERS_MAX).map(|n| format!("h{n}:1")).collect();
        let error = PeerEntry::parse_all(&many).unwrap_err().to_string();
        assert!(error.contains("4097 addresses") && error.contains("at most 4096"), "{error}");
    }
}
