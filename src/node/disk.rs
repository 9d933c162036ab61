//! The thread that recovers the state and writes checkpoints.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use rand::TryRng;
use rand::rngs::SysRng;
use tokio::sync::{oneshot, watch};

use super::sleepers::Sleeper;
use super::{DurabilityError, Health, Joining, OpenError, Signals, lock};
use crate::clock::{Clock, system_wall};
use crate::config::{Config, Durability};
use crate::storage::{DataDir, Opened, Persister, StorageError};
use tallymesh_core::id::{Incarnation, ReplicaId};
use tallymesh_core::table::Table;
use tallymesh_core::time::Timestamp;

/// How often to look whether the database is much larger than what is in it; also done at the start.
const COMPACT_EVERY: Duration = Duration::from_secs(600);
/// How long to wait before the disk is tried again after it failed; twice as long after each time, up to a bound.
const TRY_AGAIN_FIRST: Duration = Duration::from_secs(1);
const TRY_AGAIN_MAX: Duration = Duration::from_secs(30);

/// After this many checkpoints in a row that had nothing to write, the thread sleeps until it is woken by a change ...
const IDLE_AFTER: u32 = 50;
/// ... or for so long: what peers told is written then at the latest.
const IDLE: Duration = Duration::from_millis(500);

/// The rest of the process's view of the disk thread.
#[derive(Debug)]
pub(crate) struct Disk {
    wishes: Mutex<Wishes>,
    wake: Condvar,
    progress: watch::Sender<Progress>,
    writes_at_once: bool,
    signals: Arc<Signals>,
}

#[derive(Debug, Default)]
struct Wishes {
    /// Number of the last checkpoint that somebody waits for.
    wanted: u64,
    /// Something changed while the thread slept.
    woken: bool,
    stop: bool,
}

#[derive(Debug, Clone, Default)]
struct Progress {
    /// All checkpoints wanted up to this number are durable.
    done: u64,
    failed: Option<String>,
    stopped: bool,
}

/// What the disk thread found or made.
pub(super) struct Started {
    pub table: Arc<Table>,
    pub clock: Arc<Clock>,
    pub set_aside: Option<PathBuf>,
}

/// Starts the thread and waits until the state is recovered.
pub(super) async fn start(
    config: &Config,
    signals: Arc<Signals>,
) -> Result<(Arc<Disk>, Joining, Started), OpenError> {
    let (progress, _) = watch::channel(Progress::default());
    let disk = Arc::new(Disk {
        wishes: Mutex::default(),
        wake: Condvar::new(),
        progress,
        writes_at_once: config.durability == Durability::Sync,
        signals,
    });
    let (tell, told) = oneshot::channel();
    let thread = Joining::spawn("disk", {
        let (config, disk) = (config.clone(), disk.clone());
        move || match open(&config) {
            Ok((started, persister)) => {
                let (table, clock) = (started.table.clone(), started.clock.clone());
                if tell.send(Ok(started)).is_ok() {
                    let Some(persister) = persister else { return disk.without_storage() };
                    let every = config.persist_every;
                    Run { disk: &disk, persister, table: &table, clock: &clock, every }.run();
                }
            }
            Err(error) => {
                let _ = tell.send(Err(error));
            }
        }
    })?;
    let started = told.await.map_err(|_| OpenError::Stopped("disk"))??;
    Ok((disk, thread, started))
}

/// Recovers the state, or begins in memory only: then there is no persister.
fn open(config: &Config) -> Result<(Started, Option<Persister>), OpenError> {
    let random = (random()?, [random()?, random()?, random()?, random()?]);
    let (node, bounds) = (&config.node, &config.bounds);
    let Some(path) = &config.data_dir else {
        let incarnation = Incarnation { boot: 1, nonce: random.0 };
        let own = ReplicaId { node: node.clone(), incarnation };
        let table = Arc::new(Table::new(own, bounds.clone(), random.1).without_storage());
        let clock = Arc::new(Clock::new(Timestamp(0)));
        return Ok((Started { table, clock, set_aside: None }, None));
    };
    let Opened { persister, table, clock: high_water, set_aside } =
        Persister::open(DataDir::open(path)?, node, bounds, random)?;
    if let Some((path, damage)) = &set_aside {
        tracing::warn!(kept_at = %path.display(), %damage, "the damaged database is kept");
    }
    warn_of_clock_behind(high_water);
    tracing::info!(replica = %table.own_replica(), counters = table.len(), "state recovered");
    let (table, clock) = (Arc::new(table), Arc::new(Clock::new(high_water)));
    let set_aside = set_aside.map(|(path, _)| path);
    Ok((Started { table, clock, set_aside }, Some(persister)))
}

