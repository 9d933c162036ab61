//! Opening, sharing and closing limiters, and which of them a JavaScript thread knows by which number.
//!
//! Each JavaScript thread (the main one and each worker) has a list of its own, so that calls need no lock, and what a worker
//! leaves open is closed when its thread ends. What is open when the process ends is closed then: see [`end_process`].

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use napi::bindgen_prelude::PromiseRaw;
use napi::{Env, Result};
use napi_derive::napi;
use tallymesh::{ClusterKey, Config, CounterStore, Limiter, NodeKey};

use crate::decisions::number;
use crate::error::{self, closed, guard, guard_future};
use crate::receipts::Receipts;

thread_local! {
    /// By number. A number is given once: what still uses that of a closed limiter must not meet another one.
    static LIMITERS: RefCell<Vec<Option<Local>>> = RefCell::default();
}

/// What every thread of the process that uses a limiter has in common.
pub struct Shared {
    id: u64,
    pub limiter: Limiter,
}

/// A limiter as one thread knows it.
pub struct Local {
    pub shared: Arc<Shared>,
    pub receipts: Receipts,
}

/// The process's open limiters, by id, for threads that join in.
static OPEN: Mutex<BTreeMap<u64, Weak<Shared>>> = Mutex::new(BTreeMap::new());
static NEXT_NUMBER: AtomicU32 = AtomicU32::new(1);

/// A limiter that has been opened.
#[napi(object)]
pub struct Opened {
    /// Its number in this thread.
    pub handle: u32,
    /// Its number in this process: below 2^53, and none of another library's.
    pub id: f64,
    /// The node's name.
    pub node: String,
    /// The slot of this process, if there are several.
    pub slot: Option<u32>,
    /// What the receipts of this thread begin with.
    pub receipt_prefix: String,
    /// Where it listens.
    pub address: Option<String>,
    /// Where a damaged database was put.
    pub set_aside: Option<String>,
    /// The limits, in order.
    pub limits: Vec<LimitInForce>,
}

/// A limit, as far as denials speak of it.
#[napi(object)]
pub struct LimitInForce {
    /// Its name.
    pub name: String,
    /// Its `max`.
    pub max: f64,
}

/// Opens a limiter by the text of its settings, in JSON with the keys of the TOML file.
#[napi]
pub fn open_settings(env: &Env, json: String) -> Result<PromiseRaw<'_, Opened>> {
    guard(|| {
        let settings: serde_json::Value = serde_json::from_str(&json).map_err(error::unreadable)?;
        let text = toml::to_string(&settings).map_err(error::unreadable)?;
        // The text is ours: where in it an error is would tell users nothing.
        open(env, Config::from_toml(&text).map_err(error::settings))
    })
}

/// Opens a limiter by the TOML file at this path.
#[napi]
pub fn open_file(env: &Env, path: String) -> Result<PromiseRaw<'_, Opened>> {
    guard(|| open(env, Config::from_file(path).map_err(error::config)))
}

fn open(env: &Env, config: Result<Config>) -> Result<PromiseRaw<'_, Opened>> {
    crate::logging::start();
    let config = config?;
    let opening = guard_future(async move { Limiter::open(config).await.map_err(error::open) });
    env.spawn_future_with_callback(opening, move |_, limiter| {
        guard(|| {
            let number = NEXT_NUMBER.fetch_add(1, Ordering::Relaxed);
            let id = u64::from(number) | ((page() & 0xf_ffff) << 32);
            let shared = Arc::new(Shared { id, limiter });
            list_of_open().insert(id, Arc::downgrade(&shared));
            Ok(join(shared))
        })
    })
}

/// Joins in the use of a limiter that another thread of this process has opened.
#[napi]
pub fn attach(id: f64) -> Result<Opened> {
    guard(|| {
        let none = || {
            error::error(
                error::Code::Closed,
                "no open limiter has this id: it was closed, or is of another process or copy of tallymesh",
            )
        };
        let shared = list_of_open().get(&(id as u64)).and_then(Weak::upgrade).ok_or_else(none)?;
        shared.alive()?;
        Ok(join(shared))
    })
}

