//! The glue between server and core: hooks, commands, settings, recovery. Safe code; raw calls are in `ffi`.
//!
//! All of it runs under the server's global lock. The state is one value behind a mutex that is never waited for: if it
//! is taken, a hook was entered from within the module's own work, which is a broken invariant.
#![deny(unsafe_code)]

mod announce;
mod aof_folder;
mod arguments;
mod backup;
mod blocking;
mod callbacks;
mod census;
mod cluster;
mod collecting;
mod commands;
mod commit;
mod config;
mod cut_commands;
mod deferred;
mod demands;
mod disk;
mod durable_reads;
mod errors;
mod explain;
mod facts;
mod following;
mod gate;
mod help;
mod history;
mod holding;
mod homes;
mod hooks;
mod images;
mod info;
mod iteration;
mod known;
mod life;
mod listed;
mod listening;
mod looking;
mod moving;
mod names;
mod notify;
mod own_aof;
mod planning;
mod points;
mod questions;
mod queueing;
mod read_ahead;
mod recovery;
mod refusal;
mod release;
mod replay;
mod role;
mod room;
mod running;
mod safety;
mod scripts;
mod seal;
mod second_server;
mod second_settings;
mod sender;
mod server;
mod settle;
mod shortage;
mod shown;
mod streams;
mod top_level;
mod units;
mod unknown;
mod verdict;
mod waitaof;
mod waited;
mod waiting;
mod waits;
mod watching;
mod wrap;
mod wrapped_run;
mod wrappers;

use crate::core::ack::Reason;
use crate::core::calls::Calls;
use crate::core::capture::Capture;
use crate::core::client::Clients;
use crate::core::commit::Chooser;
use crate::core::delayed::Delayed;
use crate::core::dirty::DirtyKeys;
use crate::core::execution::{Replies, Running, UnitEnd};
use crate::core::hash::Set;
use crate::core::homes::Homes;
use crate::core::lag::Lag;
use crate::core::leaf::ClientId;
use crate::core::loop_waits::LoopWaits;
use crate::core::notices::Notices;
use crate::core::output::Askers;
use crate::core::time_outs::TimeOuts;
use crate::core::unit::Batch;
use crate::core::versions::Versions;
use crate::ffi::{Held, Level, Promise, log};
use life::{Bases, Life, State};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Mutex, TryLockError};

/// Counters for INFO.
#[derive(Debug, Default)]
struct Counters {
    writes_blocked: u64,
    reads_blocked: u64,
    /// Reads answered with durable values while newer ones were not durable.
    reads_from_durable: u64,
    inline_waits: u64,
    inline_commits: u64,
    /// Replies that the loop waited for, by the place of the reason in [`Reason::ALL`].
    waits: [u64; Reason::ALL.len()],
    /// How long it has waited because of them.
    waited: waited::Waited,
    /// Replies that the server defers in the event of a change.
    held_in_event: u64,
    /// Replies of commands that the module runs, and holds.
    held_by_module: u64,
    state_images: u64,
    units: u64,
    wrapped: u64,
    /// Commands of pipelines that the module runs.
    collected: u64,
    /// Transactions among them.
    collected_transactions: u64,
    scripts: u64,
    unknown_commands: u64,
    notices_lost: u64,
}

/// The iteration of the event loop.
#[derive(Debug, Default)]
struct Iteration {
    /// What must be durable before replies are sent.
    waits: LoopWaits,
    /// Why the first of them waits.
    waits_because: Option<Reason>,
    /// Clients seen to have no output that waits for the socket.
    without_output: Set<u64>,
    /// The clients whose output is asked about.
    askers: Askers,
    /// Clients whose replies are written, and must not be sent.
    disconnects: Vec<u64>,
    /// Clients that were disconnected in it, and that the server frees at its end.
    closed: Set<u64>,
    /// The main thread waits for a RESUME and meanwhile lets other clients in.
    lets_others_in: bool,
    /// Since when something runs, or has run, that may let other clients in; monotonic microseconds.
    may_yield_since_us: Option<u64>,
    /// The client that went last, which the server may not have freed yet.
    gone: Option<u64>,
    /// When the first of its commands came; monotonic microseconds.
    began_us: u64,
    /// Writes whose replies wait.
    writes: u32,
    /// Those of them that cannot be held, or that the module has run to hold them.
    unheld_writes: u32,
    /// Clients that have sent these.
    waiting: u32,
    /// Clients' commands, without those that are queued.
    commands: u32,
}

