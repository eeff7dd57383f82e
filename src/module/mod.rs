//! The glue between server and core: hooks, commands, settings, recovery. Safe code; raw calls are in `ffi`.
//!
//! All of it runs under the server's global lock. The state is one value behind a mutex that is never waited for: a
//! second taker would be a hook that was entered from within the module's own work, and that is a broken invariant.
#![deny(unsafe_code)]

mod announce;
mod arguments;
pub mod blocking;
mod census;
mod cluster;
pub mod commands;
pub mod config;
mod deferred;
mod demands;
pub mod errors;
mod gate;
pub mod hooks;
pub mod info;
pub mod life;
mod names;
mod notify;
mod points;
mod questions;
mod read_ahead;
pub mod recovery;
mod refusal;
mod release;
mod replay;
mod role;
mod running;
mod scripts;
mod second_server;
mod server;
mod settle;
mod shown;
mod streams;
mod units;
mod unknown;
mod waiting;
mod wrap;

use crate::core::capture::Capture;
use crate::core::client::Clients;
use crate::core::dirty::DirtyKeys;
use crate::core::notices::Notices;
use crate::core::unit::Batch;
use crate::ffi::{Held, Level, log};
use crate::log::Lsn;
use life::{Bases, Life, State};
use std::collections::{HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Mutex, TryLockError};

/// A reply that waits at the end of the running unit.
struct UnitHold {
    client: u64,
    held: Held,
}

/// A command that the module runs for a client, whose reply it holds itself.
#[derive(Debug, Default)]
struct Frame {
    /// The command has changed data.
    changed: bool,
}

/// Counters for INFO.
#[derive(Debug, Default)]
struct Counters {
    writes_blocked: u64,
    reads_blocked: u64,
    inline_waits: u64,
    state_images: u64,
    units: u64,
    wrapped: u64,
    scripts: u64,
    unknown_commands: u64,
    notices_lost: u64,
}

/// The module's state.
pub(crate) struct Module {
    life: Life,
    folder: PathBuf,
    capture: Capture,
    batch: Batch,
    dirty: DirtyKeys,
    notices: Notices,
    /// Who gets its reply when the running unit is durable.
    unit_holds: Vec<UnitHold>,
    /// The command that the module runs now.
    frame: Option<Frame>,
    /// The newest change that the running unit's reply may show, for a reply that could not be held.
    unit_reads: Option<Lsn>,
    /// What the command announced last does, if it runs.
    announced: settle::Announced,
    /// Scripts that wait for the end of the iteration.
    scripts: VecDeque<scripts::Script>,
    /// Clients of blocking commands that the module runs.
    blocked: HashMap<u64, blocking::Blocked>,
    /// The unit has a reply that could not be held: the loop waits for it before replies are sent.
    unit_waits: bool,
    /// The clients that such replies go to.
    unit_waiters: HashSet<u64>,
    unit_end_asked: bool,
    /// Other modules are loaded, and may do work of their own at the end of a unit.
    other_modules: bool,
    /// The end of the unit was told, and asked for again.
    unit_end_repeated: bool,
    /// Before replies are sent, this must be durable.
    iteration_waits_for: Option<Lsn>,
    /// The connected clients; others are scripts' and modules' own.
    clients: Clients,
    /// When a pause of writes was seen last; milliseconds since the Unix epoch.
    pause_seen_ms: i64,
    /// A command has come that it may have made wait, and that may not have run yet.
    postponed: bool,
    /// The server can tell when each command has run, as far as is known.
    tells_results: bool,
    /// It tells so now: an EXEC runs.
    results_watched: bool,
    /// The main thread waits for a RESUME, and lets other clients in meanwhile.
    waits_for_resume: bool,
    /// The unit's end is told too early for what must be asked then: it is taken up before the next command.
    unit_end_deferred: bool,
    /// The connected client whose command was announced last.
    top_client: u64,
    /// Clients seen in this iteration to have no output that waits for the socket.
    without_output: HashSet<u64>,
    /// Replies can be sent by other threads at any time.
    io_threads: bool,
    /// The server keeps expired keys, and takes them for missing (`import-mode`).
    imports: bool,
    /// WBL.DEBUG PAUSE.
    paused: bool,
    /// What commands are, by lower-case name; filled from the server's own table at load.
    commands: HashMap<Vec<u8>, server::Known>,
    /// Names of writes that the table does not know, told of in the server's log.
    unknown_names: HashSet<Vec<u8>>,
    /// The database that a script's commands run in, as far as its SELECTs were seen.
    script_db: Option<u32>,
    /// The last SELECT of a script inside EXEC, and how many scripts had run before that one.
    script_select: Option<(u64, u32)>,
    bases: Bases,
    counters: Counters,
    recovered: Option<replay::Report>,
}

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

/// An invariant of the acknowledgement path does not hold: ends the process rather than let a reply go.
pub(crate) fn broken(what: &str) -> ! {
    log(Level::Warning, &format!("{what}; ending the process, as no acknowledgement could be trusted"));
    std::process::abort()
}