fn join(shared: Arc<Shared>) -> Opened {
    let limiter = &shared.limiter;
    let store = limiter.counters();
    let node = store.replica().node.to_string();
    let slot = limiter.slot().and_then(|slot| u32::try_from(slot).ok());
    let address = store.address().map(|address| address.to_string());
    let set_aside = store.set_aside().map(|path| path.display().to_string());
    let limit = |limit: &tallymesh::Limit| LimitInForce {
        name: limit.name().to_owned(),
        max: limit.max() as f64,
    };
    let limits = limiter.limits().map(limit).collect();
    let id = shared.id as f64;
    let receipts = Receipts::new(limiter.life());
    let receipt_prefix = receipts.prefix();
    let handle = LIMITERS.with_borrow_mut(|all| {
        all.push(Some(Local { shared, receipts }));
        (all.len() - 1) as u32
    });
    Opened { handle, id, node, slot, receipt_prefix, address, set_aside, limits }
}

/// Resolves when the limiter is ready to be asked.
#[napi]
pub fn ready(env: &Env, handle: u32) -> Result<PromiseRaw<'_, ()>> {
    guard(|| {
        let store = with(handle, |local| Ok(local.store().clone()))?;
        env.spawn_future(guard_future(async move {
            store.ready().await;
            Ok(())
        }))
    })
}

/// What a limiter leaves behind that has closed.
#[napi(object)]
pub struct Closed {
    /// How many updates of its own no peer has confirmed.
    pub unconfirmed: f64,
}

/// Closes a limiter for every thread of the process.
#[napi]
pub fn close(env: &Env, handle: u32) -> Result<PromiseRaw<'_, Closed>> {
    guard(|| {
        let local = LIMITERS.with_borrow_mut(|all| all.get_mut(handle as usize)?.take());
        let shared = local.ok_or_else(closed)?.shared;
        list_of_open().remove(&shared.id);
        // It begins now, not only once the runtime comes to it, and goes on by itself.
        let _ = pin!(shared.limiter.close()).poll(&mut Context::from_waker(Waker::noop()));
        env.spawn_future(guard_future(async move {
            let closed = shared.limiter.close().await.map_err(error::durability)?;
            Ok(Closed { unconfirmed: number(closed.unconfirmed) })
        }))
    })
}

/// Resolves when everything counted so far survives a loss of power.
#[napi]
pub fn flush(env: &Env, handle: u32) -> Result<PromiseRaw<'_, ()>> {
    guard(|| {
        let store = with(handle, |local| Ok(local.store().clone()))?;
        env.spawn_future(guard_future(
            async move { store.flush().await.map_err(error::durability) },
        ))
    })
}

/// Replaces the list of peers; resolves once the new one is in force.
#[napi]
pub fn set_peers(env: &Env, handle: u32, peers: Vec<String>) -> Result<PromiseRaw<'_, ()>> {
    guard(|| {
        let store = with(handle, |local| Ok(local.store().clone()))?;
        env.spawn_future(guard_future(async move {
            store.set_peers(peers).await.map_err(error::set_peers)
        }))
    })
}

/// Replaces the keys of the cluster; resolves once the new ones are in force.
#[napi]
pub fn set_keys(env: &Env, handle: u32, keys: Vec<String>) -> Result<PromiseRaw<'_, ()>> {
    guard(|| {
        let store = with(handle, |local| Ok(local.store().clone()))?;
        let keys = keys.iter().zip(0..).map(|(key, index)| {
            let parsed = ClusterKey::parse(key);
            parsed.map_err(|why| error::error(error::Code::Config, format!("keys[{index}]: {why}")))
        });
        let keys = keys.collect::<Result<Vec<ClusterKey>>>()?;
        env.spawn_future(guard_future(async move {
            store.set_keys(keys).await.map_err(error::set_keys)
        }))
    })
}

/// Replaces the list of members; resolves once the new one is in force.
#[napi]
pub fn set_members(env: &Env, handle: u32, members: Vec<String>) -> Result<PromiseRaw<'_, ()>> {
    guard(|| {
        let store = with(handle, |local| Ok(local.store().clone()))?;
        env.spawn_future(guard_future(async move {
            store.set_members(members).await.map_err(error::set_members)
        }))
    })
}

