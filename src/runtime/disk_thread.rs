//! The thread that recovers the state and writes checkpoints.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::restarts::caught;
use super::wakers::Worker;
use super::{DurabilityError, OpenError, Signals, lock, spawn};
use crate::clock::Clock;
use crate::config::{Config, Durability};
use crate::disk::{self, ReadProgress};
use crate::log_line;
use crate::random::random;
use tallymesh_core::gossip::KnownMember;
use tallymesh_core::id::{Incarnation, ReplicaId};
use tallymesh_core::storage::{
    CarriedOver, CarryOver, OpenEvent, Opened, Start, StateStore, StorageError,
};
use tallymesh_core::table::Table;
use tallymesh_core::time::Timestamp;

/// How often to look whether the database is much larger than what is in it; also done at the start.
const COMPACT_EVERY: Duration = Duration::from_secs(600);
/// How long to wait before the disk is tried again after it failed; twice as long after each time, up to a bound.
const TRY_AGAIN_FIRST: Duration = Duration::from_secs(1);
const TRY_AGAIN_MAX: Duration = Duration::from_secs(30);

/// After this many checkpoints in a row that had nothing to write, the thread sleeps until it is woken by a change ...
const IDLE_AFTER: u32 = 50;
/// ... or for this long: what came from peers is written then at the latest.
const IDLE: Duration = Duration::from_millis(500);

/// What the rest of the process sees of the disk thread.
#[derive(Debug)]
pub(crate) struct DiskThread {
    requests: Mutex<Requests>,
    wake: Condvar,
    progress: watch::Sender<Progress>,
    writes_at_once: bool,
    signals: Arc<Signals>,
}

#[derive(Debug, Default)]
struct Requests {
    /// Number of the last checkpoint that a caller waits for.
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
    /// The members of the cluster as of when the node ran last.
    pub members: Vec<KnownMember>,
    pub clock: Arc<Clock>,
    pub set_aside: Option<PathBuf>,
}

/// Starts the thread and waits until the state is recovered.
pub(super) async fn start(
    config: &Config,
    signals: Arc<Signals>,
) -> Result<(Arc<DiskThread>, JoinHandle<()>, Started), OpenError> {
    let (progress, _) = watch::channel(Progress::default());
    let disk = Arc::new(DiskThread {
        requests: Mutex::default(),
        wake: Condvar::new(),
        progress,
        writes_at_once: config.durability == Durability::Sync,
        signals,
    });
    let (tell, told) = oneshot::channel();
    let thread = spawn("disk", {
        let (config, disk) = (config.clone(), disk.clone());
        move || {
            // It ends after the directory is let go of.
            let _guard = ExitGuard(&disk);
            match open(&config) {
                Ok((started, store)) => {
                    let (table, clock) = (started.table.clone(), started.clock.clone());
                    if tell.send(Ok(started)).is_ok() {
                        let (disk, table, clock) = (&*disk, &*table, &*clock);
                        let Some(store) = store else {
                            return disk.without_storage(table, clock);
                        };
                        let every = config.persist_every;
                        DiskLoop { disk, store, table, clock, every }.run_to_the_end();
                    }
                }
                Err(error) => {
                    let _ = tell.send(Err(error));
                }
            }
        }
    })?;
    let started = told.await.map_err(|_| OpenError::Stopped("disk"))??;
    Ok((disk, thread, started))
}

