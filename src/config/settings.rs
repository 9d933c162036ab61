//! Every setting, one row each. The TOML file, the builder, validation, the Node.js package and `docs/settings.md` go by these
//! rows, or are tested against them.

use std::time::Duration;

use tallymesh_core::limit::WINDOW_MAX;
use tallymesh_core::time::format_duration;

/// One setting.
#[derive(Debug)]
pub(super) struct Setting {
    /// Its table and its name there, such as `gossip.interval`.
    pub path: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// What applies when it is not set, as written in TOML, but without the quotes of text.
    pub default: DefaultValue,
    /// What it means, in one line.
    #[cfg_attr(not(test), expect(dead_code, reason = "a test compares the documentation with it"))]
    pub doc: &'static str,
}

/// What a setting may be. Ranges include both ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// Any text; what it must look like is checked by hand.
    Text,
    /// A list of texts.
    Texts,
    /// Secret keys, which are shown nowhere.
    Keys,
    /// A secret key of a node, which is shown nowhere.
    NodeKey,
    /// `true` or `false`.
    Flag,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A length of time; in TOML a text such as `"50ms"`.
    Duration(Duration, Duration),
    /// A length of time, or the word `never`.
    DurationOrNever(Duration, Duration),
    /// A whole number.
    Count(usize, usize),
    /// A number with a fraction.
    Fraction(f64, f64),
}

/// What applies when a setting is not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DefaultValue {
    /// It must be set.
    Required,
    /// Nothing.
    Nothing,
    /// This value.
    Is(&'static str),
}

use DefaultValue::{Is, Nothing, Required};
use Kind::{Count, Flag, Fraction, Keys, NodeKey, OneOf, Text, Texts};

