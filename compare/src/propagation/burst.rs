//! Many new counters at once.

use super::nodes::{Line, NORMAL, Nodes, call};
use crate::clock::now;
use crate::cluster::until;
use crate::decisions::thousands;
use crate::keys::session;
use crate::peers::{Answer, Map, Place, Redis, RedisServer};
use crate::report::Report;
use crate::size::Size;
use crate::table::{Table, time};
use crate::target::Target;

pub fn run(
    size: &Size,
    server: Option<&RedisServer>,
    report: &mut Report,
    targets: &mut Vec<Target>,
) {
    note!("propagation: a burst of {} counters", size.counters);
    let sessions: Vec<String> = (0..size.counters).map(session).collect();
    let mut table = Table::new([
        &format!("{} new counters", thousands(size.counters)),
        "counted on A",
        "all agree",
    ]);
    for (name, place) in [("tallymesh, in memory", Place::Memory), ("tallymesh", Place::Disk)] {
        let (counted, agreed) = until_all_agree(place, &sessions);
        table.row([name.to_owned(), time(counted * 1e9), time(agreed * 1e9)]);
        let what = format!("{name}: {} new counters agreed on", thousands(size.counters));
        targets.push(Target::at_most(what, 1.0, " s", agreed));
    }
    let none = || "–".to_owned();
    table.row([
        "into three sharded maps, by one thread".to_owned(),
        none(),
        time(into_three_maps(&sessions) * 1e9),
    ]);
    if let Some(server) = server {
        let begun = now();
        Redis::new(server, 0, sessions, Answer::Allowed);
        let seconds = (now() - begun).as_secs_f64();
        table.row(["Redis, pipelines of 1,000".to_owned(), none(), time(seconds * 1e9)]);
    }
    report.text(&"### A burst of new counters on one node, until all three nodes agree");
    report.text(&table);
}

/// Seconds until all were counted on one node, and until all nodes held the same.
fn until_all_agree(place: Place, sessions: &[String]) -> (f64, f64) {
    let nodes =
        Nodes::start(3, place, false, Line::Plain).expect("without proxies, no IO fails here");
    let begun = now();
    for session in sessions {
        assert!(nodes.nodes[0].acquire(&call(NORMAL, session)).is_allowed(), "there is room");
    }
    let counted = (now() - begun).as_secs_f64();
    let stores = || nodes.nodes.iter().map(|node| node.counters());
    until("all have all counters", || stores().all(|store| store.len() == sessions.len()));
    let own = nodes.nodes[0].counters().version_vector();
    until("all agree", || stores().all(|store| store.version_vector() == own));
    let agreed = (now() - begun).as_secs_f64();
    let sum = nodes.nodes[0].counters().state_checksum();
    assert!(stores().all(|store| store.state_checksum() == sum), "equal vectors, other counters");
    nodes.close();
    (counted, agreed)
}

fn into_three_maps(sessions: &[String]) -> f64 {
    let maps = [Map::default(), Map::default(), Map::default()];
    let begun = now();
    for map in &maps {
        sessions.iter().for_each(|session| {
            map.insert(session.clone(), 1);
        });
    }
    (now() - begun).as_secs_f64()
}
