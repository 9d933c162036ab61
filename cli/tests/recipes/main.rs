//! The recipes of `docs/operating/`, as they stand there: started, and updated one process after the other under calls.
//!
//! Each is replaced three times, or as often as `TALLYMESH_REPLACEMENTS` says.
#![cfg(target_os = "linux")]

mod network;
mod page;
mod update;

use network::{Network, Process, in_a_network};
use page::{Manifests, Program};
use update::{Update, probe};

fn replacements() -> usize {
    let text = std::env::var("TALLYMESH_REPLACEMENTS").unwrap_or_else(|_| "3".to_owned());
    text.parse().expect("TALLYMESH_REPLACEMENTS is a number")
}

/// A new pod first, as `maxSurge: 1` has it; when it is ready, the oldest goes.
fn surge(mut network: Network, name: &str, program: &Program) {
    network.settings(&page::settings_toml());
    let mut update = Update::new(program);
    for number in 0..program.replicas + replacements() {
        update.add(
            |others| network.published_pod(&format!("limits-{number}"), program, others),
            probe,
        );
        if number >= program.replicas {
            network.publish(update.processes.iter().skip(1));
            update.end(0);
            update.settle();
        }
    }
    println!("{}", update.finish(name, false));
}

#[test]
fn a_deployment_without_a_disk() {
    in_a_network("a_deployment_without_a_disk", |network| {
        let program = Manifests::of("deployment.yaml").program("Deployment", "limits");
        surge(network, "Deployment", &program);
    });
}

#[test]
fn a_sidecar() {
    in_a_network("a_sidecar", |network| {
        let program = Manifests::of("sidecar.yaml").program("Deployment", "orchestrator");
        surge(network, "sidecar", &program);
    });
}

/// From the last pod to the first, each in the place of its former self: same name, same disk, another address.
#[test]
fn a_stateful_set_with_a_disk() {
    in_a_network("a_stateful_set_with_a_disk", |mut network| {
        let program = Manifests::of("statefulset.yaml").program("StatefulSet", "limits");
        network.settings(&page::settings_toml());
        let mut update = Update::new(&program);
        for ordinal in 0..program.replicas {
            let name = format!("limits-{ordinal}");
            update.add(|others| network.published_pod(&name, &program, others), probe);
        }
        for number in 0..replacements() {
            let name = format!("limits-{}", program.replicas - 1 - number % program.replicas);
            let index = update.processes.iter().position(|pod| pod.name == name).unwrap();
            drop(update.end(index));
            update.add(|others| network.published_pod(&name, &program, others), probe);
            update.settle();
        }
        println!("{}", update.finish("StatefulSet", false));
    });
}

/// What `systemctl restart` does to one unit after the other.
#[test]
fn units_of_systemd() {
    in_a_network("units_of_systemd", |mut network| {
        network.settings(&page::block("systemd.md", "tallymesh.toml"));
        let slots = page::unit(0).0.replicas;
        let mut update = Update::new(&page::unit(0).0);
        for number in 0..slots + replacements() {
            let slot = number % slots;
            let name = format!("tallymesh@{slot}");
            if let Some(index) = update.processes.iter().position(|unit| unit.name == name) {
                drop(update.end(index));
            }
            let (program, started) = page::unit(slot);
            let mut started = network.command(&started);
            let start = |_: &[Process]| network.unit(&name, &program);
            update.add(start, |_| assert!(started.status().unwrap().success(), "{started:?}"));
            if number >= slots {
                update.settle();
            }
        }
        println!("{}", update.finish("systemd", true));
    });
}

/// As the page of keys says: made by the program, given in a file, changed in three steps, each of them on all nodes.
#[test]
fn a_key_is_changed_by_rolling_restarts() {
    in_a_network("a_key_is_changed_by_rolling_restarts", |mut network| {
        let settings = page::block("systemd.md", "tallymesh.toml");
        let file = "key_file = \"/etc/tallymesh/cluster.key\"";
        assert!(settings.contains(file), "the page says where the key is");
        network.settings(&settings.replace("[gossip]\n", &format!("[gossip]\n{file}\n")));
        let [old, new] = ["old", "new"].map(|name| network.keygen(name, &[]));
        let fingerprint = |key: &str| tallymesh::ClusterKey::parse(key).unwrap().fingerprint();
        let mut update = Update::new(&page::unit(0).0);
        for keys in [&[&old][..], &[&old, &new], &[&new, &old], &[&new]] {
            let lines: Vec<&str> = keys.iter().map(|key| key.trim_end()).collect();
            network.secret("cluster.key", &format!("# of the cluster\n{}\n", lines.join("\n")));
            for slot in 0..page::unit(0).0.replicas {
                let name = format!("tallymesh@{slot}");
                let former = update.processes.iter().position(|unit| unit.name == name);
                let is_replaced = former.map(|index| drop(update.end(index))).is_some();
                let (program, started) = page::unit(slot);
                let mut started = network.command(&started);
                let start = |_: &[Process]| network.unit(&name, &program);
                update.add(start, |_| assert!(started.status().unwrap().success(), "{started:?}"));
                if is_replaced {
                    update.settle();
                }
            }
            update.are_under(|_| fingerprint(keys[0]));
        }
        println!("{}", update.finish("keys", true));
    });
}

