//! The handshake by node keys over streams in memory, with one between the ends that hears and changes what they send.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::super::handshake::Handshake;
use super::super::records::HEADER_BYTES;
use super::*;
use crate::cluster_key::Keys;
use crate::credentials::Credentials;
use crate::curve::LOW_ORDER;
use crate::node_key::{Members, NodeKey};
use crate::secret::bytes;

fn key(byte: u8) -> NodeKey {
    NodeKey::parse(&format!("{byte:02x}").repeat(32)).unwrap()
}

/// The node of this name, with this key, to which those are members by these keys.
fn node(name: &str, own: u8, members: &[(&str, u8)]) -> Handshake {
    in_cluster("blue", name, own, members)
}

fn in_cluster(cluster: &str, name: &str, own: u8, members: &[(&str, u8)]) -> Handshake {
    let entries = members.iter().map(|(node, byte)| format!("{node}={}", key(*byte).public_key()));
    let members = Members::parse(entries).unwrap();
    let keys = NodeKeys { own: key(own), members };
    Handshake::new(Credentials::NodeKeys(keys), cluster, replica_of(name))
}

fn replica_of(name: &str) -> ReplicaId {
    format!("{name}#1.7").parse().unwrap()
}

/// A node that uses a cluster key.
fn by_cluster_key(name: &str) -> Handshake {
    let keys = Keys::parse(&"07".repeat(32)).unwrap();
    Handshake::new(Credentials::ClusterKeys(keys), "blue", replica_of(name))
}

const BOTH: &[(&str, u8)] = &[("a", 1), ("b", 2)];

type Outcome = Result<Session, HandshakeError>;

/// The records of a handshake, in the order in which they are sent: by turns, first that of the end that dialed.
type Records = Vec<Vec<u8>>;

/// What comes of it when the first dials the second, through one that hears each record and may change it. Who gives up closes the
/// connection.
async fn meet_through(
    near: &Handshake,
    far: &Handshake,
    change: impl Fn(usize, &mut Vec<u8>),
) -> (Outcome, Outcome, Records) {
    let ((mut a, near_end), (far_end, mut b)) = (duplex(4096), duplex(4096));
    let dialing = async move { near.initiate(&mut a).await.map(|session| (session, a)) };
    let answering = async move { far.respond(&mut b).await.map(|session| (session, b)) };
    let between = async move {
        let mut records = Records::new();
        let (mut from, mut to) = (near_end, far_end);
        while let Ok(mut record) = next_record(&mut from).await {
            records.push(record.clone());
            change(records.len(), &mut record);
            if to.write_all(&record).await.is_err() {
                break;
            }
            std::mem::swap(&mut from, &mut to);
            if records.len() == 4 {
                break;
            }
        }
        records
    };
    let (near, far, records) = tokio::join!(dialing, answering, between);
    (near.map(|(near, _)| near.session()), far.map(|(far, _)| far.session()), records)
}

async fn meet(near: &Handshake, far: &Handshake) -> (Outcome, Outcome) {
    let (near, far, _) = meet_through(near, far, |_, _| {}).await;
    (near, far)
}

async fn next_record(stream: &mut DuplexStream) -> std::io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut record = length.to_be_bytes().to_vec();
    record.resize(HEADER_BYTES + usize::from(length), 0);
    stream.read_exact(&mut record[HEADER_BYTES..]).await?;
    Ok(record)
}

/// Why neither end has a session.
fn both_fail((near, far): (Outcome, Outcome)) -> (HandshakeError, HandshakeError) {
    (near.err().expect("who dialed"), far.err().expect("who was dialed"))
}

#[tokio::test]
async fn members_meet_and_know_who_the_other_is() {
    let more: &[(&str, u8)] = &[("a", 9), ("b", 2), ("c", 3), ("a", 1)];
    for (near, far) in [(BOTH, BOTH), (BOTH, more)] {
        let (near, far, records) =
            meet_through(&node("a", 1, near), &node("b", 2, far), |_, _| {}).await;
        let (mut near, mut far) = (near.unwrap(), far.unwrap());
        for (session, own, peer) in [(&near, 1, ("b", 2)), (&far, 2, ("a", 1))] {
            let fingerprint = |byte| key(byte).public_key().fingerprint();
            assert_eq!(session.proof.own, fingerprint(own));
            let (fingerprint, replica) = (fingerprint(peer.1), replica_of(peer.0));
            assert_eq!(session.proof.peer, Proven::NodeKey { fingerprint, replica });
        }
        for _ in 0..2 {
            let (mut records, mut plain) = (Vec::new(), Vec::new());
            near.sealer.seal(b"there", &mut records).unwrap();
            far.opener.open(&records[HEADER_BYTES..], &mut plain).unwrap();
            assert_eq!(plain, b"there");
            records.clear();
            far.sealer.seal(b"back", &mut records).unwrap();
            near.opener.open(&records[HEADER_BYTES..], &mut plain).unwrap();
            assert_eq!(plain, b"back");
        }
        let lengths: Vec<usize> = records.iter().map(Vec::len).collect();
        assert_eq!(lengths[0], HEADER_BYTES + 32);
        assert!(lengths.len() == 4 && lengths.iter().all(|length| *length <= 1024), "{lengths:?}");
    }
}

