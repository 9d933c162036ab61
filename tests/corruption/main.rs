//! A real directory, harmed in every way that disks and people know. Each case must end in one of: all is there; an error
//! that says what to do; or the damage is noticed, the database set aside, and the state relearned from the peer.
//!
//! `TALLYMESH_CORRUPTION_CASES` sets how many random cases (500), `TALLYMESH_SEED` draws the same ones again.

mod cluster;
mod failing;
mod refused;
mod small_disk;

use std::collections::BTreeMap;
use std::path::Path;

use cluster::{Cluster, is_helpful, open, value};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tallymesh::{Limiter, Request};
use tallymesh_test_support::harm::Harm;
use tallymesh_test_support::{copy_dir, seed};

/// How a case may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ending {
    Intact,
    Refused,
    Relearned,
}

#[test]
fn harm_is_survived_or_refused_or_relearned_from_the_peer() {
    let (seed, mut random) = seed::generator();
    quiet_panics_of_others();
    let cases = seed::number("TALLYMESH_CORRUPTION_CASES").unwrap_or(500);
    // Half of the cases to a processor, each half over a cluster of its own.
    let halves: [StdRng; 2] = [StdRng::from_rng(&mut random), StdRng::from_rng(&mut random)];
    let (mut endings, mut wrong) = (BTreeMap::new(), Vec::new());
    std::thread::scope(|scope| {
        let halves = halves.map(|random| scope.spawn(|| run_cases(cases.div_ceil(2), random)));
        for half in halves {
            for (harm, ending) in half.join().unwrap() {
                match ending {
                    Ok(ending) => *endings.entry(ending).or_insert(0) += 1,
                    Err(why) => wrong.push(format!("{harm}: {why}")),
                }
            }
        }
    });
    eprintln!("{endings:?}");
    let some = wrong[..wrong.len().min(20)].join("\n");
    assert!(wrong.is_empty(), "seed {seed}: {} of {cases} went wrong:\n{some}", wrong.len());
    assert!(cases < 100 || endings.len() == 3, "each ending is met: {endings:?}");
}

fn run_cases(cases: u64, mut random: StdRng) -> Vec<(Harm, Result<Ending, String>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let temp = tempfile::tempdir().unwrap();
        let cluster = Cluster::start(temp.path()).await;
        let mut judged = Vec::new();
        for _ in 0..cases {
            let harm = Harm::draw(&mut random, &cluster.dir);
            let ending = judge(&cluster, &harm, &temp.path().join("case")).await;
            judged.push((harm, ending));
        }
        cluster.peer.close().await.unwrap();
        judged
    })
}

/// Shows that the comparison sees a loss: nothing in a whole directory of old tells that it is old.
#[tokio::test]
async fn an_older_copy_of_everything_lacks_counts_that_the_peer_brings_back() {
    let temp = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(temp.path()).await;
    let node = open(&cluster.earlier, None).await.unwrap();
    assert_ne!(node.counters().state_checksum(), cluster.state_checksum);
    assert_eq!(node.counters().set_aside(), None);
    node.close().await.unwrap();
    let node = open(&cluster.earlier, Some(&cluster.peer)).await.unwrap();
    assert_eq!(node.counters().state_checksum(), cluster.state_checksum);
    node.close().await.unwrap();
    cluster.peer.close().await.unwrap();
}

/// Opens harmed copies of the directory, and says how that ended.
async fn judge(cluster: &Cluster, harm: &Harm, at: &Path) -> Result<Ending, String> {
    // Alone, so that the peer does not cover up for what is missing.
    let node = match open_harmed(cluster, harm, at, None).await {
        Ok(node) => node,
        Err(error) if is_helpful(&error) => return Ok(Ending::Refused),
        Err(error) => return Err(format!("an error that does not help: {error}")),
    };
    let is_intact = node.counters().state_checksum() == cluster.state_checksum;
    let aside = node.counters().set_aside().map(Path::to_owned);
    if aside.is_none() && !is_intact {
        return Err(format!("a silent loss, {} counters are there", node.counters().len()));
    }
    goes_on(node, at).await?;
    let Some(aside) = aside else { return Ok(Ending::Intact) };
    if !aside.exists() {
        return Err(format!("{} is not there", aside.display()));
    }
    // Once more, with the peer at hand.
    let node = open_harmed(cluster, harm, at, Some(&cluster.peer)).await?;
    let was_set_aside = node.counters().set_aside().is_some();
    let is_relearned = node.counters().state_checksum() == cluster.state_checksum;
    node.close().await.map_err(|error| format!("closing beside the peer: {error}"))?;
    match (was_set_aside, is_relearned) {
        (true, true) => Ok(Ending::Relearned),
        (false, _) => Err("set aside once, and not the next time".to_owned()),
        (_, false) => Err("opening did not bring the state back from the peer".to_owned()),
    }
}

async fn open_harmed(
    cluster: &Cluster,
    harm: &Harm,
    at: &Path,
    peer: Option<&Limiter>,
) -> Result<Limiter, String> {
    if at.exists() {
        std::fs::remove_dir_all(at).unwrap();
    }
    copy_dir(&cluster.dir, at);
    harm.inflict(at, &cluster.earlier);
    open(at, peer).await.map_err(|error| error.to_string())
}

/// What was opened counts durably, and is found in order when it is opened again.
async fn goes_on(node: Limiter, at: &Path) -> Result<(), String> {
    let request = Request::tool_call("afterwards", "tool");
    let counted = node.acquire_durable(&request).await;
    let counted = counted.map_err(|error| format!("a durable call: {error}"))?;
    assert!(counted.is_allowed(), "it is the first");
    let state_checksum = node.counters().state_checksum();
    node.close().await.map_err(|error| format!("closing: {error}"))?;
    let node = open(at, None).await.map_err(|error| format!("the second opening: {error}"))?;
    if let Some(aside) = node.counters().set_aside() {
        return Err(format!("the second opening finds damage; see {}", aside.display()));
    }
    if node.counters().state_checksum() != state_checksum || value(&node, "afterwards") != 1 {
        return Err("the second opening finds something else".to_owned());
    }
    node.close().await.map(drop).map_err(|error| format!("closing again: {error}"))
}

/// sled panics on damage, on threads of the node's and its own; what comes of that is judged by what can be seen.
fn quiet_panics_of_others() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let thread = std::thread::current();
        if !thread
            .name()
            .is_some_and(|name| name.starts_with("tallymesh") || name.starts_with("sled"))
        {
            usual(panic);
        }
    }));
}