/// As the page of keys says: each node has a key in a file of its own, and that of one is changed in three steps, two of them on all
/// nodes.
#[test]
fn the_key_of_a_node_is_changed_by_rolling_restarts() {
    in_a_network("the_key_of_a_node_is_changed_by_rolling_restarts", |mut network| {
        let base = page::settings_toml();
        let program = Manifests::of("statefulset.yaml").program("StatefulSet", "limits");
        let names: Vec<String> = (0..program.replicas).map(|n| format!("limits-{n}")).collect();
        let made: Vec<String> =
            names.iter().map(|name| network.keygen(name, &["--node"])).collect();
        let new = network.keygen("new", &["--node"]);
        let public = |key: &str| tallymesh::NodeKey::parse(key).unwrap().public_key();
        let with_members = |first: Option<&str>, others: &[String]| {
            let own = first.map(|key| format!("{}={}", names[0], public(key)));
            let others = names.iter().zip(&made).filter(|(name, _)| others.contains(name));
            let others = others.map(|(name, key)| format!("{name}={}", public(key)));
            let all: Vec<String> = own.into_iter().chain(others).collect();
            base.replace("[gossip]\n", &format!("[gossip]\nmembers = {all:?}\n"))
        };
        let with_own_key = |name: &str| {
            let mut program = program.clone();
            let files: Vec<_> =
                program.env.iter_mut().filter(|(name, _)| name.ends_with("GOSSIP_KEY")).collect();
            assert_eq!(files.len(), 1, "the recipe says where the key is");
            for variable in files {
                let file = format!("/etc/tallymesh/{name}.key");
                *variable = ("TALLYMESH_GOSSIP_NODE_KEY_FILE".to_owned(), file);
            }
            program
        };
        let mut update = Update::new(&program);
        network.settings(&with_members(None, &names));
        for (name, key) in names.iter().zip(&made) {
            network.secret(&format!("{name}.key"), key);
            update.add(|others| network.published_pod(name, &with_own_key(name), others), probe);
        }
        let fingerprint = |key: &str| public(key).fingerprint();
        let key_of = |first: &str, node: &str| match names.iter().position(|name| name == node) {
            Some(0) => fingerprint(first),
            Some(number) => fingerprint(&made[number]),
            None => panic!("{node} is no pod"),
        };
        update.are_under(|node| key_of(&made[0], node));
        let steps = [
            (with_members(Some(&new), &names), &made[0], &names[..]),
            (with_members(Some(&new), &names), &new, &names[..1]),
            (with_members(Some(&new), &names[1..]), &new, &names[..]),
        ];
        for (settings, first, replaced) in steps {
            network.settings(&settings);
            network.secret(&format!("{}.key", names[0]), first);
            for name in replaced.iter().rev() {
                let index = update.processes.iter().position(|pod| pod.name == *name).unwrap();
                drop(update.end(index));
                update
                    .add(|others| network.published_pod(name, &with_own_key(name), others), probe);
                update.settle();
            }
            update.are_under(|node| key_of(first, node));
        }
        println!("{}", update.finish("node keys", false));
    });
}

#[test]
fn the_unit_of_systemd_is_one() {
    in_a_network("the_unit_of_systemd_is_one", |network| {
        let text = page::block("systemd.md", "tallymesh@.service");
        let said = network.complaints_of_unit("tallymesh@.service", &text);
        assert!(said.is_none_or(|said| said.is_empty()));
        let wrong = text.replace("TimeoutStopSec", "TimeoutStop");
        let said = network.complaints_of_unit("wrong@.service", &wrong);
        assert!(said.is_none_or(|said| said.contains("Unknown key")));
    });
}

/// What keeps several processes running knows nothing of slots: each one takes what is free.
#[test]
fn processes_that_are_not_numbered() {
    in_a_network("processes_that_are_not_numbered", |mut network| {
        network.settings(&page::block("processes.md", "tallymesh.toml"));
        let slots = page::worker(0).replicas;
        let mut update = Update::new(&page::worker(0));
        for number in 0..slots + replacements() {
            // Not in the order of the slots.
            let slot = if number < slots { number } else { number * 2 % slots };
            let name = format!("worker@{number}");
            if number >= slots {
                let ended = page::worker(slot).http_port;
                let index = update.processes.iter().position(|one| one.http_port == ended).unwrap();
                drop(update.end(index));
            }
            update.add(|_| network.unit(&name, &page::worker(slot)), probe);
            if number >= slots {
                update.settle();
            }
        }
        println!("{}", update.finish("processes", true));
    });
}

/// The settings of the page, with two processes in one slot and with one too many.
#[test]
fn a_unit_whose_slot_is_held_does_not_start() {
    in_a_network("a_unit_whose_slot_is_held_does_not_start", |mut network| {
        network.settings(&page::block("systemd.md", "tallymesh.toml"));
        let (program, started) = page::unit(1);
        let first = network.unit("tallymesh@1", &program);
        assert!(network.command(&started).status().unwrap().success());
        let elsewhere = |mut program: Program, http: &str| {
            *program.command.last_mut().unwrap() = http.to_owned();
            program
        };
        let mut second = network.unit("second@1", &elsewhere(program.clone(), "127.0.0.1:8091"));
        assert_eq!(second.child.wait().unwrap().code(), Some(1));
        let log = second.log();
        assert!(log.contains("slot 1 is taken") && log.contains("is held by"), "{log}");
        let mut fourth = page::unit(3).0;
        fourth = elsewhere(fourth, "127.0.0.1:8092");
        let mut fourth = network.unit("tallymesh@3", &fourth);
        assert_eq!(fourth.child.wait().unwrap().code(), Some(1));
        let log = fourth.log();
        assert!(
            log.contains("node.slot = 3 (set by the environment variable TALLYMESH_NODE_SLOT)"),
            "{log}"
        );
        assert!(log.contains("0 to 2, since node.slots = 3"), "{log}");
        first.terminate();
    });
}
