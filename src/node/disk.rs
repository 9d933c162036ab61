//! The thread that recovers the state and writes checkpoints.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use rand::TryRng;
use rand::rngs::SysRng;
use tokio::sync::{oneshot, watch};

use super::{DurabilityError, Health, Joining, OpenError, lock};
use crate::clock::{Clock, system_wall};
use crate::config::{Config, Durability};
use crate::id::{Incarnation, ReplicaId};
use crate::storage::{Checkpointer, DataDir, MemoryStorage, StorageError};
use crate::table::{Restore, Table};
use crate::time::Timestamp;

/// How often to look whether the database is much larger than what is in it; also done at the start.
const COMPACT_EVERY: Duration = Duration::from_secs(600);

/// The rest of the process's view of the disk thread.
#[derive(Debug)]
pub(crate) struct Disk {
    wishes: Mutex<Wishes>,
    wake: Condvar,
    progress: watch::Sender<Progress>,
    writes_at_once: bool,
}

#[derive(Debug, Default)]
struct Wishes {
    /// Number of the last checkpoint that somebody waits for.
    wanted: u64,
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
pub(super) struct Opened {
    pub table: Arc<Table>,
    pub clock: Arc<Clock>,
    pub set_aside: Option<PathBuf>,
}

/// Starts the thread and waits until the state is recovered.
pub(super) async fn start(config: &Config) -> Result<(Arc<Disk>, Joining, Opened), OpenError> {
    let (progress, _) = watch::channel(Progress::default());
    let disk = Arc::new(Disk {
        wishes: Mutex::default(),
        wake: Condvar::new(),
        progress,
        writes_at_once: config.durability == Durability::Sync,
    });
    let (tell, told) = oneshot::channel();
    let thread = Joining::spawn("disk", {
        let (config, disk) = (config.clone(), disk.clone());
        move || match open(&config) {
            Ok((opened, checkpointer, dir)) => {
                let (table, clock) = (opened.table.clone(), opened.clock.clone());
                if tell.send(Ok(opened)).is_ok() {
                    let every = match config.durability {
                        Durability::Relaxed { every } => every,
                        Durability::Sync => Duration::from_millis(10),
                    };
                    disk.run(checkpointer, dir, (&table, &clock), every);
                }
            }
            Err(error) => {
                let _ = tell.send(Err(error));
            }
        }
    })?;
    let opened = told.await.map_err(|_| OpenError::Stopped("disk"))??;
    Ok((disk, thread, opened))
}

fn open(config: &Config) -> Result<(Opened, Checkpointer, Option<DataDir>), OpenError> {
    let mut dir = config.data_dir.as_deref().map(DataDir::open).transpose()?;
    let boot = dir.as_mut().map_or(Ok(1), |dir| dir.next_boot(&config.node))?;
    let incarnation = Incarnation { boot, nonce: random()? };
    let own = ReplicaId { node: config.node.clone(), incarnation };
    let seed = [random()?, random()?, random()?, random()?];
    let new_table = || Table::new(own.clone(), config.bounds.clone(), seed);
    let Some(mut dir) = dir else {
        let checkpointer =
            Checkpointer::on(Box::new(MemoryStorage::default()), None, &config.node)?;
        let (table, clock) = (Arc::new(new_table()), Arc::new(Clock::new(Timestamp(0))));
        return Ok((Opened { table, clock, set_aside: None }, checkpointer, None));
    };

    let mut table = new_table();
    let mut damaged = false;
    let database = {
        let mut restore = Some(Restore::into(&table));
        let database = dir.open_database(
            &config.node,
            |counter| {
                if let Some(restore) = &mut restore {
                    restore.add(&counter);
                }
            },
            || damaged = true,
        )?;
        if let (Some(restore), Some(recovered)) = (restore, &database.recovered) {
            restore.finish(recovered.watermarks());
        }
        database
    };
    if damaged {
        table = new_table();
    }
    if let Some((path, damage)) = &database.set_aside {
        tracing::error!(
            kept_at = %path.display(),
            %damage,
            "the database is damaged and was set aside; starting empty and relearning the state from the peers. \
             Check the disk; delete the directory that was set aside when it is no longer wanted"
        );
    }
    let high_water = database.recovered.as_ref().map_or(Timestamp(0), |found| found.clock());
    warn_of_clock_behind(high_water);
    let set_aside = database.set_aside.map(|(path, _)| path);
    let checkpointer = dir.begin_checkpoints(
        Box::new(database.storage),
        database.recovered.as_ref(),
        &config.node,
    )?;
    tracing::info!(replica = %own, counters = table.len(), "state recovered");
    let (table, clock) = (Arc::new(table), Arc::new(Clock::new(high_water)));
    Ok((Opened { table, clock, set_aside }, checkpointer, Some(dir)))
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
    /// Asks for a checkpoint without waiting for it, where the setting is to write at once.
    pub fn changed(&self) {
        if self.writes_at_once {
            self.want();
        }
    }

    /// Resolves when everything counted before the call is durable. Callers at one time share one checkpoint.
    pub async fn flush(&self) -> Result<(), DurabilityError> {
        let mut progress = self.progress.subscribe();
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

    /// Writes checkpoints until told to stop. The directory is let go only after the last.
    fn run(
        &self,
        mut checkpointer: Checkpointer,
        mut dir: Option<DataDir>,
        (table, clock): (&Table, &Clock),
        every: Duration,
    ) {
        let _ending = Ending(self);
        let mut noted = 0;
        let mut next_compaction = clock.monotonic();
        loop {
            let (wanted, stop) = self.wait(every);
            let done = self.progress.borrow().done;
            let mut written = checkpointer.write(table, clock.wall());
            if written.is_ok() {
                self.progress.send_modify(|progress| progress.done = wanted);
                if wanted > done || stop {
                    written = checkpointer.settle();
                }
            }
            if let Some(dir) = dir.as_mut().filter(|_| checkpointer.durable_epoch() > noted) {
                noted = checkpointer.durable_epoch();
                written = written.and_then(|()| dir.note_checkpoint(noted));
            }
            if written.is_ok() && clock.monotonic() >= next_compaction {
                next_compaction = clock.monotonic() + COMPACT_EVERY;
                written = checkpointer.compact().map(|gained| {
                    if gained {
                        tracing::info!("the database was rewritten, to give back disk space");
                    }
                });
            }
            if let Err(error) = written {
                return self.fail(&error);
            }
            if stop {
                return;
            }
        }
    }

    /// Waits until a checkpoint is wanted, or due; gives the number of the last one wanted, and whether to stop.
    fn wait(&self, every: Duration) -> (u64, bool) {
        let wishes = lock(&self.wishes);
        let done = self.progress.borrow().done;
        let idle = |wishes: &mut Wishes| wishes.wanted <= done && !wishes.stop;
        let waited = self.wake.wait_timeout_while(wishes, every, idle);
        let (wishes, _) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
        (wishes.wanted, wishes.stop)
    }

    fn fail(&self, error: &StorageError) {
        tracing::error!(
            %error,
            "the disk failed: counts are kept in memory only from now on, and durable requests fail. \
             Mend the disk and restart this instance"
        );
        self.progress.send_modify(|progress| progress.failed = Some(error.to_string()));
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
