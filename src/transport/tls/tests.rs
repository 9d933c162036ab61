//! Certificates of one authority, and everything that is none.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tallymesh_test_support::authority::{Authority, Issued, Purpose, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::super::handshake::{Channel, HandshakeError};
use super::super::stream::{Opening, Sealing};
use super::{initiate, respond};
use crate::tls::{Certificates, Pem, TlsFiles};
use tallymesh_core::link::Proven;

/// What a node has that has this certificate, and takes those of this authority that it has not revoked.
fn node(issued: &Issued, accepts: &Authority, revoked: Option<&str>) -> Certificates {
    let [certificate, key, authorities] = ["a.crt", "a.key", "ca.crt"].map(str::to_owned);
    let files = TlsFiles { certificate, key, authorities, revoked: None };
    let authorities_pem = accepts.pem();
    let pem = Pem {
        certificate: issued.certificate.as_bytes(),
        key: issued.key.as_bytes(),
        authorities: authorities_pem.as_bytes(),
        revoked: revoked.map(str::as_bytes),
    };
    Certificates::new(files, &pem).unwrap()
}

fn good(authority: &Authority, name: &str) -> Certificates {
    node(&authority.issue(Request::of(&[name])), authority, None)
}

type Outcome = Result<Channel, HandshakeError>;

/// What comes of it when the node `a` dials the node `b`; who gives up closes the connection.
async fn meet(near: (&Certificates, &str), far: (&Certificates, &str)) -> (Outcome, Outcome) {
    let (mut a, mut b) = duplex(64 * 1024);
    let dialing = async move {
        let own = "a#1.7".parse().unwrap();
        initiate(&mut a, near.0, near.1, &own).await
    };
    let answering = async move {
        let own = "b#1.7".parse().unwrap();
        respond(&mut b, far.0, far.1, &own).await
    };
    tokio::join!(dialing, answering)
}

fn who(channel: &Channel) -> (&str, &str) {
    let Proven::NodeKey { fingerprint, replica } = &channel.proof.peer else { panic!() };
    (fingerprint, replica.node.as_str())
}

#[tokio::test]
async fn nodes_of_one_authority_meet_and_know_who_the_other_is() {
    let authority = Authority::new("ours");
    let near = good(&authority, "a");
    // Processes that share their settings share a certificate.
    let far =
        node(&authority.issue(Request::of(&["x", "b"])), &authority, Some(&authority.revoke(&[8])));
    let (at_near, at_far) = meet((&near, "blue"), (&far, "blue")).await;
    let (at_near, at_far) = (at_near.unwrap(), at_far.unwrap());
    assert_eq!(
        (who(&at_near), who(&at_far)),
        ((far.fingerprint(), "b"), (near.fingerprint(), "a"))
    );
    assert!(near.accept(&at_near.proof.chain) && !near.accept(&[]));
    let (Sealing::Tls(mut sealer), Opening::Tls(mut opener)) = (at_far.sealing, at_near.opening)
    else {
        panic!("not by TLS");
    };
    for size in [1, 100, 20_000, 1_000_000] {
        let (frame, mut records) = (vec![size as u8; size], Vec::new());
        sealer.seal(&frame, &mut records).unwrap();
        let (mut all, mut plain, mut read) = (Vec::new(), Vec::new(), &records[..]);
        while all.len() < size {
            opener.next(&mut read, &mut plain).await.unwrap();
            all.extend_from_slice(&plain);
        }
        assert!(all == frame && read.is_empty());
    }
    let (mut sealed, mut plain) = (Vec::new(), Vec::new());
    let Sealing::Tls(mut sealer) = at_near.sealing else { panic!("not by TLS") };
    sealer.seal(b"frame", &mut sealed).unwrap();
    sealed[10] ^= 1;
    let Opening::Tls(mut opener) = at_far.opening else { panic!("not by TLS") };
    assert!(opener.next(&mut &sealed[..], &mut plain).await.is_err() && plain.is_empty());
}