fn warn_of_clock_behind(high_water: Timestamp) {
    let behind = high_water.since(system_wall());
    if behind > Duration::from_secs(1) {
        tracing::warn!(
            behind = %humantime::format_duration(behind),
            "the system clock is behind the time of the last checkpoint; until it has caught up, time stands still here \
             and windows do not roll over"
        );
    }
}

fn random() -> Result<u64, OpenError> {
    SysRng.try_next_u64().map_err(|error| OpenError::Threads(std::io::Error::other(error)))
}

impl Disk {
    /// Tells of a change in the table, without waiting for it to be written.
    #[inline]
    pub fn changed(&self) {
        if self.writes_at_once {
            self.want();
        }
    }

    /// Ends the thread's sleep.
    pub fn wake_up(&self) {
        lock(&self.wishes).woken = true;
        self.wake.notify_one();
    }

    /// Resolves when everything counted before the call is durable. Callers at one time share one checkpoint.
    pub async fn flush(&self) -> Result<(), DurabilityError> {
        let mut progress = self.progress.subscribe();
        self.outcome()?;
        let wanted = self.want();
        let over = |progress: &Progress| {
            progress.done >= wanted || progress.failed.is_some() || progress.stopped
        };
        // The sender lives as long as we do, so this cannot fail; were it to, that would be a stop.
        let progress = match progress.wait_for(over).await {
            Ok(progress) => progress.clone(),
            Err(_) => return Err(DurabilityError::Closed),
        };
        match progress.failed {
            Some(reason) => Err(DurabilityError::Degraded { reason }),
            None if progress.done >= wanted => Ok(()),
            None => Err(DurabilityError::Closed),
        }
    }

    /// The thread's work where nothing is kept on disk: nobody waits for it.
    fn without_storage(&self) {
        let _ending = Ending(self);
        loop {
            let (wanted, stop) = self.wait(COMPACT_EVERY);
            self.progress.send_modify(|progress| progress.done = wanted);
            if stop {
                return;
            }
        }
    }

    pub fn stop(&self) {
        lock(&self.wishes).stop = true;
        self.wake.notify_one();
    }

    pub fn health(&self) -> Health {
        match &self.progress.borrow().failed {
            Some(reason) => Health::Degraded(reason.clone()),
            None => Health::Durable,
        }
    }