#[tokio::test]
async fn a_key_that_is_no_member_s_is_refused_at_both_ends_with_a_reason() {
    // The node that listens does not know it.
    let (near, far) = both_fail(meet(&node("a", 3, BOTH), &node("b", 2, BOTH)).await);
    let fingerprint = key(3).public_key().fingerprint();
    assert!(matches!(far, HandshakeError::NoMember { .. }), "{far}");
    assert!(far.to_string().contains(&fingerprint) && far.to_string().contains("it is a"));
    assert!(matches!(near, HandshakeError::Refused { .. }), "{near}");
    assert!(near.to_string().contains(&fingerprint), "{near}");
    // The node that dials does not, and shows nothing of itself.
    let far = node("b", 3, BOTH);
    let (near, far, records) = meet_through(&node("a", 1, BOTH), &far, |_, _| {}).await;
    let (near, far) = both_fail((near, far));
    assert!(matches!(near, HandshakeError::NoMember { .. }), "{near}");
    assert!(matches!(far, HandshakeError::Closed(_)), "{far}");
    assert_eq!(records.len(), 2);
}

#[tokio::test]
async fn a_key_of_another_node_is_refused_whoever_has_it() {
    let members: &[(&str, u8)] = &[("a", 1), ("b", 2), ("c", 3)];
    // A copy of b's key under the name of a, one of c's as b, and two that have swapped their names.
    for (dials, listens) in [
        (node("a", 3, members), node("b", 2, members)),
        (node("a", 1, members), node("b", 3, members)),
        (node("b", 1, members), node("a", 2, members)),
    ] {
        let (near, far) = both_fail(meet(&dials, &listens).await);
        let is_told = |error: &HandshakeError| matches!(error, HandshakeError::OtherNode { .. });
        assert!(is_told(&near) || is_told(&far), "{near}; {far}");
        assert!(matches!(near, HandshakeError::OtherNode { .. } | HandshakeError::Refused { .. }));
    }
}

#[tokio::test]
async fn another_cluster_is_refused() {
    let (near, far) = both_fail(meet(&in_cluster("red", "a", 1, BOTH), &node("b", 2, BOTH)).await);
    assert!(near.to_string().contains("another gossip.cluster"), "{near}");
    assert!(matches!(far, HandshakeError::Closed(_)), "{far}");
}

#[tokio::test]
async fn neither_way_leads_to_the_other() {
    let (near, far) = both_fail(meet(&by_cluster_key("a"), &node("b", 2, BOTH)).await);
    assert!(matches!(far, HandshakeError::UsesClusterKey), "{far}");
    assert!(matches!(near, HandshakeError::NoAnswer { .. }), "{near}");
    let (near, far) = both_fail(meet(&node("a", 1, BOTH), &by_cluster_key("b")).await);
    assert!(matches!(far, HandshakeError::UsesNodeKey), "{far}");
    assert!(near.to_string().contains("a cluster key (gossip.key)"), "{near}");
}

#[tokio::test]
async fn no_changed_byte_makes_a_session() {
    let (a, b) = (node("a", 1, BOTH), node("b", 2, BOTH));
    let (.., records) = meet_through(&a, &b, |_, _| {}).await;
    for (number, record) in (1..).zip(&records) {
        for byte in HEADER_BYTES..record.len() {
            let flip = |this: usize, record: &mut Vec<u8>| {
                if this == number {
                    record[byte] ^= 1 << (byte % 8);
                }
            };
            let (near, far, _) = meet_through(&a, &b, flip).await;
            assert!(near.is_err(), "{number}, {byte}: who dialed");
            // The last one is the word of the end that was dialed, which has no more to wait for.
            assert_eq!(far.is_ok(), number == 4, "{number}, {byte}: who was dialed");
        }
    }
}

