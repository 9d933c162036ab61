//! What the sources of peers lead to, as their tasks find out.

use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

fn host(text: &str) -> PeerEntry {
    PeerEntry::Host(text.to_owned())
}

/// Takes in what is said until something fits.
async fn until<T>(
    sources: &mut PeerSources,
    fits: impl Fn(&PeerSources, &Outcome) -> Option<T>,
) -> T {
    let waiting = async {
        loop {
            let told = sources.next().await;
            let outcome = sources.take(told);
            if let Some(found) = fits(sources, &outcome) {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it is said some time")
}

/// Waits until the sources lead to these addresses.
async fn until_led_to(sources: &mut PeerSources, expected: &[&str]) {
    until(sources, |sources, _| (addresses(sources) == expected).then_some(())).await;
}

async fn until_trouble(sources: &mut PeerSources) -> Trouble {
    until(sources, |_, outcome| match outcome {
        Outcome::Trouble(trouble) => Some(trouble.clone()),
        _ => None,
    })
    .await
}

fn addresses(sources: &PeerSources) -> Vec<String> {
    let (peers, _) = sources.peers();
    let mut addresses: Vec<String> = peers.into_iter().flat_map(|peer| peer.addresses).collect();
    addresses.sort();
    addresses
}

#[tokio::test]
async fn an_address_needs_no_lookup_and_a_name_leads_to_what_it_means() {
    let mut sources = PeerSources::new(Dns::default());
    sources.set(vec![host("10.0.0.7:1"), host("[::1]:2")]);
    assert_eq!(addresses(&sources), ["10.0.0.7:1", "[::1]:2"]);
    sources.set(vec![host("localhost:3")]);
    assert!(addresses(&sources).is_empty());
    until(&mut sources, |sources, _| {
        addresses(sources).contains(&"127.0.0.1:3".into()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_name_that_fails_is_told_of_and_keeps_what_it_meant() {
    let mut sources = PeerSources::new(Dns::default());
    sources.set(vec![host("no-such-host.invalid:1")]);
    let Trouble::Unresolved { name, .. } = until_trouble(&mut sources).await else { panic!() };
    assert_eq!(name, "no-such-host.invalid:1");
    let (peers, _) = sources.peers();
    assert_eq!((peers.len(), peers[0].addresses.len()), (1, 0), "it is listed as unresolved");
    let id = sources.followed[&host("no-such-host.invalid:1")].id;
    let found = |to: &str| Answer::Found(Found::Addresses(vec![to.to_owned()]));
    assert_eq!(sources.take(Told { id, answer: found("10.0.0.1:1") }), Outcome::Changed);
    until_trouble(&mut sources).await;
    assert_eq!(addresses(&sources), ["10.0.0.1:1"]);
    // Another list: what the name meant is not known any more, and an answer that is on its way is dropped.
    sources.set(vec![host("10.0.0.2:1")]);
    assert_eq!(sources.take(Told { id, answer: found("10.0.0.3:1") }), Outcome::Same);
    assert_eq!(addresses(&sources), ["10.0.0.2:1"]);
}

#[tokio::test]
async fn what_is_on_the_new_list_too_goes_on() {
    let mut sources = PeerSources::new(Dns::default());
    sources.set(vec![host("localhost:1"), host("localhost:2")]);
    until(&mut sources, |sources, _| {
        sources.peers().0.iter().all(|peer| !peer.addresses.is_empty()).then_some(())
    })
    .await;
    let before = addresses(&sources);
    sources.set(vec![host("localhost:2"), host("localhost:1"), host("localhost:1")]);
    assert_eq!(addresses(&sources), before);
}

#[tokio::test]
async fn a_file_is_read_again_when_it_changes_and_keeps_what_it_said() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("peers");
    let mut sources = PeerSources::new(Dns::default());
    sources.set(vec![PeerEntry::File(path.clone()), host("10.0.0.1:1")]);
    let Trouble::Nonsense(what) = until_trouble(&mut sources).await else { panic!() };
    assert!(what.contains("cannot be read") && what.contains(path.to_str().unwrap()), "{what}");
    let (peers, _) = sources.peers();
    assert!(peers.iter().any(|peer| peer.name.starts_with("file:") && peer.addresses.is_empty()));

    std::fs::write(&path, "10.0.0.1:1\n10.0.0.2:1 # new\ngarbage\n").unwrap();
    let Trouble::Nonsense(what) = until(&mut sources, |_, outcome| match outcome {
        Outcome::Trouble(Trouble::Nonsense(what)) if what.contains("garbage") => {
            Some(Trouble::Nonsense(what.clone()))
        }
        _ => None,
    })
    .await
    else {
        panic!()
    };
    assert!(what.contains("line 3"), "{what}");
    until_led_to(&mut sources, &["10.0.0.1:1", "10.0.0.2:1"]).await;
    assert_eq!(sources.peers().0.len(), 2, "a file that was read is no peer of its own");

    std::fs::remove_file(&path).unwrap();
    until_trouble(&mut sources).await;
    assert_eq!(addresses(&sources), ["10.0.0.1:1", "10.0.0.2:1"]);
    std::fs::write(&path, "10.0.0.3:1\n").unwrap();
    until_led_to(&mut sources, &["10.0.0.1:1", "10.0.0.3:1"]).await;
    std::fs::write(&path, "").unwrap();
    until_led_to(&mut sources, &["10.0.0.1:1"]).await;
}

#[tokio::test]
async fn there_are_at_most_so_many_addresses_and_the_rest_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("peers");
    let lines: String =
        (0..PEERS_MAX + 9).map(|n| format!("10.0.{}.{}:1\n", n / 250, n % 250)).collect();
    std::fs::write(&path, lines).unwrap();
    let mut sources = PeerSources::new(Dns::default());
    sources.set(vec![PeerEntry::File(path)]);
    until(&mut sources, |_, outcome| (*outcome == Outcome::Changed).then_some(())).await;
    // The file is a source as well.
    assert_eq!((addresses(&sources).len(), sources.peers().1), (PEERS_MAX - 1, 10));

    sources.set(vec![host("a.invalid:1"), host("b.invalid:1")]);
    let id = |sources: &PeerSources, name| sources.followed[&host(name)].id;
    let many = |from: usize| {
        let addresses = (from..from + 3_000).map(|n| format!("10.1.{}.{}:1", n / 250, n % 250));
        Answer::Found(Found::Addresses(addresses.collect()))
    };
    let told = Told { id: id(&sources, "a.invalid:1"), answer: many(0) };
    sources.take(told);
    assert_eq!((addresses(&sources).len(), sources.peers().1), (3_000, 0));
    let told = Told { id: id(&sources, "b.invalid:1"), answer: many(1_000) };
    sources.take(told);
    assert_eq!((addresses(&sources).len(), sources.peers().1), (6_000, 0), "2,000 are the same");
    let told = Told { id: id(&sources, "b.invalid:1"), answer: many(3_000) };
    sources.take(told);
    assert_eq!((addresses(&sources).len(), sources.peers().1), (PEERS_MAX, 6_000 - PEERS_MAX));
}

#[cfg(feature = "srv")]
mod srv {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use tokio::net::UdpSocket;

    use super::*;

    const A: u16 = 1;
    const SRV: u16 = 33;

    type Records = Arc<Mutex<BTreeMap<(String, u16), Vec<Vec<u8>>>>>;

    /// A name server that knows these records.
    async fn name_server(records: Records) -> Dns {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut query = [0; 1_500];
            while let Ok((length, from)) = socket.recv_from(&mut query).await {
                let answer = answer(&query[..length], &records.lock().unwrap());
                socket.send_to(&answer, from).await.unwrap();
            }
        });
        Dns::At(address)
    }

    fn answer(query: &[u8], records: &BTreeMap<(String, u16), Vec<Vec<u8>>>) -> Vec<u8> {
        let (mut name, mut at) = (String::new(), 12);
        while query[at] != 0 {
            let length = query[at] as usize;
            name += std::str::from_utf8(&query[at + 1..=at + length]).unwrap();
            name += ".";
            at += length + 1;
        }
        let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
        let question = &query[12..at + 5];
        let found = records.get(&(name.to_lowercase(), kind)).cloned().unwrap_or_default();
        // An answer, recursive; without a record there is no such name.
        let flags = if found.is_empty() { 0x8183_u16 } else { 0x8180 };
        let mut message = query[..2].to_vec();
        for number in [flags, 1, found.len() as u16, 0, 0] {
            message.extend(number.to_be_bytes());
        }
        message.extend(question);
        for data in found {
            // The name of the question, the class of the Internet, and no time to live.
            message.extend([0xc0, 12]);
            for number in [kind, 1, 0, 0, data.len() as u16] {
                message.extend(number.to_be_bytes());
            }
            message.extend(data);
        }
        message
    }

    fn srv(port: u16, target: &str) -> Vec<u8> {
        let mut data: Vec<u8> =
            [0, 0, port].iter().flat_map(|number: &u16| number.to_be_bytes()).collect();
        for label in target.split('.').filter(|label| !label.is_empty()) {
            data.push(label.len() as u8);
            data.extend(label.bytes());
        }
        data.push(0);
        data
    }

    const NAME: &str = "_gossip._tcp.tallymesh.test.";

    #[tokio::test]
    async fn each_target_is_a_peer_with_its_port_and_nonsense_is_named_and_skipped() {
        let records = Records::default();
        let set = |name: &str, kind, data: Vec<Vec<u8>>| {
            records.lock().unwrap().insert((name.to_owned(), kind), data);
        };
        let nonsense = [srv(0, "b.test"), srv(7, "."), srv(7, "nowhere.test")];
        let sound = [srv(7946, "a.test"), srv(7947, "b.test")];
        set(NAME, SRV, sound.iter().chain(&nonsense).cloned().collect());
        set("a.test.", A, vec![vec![10, 0, 0, 1]]);
        set("b.test.", A, vec![vec![10, 0, 0, 2], vec![10, 0, 0, 3]]);
        let mut sources = PeerSources::new(name_server(records.clone()).await);
        sources.set(vec![PeerEntry::Srv(NAME.to_owned())]);
        let Trouble::Nonsense(what) = until_trouble(&mut sources).await else { panic!() };
        for part in
            ["b.test. with port 0", "\".\"", "nowhere.test., which cannot be looked up", NAME]
        {
            assert!(what.contains(part), "{part}: {what}");
        }
        let all = ["10.0.0.1:7946", "10.0.0.2:7947", "10.0.0.3:7947"];
        until_led_to(&mut sources, &all).await;

        // Where all are nonsense, or the name is gone, what was known is kept.
        set(NAME, SRV, nonsense.to_vec());
        until_trouble(&mut sources).await;
        set(NAME, SRV, Vec::new());
        let gone = until(&mut sources, |_, outcome| match outcome {
            Outcome::Trouble(Trouble::Unresolved { name, .. }) => Some(name.clone()),
            _ => None,
        });
        assert_eq!(gone.await, format!("srv:{NAME}"));
        assert_eq!(addresses(&sources), all);
        set(NAME, SRV, vec![srv(7946, "a.test")]);
        until_led_to(&mut sources, &["10.0.0.1:7946"]).await;
    }
}