    /// How the last checkpoint went.
    pub fn outcome(&self) -> Result<(), DurabilityError> {
        match &self.progress.borrow().failed {
            Some(reason) => Err(DurabilityError::Degraded { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    fn want(&self) -> u64 {
        let mut wishes = lock(&self.wishes);
        wishes.wanted += 1;
        let wanted = wishes.wanted;
        drop(wishes);
        self.wake.notify_one();
        wanted
    }

    /// Waits until a checkpoint is wanted, or due; gives the number of the last one wanted, and whether to stop.
    fn wait(&self, every: Duration) -> (u64, bool) {
        let done = self.progress.borrow().done;
        self.wait_while(every, |wishes| wishes.wanted <= done && !wishes.stop)
    }

    /// As [`wait`](Self::wait), but sleeps until something changes, as soon as there is nothing left to write.
    fn wait_idle(&self) -> (u64, bool) {
        let done = self.progress.borrow().done;
        let waited =
            self.wait_while(IDLE, |wishes| wishes.wanted <= done && !wishes.woken && !wishes.stop);
        self.signals.sleepers.set(Sleeper::Disk, false);
        lock(&self.wishes).woken = false;
        waited
    }

    fn wait_while(
        &self,
        at_most: Duration,
        condition: impl FnMut(&mut Wishes) -> bool,
    ) -> (u64, bool) {
        let waited = self.wake.wait_timeout_while(lock(&self.wishes), at_most, condition);
        let (wishes, _) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
        (wishes.wanted, wishes.stop)
    }
}

/// The thread's work.
struct Run<'a> {
    disk: &'a Disk,
    persister: Persister,
    table: &'a Table,
    clock: &'a Clock,
    every: Duration,
}

impl Run<'_> {
    /// Writes checkpoints until told to stop. The directory is let go only after the last.
    fn run(mut self) {
        let _ending = Ending(self.disk);
        let mut next_compaction = self.clock.monotonic();
        let mut idle = 0;
        loop {
            let (wanted, stop) = match idle {
                0..IDLE_AFTER => self.disk.wait(self.every),
                _ => self.disk.wait_idle(),
            };
            self.disk.signals.sleepers.set(Sleeper::Disk, idle + 1 >= IDLE_AFTER);
            let mut written = self.write(wanted, stop).map(|wrote| {
                idle = if wrote { 0 } else { (idle + 1).min(IDLE_AFTER) };
            });
            if written.is_ok() && self.clock.monotonic() >= next_compaction {
                next_compaction = self.clock.monotonic() + COMPACT_EVERY;
                written = self.persister.compact().map(|gained| {
                    if gained {
                        tracing::info!("the database was rewritten, to give back disk space");
                    }
                });
            }
            let stop = match written {
                Ok(()) => stop,
                Err(error) => self.without_disk(&error, stop),
            };
            if stop {
                return;
            }
        }
    }

    /// Writes a checkpoint; says whether there was anything to write.
    fn write(&mut self, wanted: u64, stop: bool) -> Result<bool, StorageError> {
        let done = self.disk.progress.borrow().done;
        let wrote = self.persister.write(self.table, self.clock.wall())?;
        if wanted > done {
            self.disk.progress.send_modify(|progress| progress.done = wanted);
        }
        if wanted > done || stop {
            self.persister.settle()?;
        }
        Ok(wrote)
    }

    /// Goes on in memory until the disk takes a whole new database; says whether to stop.
    fn without_disk(&mut self, error: &StorageError, mut stop: bool) -> bool {
        tracing::error!(
            %error,
            "the disk failed: counts are kept in memory only, and durable requests fail, until a new database can be \
             written. Free some space, or mend the disk"
        );
        let fail = |error: &StorageError| {
            let reason = Some(error.to_string());
            self.disk.progress.send_modify(|progress| progress.failed = reason);
        };
        fail(error);
        let mut pause = TRY_AGAIN_FIRST;
        loop {
            if !stop {
                (_, stop) = self.disk.wait_while(pause, |wishes| !wishes.stop);
            }
            self.table.forget_dropped();
            // Whoever asked for durability by then was told no, so nobody waits for what is counted done here.
            let wanted = lock(&self.disk.wishes).wanted;
            match self.persister.begin_again(self.table, self.clock.wall()) {
                Ok(()) => {
                    tracing::info!("the disk takes writes again: all counts are in a new database");
                    self.disk.progress.send_modify(|progress| {
                        progress.done = wanted;
                        progress.failed = None;
                    });
                    return stop;
                }
                Err(error) => {
                    if pause == TRY_AGAIN_MAX {
                        tracing::warn!(%error, "the disk still fails");
                    }
                    fail(&error);
                }
            }
            if stop {
                return true;
            }
            pause = (pause * 2).min(TRY_AGAIN_MAX);
        }
    }
}

/// Sees to it that nobody waits for a thread that is over, even if a panic ended it.
struct Ending<'a>(&'a Disk);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.progress.send_modify(|progress| {
            if std::thread::panicking() {
                progress.failed.get_or_insert_with(|| "the disk thread panicked".to_owned());
            }
            progress.stopped = true;
        });
    }
}