const MS: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// All settings, in the order of the documentation.
#[rustfmt::skip]
pub(super) static SETTINGS: &[Setting] = &[
    row("node.id", Text, Required,
        "The node's name: unique in the cluster, the same after a restart; 1 to 64 ASCII letters, digits, `.`, `_` or `-`; `@hostname` is the machine's host name"),
    row("node.data_dir", Text, Nothing,
        "The directory for the state, of this node alone; required unless `storage.in_memory` is set"),
    row("node.slots", Count(1, 1024), Nothing,
        "How many processes share these settings. Each takes a slot N from 0 on, and with it the id `ID-N`, the directory `DATA_DIR/N`, the ports of `gossip.listen` and `gossip.advertise` plus N, and those of the other slots as peers"),
    row("node.slot", Count(0, 1023), Nothing,
        "The slot of this process, below `node.slots`; without it, the first that no other process holds"),
    row("node.control", Text, Nothing,
        "The path of a unix socket, of at most 100 bytes, at which the owner of the process can ask and act (`tallymesh ctl`); with `node.slots`, `-N` is added to the name. `off` for none, which is what libraries do without it; the program makes `control.sock` in `node.data_dir`, or where there is none, `tallymesh-ID.sock` in `$XDG_RUNTIME_DIR` or `/run`"),
    row("gossip.cluster", Text, Is("default"),
        "The cluster's name: nodes of another one are refused; 1 to 64 ASCII letters, digits, `.`, `_` or `-`"),
    row("gossip.listen", Text, Nothing,
        "The IP address and port to listen at; without it, the node only dials its peers"),
    row("gossip.advertise", Text, Nothing,
        "The IP address and port that other nodes are told to dial; without it, the port of `gossip.listen` at the address that they see"),
    row("gossip.peers", Texts, Is("[]"),
        "Where the other nodes are, each as `host:port` (an address, or a name, which is looked up every 5 s and may have several addresses), `srv:name` (SRV records, with the cargo feature `srv`) or `file:path` (one `host:port` a line, read again when it changes); at most 4,096 entries and addresses, of which the node's own is left out"),
    row("gossip.peer_exchange", Flag, Is("true"),
        "Learns the addresses of other members from the peers that the node dialed, at most 4,096; only with a key, if it listens on a loopback address, or with `gossip.insecure`"),
    row("gossip.key", Keys, Nothing,
        "The cluster's secret key, as `tallymesh keygen` prints it: only who has it is a peer, and what peers say is encrypted. Of several, the first is used to dial and all are accepted"),
    row("gossip.key_file", Text, Nothing,
        "The path of a file with the cluster's keys, one a line, that only its owner can read; in the place of `gossip.key`"),
    row("gossip.node_key", NodeKey, Nothing,
        "The secret key that this node has alone, as `tallymesh keygen --node` prints it, in the place of `gossip.key`: by it the others know that it is this node and no other"),
    row("gossip.node_key_file", Text, Nothing,
        "The path of a file with the node's key, that only its owner can read; in the place of `gossip.node_key`"),
    row("gossip.members", Texts, Nothing,
        "The nodes that may be peers, with a node key: each as `node=public key`, this node among them, at most 4,096. A node may have four keys, each as an entry of its own: all are accepted, and its links are made again until they are under the first"),
    row("gossip.tls_certificate", Text, Nothing,
        "The path of a file with this node's certificate in PEM, and those between it and an authority: peers prove themselves by certificates, in TLS, in the place of a key. It names the node by a URI `tallymesh:node/ID`; with the cargo feature `tls`"),
    row("gossip.tls_key", Text, Nothing,
        "The path of a file with that certificate's private key in PEM, that only its owner can read"),
    row("gossip.tls_authorities", Text, Nothing,
        "The path of a file with the certificates in PEM of the authorities whose certificates are accepted"),
    row("gossip.tls_revoked", Text, Nothing,
        "The path of a file with those authorities' lists of revoked certificates in PEM, one of each"),
    row("gossip.insecure", Flag, Is("false"),
        "Listens beyond the loopback interface without a key: peers then neither authenticate nor encrypt"),
    row("gossip.interval", Kind::Duration(MS, MINUTE), Is("50ms"),
        "The time between two rounds in which changes are sent, on average"),
    row("gossip.urgent_at", Fraction(0.0, 1.0), Is("0.7"),
        "The fraction of a limit from which a change is sent at once"),
    row("gossip.digest_interval", Kind::Duration(Duration::from_millis(10), MINUTE), Is("1s"),
        "The time after which nodes compare what they have"),
    row("gossip.sync_timeout", Kind::Duration(Duration::ZERO, MINUTE), Is("1s"),
        "How long opening may wait for the peers of the config to answer, and for their state; 0s for not at all"),
    row("gossip.ready_timeout", Kind::Duration(Duration::ZERO, TEN_MINUTES), Is("10s"),
        "How long after the start the node calls itself ready at the latest, whatever peers have not answered or are still sending"),
    row("gossip.leave_timeout", Kind::Duration(Duration::ZERO, MINUTE), Is("1s"),
        "How long a node that stops waits for a peer to confirm its last counts"),
    row("gossip.direct_up_to", Count(0, 65_536), Is("128"),
        "Up to this many nodes, each sends its own changes to every peer"),
    row("gossip.fanout", Count(1, 1024), Is("4"),
        "In a larger cluster, the number of peers that each round sends changes to: those that asked for them, and others by chance"),
    row("gossip.handshake_timeout", Kind::Duration(Duration::from_millis(100), MINUTE), Is("5s"),
        "How long a peer may take to introduce itself"),
    row("gossip.silence_timeout", Kind::Duration(Duration::from_millis(100), TEN_MINUTES), Is("5s"),
        "How long a peer may be silent before its connection is closed; at least twice `gossip.digest_interval`"),
    row("gossip.presumed_dead_after", Kind::DurationOrNever(Duration::from_secs(1), DAY), Is("60s"),
        "How long a member may be silent without a goodbye until limits with `when_cut_off` of `share` or `deny` take it for dead, and what is left for their own; `never` for as long as it takes"),
    row("gossip.clock_offset_max", Kind::Duration(MS, HOUR), Is("500ms"),
        "The difference between a peer's clock and the node's from which it is logged"),
    row("gossip.max_connections", Count(1, 65_536), Is("2048"),
        "The most connections at a time"),
    row("gossip.max_frame_bytes", Count(16_384, 16 * 1024 * 1024), Is("65536"),
        "The longest frame, in bytes"),
    row("gossip.max_frames_queued", Count(1, 16), Is("8"),
        "The most frames that wait for a slow peer"),
    row("operator.public_key", Text, Nothing,
        "The public half of the operator's key, 64 hex digits, as `tallymesh keygen --operator` prints it: what its private half has signed is done on every node that has it; without it, what an operator does holds on one node alone"),
    row("storage.durability", OneOf(&["relaxed", "sync"]), Is("relaxed"),
        "When counts are written to disk: every `storage.persist_every`, or as soon as there is something to write"),
    row("storage.persist_every", Kind::Duration(MS, MINUTE), Is("10ms"),
        "The time between two checkpoints, which a crash may lose; only with durability `relaxed`"),
    row("storage.in_memory", Flag, Is("false"),
        "Keeps the state in memory only, instead of in a `node.data_dir`; a restart begins with what the peers have"),
    row("counters.max_counters", Count(1, 100_000_000), Is("1000000"),
        "The most counters in memory"),
    row("counters.when_full", OneOf(&["deny", "allow"]), Is("deny"),
        "What happens to a request that needs a counter past `counters.max_counters`: it is denied, or allowed uncounted"),
    row("counters.unmatched", OneOf(&["allow", "deny"]), Is("allow"),
        "What happens to a request that no limit applies to, also where there are no limits: it is allowed, uncounted but noted in the status, or denied"),
    row("counters.max_key_bytes", Count(16, 8192), Is("512"),
        "The longest key, in bytes: a limit's name and label values together"),
    row("counters.max_labels", Count(1, 1024), Is("16"),
        "The most labels of a request"),
    row("counters.max_replicas", Count(2, 1_000_000), Is("262144"),
        "The most replicas (nodes and their restarts) that the node remembers"),
    row("counters.max_replicas_per_counter", Count(2, 1_000_000), Is("131072"),
        "The most replicas in one counter"),
    row("counters.grace", Kind::Duration(Duration::from_millis(100), DAY), Is("60s"),
        "How long an expired counter is kept for changes that arrive late"),
    row("counters.future_max", Kind::Duration(Duration::from_millis(100), DAY), Is("10m"),
        "How far ahead of the node's clock a peer's window may begin"),
    row("counters.ttl", Kind::Duration(MS, WINDOW_MAX), Is("24h"),
        "How long a counter that is used without a limit is kept after its last change"),
];

