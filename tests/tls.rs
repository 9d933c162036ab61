//! Certificates on real sockets: nodes of one authority count together, all others get nothing, and certificates are renewed and revoked.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use tallymesh::{
    ClusterKey, Config, ConfigBuilder, CounterKey, CounterStore, PeerAbsence, ReloadTlsError,
};
use tallymesh_test_support::authority::{Authority, Issued, Request};
use tallymesh_test_support::{Log, until};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(30);

/// What every node of this process has logged.
static LOG: LazyLock<Log> = LazyLock::new(|| {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
    subscriber.init();
    log
});

fn config(name: &str, peers: &[&CounterStore]) -> ConfigBuilder {
    let peers = peers.iter().map(|peer| peer.address().unwrap().to_string());
    Config::builder(name)
        .in_memory()
        .listen("127.0.0.1:0")
        .gossip_interval(Duration::from_millis(10))
        .sync_timeout(Duration::ZERO)
        .handshake_timeout(Duration::from_secs(1))
        .peers(peers)
}

/// The files of a node, in a directory.
struct Files(TempDir);

impl Files {
    fn new(issued: &Issued, authority: &Authority) -> Files {
        let files = Files(tempfile::tempdir().unwrap());
        files.write("ca.crt", &authority.pem());
        files.write("revoked.crl", &authority.revoke(&[]));
        files.renew(issued);
        files
    }

    fn renew(&self, issued: &Issued) {
        self.write("node.crt", &issued.certificate);
        self.write("node.key", &issued.key);
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).unwrap();
        own(&self.0.path().join("node.key"), 0o600);
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn set(&self, config: ConfigBuilder) -> ConfigBuilder {
        let config = config.tls_certificate(self.path("node.crt")).tls_key(self.path("node.key"));
        config.tls_authorities(self.path("ca.crt")).tls_revoked(self.path("revoked.crl"))
    }
}