/// Recovers the state, or begins in memory only: then there is no store.
fn open(config: &Config) -> Result<(Started, Option<StateStore>), OpenError> {
    let number = || random().map(u64::from_le_bytes).map_err(OpenError::Threads);
    let process_clock = Clock::new(Timestamp(0));
    let clock = process_clock.now().wall;
    let hash_seeds = [number()?, number()?, number()?, number()?];
    let start = Start { clock, nonce: number()?, hash_seeds };
    let (node, bounds) = (&config.node, &config.bounds);
    let Some(path) = &config.data_dir else {
        let boot = Incarnation::boot_after(0, start.clock.0);
        let incarnation = Incarnation { boot, nonce: start.nonce };
        let own = ReplicaId { node: node.clone(), incarnation };
        let table = Arc::new(Table::new(own, bounds.clone(), start.hash_seeds).without_storage());
        table.set_operator_key(config.operator, config.gossip.cluster.clone());
        let clock = Arc::new(Clock::new(Timestamp(0)));
        let members = Vec::new();
        return Ok((Started { table, members, clock, set_aside: None }, None));
    };
    let mut progress = ReadProgress::begin(|| process_clock.monotonic());
    let rules = CarryOver { limits: &config.limits, counters_ttl: config.counter_ttl };
    let opened = StateStore::open(disk::open(path)?, node, bounds, &rules, start, |event| {
        log_line::write(|| log_opening(event, &mut progress));
    })?;
    let Opened { store, table, members, clock: high_water, set_aside, .. } = opened;
    table.set_operator_key(config.operator, config.gossip.cluster.clone());
    let set_aside = set_aside.map(|(name, damage)| (path.join(name), damage));
    if let Some((path, damage)) = &set_aside {
        log_line::write(|| {
            tracing::warn!(kept_at = %path.display(), %damage, "the damaged database is kept");
        });
    }
    log_line::write(|| {
        tracing::info!(replica = %table.own_replica(), counters = table.len(), "state recovered");
    });
    let (table, clock) = (Arc::new(table), Arc::new(Clock::new(high_water)));
    let set_aside = set_aside.map(|(path, _)| path);
    Ok((Started { table, members, clock, set_aside }, Some(store)))
}

fn log_opening(event: OpenEvent<'_>, progress: &mut ReadProgress<impl Fn() -> Duration>) {
    match event {
        OpenEvent::CounterRead => {
            if let Some((counters, so_far)) = progress.one_more() {
                let seconds = so_far.as_secs();
                tracing::info!(counters, seconds, "still reading the database");
            }
        }
        OpenEvent::SettingAside { place, damage } => tracing::error!(
            data_dir = place,
            %damage,
            "the database is damaged and is set aside as db.damaged-N; starting empty and relearning the state from the \
             peers. Check the disk; delete what was set aside when it is no longer wanted"
        ),
        OpenEvent::CarriedOver(carried) => {
            let CarriedOver { of_limits, of_no_limit, left_out, .. } = carried;
            tracing::info!(
                of_limits,
                of_no_limit,
                left_out,
                "the database is carried over to the present disk format"
            );
            if of_no_limit > 0 {
                tracing::warn!(
                    counters = of_no_limit,
                    "counters of the former disk format fit no limit of the config, and count for none; that is right for \
                     counters of a CounterStore, and for limits that were removed or changed"
                );
            }
            if left_out > 0 {
                tracing::warn!(
                    counters = left_out,
                    "counters of the former disk format have a key that is none, and are left out"
                );
            }
        }
        OpenEvent::Rejected { what, why, copy } => tracing::error!(
            record = what,
            why,
            copy = copy.unwrap_or("none, there are too many"),
            "a record holds what no version writes, and is left out; what it held is relearned from the peers. Please report \
             it, with the copy"
        ),
        _ => {}
    }
}

impl DiskThread {
    /// The table changed; does not wait for that to be written.
    #[inline]
    pub(crate) fn changed(&self) {
        if self.writes_at_once {
            self.want();
        }
    }

    /// Ends the thread's sleep.
    pub(crate) fn wake_up(&self) {
        lock(&self.requests).woken = true;
        self.wake.notify_one();
    }

    /// Resolves when everything counted before the call is durable. Callers at one time share one checkpoint.
    pub(crate) async fn flush(&self) -> Result<(), DurabilityError> {
        match self.checkpoint().await? {
            true => Ok(()),
            false => Err(DurabilityError::Closed),
        }
    }

    /// As [`flush`](Self::flush), of a charge that was admitted: if the store was closed since, the last checkpoint has it.
    pub(crate) async fn flush_charge(&self) -> Result<(), DurabilityError> {
        self.checkpoint().await.map(drop)
    }

    /// Waits for a checkpoint, or for the last one; returns whether it was begun after the call.
    async fn checkpoint(&self) -> Result<bool, DurabilityError> {
        let mut progress = self.progress.subscribe();
        self.outcome()?;
        let wanted = self.want();
        let is_decided = |progress: &Progress| {
            progress.done >= wanted || progress.failed.is_some() || progress.stopped
        };
        // The sender lives as long as we do, so this cannot fail; were it to, that would be a stop.
        let progress = match progress.wait_for(is_decided).await {
            Ok(progress) => progress.clone(),
            Err(_) => return Err(DurabilityError::Closed),
        };
        match progress.failed {
            Some(reason) => Err(DurabilityError::Degraded { reason }),
            None => Ok(progress.done >= wanted),
        }
    }

