//! The module's life: how a log begins, is replaced and ends. See the state diagram in `docs/design.md`.
//!
//! Whatever is to begin a log where the folder holds one already goes through [`rest::Rest::may_begin`], which asks
//! whether memory descends from it.

mod base;
mod before_sleep;
mod begin;
mod descent;
mod end;
mod failure;
mod load;
mod marking;
mod own_file;
mod rest;
mod role;
mod unload;

pub use base::child_done;
pub use before_sleep::before_sleep;
pub use end::{shut_down, unload};
pub use load::load;
pub use role::{primary_link_up, role_changed};

pub(super) use base::{Bases, dataset_loading, request_checkpoint};
pub(super) use begin::set_enabled;
pub(super) use failure::end_if_failed;

use crate::ffi::{Ctx, Held, Level, exit_now, log};
use crate::log::Generation;
use crate::module::gate::GatedStorage;
use crate::module::release::{Release, Waiting};
use crate::module::{Module, notify, refusal, server, with};
use base::Base;
use descent::Descent;
use own_file::OwnFile;
use rest::Rest;
use std::sync::Arc;

/// A folder whose log is known and that nobody writes to.
type LogFolder = crate::log::Folder<GatedStorage>;

/// A folder that was opened and verified.
type OpenedFolder = crate::log::Opened<GatedStorage>;

/// Where the module is in its life.
pub(crate) enum Life {
    /// The server starts and loads its own files; what the folder holds takes their place before the first client is
    /// served.
    Starting(Box<Found>),
    /// Base and log are being brought back, or the log is on its way from one state to another within one call.
    Changing,
    /// Changes are logged.
    Logging(Logging),
    /// `wbl.enabled no`. The folder stays locked once it was opened.
    Disabled(Rest),
    /// A log failed before anything was promised of it: the server serves without one.
    GivenUp(Failing),
    /// The server is a replica: its primary's log is the one that counts.
    Replica(Rest),
    /// The log cannot begin: writes are refused, as none could be kept.
    Failing(Failing),
    /// The server shuts down; the log is closed.
    Closed,
}

/// What a start found before the server loaded anything.
pub(crate) struct Found {
    opened: OpenedFolder,
    own: OwnFile,
}

/// A log that is written.
pub(crate) struct Logging {
    pub(super) log: Arc<Release>,
    visible: Visible,
    base: Base,
    /// Who asked for a checkpoint.
    asked: Vec<Held>,
}

/// Whether a start would find the log.
enum Visible {
    /// Not before its first base is in place: nothing is withheld, nothing is promised.
    WithItsBase {
        /// Who waits for that.
        waiting: Vec<Waiting>,
        /// Bases that failed.
        failures: u32,
        /// Where the dataset came from as the log began.
        descent: Descent,
        if_lost: IfLost,
    },
    /// It would: what is durable in it may be acknowledged.
    Yes,
}

impl Visible {
    fn with_its_base(descent: Descent, if_lost: IfLost) -> Visible {
        Visible::WithItsBase { waiting: Vec::new(), failures: 0, descent, if_lost }
    }
}

/// What becomes of the server when a log fails that no start would find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IfLost {
    /// It serves on as before the log was asked for: nobody was promised anything.
    ServesOn,
    /// It refuses writes: it took over from a primary that kept what it acknowledged.
    RefusesWrites,
}

/// Why there is no log.
pub(crate) struct Failing {
    reason: String,
    rest: Rest,
}

impl Failing {
    fn new(reason: String, rest: Rest) -> Failing {
        Failing { reason, rest: rest.stale() }
    }
}

/// The states that INFO shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Starting,
    Recovering,
    Baselining,
    Active,
    Disabled,
    Replica,
    Failing,
    Closed,
}

impl State {
    /// The name that INFO shows.
    pub(crate) fn name(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Recovering => "recovering",
            State::Baselining => "baselining",
            State::Active => "active",
            State::Disabled => "disabled",
            State::Replica => "replica",
            State::Failing => "failing",
            State::Closed => "closed",
        }
    }
}

impl Life {
    /// Its name.
    pub(crate) fn state(&self) -> State {
        match self {
            Life::Starting(_) => State::Starting,
            Life::Changing => State::Recovering,
            Life::Logging(Logging { visible: Visible::WithItsBase { .. }, .. }) => State::Baselining,
            Life::Logging(_) => State::Active,
            Life::Disabled(_) | Life::GivenUp(_) => State::Disabled,
            Life::Replica(_) => State::Replica,
            Life::Failing(_) => State::Failing,
            Life::Closed => State::Closed,
        }
    }

    /// The folder is open, or will be again.
    pub(crate) fn holds_folder(&self) -> bool {
        !matches!(self, Life::Disabled(rest) if rest.descent().is_unknown())
    }

