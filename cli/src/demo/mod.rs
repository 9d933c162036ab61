//! `tallymesh demo`: three nodes, and the attacks that they are there to stop.

mod cluster;
mod proxy;

use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::command::{CommandResult, complain, print_line};
use crate::signals::Signals;
use cluster::{Cluster, NAMES};

/// Starts three nodes as processes, plays the attacks that a limiter in one process's memory does not stop, and shows what
/// is expected and what is seen. Needs nothing prepared and leaves nothing behind.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {}

const LIMITS: &str = r#"
[[limit]]
name = "bookings per session"
when = { tool = "book_*" }
per = ["session"]
max = 3
window = "session"
session_ttl = "1h"
[[limit]]
name = "rides per session"
when = { tool = "ride_*" }
per = ["session"]
max = 9
window = "session"
when_cut_off = "share"
[[limit]]
name = "calls per user"
per = ["user"]
max = 10
window = "session"
session_ttl = "1h"
"#;

const ALL: [usize; 3] = [0, 1, 2];

/// How long nodes that can reach each other may take to agree.
const PATIENCE: Duration = Duration::from_secs(8);

/// Runs the command.
pub async fn run(_: DemoArgs) -> CommandResult {
    let mut signals = Signals::listen()?;
    let dir = tempfile::Builder::new().prefix("tallymesh-demo-").tempdir()?;
    let mut cluster = Cluster::prepare(dir.path(), LIMITS).await?;
    let mut stage = Stage::open()?;
    let played = signals.unless(play(&mut stage, &mut cluster)).await;
    cluster.end().await;
    if matches!(played, Ok(Err(_))) || stage.failures > 0 {
        for (index, name) in NAMES.iter().enumerate() {
            complain(&format_args!("\nthe end of {name}'s log:\n{}", cluster.log(index)));
        }
    }
    dir.close()?;
    match played {
        Ok(played) => played?,
        Err(signal) => {
            complain(&"interrupted; nothing is left behind");
            return Ok(signal.exit_code());
        }
    }
    match stage.failures {
        0 => {
            print_line(&"\nEverything as expected.")?;
            Ok(ExitCode::SUCCESS)
        }
        failures => {
            let shown = stage.shown;
            print_line(&format_args!("\n{failures} of {shown} expectations failed."))?;
            Ok(ExitCode::FAILURE)
        }
    }
}