#[tokio::test]
async fn every_certificate_that_is_not_right_is_refused_with_the_reason_whoever_dials() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let same_name = Authority::new("ours");
    let request = || Request::of(&["a", "b"]);
    let sound = node(&ours.issue(request()), &ours, None);
    let strict =
        node(&ours.issue(Request { serial: 8, ..request() }), &ours, Some(&ours.revoke(&[7])));
    let lists_of_another = node(&ours.issue(request()), &ours, Some(&theirs.revoke(&[])));
    let no_name = Request { names: vec!["spiffe://example/a".to_owned()], ..request() };
    let closed = "it closed the connection";
    for (issued, meets, here, there) in [
        (
            ours.issue(Request { years: (2019, 2020), ..request() }),
            &sound,
            "it has expired",
            "it has expired, or",
        ),
        (
            ours.issue(Request { years: (2190, 2200), ..request() }),
            &sound,
            "not valid yet: is this machine's clock",
            "is not valid yet",
        ),
        (
            theirs.issue(request()),
            &sound,
            "no authority in gossip.tls_authorities",
            "no authority that it accepts",
        ),
        (
            same_name.issue(request()),
            &sound,
            "no authority in gossip.tls_authorities",
            "no authority that it accepts",
        ),
        (
            ours.issue(Request { purposes: vec![Purpose::ServerAuth], ..request() }),
            &sound,
            "needs clientAuth",
            "cannot be used",
        ),
        (
            ours.issue(request()),
            &strict,
            "it is in gossip.tls_revoked",
            "it is in its gossip.tls_revoked",
        ),
        (ours.issue(request()), &lists_of_another, "has no list of the authority", "lacks a list"),
        (ours.issue(no_name), &sound, "names no node: one has a URI tallymesh:node/NAME", closed),
        (ours.issue(Request::of(&["c"])), &sound, "it says that it is", closed),
    ] {
        let bad = node(&issued, &ours, None);
        for dials in [true, false] {
            let (at_bad, at_good) = match dials {
                true => meet((&bad, "blue"), (meets, "blue")).await,
                false => {
                    let (near, far) = meet((meets, "blue"), (&bad, "blue")).await;
                    (far, near)
                }
            };
            let said = at_good.err().unwrap().to_string();
            assert!(said.contains(here), "{said}");
            // What it says of itself is known last: to who dials it, after it has heard all that it waits for.
            let late = !dials && there == closed;
            let said = at_bad.err().map(|error| error.to_string());
            assert!(said.is_none_or(|said| said.contains(there)) || late);
        }
    }
    let (near, far) = meet((&good(&ours, "c"), "blue"), (&sound, "blue")).await;
    assert!(far.err().unwrap().to_string().contains("it says that it is a, and its certificate"));
    assert!(near.err().unwrap().to_string().contains("Its log says more"));
    let (near, far) = meet((&sound, "red"), (&sound, "blue")).await;
    assert!(
        far.err().unwrap().to_string().contains("the cluster \"red\", and this node of \"blue\"")
    );
    assert!(near.err().unwrap().to_string().contains("another gossip.cluster"));
}

/// What a node does with what one sends that has nothing to show.
async fn answer_to(stranger: impl AsyncFnOnce(DuplexStream)) -> HandshakeError {
    let certificates = good(&Authority::new("ours"), "b");
    let (a, mut b) = duplex(1024 * 1024);
    let own = "b#1.7".parse().unwrap();
    let answering = async move { respond(&mut b, &certificates, "blue", &own).await };
    let (outcome, ()) = tokio::join!(answering, stranger(a));
    outcome.err().unwrap()
}

#[tokio::test]
async fn a_stranger_is_heard_for_a_bounded_number_of_bytes() {
    // A hello that never ends: records of 16 KiB, of a message that says to be 4 MiB long, or 64 KiB.
    for (length, why) in
        [([0x3f, 0xff, 0xff], "not TLS"), ([0, 0xff, 0xff], "more than 32768 bytes")]
    {
        let mut record = vec![0x16, 3, 1, 0x40, 0, 1];
        record.extend_from_slice(&length);
        record.resize(5 + 0x4000, 0);
        let mut bytes = record;
        for _ in 0..8 {
            bytes.extend_from_slice(&[0x16, 3, 1, 0x40, 0]);
            bytes.resize(bytes.len() + 0x4000, 0);
        }
        let error = answer_to(async |mut stream| {
            stream.write_all(&bytes).await.unwrap();
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            assert!(answer.len() < 64, "at most a word of TLS: {}", answer.len());
        })
        .await;
        assert!(error.to_string().contains(why), "{error}");
    }
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0, 48, 1, 2, 3, 4, 5, 6], b"x", b""] {
        let error = answer_to(async |mut stream| {
            stream.write_all(bytes).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            assert!(answer.len() < 64, "at most a word of TLS: {answer:?}");
        })
        .await;
        let said = error.to_string();
        assert!(said.contains("not TLS") || said.contains("closed the connection"), "{said}");
    }
}

#[tokio::test]
async fn who_has_no_certificate_or_speaks_of_something_else_is_refused() {
    let authority = Authority::new("ours");
    let certificates = good(&authority, "b");
    for (alpn, why) in
        [(&b"tallymesh-link/1"[..], "presented no certificate"), (b"h2", "not what tallymesh says")]
    {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
        let mut config =
            builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        config.dangerous().set_certificate_verifier(certificates.verifier());
        config.alpn_protocols = vec![alpn.to_vec()];
        let name = ServerName::try_from("b").unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let (mut a, mut b) = duplex(64 * 1024);
        let own = "b#1.7".parse().unwrap();
        let answering = async { respond(&mut b, &certificates, "blue", &own).await };
        let dialing = async {
            let mut bytes = Vec::new();
            while client.is_handshaking() || client.wants_write() {
                bytes.clear();
                client.write_tls(&mut bytes).unwrap();
                a.write_all(&bytes).await.unwrap();
                let mut answer = [0; 4096];
                let count = a.read(&mut answer).await.unwrap();
                client.read_tls(&mut &answer[..count]).unwrap();
                if count == 0 || client.process_new_packets().is_err() {
                    break;
                }
            }
        };
        let (outcome, ()) = tokio::join!(answering, dialing);
        let said = outcome.err().unwrap().to_string();
        assert!(said.contains(why), "{said}");
    }
}