    /// Changes are captured.
    pub(crate) fn logs(&self) -> bool {
        matches!(self, Life::Logging(_))
    }

    /// Changes are captured, and replies wait for them.
    pub(crate) fn is_active(&self) -> bool {
        matches!(self, Life::Logging(Logging { visible: Visible::Yes, .. }))
    }

    /// Writes are refused.
    pub(crate) fn refuses_writes(&self) -> bool {
        matches!(self, Life::Failing(_))
    }

    /// The open log.
    pub(super) fn log(&self) -> Option<&Arc<Release>> {
        self.logging().map(|logging| &logging.log)
    }

    /// Why there is no log, where that is a failure.
    pub(crate) fn failure(&self) -> Option<&str> {
        match self {
            Life::Failing(failing) | Life::GivenUp(failing) => Some(&failing.reason),
            _ => None,
        }
    }

    /// Which log is written, or rests.
    pub(crate) fn generation(&self) -> Option<Generation> {
        match self {
            Life::Starting(found) => found.opened.generation(),
            Life::Logging(logging) => Some(logging.log.log().generation()),
            Life::Disabled(rest) | Life::Replica(rest) => rest.generation(),
            Life::Failing(failing) | Life::GivenUp(failing) => failing.rest.generation(),
            Life::Changing | Life::Closed => None,
        }
    }

    /// The folder's log must not be fallen back to: the server has taken another dataset since.
    pub(crate) fn is_superseded(&self) -> bool {
        match self {
            Life::Starting(found) => found.opened.is_superseded(),
            Life::Disabled(rest) | Life::Replica(rest) => rest.is_superseded(),
            Life::Failing(failing) | Life::GivenUp(failing) => failing.rest.is_superseded(),
            Life::Changing | Life::Logging(_) | Life::Closed => false,
        }
    }

    fn logging(&self) -> Option<&Logging> {
        match self {
            Life::Logging(logging) => Some(logging),
            _ => None,
        }
    }

    fn logging_mut(&mut self) -> Option<&mut Logging> {
        match self {
            Life::Logging(logging) => Some(logging),
            _ => None,
        }
    }

    fn change(&mut self) -> Life {
        std::mem::replace(self, Life::Changing)
    }
}

impl Module {
    /// The open log.
    pub(super) fn log(&self) -> Option<&Arc<Release>> {
        self.life.log()
    }

    /// A base is being written, or is to be.
    pub(super) fn writes_base(&self) -> bool {
        self.life.logging().is_some_and(|logging| !logging.base.is_idle())
    }

    /// The whole dataset is being replaced from outside; a new log follows.
    pub(super) fn is_dataset_replaced(&self) -> bool {
        self.life.logging().is_some_and(|logging| logging.base.is_replacing())
    }

    /// Has a client wait until the log is active; gives it back when there is none that would be.
    pub(super) fn wait_for_active(&mut self, waiting: Waiting) -> Result<(), Waiting> {
        match &mut self.life {
            Life::Logging(Logging { visible: Visible::WithItsBase { waiting: all, .. }, .. }) => all.push(waiting),
            _ => return Err(waiting),
        }
        Ok(())
    }

    /// Has a client wait for the checkpoint that is to be written.
    pub(super) fn wait_for_checkpoint(&mut self, held: Held) -> Result<(), Held> {
        match self.life.logging_mut() {
            Some(logging) => logging.asked.push(held),
            None => return Err(held),
        }
        Ok(())
    }
}

/// Ends the process: nothing else keeps the promise. For a recovery at the start, and for a visible log that fails.
fn fatal(what: &str, reason: &str) -> ! {
    log(Level::Warning, &format!("{what}: {reason}"));
    exit_now(1)
}

/// The log cannot begin. The server lives on, and takes no writes.
fn fail(ctx: Ctx<'_>, reason: String, rest: Rest) {
    log(
        Level::Warning,
        &format!(
            "the log can't begin: {reason}. Writes are refused; when that is mended, set wbl.enabled to no and to yes again"
        ),
    );
    with(|module| module.life = Life::Failing(Failing::new(reason, rest)));
    refusal::begin(ctx);
}

/// Settings of the server changed.
pub fn config_changed(ctx: Ctx<'_>, names: &[&[u8]]) {
    if names.contains(&&b"io-threads"[..]) {
        let io_threads = server::has_io_threads(ctx);
        with(|module| module.server.io_threads = io_threads);
    }
    if names.contains(&&b"import-mode"[..]) {
        let imports = server::imports(ctx);
        with(|module| module.server.imports = imports);
    }
    if names.iter().any(|name| name.ends_with(b"notify-keyspace-events")) {
        notify::setting_changed(ctx);
    }
}