    /// The thread's work where nothing is kept on disk: every flush is done at once.
    fn without_storage(&self, table: &Table, clock: &Clock) {
        loop {
            let (wanted, stop) = self.wait(COMPACT_EVERY);
            if table.must_reincarnate() {
                let last = table.own_replica().incarnation.boot;
                let former = table.reincarnate(Incarnation::boot_after(last, clock.wall().0));
                self.reincarnated(&former, table);
            }
            self.progress.send_modify(|progress| progress.done = wanted);
            if stop {
                return;
            }
        }
    }

    /// Has the table go on as another replica soon.
    pub(super) fn want_reincarnation(&self) {
        self.want();
    }

    /// The table goes on as another replica: has the gossip begin again, and says so.
    fn reincarnated(&self, former: &ReplicaId, table: &Table) {
        self.signals.reincarnated.notify_one();
        log_line::write(|| {
            tracing::error!(
                %former, replica = %table.own_replica(),
                "the operator had the replica forgotten that this process was: what it had told by now is gone from all counters, \
                 and it goes on as another one"
            );
        });
    }

    pub(crate) fn stop(&self) {
        lock(&self.requests).stop = true;
        self.wake.notify_one();
    }

    /// Why counts do not reach the disk; `None` while they do.
    pub(crate) fn failure(&self) -> Option<String> {
        self.progress.borrow().failed.clone()
    }

    /// Resolves when the thread has ended.
    pub(super) async fn ended(&self) {
        // The sender lives as long as we do.
        let _ = self.progress.subscribe().wait_for(|progress| progress.stopped).await;
    }

    /// Whether the thread has ended, and with it all writing.
    pub(crate) fn is_stopped(&self) -> bool {
        self.progress.borrow().stopped
    }

