//! Every refusal of a constructor names the value, where it was given, and what is allowed.

use std::time::{Duration, SystemTime};

use tallymesh::{
    Config, ConfigBuilder, CounterKey, CounterStore, DenialReason, Durability, Limit, Limiter,
    NodeId, ReplicaId, Request, Reset, Timestamp, Unmatched, WhenFull, WhenLabelMissing, Window,
    WindowSpan, check, inspect,
};

const HOUR: Window = Window::Fixed(Duration::from_secs(3600));

/// What is said, and what must be in it.
type Row<'a> = (String, &'a [&'a str]);

fn pass(rows: &[Row<'_>]) {
    for (message, parts) in rows {
        for part in *parts {
            assert!(message.contains(part), "{message:?}, without {part:?}");
        }
    }
}

fn built(set: impl FnOnce(ConfigBuilder) -> ConfigBuilder) -> String {
    set(Config::builder("a").in_memory()).build().unwrap_err().to_string()
}

fn limit(limit: Limit) -> String {
    built(|config| config.limit(limit))
}

fn parsed<T: std::str::FromStr<Err: ToString> + std::fmt::Debug>(text: &str) -> String {
    text.parse::<T>().unwrap_err().to_string()
}

fn read(text: &str) -> String {
    Config::from_toml(text).unwrap_err().to_string()
}

#[test]
fn of_a_text() {
    pass(&[
        (parsed::<NodeId>("a b"), &["\"a b\"", "1 to 64 ASCII letters"]),
        (parsed::<NodeId>(""), &["\"\"", "1 to 64 ASCII letters"]),
        (parsed::<ReplicaId>("a"), &["\"a\"", "node#boot.nonce"]),
        (parsed::<ReplicaId>("a b#1.ff"), &["\"a b#1.ff\"", "node#boot.nonce"]),
        (parsed::<Window>("daily"), &["\"daily\"", "\"60s\"", "\"session\""]),
        (parsed::<Timestamp>("soon"), &["\"soon\"", "RFC 3339"]),
        (parsed::<DenialReason>("full"), &["\"full\"", "limit_reached"]),
        (
            parsed::<Durability>("none"),
            &["storage.durability", "\"none\"", "\"relaxed\" or \"sync\""],
        ),
        (
            parsed::<WhenFull>("maybe"),
            &["counters.when_full", "\"maybe\"", "\"deny\" or \"allow\""],
        ),
        (
            parsed::<Unmatched>("maybe"),
            &["counters.unmatched", "\"maybe\"", "\"allow\" or \"deny\""],
        ),
        (parsed::<WhenLabelMissing>("ignore"), &["\"ignore\"", "\"deny\" or \"skip\""]),
        (limit(Limit::new("l", 1, HOUR).per("cost")), &["\"l\": per = \"cost\"", "no label"]),
        (limit(Limit::new("l", 1, HOUR).when("tool", "")), &["\"l\": when", "can match"]),
    ]);
}

#[test]
fn of_a_key_a_window_and_a_moment() {
    let (long, many) = ("x".repeat(8193), ["v"; 33]);
    let before = SystemTime::UNIX_EPOCH - Duration::from_secs(5);
    pass(&[
        (CounterKey::new("l", &many).unwrap_err().to_string(), &["33 values", "at most 32"]),
        (CounterKey::new(&long, &[]).unwrap_err().to_string(), &["8193 bytes", "at most 8192"]),
        (CounterKey::from_bytes(b"calls").unwrap_err().to_string(), &["not a counter key"]),
        (
            WindowSpan::at(0, Timestamp(1)).unwrap_err().to_string(),
            &["length_ms = 0", "at least 1"],
        ),
        (Timestamp::try_from(before).unwrap_err().to_string(), &["5s before 1970", "from 1970 on"]),
    ]);
}

#[test]
fn of_a_limit() {
    let (hour, short) = (Duration::from_secs(3600), Duration::from_micros(999));
    let session = |ttl| Limit::new("l", 1, Window::Session { ttl });
    let labels = |count| {
        (0..count).fold(Limit::new("l", 1, HOUR), |limit, n| limit.per(format!("label {n}")))
    };
    pass(&[
        (limit(Limit::new("", 1, HOUR)), &["name = \"\"", "1 to 128 bytes"]),
        (limit(Limit::new("x".repeat(129), 1, HOUR)), &["name = \"xxx", "1 to 128 bytes"]),
        (limit(Limit::new("l", 1 << 53, HOUR)), &["\"l\": max = 9007199254740992", "2^53 - 1"]),
        (limit(Limit::new("l", 1, Window::Fixed(short))), &["\"l\": window = 999us", "1ms to 366"]),
        (
            limit(Limit::new("l", 1, Window::Fixed(hour * 9000))),
            &["\"l\": window = 375days", "1ms to 366 days"],
        ),
        (limit(session(Duration::ZERO)), &["\"l\": session_ttl = 0s", "1ms to 366 days"]),
        (limit(labels(33)), &["\"l\": per = 33 labels", "at most 32 labels"]),
        (
            built(|config| config.limit(session(hour)).limit(session(hour))),
            &["\"l\": name = \"l\"", "each name once"],
        ),
    ]);
}

#[test]
fn of_a_builder() {
    let (ms, day) = (Duration::from_millis, Duration::from_secs(86_400));
    let (least, many) = (Duration::ZERO, usize::MAX);
    let on_disk = |path: &str| Config::builder("a").data_dir(path).build().unwrap_err().to_string();
    pass(&[
        (Config::builder("").build().unwrap_err().to_string(), &["node.id = \"\"", "1 to 64"]),
        (Config::builder("a").build().unwrap_err().to_string(), &["node.data_dir", "in_memory"]),
        (on_disk(""), &["node.data_dir", "in_memory"]),
        (built(|c| c.data_dir("d")), &["node.data_dir = \"d\"", "only without storage.in_memory"]),
        (built(|c| c.listen("7946")), &["gossip.listen = \"7946\"", "an IP address and a port"]),
        (built(|c| c.listen("0.0.0.0:1")), &["gossip.listen = \"0.0.0.0:1\"", "insecure = true"]),
        (built(|c| c.peers(["h:1", "h"])), &["gossip.peers = \"h\"", "host:port"]),
        (built(|c| c.peers(["h:0"])), &["gossip.peers = \"h:0\"", "host:port"]),
        (built(|c| c.peers(vec!["h:1"; 4097])), &["gossip.peers = 4097 addresses", "at most 4096"]),
        (built(|c| c.gossip_interval(least)), &["gossip.interval = 0s", "1ms to 1m"]),
        (built(|c| c.urgent_at(1.5)), &["gossip.urgent_at = 1.5", "0.0 to 1.0"]),
        (built(|c| c.urgent_at(f64::NAN)), &["gossip.urgent_at = NaN", "0.0 to 1.0"]),
        (built(|c| c.digest_interval(ms(9))), &["gossip.digest_interval = 9ms", "10ms to 1m"]),
        (built(|c| c.sync_timeout(day)), &["gossip.sync_timeout = 1day", "0s to 1m"]),
        (built(|c| c.direct_up_to(65_537)), &["gossip.direct_up_to = 65537", "0 to 65536"]),
        (built(|c| c.fanout(0)), &["gossip.fanout = 0", "1 to 1024"]),
        (built(|c| c.handshake_timeout(ms(1))), &["gossip.handshake_timeout = 1ms", "100ms to"]),
        (built(|c| c.silence_timeout(day)), &["gossip.silence_timeout = 1day", "100ms to 10m"]),
        (built(|c| c.clock_offset_max(least)), &["gossip.clock_offset_max = 0s", "1ms to 1h"]),
        (built(|c| c.max_connections(0)), &["gossip.max_connections = 0", "1 to 65536"]),
        (built(|c| c.max_frame_bytes(1)), &["gossip.max_frame_bytes = 1", "16384 to 16777216"]),
        (built(|c| c.max_frames_queued(17)), &["gossip.max_frames_queued = 17", "1 to 16"]),
        (built(|c| c.persist_every(least)), &["storage.persist_every = 0s", "1ms to 1m"]),
        (
            built(|c| c.durability(Durability::Sync).persist_every(ms(5))),
            &["storage.persist_every", "5ms", "relaxed"],
        ),
        (built(|c| c.max_counters(0)), &["counters.max_counters = 0", "1 to 100000000"]),
        (built(|c| c.max_key_bytes(8193)), &["counters.max_key_bytes = 8193", "16 to 8192"]),
        (built(|c| c.max_labels(0)), &["counters.max_labels = 0", "1 to 1024"]),
        (built(|c| c.max_replicas(1)), &["counters.max_replicas = 1", "2 to 1000000"]),
        (
            built(|c| c.max_replicas_per_counter(many)),
            &["counters.max_replicas_per_counter = 18446744073709551615", "2 to 1000000"],
        ),
        (built(|c| c.counters_grace(least)), &["counters.grace = 0s", "100ms to 1day"]),
        (built(|c| c.future_max(day * 2)), &["counters.future_max = 2days", "100ms to 1day"]),
        (built(|c| c.counters_ttl(day * 367)), &["counters.ttl = 367days", "1ms to 366days"]),
    ]);
}

#[test]
fn of_a_file() {
    let missing = Config::from_file("no/such.toml").unwrap_err().to_string();
    let systems_words = std::fs::read("no/such.toml").unwrap_err().to_string();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("own.toml");
    std::fs::write(&path, "[node]\nid = 7\n").unwrap();
    let typed = ConfigBuilder::from_file(&path).unwrap_err().to_string();
    assert!(typed.contains(&path.display().to_string()), "{typed}");
    let limit = |rest: &str| read(&format!("[node]\nid = \"a\"\n[[limit]]\nname = \"l\"\n{rest}"));
    pass(&[
        (missing, &["no/such.toml", &systems_words]),
        (typed, &["line 2", "node.id: ", "`7`", "a string"]),
        (read(""), &["missing field `node`"]),
        (read("[nodes]\n"), &["line 1", "`nodes`", "`node`, `gossip`"]),
        (read("[gossip]\nfan = 1\n"), &["line 2", "`fan` in [gossip]", "`fanout`"]),
        (read("[gossip]\nfanout = -1\n"), &["line 2", "gossip.fanout: ", "`-1`", "1 to 1024"]),
        (read("[gossip]\ninsecure = 1\n"), &["gossip.insecure: ", "`1`", "true or false"]),
        (limit("max = \"3\"\nwindow = \"1h\""), &["line 5", "max = \"3\"", "u64"]),
        (limit("max = 3\nwindow = \"daily\""), &["\"l\": window = \"daily\"", "\"session\" or"]),
        (limit("max = 3\nwindows = \"1h\""), &["line 6", "`windows`", "`window`"]),
    ]);
}

#[tokio::test]
async fn of_what_an_open_limiter_is_asked() {
    let config = Config::builder("a").in_memory().max_counters(1).max_key_bytes(24);
    let config = config.limit(Limit::new("l", 1, HOUR).per("session")).build().unwrap();
    let limiter = Limiter::open(config).await.unwrap();
    let store: &CounterStore = limiter.counters();
    let key = |name: &str| CounterKey::new(name, &[]).unwrap();
    let old = WindowSpan::at(60_000, Timestamp(0)).unwrap();
    let old = CounterKey::windowed("old", &[], old).unwrap();
    let reset = |reset: Reset<'_>| limiter.reset(reset).unwrap_err().to_string();
    let add = |key: &CounterKey| store.add(key, 1).unwrap_err().to_string();
    store.add(&key("one"), 1).unwrap();
    let other = Limiter::open(Config::builder("b").in_memory().build().unwrap()).await.unwrap();
    let receipt = other.acquire(&Request::new()).into_result().unwrap();
    pass(&[
        (reset(Reset::limit("x")), &["\"x\"", "[\"l\"]"]),
        (reset(Reset::limit("l")), &["\"l\"", "\"session\"", "give its value"]),
        (
            reset(Reset::limit("l").label("session", "s").label("tool", "t")),
            &["\"l\"", "\"tool\"", "leave it out"],
        ),
        (add(&key("two")), &["1 counters", "counters.max_counters", "raise it"]),
        (add(&key("a longer name than this")), &["28 bytes", "counters.max_key_bytes allows 24"]),
        (add(&old), &["1970-01-01T00:00:00.000Z", "the present one"]),
        (limiter.refund(receipt).unwrap_err().to_string(), &["another limiter", "refund it where"]),
        (limiter.refund_token("made up").unwrap_err().to_string(), &["no token of a receipt"]),
    ]);
    limiter.close().await.unwrap();
    other.close().await.unwrap();
}

#[tokio::test]
async fn of_a_place() {
    let dir = tempfile::tempdir().unwrap();
    let open =
        |node: &str| Limiter::open(Config::builder(node).data_dir(dir.path()).build().unwrap());
    let limiter = open("a").await.unwrap();
    let held = open("a").await.unwrap_err().to_string();
    assert!(held.contains(&dir.path().display().to_string()), "{held}");
    limiter.close().await.unwrap();
    drop(limiter);
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let config = Config::builder("a").in_memory().listen(&*address).build().unwrap();
    let listen = Limiter::open(config).await.unwrap_err().to_string();
    assert!(listen.contains(&address), "{listen}");
    pass(&[
        (held, &["is open in this process already", "close it first"]),
        (
            open("b").await.unwrap_err().to_string(),
            &["node \"a\"", "node \"b\"", "node.id to match"],
        ),
        (listen, &["cannot listen at", "another process"]),
        (check("no/such/dir").unwrap_err().to_string(), &["no/such/dir", "no data directory"]),
        (inspect("no/such/dir").unwrap_err().to_string(), &["no/such/dir", "no data directory"]),
    ]);
}

#[test]
fn months_and_years_are_refused_with_what_to_write_instead() {
    let toml = |limit: &str, settings: &str| {
        let node = "[node]\nid = \"a\"\n[storage]\nin_memory = true\n";
        let text = format!("{node}{settings}\n[[limit]]\nname = \"l\"\nmax = 1\n{limit}\n");
        Config::from_toml(&text).map(drop).map_err(|error| error.to_string())
    };
    for text in
        ["1month", "2 months", "1M", "1year", "2years", "1yr", "2yrs", "1y", "1y 3d", "30d 1M"]
    {
        let cases = [
            toml(&format!("window = {text:?}"), "").unwrap_err(),
            toml(&format!("window = \"session\"\nsession_ttl = {text:?}"), "").unwrap_err(),
            toml("window = \"1h\"", &format!("[counters]\nttl = {text:?}")).unwrap_err(),
            parsed::<Window>(text),
            parsed::<Window>(&format!("session {text}")),
        ];
        for message in cases {
            assert!(message.contains(text) && message.contains("\"30d\""), "{text}: {message}");
        }
    }
    for text in ["30d", "4weeks", "8760h", "1m", "366days"] {
        assert_eq!(toml(&format!("window = {text:?}"), ""), Ok(()));
    }
}

#[test]
fn lengths_of_many_days_are_written_as_they_are_read() {
    for days in [1, 7, 31, 60, 365, 366] {
        let length = Duration::from_secs(days * 24 * 3600);
        for window in [Window::Fixed(length), Window::Session { ttl: length }] {
            assert_eq!(window.to_string().parse(), Ok(window));
        }
    }
}