/// The module's state.
pub(crate) struct Module {
    life: Life,
    folder: PathBuf,
    aof_folder: aof_folder::AofFolder,
    capture: Capture,
    batch: Batch,
    dirty: DirtyKeys,
    versions: Versions,
    notices: Notices,
    /// Other modules that listen.
    others: listening::Others,
    /// What runs.
    running: Running,
    /// The replies that wait for the end of the running unit.
    replies: Replies<Held>,
    /// Those that cannot be held as that unit ends, and why; empty otherwise, to keep its memory.
    unheld: Vec<(ClientId, Reason)>,
    /// What commands that wait will show if their time is over.
    time_outs: TimeOuts,
    unit_end: UnitEnd,
    iteration: Iteration,
    /// How the log is made durable; changes between iterations.
    commits: Chooser,
    /// Scripts that wait for the end of the iteration.
    scripts: VecDeque<scripts::Script>,
    /// Clients of blocking commands that the module runs.
    readers: Calls<blocking::Reader, Promise>,
    /// Clients in WAITAOF.
    aof_waits: waitaof::AofWaits,
    /// Clients that are looked at before the server reads what they have sent.
    looks: looking::Looks,
    /// The pipeline that the module runs.
    collecting: Option<collecting::Collecting>,
    /// The connected clients; others are scripts' and modules' own.
    clients: Clients,
    /// Their databases, where the server does not leave them in those.
    homes: Option<Homes>,
    /// What a pause of writes leaves behind.
    delayed: Delayed,
    moving: moving::Moving,
    server: server::Facts,
    /// WBL.DEBUG PAUSE.
    paused: bool,
    bases: Bases,
    disk: disk::Disk,
    backups: backup::Backups,
    shortage: shortage::Shortage,
    history: history::History,
    own_aof: own_aof::OwnAof,
    counters: Counters,
    lag: Lag,
    /// Units that were handed over with the batches before.
    units_handed_over: u64,
    /// What WBL.DEBUG EXPLAIN is to answer.
    explained: Option<explain::Explained>,
    recovered: Option<replay::Report>,
    /// What to undo if the server unloads the module at once.
    arrival: Option<life::Arrival>,
}

pub(crate) use callbacks::Callbacks;

static MODULE: Mutex<Option<Module>> = Mutex::new(None);

/// Runs `body` on the module's state; `None` when the module is not loaded.
pub(crate) fn with<T>(body: impl FnOnce(&mut Module) -> T) -> Option<T> {
    match MODULE.try_lock() {
        Ok(mut module) => module.as_mut().map(body),
        Err(TryLockError::WouldBlock) => broken("a hook was entered from within the module's own work"),
        Err(TryLockError::Poisoned(_)) => broken("the module's state was left half-changed by a panic"),
    }
}

/// Puts the state in place (load) or takes it out (unload).
fn replace(module: Option<Module>) -> Option<Module> {
    match MODULE.try_lock() {
        Ok(mut place) => std::mem::replace(&mut *place, module),
        Err(_) => broken("the module's state was in use while it was loaded or unloaded"),
    }
}

/// Leaves the state as it is, for ever: nothing runs any more of a process that a simulation has killed.
pub(crate) fn forget() {
    std::mem::forget(replace(None));
    recovery::forget();
}

/// An invariant of the acknowledgement path does not hold: ends the process rather than let a reply go.
pub(crate) fn broken(what: &str) -> ! {
    log(Level::Warning, &format!("{what}; ending the process, because acknowledgements could no longer be trusted"));
    std::process::abort()
}