    /// How the last checkpoint went.
    pub(crate) fn outcome(&self) -> Result<(), DurabilityError> {
        match &self.progress.borrow().failed {
            Some(reason) => Err(DurabilityError::Degraded { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    fn want(&self) -> u64 {
        let mut requests = lock(&self.requests);
        requests.wanted += 1;
        let wanted = requests.wanted;
        drop(requests);
        self.wake.notify_one();
        wanted
    }

    /// Waits until a checkpoint is wanted, or due; returns the number of the last one wanted, and whether to stop.
    fn wait(&self, every: Duration) -> (u64, bool) {
        let done = self.progress.borrow().done;
        self.wait_while(every, |requests| requests.wanted <= done && !requests.stop)
    }

    /// As [`wait`](Self::wait), but sleeps until something changes, as soon as there is nothing left to write.
    fn wait_idle(&self) -> (u64, bool) {
        let done = self.progress.borrow().done;
        let waited = self.wait_while(IDLE, |requests| {
            requests.wanted <= done && !requests.woken && !requests.stop
        });
        self.signals.asleep.set(Worker::Disk, false);
        lock(&self.requests).woken = false;
        waited
    }

    fn wait_while(
        &self,
        at_most: Duration,
        condition: impl FnMut(&mut Requests) -> bool,
    ) -> (u64, bool) {
        let waited = self.wake.wait_timeout_while(lock(&self.requests), at_most, condition);
        let (requests, _) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
        (requests.wanted, requests.stop)
    }
}

/// The thread's work.
struct DiskLoop<'a> {
    disk: &'a DiskThread,
    store: StateStore,
    table: &'a Table,
    clock: &'a Clock,
    every: Duration,
}

impl DiskLoop<'_> {
    /// Writes checkpoints until it is stopped; after a panic, into a new database. The directory is released only after the last.
    fn run_to_the_end(mut self) {
        while let Err(mut why) = caught(|| self.run()) {
            loop {
                let stop = lock(&self.disk.requests).stop;
                match caught(|| self.after_panic(&why, stop)) {
                    Ok(true) => return,
                    Ok(false) => break,
                    Err(_) if stop => return,
                    Err(again) => why = again,
                }
            }
        }
    }

    /// As after a failed write, and after a pause: what the panic left half done is not relied upon. Returns whether to stop.
    fn after_panic(&mut self, why: &str, stop: bool) -> bool {
        let now = self.clock.monotonic();
        let pause = lock(&self.disk.signals.restarts).stopped(Worker::Disk, now, why);
        let why = format!("the disk thread stopped: {why}; please report it");
        let stop = self.without_disk(&why, pause, stop);
        lock(&self.disk.signals.restarts).started(Worker::Disk, self.clock.monotonic());
        stop
    }

    /// Writes checkpoints until it is stopped.
    fn run(&mut self) {
        let mut next_compaction = self.clock.monotonic();
        let mut idle = 0;
        loop {
            let (wanted, stop) = match idle {
                0..IDLE_AFTER => self.disk.wait(self.every),
                _ => self.disk.wait_idle(),
            };
            self.disk.signals.asleep.set(Worker::Disk, idle + 1 >= IDLE_AFTER);
            let mut written = self.write(wanted, stop).map(|wrote| {
                idle = if wrote { 0 } else { (idle + 1).min(IDLE_AFTER) };
            });
            if written.is_ok() && self.clock.monotonic() >= next_compaction {
                next_compaction = self.clock.monotonic() + COMPACT_EVERY;
                written = self.store.compact().map(|gained| {
                    if gained {
                        log_line::write(|| {
                            tracing::info!("the database was rewritten, to free disk space");
                        });
                    }
                });
            }
            let stop = match written {
                Ok(()) => stop,
                Err(error) => self.without_disk(&error.to_string(), TRY_AGAIN_FIRST, stop),
            };
            if stop {
                return;
            }
        }
    }

    /// Writes a checkpoint; returns whether there was anything to write.
    fn write(&mut self, wanted: u64, stop: bool) -> Result<bool, StorageError> {
        #[cfg(test)]
        self.disk.signals.panic_if_provoked(Worker::Disk);
        let done = self.disk.progress.borrow().done;
        if let Some(members) = lock(&self.disk.signals.members).take() {
            self.store.set_members(&members);
        }
        if self.table.must_reincarnate() {
            let former = self.store.reincarnate(self.table, self.clock.wall())?;
            self.disk.reincarnated(&former, self.table);
        }
        let wrote = self.store.write(self.table, self.clock.wall())?;
        if wanted > done {
            self.disk.progress.send_modify(|progress| progress.done = wanted);
        }
        if wanted > done || stop {
            self.store.sync_meta()?;
        }
        Ok(wrote)
    }

    /// Continues in memory until a whole new database can be written, tried first after `pause`; returns whether to stop.
    fn without_disk(&mut self, why: &str, mut pause: Duration, mut stop: bool) -> bool {
        log_line::write(|| {
            tracing::error!(
                error = why,
                "the disk failed: counts are kept in memory only, and durable requests fail, until a new database can be \
                 written. Free some space, or fix or replace the disk"
            );
        });
        let fail = |why: &str| {
            let reason = Some(why.to_owned());
            self.disk.progress.send_modify(|progress| progress.failed = reason);
        };
        fail(why);
        loop {
            if !stop {
                (_, stop) = self.disk.wait_while(pause, |requests| !requests.stop);
            }
            self.table.forget_dropped();
            // Callers that asked for durability by then got an error, so none waits for what counts as done here.
            let wanted = lock(&self.disk.requests).wanted;
            let rebuilt = caught(|| self.store.rebuild(self.table, self.clock.wall()));
            match rebuilt.and_then(|rebuilt| rebuilt.map_err(|error| error.to_string())) {
                Ok(()) => {
                    log_line::write(|| {
                        tracing::info!(
                            "the disk takes writes again: all counts are in a new database"
                        );
                    });
                    self.disk.progress.send_modify(|progress| {
                        progress.done = wanted;
                        progress.failed = None;
                    });
                    return stop;
                }
                Err(error) => {
                    if pause >= TRY_AGAIN_MAX {
                        log_line::write(|| tracing::warn!(%error, "the disk still fails"));
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

/// Wakes all waiters when the thread ends, also by a panic.
struct ExitGuard<'a>(&'a DiskThread);

impl Drop for ExitGuard<'_> {
    fn drop(&mut self) {
        self.0.progress.send_modify(|progress| {
            if std::thread::panicking() {
                progress.failed.get_or_insert_with(|| "the disk thread panicked".to_owned());
            }
            progress.stopped = true;
        });
        self.0.signals.disk_has_ended();
    }
}