/// What the node that was dialed does with these bytes, and what it sends back.
async fn answer_to(bytes: &[u8]) -> (HandshakeError, Vec<u8>) {
    let (mut a, mut b) = duplex(128 * 1024);
    a.write_all(bytes).await.unwrap();
    a.shutdown().await.unwrap();
    let error = node("b", 2, BOTH).respond(&mut b).await.err().unwrap();
    drop(b);
    let mut answer = Vec::new();
    a.read_to_end(&mut answer).await.unwrap();
    (error, answer)
}

/// What the node that dials does with these bytes as its answer, and what it sent.
async fn dial_to(bytes: &[u8]) -> (HandshakeError, Vec<u8>) {
    let (mut a, mut b) = duplex(128 * 1024);
    b.write_all(bytes).await.unwrap();
    b.shutdown().await.unwrap();
    let error = node("a", 1, BOTH).initiate(&mut a).await.err().unwrap();
    drop(a);
    let mut sent = Vec::new();
    b.read_to_end(&mut sent).await.unwrap();
    (error, sent)
}

#[tokio::test]
async fn what_was_recorded_brings_no_node_in() {
    let (a, b) = (node("a", 1, BOTH), node("b", 2, BOTH));
    let (.., records) = meet_through(&a, &b, |_, _| {}).await;
    let (error, answer) = answer_to(&[&records[0][..], &records[2]].concat()).await;
    assert!(matches!(error, HandshakeError::NotOfNodeKeys), "{error}");
    assert!(answer.len() > HEADER_BYTES && answer.len() <= HEADER_BYTES + 1024, "one message");
    let (error, sent) = dial_to(&[&records[1][..], &records[3]].concat()).await;
    assert!(matches!(error, HandshakeError::NotOfNodeKeys), "{error}");
    assert_eq!(sent.len(), HEADER_BYTES + 32, "it shows nothing of itself");
}

#[tokio::test]
async fn what_is_cut_short_brings_no_node_in() {
    let (a, b) = (node("a", 1, BOTH), node("b", 2, BOTH));
    let (.., records) = meet_through(&a, &b, |_, _| {}).await;
    let (first, second) = (&records[0], &records[1]);
    for length in 0..first.len() {
        let (error, answer) = answer_to(&first[..length]).await;
        assert!(matches!(error, HandshakeError::Closed(_)) && answer.is_empty(), "{length}");
    }
    for length in 0..second.len() {
        let (error, _) = dial_to(&second[..length]).await;
        assert!(matches!(error, HandshakeError::NoNodeKey(_)), "{length}: {error}");
    }
    // One that holds less than a message does.
    for length in [SECOND_MIN - 1, MESSAGE_MAX + 1, 0, 65_535] {
        let header = (length as u16).to_be_bytes();
        let (error, _) = dial_to(&[&header[..], &vec![7; length]].concat()).await;
        assert!(matches!(error, HandshakeError::NotOfNodeKeys), "{length}: {error}");
        let (error, _) = answer_to(&[&first[..], &header, &vec![7; length]].concat()).await;
        assert!(matches!(error, HandshakeError::NotOfNodeKeys), "{length}: {error}");
    }
}

#[tokio::test]
async fn a_stranger_gets_one_message_at_most() {
    let record = |length: usize| [&(length as u16).to_be_bytes()[..], &vec![7; 65_535]].concat();
    for bytes in [&b""[..], b"x", &[0; 8], b"GET / HTTP/1.1\r\n\r\n"] {
        let (error, answer) = answer_to(bytes).await;
        assert!(answer.is_empty(), "{bytes:?}: {error}");
    }
    for length in [0, 1, 31, 33, 47, 1_025, 65_535] {
        let (error, answer) = answer_to(&record(length)).await;
        assert!(matches!(error, HandshakeError::NoHandshake) && answer.is_empty(), "{length}");
    }
    let (error, answer) = answer_to(&record(32)).await;
    assert!(matches!(error, HandshakeError::NotOfNodeKeys), "{error}");
    assert!(answer.len() <= HEADER_BYTES + 1024, "{}", answer.len());
}

#[tokio::test]
async fn a_point_of_low_order_makes_no_session() {
    for point in LOW_ORDER {
        let point = bytes(point).unwrap();
        let (error, answer) = answer_to(&[&[0, 32][..], &*point].concat()).await;
        assert!(matches!(error, HandshakeError::NoSecret) && answer.is_empty(), "{error}");
        let second = [&[0, 200][..], &*point, &[7; 168]].concat();
        let (error, _) = dial_to(&second).await;
        assert!(matches!(error, HandshakeError::NotOfNodeKeys), "{error}");
    }
}