/// Sets the mode of a file, if it is there.
#[cfg(unix)]
fn own(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    if path.exists() {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

#[cfg(not(unix))]
fn own(_: &Path, _: u32) {}

async fn open(config: ConfigBuilder) -> CounterStore {
    LazyLock::force(&LOG);
    CounterStore::open(config.build().unwrap()).await.unwrap()
}

async fn close(stores: impl IntoIterator<Item = CounterStore>) {
    for store in stores {
        store.close().await.unwrap();
    }
}

fn counter() -> CounterKey {
    CounterKey::new("x", &[]).unwrap()
}

fn connected_by(store: &CounterStore) -> Option<String> {
    store.peers().into_iter().find(|peer| peer.connected).and_then(|peer| peer.key)
}

fn absence(store: &CounterStore) -> Option<PeerAbsence> {
    store.peers().iter().find_map(|peer| peer.absence)
}

fn strangers(store: &CounterStore) -> u64 {
    store.rejections().strangers_refused
}

/// Two nodes of this authority, connected; the second has dialed the first.
async fn pair(authority: &Authority) -> [(Files, CounterStore); 2] {
    let files =
        ["a", "b"].map(|name| Files::new(&authority.issue(Request::of(&[name])), authority));
    let [of_a, of_b] = files;
    let a = open(of_a.set(config("a", &[]))).await;
    let b = open(of_b.set(config("b", &[&a]))).await;
    until("they are connected", PATIENCE, || {
        connected_by(&a).is_some() && connected_by(&b).is_some()
    })
    .await;
    [(of_a, a), (of_b, b)]
}

#[tokio::test]
async fn two_nodes_of_one_authority_agree_and_show_whose_certificates_they_have() {
    let [(_a, a), (_b, b)] = pair(&Authority::new("ours")).await;
    a.add(&counter(), 3).unwrap();
    b.add(&counter(), 4).unwrap();
    until("they agree", PATIENCE, || [&a, &b].iter().all(|store| store.value(&counter()) == 7))
        .await;
    for (here, there) in [(&a, &b), (&b, &a)] {
        let [fingerprint] = &there.status().keys[..] else { panic!("one certificate") };
        assert_eq!((connected_by(here).as_ref(), fingerprint.len()), (Some(fingerprint), 16));
        assert_eq!(strangers(here), 0);
    }
    for n in 0..4_000 {
        let long = format!("a counter with a long name, of which a frame holds but some, {n}");
        a.add(&CounterKey::new(&long, &[]).unwrap(), 1).unwrap();
    }
    until("all of it has arrived", PATIENCE, || a.state_checksum() == b.state_checksum()).await;
    close([a, b]).await;
}

#[tokio::test]
async fn every_other_node_is_refused_with_a_word_and_a_good_pair_goes_on() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let [(_a, a), (_b, b)] = pair(&ours).await;
    let request = || Request::of(&["c"]);
    let with = |issued: &Issued| Some(Files::new(issued, &ours));
    let key = ClusterKey::parse(&"7f".repeat(32)).unwrap();
    for (files, keys, why) in [
        (with(&ours.issue(Request { years: (2019, 2020), ..request() })), None, "it has expired"),
        (
            with(&ours.issue(Request { years: (2190, 2200), ..request() })),
            None,
            "it is not valid yet",
        ),
        (with(&theirs.issue(request())), None, "no authority in gossip.tls_authorities"),
        (None, Some(key), "what it sent is not TLS"),
        (None, None, "what it sent is not TLS"),
    ] {
        let (before, value) = (strangers(&a), a.value(&counter()));
        let bad = config("c", &[&a]);
        let bad = files.as_ref().map_or(bad.clone(), |files| files.set(bad));
        let is_plain = files.is_none() && keys.is_none();
        let bad = open(match keys {
            Some(key) => bad.gossip_key([key]),
            None => bad,
        })
        .await;
        bad.add(&counter(), 1_000).unwrap();
        until("it is refused", PATIENCE, || strangers(&a) > before).await;
        // One without a key sees a connection that ends.
        until("it knows", PATIENCE, || is_plain || absence(&bad) == Some(PeerAbsence::Unproven))
            .await;
        until("the log says it", PATIENCE, || LOG.says(&["a connection was refused", why])).await;
        b.add(&counter(), 1).unwrap();
        until("the good pair goes on", PATIENCE, || a.value(&counter()) == value + 1).await;
        assert_eq!((a.peers().len(), bad.value(&counter())), (1, 1_000), "{why}");
        close([bad]).await;
    }
    // And the other way round: what answers proves itself as well.
    let files = Files::new(&theirs.issue(Request::of(&["d"])), &theirs);
    let d = open(files.set(config("d", &[]))).await;
    let of_c = Files::new(&ours.issue(request()), &ours);
    let c = open(of_c.set(config("c", &[&d]))).await;
    until("it is not taken for one of ours", PATIENCE, || {
        absence(&c) == Some(PeerAbsence::Unproven)
            && LOG
                .says(&["what answers there is refused", "no authority in gossip.tls_authorities"])
    })
    .await;
    close([a, b, c, d]).await;
}

#[tokio::test]
async fn whatever_a_stranger_sends_it_is_closed_in_time_and_a_good_pair_goes_on() {
    let [(_a, a), (_b, b)] = pair(&Authority::new("ours")).await;
    let hello = |length: u16| [&[0x16, 3, 1], &length.to_be_bytes()[..]].concat();
    let inputs: Vec<Vec<u8>> = vec![
        vec![],
        b"x".to_vec(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        hello(0x4000),
        [hello(0x4000), vec![0; 100_000]].concat(),
        [hello(64), vec![1; 64]].concat(),
        vec![0xff; 100_000],
    ];
    let count = inputs.len() as u64;
    for (input, counted) in inputs.into_iter().zip(1..) {
        let mut stream = TcpStream::connect(a.address().unwrap()).await.unwrap();
        // It may be closed before it has taken everything in.
        let _ = stream.write_all(&input).await;
        a.add(&counter(), 1).unwrap();
        until("the good pair goes on", PATIENCE, || b.value(&counter()) == counted).await;
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        assert!(ended.is_ok() && answer.len() < 64, "at most a word of TLS: {answer:?}");
    }
    until("each was counted", PATIENCE, || strangers(&a) == count).await;
    assert_eq!(a.peers().len(), 1, "a stranger is no peer");
    close([a, b]).await;
}

#[tokio::test]
async fn certificates_are_revoked_and_renewed_while_nodes_run() {
    let ours = Authority::new("ours");
    let [(of_a, a), (of_b, b)] = pair(&ours).await;
    let before = connected_by(&a).unwrap();
    of_a.write("revoked.crl", &ours.revoke(&[7]));
    b.add(&counter(), 1).unwrap();
    until("nothing is read by itself", PATIENCE, || a.value(&counter()) == 1).await;
    a.reload_tls().await.unwrap();
    until("the link is closed, and not made again", PATIENCE, || {
        connected_by(&a).is_none() && absence(&b) == Some(PeerAbsence::Unproven)
    })
    .await;
    assert!(LOG.says(&["a connection was refused", "it is in gossip.tls_revoked"]));

    // Both have the number that is revoked: new ones for both.
    let renewed = |name| ours.issue(Request { serial: 8, ..Request::of(&[name]) });
    of_a.renew(&renewed("a"));
    of_b.renew(&renewed("b"));
    for store in [&a, &b] {
        store.reload_tls().await.unwrap();
    }
    until("they meet again", PATIENCE, || connected_by(&a).is_some_and(|now| now != before)).await;
    until("each sees the other's new one", PATIENCE, || {
        connected_by(&a).as_ref() == b.status().keys.first()
            && connected_by(&b).as_ref() == a.status().keys.first()
    })
    .await;

    // A link that is up is made again with a certificate that is renewed before it is refused.
    let before = connected_by(&a).unwrap();
    of_b.renew(&renewed("b"));
    b.reload_tls().await.unwrap();
    until("it has the new one", PATIENCE, || connected_by(&a).is_some_and(|now| now != before))
        .await;

    of_b.write("node.crt", "no certificate");
    let refused = b.reload_tls().await.unwrap_err();
    assert!(matches!(refused, ReloadTlsError::Invalid(_)), "{refused}");
    assert!(refused.to_string().contains("gossip.tls_certificate"), "{refused}");
    b.add(&counter(), 1).unwrap();
    until("the former ones stay", PATIENCE, || a.value(&counter()) == 2).await;
    close([a, b.clone()]).await;
    assert!(matches!(
        b.reload_tls().await,
        Err(ReloadTlsError::Invalid(_) | ReloadTlsError::Closed)
    ));
    let plain = open(config("p", &[])).await;
    assert!(matches!(plain.reload_tls().await, Err(ReloadTlsError::NoTls)));
    close([plain]).await;
}

#[test]
fn files_that_are_of_no_use_are_refused_with_what_to_do() {
    let ours = Authority::new("ours");
    let files = Files::new(&ours.issue(Request::of(&["a", "api-0", "api-1"])), &ours);
    let other = ours.issue(Request::of(&["b"]));
    let refused = |config: ConfigBuilder| config.build().unwrap_err().to_string();
    let says = |config: ConfigBuilder, parts: &[&str]| {
        let said = refused(config);
        assert!(parts.iter().all(|part| said.contains(part)), "{parts:?}: {said}");
        assert!(!said.contains("PRIVATE KEY-----\n"), "{said}");
    };
    let config = || Config::builder("a").in_memory().listen("0.0.0.0:0");
    files.set(config()).build().unwrap();
    let shown = format!("{:?}", files.set(config()).build().unwrap());
    let secret: String =
        fs::read_to_string(files.path("node.key")).unwrap().lines().nth(1).unwrap().into();
    assert!(shown.contains("Certificates(") && !shown.contains(&secret));

    says(
        files.set(Config::builder("c").in_memory()),
        &["tls_certificate", "tallymesh:node/c", "names a, api-0, api-1"],
    );
    let slots =
        |count| files.set(Config::builder("api").in_memory().listen("127.0.0.1:7946").slots(count));
    slots(2).build().unwrap();
    says(slots(3), &["tls_certificate", "tallymesh:node/api-2"]);
    says(config().tls_key(files.path("node.key")), &["gossip.tls_key", "gossip.tls_certificate"]);
    says(
        config().tls_certificate(files.path("node.crt")),
        &["gossip.tls_certificate", "gossip.tls_key"],
    );
    let key = ClusterKey::parse(&"7f".repeat(32)).unwrap();
    says(files.set(config().gossip_key([key])), &["gossip.tls_certificate", "gossip.key"]);
    says(files.set(config()).tls_key("no/such"), &["gossip.tls_key", "no/such"]);
    says(files.set(config()).tls_key(files.path("node.crt")), &["gossip.tls_key"]);
    says(
        files.set(config()).tls_certificate(files.path("node.key")),
        &["gossip.tls_certificate", "a certificate in PEM"],
    );
    says(
        files.set(config()).tls_authorities(files.path("revoked.crl")),
        &["gossip.tls_authorities", "a certificate in PEM"],
    );
    says(files.set(config()).tls_revoked(files.path("ca.crt")), &["gossip.tls_revoked", "CRL"]);
    files.write("other.key", &other.key);
    own(Path::new(&files.path("other.key")), 0o600);
    says(
        files.set(config()).tls_key(files.path("other.key")),
        &["gossip.tls_key", "of the first certificate"],
    );
    if cfg!(unix) {
        own(Path::new(&files.path("other.key")), 0o640);
        says(
            files.set(config()).tls_key(files.path("other.key")),
            &["gossip.tls_key", "640", "chmod 600"],
        );
    }
}

/// The commands of the documentation that make an authority and two certificates.
#[tokio::test]
async fn what_the_documentation_makes_by_openssl_is_of_use() {
    let version = std::process::Command::new("openssl").arg("version").output();
    let is_there = version.is_ok_and(|output| output.stdout.starts_with(b"OpenSSL 3"));
    if !is_there {
        println!(
            "!! SKIPPED: there is no openssl 3, so the commands of docs/operating/keys.md are not run"
        );
        return;
    }
    let text = include_str!("../docs/operating/keys.md");
    let (_, after) = text.split_once("## Certificates of your own authority").unwrap();
    let (_, commands) = after.split_once("```sh\n").unwrap();
    let (commands, _) = commands.split_once("```").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut shell = std::process::Command::new("sh");
    let ran = shell.args(["-ec", commands]).current_dir(dir.path()).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let with = |config: ConfigBuilder, name: &str| {
        let config = config.tls_certificate(path(&format!("{name}.crt")));
        config.tls_key(path(&format!("{name}.key"))).tls_authorities(path("ca.crt"))
    };
    let a = open(with(config("a", &[]), "a")).await;
    let b = open(with(config("b", &[&a]), "b")).await;
    b.add(&counter(), 5).unwrap();
    until("they agree", PATIENCE, || a.value(&counter()) == 5).await;
    let mut show = std::process::Command::new("openssl");
    let shown = show.args(["x509", "-in", &path("b.crt"), "-noout", "-fingerprint", "-sha256"]);
    let shown = String::from_utf8(shown.output().unwrap().stdout).unwrap();
    let digits = shown.split_once('=').unwrap().1.trim().replace(':', "").to_lowercase();
    assert!(digits.starts_with(&connected_by(&a).unwrap()), "{digits}");
    close([a, b]).await;
}