/// Replaces the node's own key; resolves once the new one is in force.
#[napi]
pub fn set_node_key(env: &Env, handle: u32, key: String) -> Result<PromiseRaw<'_, ()>> {
    guard(|| {
        let store = with(handle, |local| Ok(local.store().clone()))?;
        let key = NodeKey::parse(&key).map_err(|why| error::error(error::Code::Config, why))?;
        env.spawn_future(guard_future(async move {
            store.set_node_key(key).await.map_err(error::set_members)
        }))
    })
}

/// Lends the limiter of this number to `use_it`, unless it is closed.
pub fn with<T>(handle: u32, use_it: impl FnOnce(&Local) -> Result<T>) -> Result<T> {
    LIMITERS.with_borrow(|all| {
        let local = all.get(handle as usize).and_then(Option::as_ref).ok_or_else(closed)?;
        local.shared.alive()?;
        use_it(local)
    })
}

impl Local {
    pub fn store(&self) -> &CounterStore {
        self.shared.limiter.counters()
    }
}

impl Shared {
    /// An error once the limiter is closed, by whichever thread.
    pub fn alive(&self) -> Result<()> {
        if self.limiter.counters().is_closed() { Err(closed()) } else { Ok(()) }
    }
}

/// Whether this life is of a limiter that is open in this process.
pub fn is_open(life: u64) -> bool {
    let open: Vec<Arc<Shared>> = list_of_open().values().filter_map(Weak::upgrade).collect();
    open.iter().any(|shared| shared.limiter.life() == life)
}

impl Drop for Shared {
    /// The last thread that knew the limiter has ended: no other thread can join in any more.
    fn drop(&mut self) {
        list_of_open().remove(&self.id);
        if !self.limiter.counters().is_closed() {
            // No caller is left to be told how it went; the log says when the disk has failed.
            let _ = self.limiter.close_within(END);
        }
    }
}

/// What tells this library from another copy that is loaded in the process: a limiter's numbers mean nothing there.
#[napi]
pub fn library() -> String {
    format!("{:x}", page())
}

/// The page of memory that this library is loaded at.
fn page() -> u64 {
    (&raw const OPEN as usize as u64) >> 12
}

/// How long the end of a thread or of the process may take.
const END: Duration = Duration::from_secs(1);

/// Has what this thread leaves open closed when it ends: of the main thread, all that is open in the process.
#[napi]
pub fn watch_end(env: &Env, is_main: bool) -> Result<()> {
    thread_local! {
        static IS_WATCHED: Cell<bool> = const { Cell::new(false) };
    }
    guard(|| {
        // The package may be loaded several times in a thread, as test runners do.
        if IS_WATCHED.replace(true) {
            return Ok(());
        }
        env.add_env_cleanup_hook((), move |()| {
            let _ = guard(|| {
                if is_main {
                    end_all();
                }
                crate::counters::release_all();
                crate::listings::release_all();
                drop(LIMITERS.take());
                Ok(())
            });
        })
        .map(drop)
    })
}

/// Closes all limiters of the process, for at most a second: it is about to end.
#[napi]
pub fn end_process() -> Result<()> {
    guard(|| {
        end_all();
        Ok(())
    })
}

#[expect(clippy::disallowed_methods, reason = "the end of a process is bounded in real time")]
fn end_all() {
    let until = Instant::now() + END;
    let open: Vec<Arc<Shared>> = list_of_open().values().filter_map(Weak::upgrade).collect();
    // All begin to close before any is waited for.
    for shared in &open {
        let _ = shared.limiter.close_within(Duration::ZERO);
    }
    for shared in &open {
        let _ = shared.limiter.close_within(until.saturating_duration_since(Instant::now()));
    }
}

fn list_of_open() -> MutexGuard<'static, BTreeMap<u64, Weak<Shared>>> {
    // A map of numbers; nothing that runs under its lock panics half way.
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}
