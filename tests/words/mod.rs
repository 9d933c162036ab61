//! The words that `tests/tidy.rs` bans, by `docs/glossary.md`.

/// Identifiers that have a better name, by the words of `docs/glossary.md`. A rule with two words bans the two in a row.
pub const IDENTIFIERS: &[Identifier] = &[
    // The table.
    banned("Resolved", "SlotRef", LIBRARY),
    banned("LastSeen", "CachedSlot", LIBRARY),
    banned("acquire_resolved", "a name with SlotRef in mind, such as acquire_at", EVERYWHERE),
    banned("place", "slot, index, limit_index or offset, by what it is", COUNTERS),
    banned("places", "slots, indices or offsets, by what they are", COUNTERS),
    banned("place_of", "index_of", DECIDES),
    banned("life", "tag (of a slot), incarnation (of a process)", DECIDES),
    banned("lives", "tags", DECIDES),
    banned("Charge", "Demand", EVERYWHERE),
    banned("Charges", "Demands", EVERYWHERE),
    banned("Charged", "Debit", EVERYWHERE),
    banned("enum Change", "Op", LIBRARY),
    banned("struct Changed", "OpResult", LIBRARY),
    banned("Unchargeable", "KeyTooLong", EVERYWHERE),
    banned("Outcome", "Admission", DECIDES),
    banned("Scope", "DirtySet", DECIDES),
    banned("Mishaps", "Rejections", EVERYWHERE),
    banned("mishaps", "rejections", EVERYWHERE),
    banned("AddWithin", "try_add", EVERYWHERE),
    banned("add_within", "try_add", EVERYWHERE),
    banned("addWithin", "tryAdd", EVERYWHERE),
    banned("begin_anew_if_over", "reset_if_expired", EVERYWHERE),
    banned("renew", "recycle", LIBRARY),
    banned("stretch", "page", LIBRARY),
    // Time.
    banned("HighWater", "MonotonicWall", EVERYWHERE),
    banned("Instant", "Now, which the shell hands in", DECIDES),
    banned("SystemTime", "Timestamp, which the shell hands in", MACHINES),
    banned("SysRng", "a seed that the shell hands in", DECIDES),
    // Gossip.
    banned("Farewell", "CloseReason", EVERYWHERE),
    banned("News", "Rumors", LIBRARY),
    banned("news", "rumors", LIBRARY),
    banned("tell_news", "spread", EVERYWHERE),
    banned("compare_notes", "anti_entropy_round", EVERYWHERE),
    banned("fn prefer", "resolve_duplicate_link", LIBRARY),
    banned("fn cover", "mark_redundant", LIBRARY),
    banned("uncover", "a name with mark_redundant in mind", LIBRARY),
    banned("fn mend", "repair", LIBRARY),
    // Storage.
    banned("Persister", "StateStore", EVERYWHERE),
    banned("Checkpointer", "CheckpointWriter", EVERYWHERE),
    banned("trait Storage", "KvStore", EVERYWHERE),
    banned("dyn Storage", "dyn KvStore", EVERYWHERE),
    banned("fn settle", "sync_meta, is_caught_up or await_agreement", LIBRARY),
    banned("is_settled", "is_caught_up", EVERYWHERE),
    // The runtime.
    banned("struct Disk", "DiskThread", LIBRARY),
    banned("Wishes", "Requests", LIBRARY),
    banned("wishes", "requests", LIBRARY),
    banned("struct Ending", "ExitGuard", LIBRARY),
    banned("Joining", "NamedThread", LIBRARY),
    banned("struct Run", "DiskLoop or GossipLoop", LIBRARY),
    banned("mod node", "runtime", &["src/lib.rs"]),
    // The judge of a replay.
    banned("Ghost", "Oracle", EVERYWHERE),
    banned("ghost", "oracle", EVERYWHERE),
];

/// Phrases that have a plainer form, in comments, logs, errors and documents. Words in a row, whatever is between them.
pub const PHRASES: &[(&str, &str)] = &[
    ("anew", "again, or new"),
    ("mend", "fix, repair or replace"),
    ("mends", "fixes"),
    ("mended", "fixed, repaired or healed"),
    ("mending", "fixing"),
    ("whoever", "a node that ..., a caller that ..."),
    ("whomever", "a node that ..., a caller that ..."),
    ("nobody", "no node, no caller, nothing"),
    ("somebody", "a node, a caller"),
    ("everybody", "every node, all callers"),
    ("as good as gone", "disconnected"),
    ("once is not", "two in a row"),
    ("sees to it", "makes sure"),
    ("puts it into words", "turns it into"),
    ("puts them into words", "turns them into"),
    ("is owed for", "must be sent for"),
    ("a backend's refusal", "an error of the storage backend"),
    ("sled refused", "sled returned an error"),
    ("sled refuses", "sled returns an error"),
    ("settings that cannot be used", "an invalid configuration"),
    ("the system gave us", "could not start"),
    ("unheard and unwritten", "neither replicated nor persisted"),
    ("does not hold for", "does not apply to"),
    ("when something is wrong", "troubleshooting"),
];

/// Where a phrase stays: the simulator hashes these names of events, so that traces of two builds can be compared.
pub const PHRASES_ALLOWED: &[(&str, &str)] = &[("sim/src/world/record.rs", "mended")];

/// All of core but the files that convert a `SystemTime` that a user has; the clock itself is banned by clippy.
const MACHINES: Rooms = &[
    "core/src/crdt/",
    "core/src/gossip/",
    "core/src/limit/",
    "core/src/storage/",
    "core/src/table/",
    "core/src/wire/",
    "core/src/key.rs",
];

/// The files that identifiers are banned in, by how their paths begin.
type Rooms = &'static [&'static str];
const EVERYWHERE: Rooms = &[
    "core/",
    "src/",
    "cli/",
    "sim/",
    "node/lib/",
    "node/src/",
    "compare/",
    "tests/",
    "benches/",
    "examples/",
];
const LIBRARY: Rooms = &["core/", "src/"];
/// Storage has places too: a directory's, as text for messages.
const COUNTERS: Rooms =
    &["core/src/crdt/", "core/src/limit/", "core/src/table/", "core/src/gossip/", "core/src/wire/"];
const DECIDES: Rooms = &["core/"];

pub struct Identifier {
    /// One identifier, or two in a row.
    pub name: &'static str,
    pub instead: &'static str,
    pub rooms: Rooms,
}

const fn banned(name: &'static str, instead: &'static str, rooms: Rooms) -> Identifier {
    Identifier { name, instead, rooms }
}