async fn play(stage: &mut Stage, cluster: &mut Cluster) -> Result<(), Box<dyn std::error::Error>> {
    let began = stage.clock();
    cluster.start().await?;
    stage.show("start three processes", "ready", "ready", began)?;

    stage.title("Another instance behind the load balancer")?;
    let began = stage.clock();
    let admitted = book(cluster, &[0, 0, 0, 0], "s1", "u1").await?;
    stage.show("4 bookings in session s1 on A", "3 admitted", count(admitted), began)?;
    let began = stage.clock();
    await_agreement(cluster, &ALL).await?;
    stage.show("B and C hear of it", "they agree", "they agree", began)?;
    let began = stage.clock();
    let admitted = book(cluster, &[1, 2, 1, 2], "s1", "u1").await?;
    stage.show("the same session on B and C", "0 admitted", count(admitted), began)?;

    stage.title("A restart")?;
    let began = stage.clock();
    cluster.kill(0).await?;
    cluster.start_node(0).await?;
    stage.show("kill -9 A, start it again", "ready", "ready", began)?;
    let began = stage.clock();
    let admitted = book(cluster, &[0, 0], "s1", "u1").await?;
    stage.show("the same session on A", "0 admitted", count(admitted), began)?;
    let began = stage.clock();
    for index in ALL {
        // Peers remember what one node had not written yet; when all die at once, the disks must.
        cluster.ask(index, "flush").await?;
    }
    stage.show("the last 10 ms reach the disks (flush)", "written", "written", began)?;
    let began = stage.clock();
    for index in ALL {
        cluster.kill(index).await?;
    }
    for index in ALL {
        cluster.start_node(index).await?;
    }
    stage.show("kill -9 all three, start them again", "ready", "ready", began)?;
    let began = stage.clock();
    let admitted = book(cluster, &[0, 1, 2], "s1", "u1").await?;
    stage.show("the same session everywhere", "0 admitted", count(admitted), began)?;

    stage.title("New connections: a fresh session for every call")?;
    let began = stage.clock();
    let mut admitted = 0;
    for call in 0..15 {
        let session = format!("fresh-{call}");
        admitted += book(cluster, &[call % NAMES.len()], &session, "u2").await?;
        await_agreement(cluster, &ALL).await?;
    }
    stage.show("15 sessions of user u2, everywhere", "10 admitted", count(admitted), began)?;

    stage.title("A silent cut: nothing arrives at C or from it, and no connection ends")?;
    let began = stage.clock();
    // After all the kills, each has yet to find that an address which it dials leads to a node that has dialed it.
    await_cut(cluster, false).await?;
    let admitted = ride(cluster, &ALL, "s3", "u4").await?;
    await_agreement(cluster, &ALL).await?;
    stage.show("a ride in s3 on each, of 9, before", "3 admitted", count(admitted), began)?;
    let began = stage.clock();
    cluster.isolate(2, true);
    await_cut(cluster, true).await?;
    stage.show("C is cut off; all notice it", "they notice", "they notice", began)?;

    stage.title("... with \"allow\": each side goes on to the whole limit")?;
    let began = stage.clock();
    let near = book(cluster, &[0, 0, 0, 0], "s2", "u3").await?;
    stage.show("4 bookings in s2 on A", "3 admitted", count(near), began)?;
    let began = stage.clock();
    await_agreement(cluster, &[0, 1]).await?;
    let admitted = book(cluster, &[1, 1], "s2", "u3").await?;
    stage.show("2 more on B, on A's side", "0 admitted", count(admitted), began)?;
    let began = stage.clock();
    let far = book(cluster, &[2, 2, 2, 2], "s2", "u3").await?;
    stage.show("4 on C, which cannot know", "3 admitted", count(far), began)?;

    stage.title("... with \"share\": of the 6 rides left, 2 for each member")?;
    let began = stage.clock();
    let near = ride(cluster, &[0, 1, 0, 1, 0, 1], "s3", "u4").await?;
    stage.show("6 rides in s3 on A and B", "4 admitted", count(near), began)?;
    let began = stage.clock();
    let far = ride(cluster, &[2; 6], "s3", "u4").await?;
    stage.show("6 on C", "2 admitted", count(far), began)?;

    stage.title("Whole again")?;
    let began = stage.clock();
    cluster.isolate(2, false);
    await_agreement(cluster, &ALL).await?;
    let seen = format!("all read {}", values(cluster, "s2").await?);
    stage.show("bookings in s2", "all read 6, 6, 6", seen, began)?;
    let began = stage.clock();
    let seen = format!("all read {}", values(cluster, "s3").await?);
    stage.show("rides in s3, of 9", "all read 9, 9, 9", seen, began)?;
    let began = stage.clock();
    await_cut(cluster, false).await?;
    stage.show(
        "digests are compared, and trust is back",
        "none suspected",
        "none suspected",
        began,
    )?;
    let began = stage.clock();
    let admitted = book(cluster, &[0, 1, 2], "s2", "u3").await?;
    stage.show("the same session everywhere", "0 admitted", count(admitted), began)?;
    let began = stage.clock();
    let admitted = ride(cluster, &[0, 1, 2], "s3", "u4").await?;
    stage.show("rides everywhere", "0 admitted", count(admitted), began)?;
    cluster.stop().await?;
    Ok(())
}

/// Tries to book once on each of these nodes, one after the other, and returns how often that was admitted.
async fn book(
    cluster: &mut Cluster,
    indices: &[usize],
    session: &str,
    user: &str,
) -> io::Result<u32> {
    call(cluster, indices, &format!("session={session} tool=book_service user={user}")).await
}

