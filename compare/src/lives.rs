//! What short-lived nodes leave behind: pods with names of their own, each of which counts once and is gone.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tallymesh::{Limit, Limiter, Request, Window};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::clock::now;
use crate::cluster::{self, address, node, open, runtime, until};
use crate::decisions::thousands;
use crate::one_life;
use crate::process::resident_bytes;
use crate::propagation::CountingProxy;
use crate::report::Report;
use crate::size::Size;
use crate::table::Table;
use crate::target::{self, Target};

/// Their windows are of one second and of 30 days.
const SECOND: &str = "a second";
const MONTH: &str = "a month";
/// So many lives are played at a time.
const AT_ONCE: usize = 64;

/// Two nodes that stay, before and after so many lives that count once in both limits.
pub fn run(size: &Size, lives: usize, report: &mut Report) -> io::Result<()> {
    let (runtime, directory) = (runtime(), cluster::directory());
    let pair = Pair::start(&runtime, &directory)?;
    thread::sleep(size.watch);
    let idle_before = pair.idle_bytes_a_second(size);
    let resident_before = resident_bytes();

    note!("lives: {} of them", thousands(lives));
    let begun = now();
    play(lives, &pair.nodes[0])?;
    until("both nodes know all lives", || pair.counted() == [lives as u64; 2]);
    let played = (now() - begun).as_secs_f64();
    let grown = (resident_bytes() - resident_before) / lives as f64;
    pair.close(&runtime);

    note!("lives: both nodes start again");
    let begun = now();
    let pair = Pair::start(&runtime, &directory)?;
    let restarted = (now() - begun).as_secs_f64();
    assert_eq!(pair.counted(), [lives as u64; 2], "a count is lost");
    // What is to be compared once is compared, and the rest is as it stays.
    thread::sleep(Duration::from_secs(5).max(size.watch));
    let idle_after = pair.idle_bytes_a_second(size);
    assert_eq!(pair.counted(), [lives as u64; 2], "a count is lost");
    pair.close(&runtime);

    let ratio = idle_after / idle_before;
    let mut table = Table::new(["two nodes that stay, with limits of 1 s and of 30 days", ""]);
    let mut row = |what: &str, value: String| {
        table.row([what.to_owned(), value]);
    };
    row("lives played, each with a name of its own", thousands(lives));
    row("time for all of them", format!("{played:.1} s"));
    row("value of the 30-day counter on both nodes, after both were restarted", thousands(lives));
    row("idle bytes a second on the link, both ways, before", format!("{idle_before:.0}"));
    row("idle bytes a second on the link, both ways, after", format!("{idle_after:.0}"));
    row("ratio", format!("{ratio:.2}"));
    row("memory of both nodes for one life", format!("{grown:.0} bytes"));
    row("time to start both again, on disk", format!("{restarted:.1} s"));
    report.text(&table);
    report.text(&target::table(&[Target::at_most(
        format!("idle bytes a second after {} lives, of those before", thousands(lives)),
        1.1,
        "",
        ratio,
    )]));
    Ok(())
}

struct Pair {
    nodes: [Limiter; 2],
    proxy: CountingProxy,
}

impl Pair {
    /// Two nodes on disk, of which the second dials the first.
    fn start(runtime: &Runtime, directory: &TempDir) -> io::Result<Pair> {
        let settings = |name| {
            limits().into_iter().fold(node(name, Some(directory)), |node, limit| node.limit(limit))
        };
        let first = open(runtime, settings("steady-1"));
        let proxy = CountingProxy::start(&address(first.counters()))?;
        let second = open(runtime, settings("steady-2").peers([proxy.address.clone()]));
        let nodes = [first, second];
        until("both are connected", || {
            nodes.iter().all(|node| node.peers().iter().any(|peer| peer.connected))
        });
        Ok(Pair { nodes, proxy })
    }

    /// What both hold in the counter of 30 days.
    fn counted(&self) -> [u64; 2] {
        self.nodes.each_ref().map(|node| {
            let keys = node.keys(&Request::new());
            let month = keys.iter().find(|key| key.limit() == MONTH).expect("the limit applies");
            node.counters().value(month)
        })
    }

    fn idle_bytes_a_second(&self, size: &Size) -> f64 {
        let bytes = || self.proxy.bytes().0 + self.proxy.bytes().1;
        // Digests come about once a second, at random times.
        let watch = size.watch * 3;
        let before = bytes();
        thread::sleep(watch);
        (bytes() - before) as f64 / watch.as_secs_f64()
    }

    fn close(self, runtime: &Runtime) {
        for node in &self.nodes {
            runtime.block_on(node.close()).expect("the disk works");
        }
    }
}

fn limits() -> [Limit; 2] {
    let fixed =
        |name, seconds| Limit::new(name, 1 << 40, Window::Fixed(Duration::from_secs(seconds)));
    [fixed(SECOND, 1), fixed(MONTH, 30 * 24 * 3600)]
}

/// Plays all lives, some at a time.
fn play(lives: usize, steady: &Limiter) -> io::Result<()> {
    let (next, address) = (AtomicUsize::new(0), address(steady.counters()));
    let play_next = || -> io::Result<()> {
        loop {
            match next.fetch_add(1, Ordering::Relaxed) {
                life if life < lives => {
                    one_life::live(life, &address, &steady.keys(&Request::new()))?
                }
                _ => return Ok(()),
            }
        }
    };
    thread::scope(|scope| {
        let players = [(); AT_ONCE].map(|()| scope.spawn(play_next));
        // Proven: they return their errors.
        players.into_iter().try_for_each(|player| player.join().expect("no panic"))
    })
}