/// How the variables of the environment begin that set something.
pub(super) const VARIABLES: &str = "TALLYMESH_";

const TEN_MINUTES: Duration = Duration::from_secs(600);

const fn row(path: &'static str, kind: Kind, default: DefaultValue, doc: &'static str) -> Setting {
    Setting { path, kind, default, doc }
}

impl Setting {
    /// The row of a path; `None` if there is no such setting.
    pub(super) fn find(path: &str) -> Option<&'static Setting> {
        SETTINGS.iter().find(|setting| setting.path == path)
    }

    /// The table of the TOML file that it is in.
    pub(super) fn table(&self) -> &'static str {
        self.path.split_once('.').map_or("", |(table, _)| table)
    }

    /// Its name in that table.
    pub(super) fn name(&self) -> &'static str {
        self.path.split_once('.').map_or(self.path, |(_, name)| name)
    }

    /// The variable of the environment that sets it.
    pub(super) fn variable(&self) -> String {
        format!("{VARIABLES}{}", self.path.replace('.', "_").to_uppercase())
    }

    /// What it may be, in words.
    pub(super) fn allowed(&self) -> String {
        match self.kind {
            Text => "text".to_owned(),
            Texts => "a list of texts".to_owned(),
            Keys => "1 to 4 keys of 64 hex digits, with commas between them".to_owned(),
            NodeKey => "a key of 64 hex digits".to_owned(),
            Flag => "true or false".to_owned(),
            OneOf(words) => {
                words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(" or ")
            }
            Kind::Duration(least, most) => {
                format!("{} to {}", format_duration(least), format_duration(most))
            }
            Kind::DurationOrNever(least, most) => {
                format!("{} to {}, or \"never\"", format_duration(least), format_duration(most))
            }
            Count(least, most) => format!("{least} to {most}"),
            Fraction(least, most) => format!("{least:?} to {most:?}"),
        }
    }
}