/// As [`book`], a ride; a node of its side hears of each before the next.
async fn ride(
    cluster: &mut Cluster,
    indices: &[usize],
    session: &str,
    user: &str,
) -> io::Result<u32> {
    let mut admitted = 0;
    for index in indices {
        let labels = format!("session={session} tool=ride_taxi user={user}");
        admitted += call(cluster, &[*index], &labels).await?;
        if indices.iter().any(|other| other != index) && !indices.contains(&2) {
            await_agreement(cluster, &[0, 1]).await?;
        }
    }
    Ok(admitted)
}

/// Waits until every node sees the side that it is on, or none is cut off.
async fn await_cut(cluster: &mut Cluster, is_cut: bool) -> io::Result<()> {
    let noticing = async {
        for index in ALL {
            // C notices one of the others before the other one, and thinks itself on its side until then.
            let side = is_cut.then_some(if index == 2 { 1 } else { 2 });
            while cluster.ask(index, "state").await?["cut_off"]["side"].as_u64() != side {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        Ok(())
    };
    let timeout = io::Error::new(io::ErrorKind::TimedOut, "the nodes do not notice the cut");
    tokio::time::timeout(PATIENCE, noticing).await.unwrap_or(Err(timeout))
}

async fn call(cluster: &mut Cluster, indices: &[usize], labels: &str) -> io::Result<u32> {
    let mut admitted = 0;
    for index in indices {
        let command = format!("acquire {labels}");
        let answer = cluster.ask(*index, &command).await?;
        admitted += u32::from(answer["allowed"] == true);
    }
    Ok(admitted)
}

/// Waits until these nodes have the same counters.
async fn await_agreement(cluster: &mut Cluster, indices: &[usize]) -> io::Result<()> {
    let agreeing = async {
        while !cluster.agree(indices).await? {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    };
    let timeout = io::Error::new(io::ErrorKind::TimedOut, "the nodes do not come to agree");
    tokio::time::timeout(PATIENCE, agreeing).await.unwrap_or(Err(timeout))
}

/// What each node reads in a session's counter.
async fn values(cluster: &mut Cluster, session: &str) -> io::Result<String> {
    let mut values = Vec::new();
    for index in ALL {
        let counters = cluster.counters(index).await?;
        let of_session = |counter: &&serde_json::Value| counter["values"][0] == session;
        let value = counters.iter().find(of_session).map(|counter| counter["value"].to_string());
        values.push(value.unwrap_or_else(|| "nothing".to_owned()));
    }
    Ok(values.join(", "))
}

fn count(admitted: u32) -> String {
    format!("{admitted} admitted")
}

/// The table that the user sees grow.
struct Stage {
    shown: u32,
    failures: u32,
}

impl Stage {
    fn open() -> io::Result<Stage> {
        print_line(
            &"Three nodes, A, B and C. In one session at most 3 bookings, for one user at most 10 calls.\n",
        )?;
        print_line(&format_args!(
            "    {:<40} {:<18} {:<18} {:>7}",
            "what happens", "expected", "seen", "ms"
        ))?;
        Ok(Stage { shown: 0, failures: 0 })
    }

    /// The moment that something begins.
    #[expect(clippy::disallowed_methods, reason = "measures the time that the user waits")]
    fn clock(&self) -> Instant {
        Instant::now()
    }

    fn title(&self, title: &str) -> io::Result<()> {
        print_line(&format_args!("\n  {title}"))
    }

    fn show(
        &mut self,
        what: &str,
        expected: &str,
        seen: impl AsRef<str>,
        began: Instant,
    ) -> io::Result<()> {
        let ms = (self.clock() - began).as_secs_f64() * 1000.0;
        let seen = seen.as_ref();
        let mark = if seen == expected { "ok" } else { "!!" };
        self.shown += 1;
        self.failures += u32::from(seen != expected);
        print_line(&format_args!("{mark}  {what:<40} {expected:<18} {seen:<18} {ms:>7.1}"))
    }
}
