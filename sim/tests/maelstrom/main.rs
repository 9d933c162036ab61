//! Real processes of the Maelstrom node, over a network that does to their messages what Maelstrom's does, and worse.

mod network;

use std::io::Write;
use std::process::{Command, Stdio};

use network::Network;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

#[test]
fn three_nodes_come_to_a_negative_total_that_is_exact() {
    let total = partition_and_repair(3, 1, |random| random.random_range(-9..5));
    assert!(total < 0, "the deltas are to add up to less than nothing, not to {total}");
}

#[test]
fn five_nodes_come_to_a_total_that_is_exact() {
    partition_and_repair(5, 2, |random| random.random_range(-5..5));
}

#[test]
fn a_counter_that_only_grows_is_never_seen_to_shrink_or_to_run_ahead() {
    let mut network = Network::start(3, 3);
    let mut random = StdRng::seed_from_u64(3);
    let (mut seen, mut sum) = (vec![0; 3], 0);
    for _ in 0..200 {
        let delta = random.random_range(0..5);
        network.add(random.random_range(0..3), delta);
        sum += delta;
        let reader = random.random_range(0..3);
        let value = network.read(reader);
        assert!((seen[reader]..=sum).contains(&value), "{value} after {} of {sum}", seen[reader]);
        seen[reader] = value;
    }
    network.settle_at(&[0, 1, 2], sum);
}

#[test]
fn what_is_no_request_is_refused_and_the_node_goes_on() {
    let (answers, succeeded) = answers(&[
        r#"{"src":"c1","dest":"n1","body":{"type":"read","msg_id":1}}"#,
        r#"{"src":"c1","dest":"n1","body":{"type":"init","msg_id":2,"node_id":"no name","node_ids":[]}}"#,
        r#"{"src":"c1","dest":"n1","body":{"type":"init","msg_id":3,"node_id":"n1","node_ids":["n1","n2"]}}"#,
        r#"{"src":"c1","dest":"n1","body":{"type":"init","msg_id":4,"node_id":"n1","node_ids":["n1"]}}"#,
        r#"{"src":"c1","dest":"n1","body":{"type":"topology","msg_id":5,"topology":{"n1":["n2"]}}}"#,
        "",
        "garbage",
        "\u{0}\u{7f}[[[[{\"",
        r#"{"src":"c1","dest":"n1"}"#,
        r#"{"src":"c1","dest":"n1","body":{"msg_id":6}}"#,
        r#"{"src":"c1","dest":"n1","body":{"type":"multiply","msg_id":7}}"#,
        r#"{"src":"c1","dest":"n1","body":{"type":"add","msg_id":8,"delta":1.5}}"#,
        r#"{"src":"c1","dest":"n1","body":{"type":"add","msg_id":9,"delta":"1"}}"#,
        r#"{"src":"c1","dest":"n1","body":{"type":"add","msg_id":10,"delta":-9223372036854775808}}"#,
        r#"{"src":"c1","dest":"n1","body":{"type":"add","msg_id":11,"delta":9007199254740991}}"#,
        r#"{"src":"c1","dest":"n1","body":{"type":"add","msg_id":12,"delta":1}}"#,
        r#"{"src":"c1","dest":"n1","body":{"type":"add","msg_id":13,"delta":-3}}"#,
        r#"{"src":"n2","dest":"n1","body":{"type":"tallymesh"}}"#,
        r#"{"src":"n2","dest":"n1","body":{"type":"tallymesh","link":{"dialer":"n2","number":1},"frames":["?"],"close":false}}"#,
        r#"{"src":"n2","dest":"n1","body":{"type":"tallymesh","link":{"dialer":"n2","number":1},"frames":["AAAA"],"close":false}}"#,
        r#"{"src":"n2","dest":"n1","body":{"type":"error","in_reply_to":1,"code":10}}"#,
        r#"{"src":"c1","dest":"n1","body":{"type":"read","msg_id":14}}"#,
    ]);
    let to_client: Vec<&Value> = answers.iter().filter(|answer| answer["dest"] == "c1").collect();
    let told: Vec<_> = to_client
        .iter()
        .map(|answer| {
            let body = &answer["body"];
            let kind = body["type"].as_str().unwrap();
            (body["in_reply_to"].as_u64().unwrap(), kind, body["code"].as_u64().unwrap_or(0))
        })
        .collect();
    let expected = [
        (1, "error", 11),
        (2, "error", 12),
        (3, "init_ok", 0),
        (4, "error", 22),
        (5, "topology_ok", 0),
        (6, "error", 12),
        (7, "error", 10),
        (8, "error", 12),
        (9, "error", 12),
        (10, "error", 14),
        (11, "add_ok", 0),
        (12, "error", 14),
        (13, "add_ok", 0),
        (14, "read_ok", 0),
    ];
    assert_eq!(told, expected);
    assert_eq!(to_client.last().unwrap()["body"]["value"], json!(9_007_199_254_740_988_i64));
    assert!(succeeded, "the end of standard input is no failure");
}

/// Adds while the network loses, doubles and delays, then to both sides of a partition, and then waits until all nodes agree
/// again. Gives the total.
fn partition_and_repair(nodes: usize, seed: u64, delta: fn(&mut StdRng) -> i64) -> i64 {
    let mut network = Network::start(nodes, seed);
    let mut random = StdRng::seed_from_u64(seed);
    let all: Vec<usize> = (0..nodes).collect();
    let mut add_to = |network: &mut Network, among: &[usize]| {
        let (node, delta) = (among[random.random_range(0..among.len())], delta(&mut random));
        network.add(node, delta);
        network.read(among[random.random_range(0..among.len())]);
        delta
    };
    let before: i64 = (0..100).map(|_| add_to(&mut network, &all)).sum();
    network.settle_at(&all, before);

    let (minority, majority) = all.split_at(nodes / 2);
    network.cut(minority);
    let (mut few, mut many) = (0, 0);
    // Links that stood, and new ones: until the machines have given up on each other, it is only a short disturbance.
    while network.links_across() < 2 * minority.len() * majority.len() {
        few += add_to(&mut network, minority);
        many += add_to(&mut network, majority);
    }
    // Far from any sum of small deltas: what one side knows, the other cannot have guessed.
    network.add(minority[0], -1_000_000);
    few -= 1_000_000;
    network.settle_at(minority, before + few);
    network.settle_at(majority, before + many);

    network.heal();
    network.settle_at(&all, before + few + many);
    let after: i64 = (0..20).map(|_| add_to(&mut network, &all)).sum();
    let total = before + few + many + after;
    network.settle_at(&all, total);
    network.stop();
    total
}

/// What one process prints for these lines, and whether it succeeds.
fn answers(lines: &[&str]) -> (Vec<Value>, bool) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_maelstrom"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"\xff\xfe\n").unwrap();
    input.write_all(lines.join("\n").as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let answers = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (answers, output.status.success())
}
