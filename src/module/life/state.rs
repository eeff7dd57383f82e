//! Where the module is in its life: the states of the diagram in `docs/design.md`, each with what it has.

use super::base::Base;
use super::descent::holds_more;
use super::followed::Following;
use super::opening::OpenedFolder;
use super::own_file::OwnFile;
use super::rest::Rest;
use super::visible::Visible;
use crate::ffi::Held;
use crate::log::{Generation, Lsn};
use crate::module::Module;
use crate::module::cluster::SlotRanges;
use crate::module::config;
use crate::module::release::{Release, Waiting};
use std::sync::Arc;

/// Where the module is in its life.
pub(crate) enum Life {
    /// The server starts and loads its own files; what the folder holds replaces their data before the first client is
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
    /// The server is a replica, and has no log of what is in memory.
    Replica(Rest),
    /// The log cannot begin: writes are refused, because none could be kept.
    Failing(Failing),
    /// The server shuts down; the log is closed.
    Closed,
}

/// What a start found before the server loaded anything.
pub(crate) struct Found {
    pub(super) opened: OpenedFolder,
    pub(super) own: OwnFile,
    /// The node's own, before it has claimed any for what it loads.
    pub(super) slots: SlotRanges,
}

/// A log that is written.
pub(crate) struct Logging {
    pub(in crate::module) log: Arc<Release>,
    pub(super) visible: Visible,
    pub(super) base: Base,
    /// Who asked for a checkpoint.
    pub(super) asked: Vec<Held>,
    /// The server is a replica: what its primary sends is logged, and nobody waits for that.
    pub(super) following: Option<Box<Following>>,
    /// The log of a promoted replica: what was before this may have been acknowledged by the former primary.
    pub(super) taken_over: Lsn,
}

impl Logging {
    /// What the server's own log says of it when it is closed.
    pub(super) fn once_closed(&self) -> &'static str {
        if self.visible.withholds() {
            "all of it is durable"
        } else {
            "it had no base yet, so that what was there before it counts"
        }
    }
}

/// Why there is no log.
pub(crate) struct Failing {
    pub(super) reason: String,
    pub(super) rest: Rest,
    pub(super) until: Until,
    /// Memory has less than the log, see [`Rest::is_less`].
    is_less: bool,
}

/// When a log is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// Somebody asks for it.
    Asked,
    /// A thread is done with the folder.
    FolderIsFree,
    /// Some time has passed: the disk has failed, and may be back.
    DiskIsBack,
}

impl Failing {
    /// `has_data`: the server has any.
    pub(super) fn new(reason: String, rest: Rest, has_data: bool) -> Failing {
        let failing = Failing::of(reason, rest, Until::Asked, has_data);
        Failing { rest: failing.rest.stale(), ..failing }
    }

    /// A log of what is in memory had begun, or would have, but for the disk: it is tried again and again.
    pub(super) fn until_disk_is_back(reason: String, rest: Rest, has_data: bool) -> Failing {
        if !rest.descent().origin().continues() {
            return Failing::new(reason, rest, has_data);
        }
        Failing::of(reason, rest, Until::DiskIsBack, has_data)
    }

    /// A thread has the folder, whose disk may not answer: nobody waits for it.
    pub(super) fn until_free(rest: Rest, has_data: bool) -> Failing {
        let reason = "the log that the server had as a replica is being closed, and the disk has not answered yet";
        Failing::of(reason.into(), rest, Until::FolderIsFree, has_data)
    }

    fn of(reason: String, rest: Rest, until: Until, has_data: bool) -> Failing {
        let is_less = rest.is_less(has_data);
        Failing { reason, rest, until, is_less }
    }

    /// Whether memory has less than the log.
    pub(super) fn is_less(&self) -> bool {
        self.is_less
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
            Life::Logging(Logging { following: Some(_), .. }) => State::Replica,
            Life::Logging(Logging { visible: Visible::Yes, .. }) => State::Active,
            Life::Logging(_) => State::Baselining,
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

    /// Changes are captured, and replies wait for them: the log is active, or may be at any moment.
    pub(crate) fn withholds(&self) -> bool {
        self.logging().is_some_and(|logging| logging.following.is_none() && logging.visible.withholds())
    }

    /// Changes are captured, and what is durable is acknowledged.
    pub(crate) fn is_active(&self) -> bool {
        matches!(self, Life::Logging(Logging { visible: Visible::Yes, following: None, .. }))
    }

    /// A start would find the log that is written.
    pub(crate) fn is_visible(&self) -> bool {
        matches!(self, Life::Logging(Logging { visible: Visible::Yes, .. }))
    }

    /// What a primary sends is logged.
    pub(crate) fn follows(&self) -> bool {
        matches!(self, Life::Logging(Logging { following: Some(_), .. }))
    }

    /// What is known of that.
    pub(in crate::module) fn following_mut(&mut self) -> Option<&mut Following> {
        self.logging_mut()?.following.as_deref_mut()
    }

    /// How much of it a start would bring back.
    pub(crate) fn replica_log(&self) -> &'static str {
        match self {
            Life::Logging(Logging { following: Some(_), visible: Visible::Yes, .. }) => "written",
            Life::Logging(Logging { following: Some(_), .. }) => "baselining",
            Life::Replica(_) => "none",
            _ => "",
        }
    }

    /// There is a log that a start would bring back, or that is to become such a log, and the module goes on with it.
    pub(crate) fn is_relied_upon(&self) -> bool {
        let goes_on = matches!(self, Life::Logging(_) | Life::Replica(_) | Life::Failing(_));
        goes_on && !self.is_superseded()
    }

    /// Memory lacks what the server's own log holds.
    pub(crate) fn lacks_data(&self) -> bool {
        match self {
            Life::Failing(failing) => failing.is_less(),
            Life::Replica(rest) => rest.holds_more(),
            _ => false,
        }
    }

    /// Whether the log may be left, after which what the server goes on with counts.
    ///
    /// # Errors
    /// Memory has less, and nobody has said that the log is to be given up.
    pub(crate) fn may_leave_log(&self) -> Result<(), String> {
        if self.lacks_data() && !config::replaces_existing_log() { Err(holds_more()) } else { Ok(()) }
    }

    /// Writes are refused.
    pub(crate) fn refuses_writes(&self) -> bool {
        matches!(self, Life::Failing(_))
    }

    /// The open log.
    pub(in crate::module) fn log(&self) -> Option<&Arc<Release>> {
        self.logging().map(|logging| &logging.log)
    }

    /// Why there is no log, where that is a failure.
    pub(crate) fn failure(&self) -> Option<&str> {
        match self {
            Life::Failing(failing) | Life::GivenUp(failing) => Some(&failing.reason),
            _ => None,
        }
    }

    /// There is no log, and nobody need ask for one.
    pub(crate) fn tries_again(&self) -> bool {
        matches!(self, Life::Failing(failing) if failing.until != Until::Asked)
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

    pub(super) fn logging(&self) -> Option<&Logging> {
        match self {
            Life::Logging(logging) => Some(logging),
            _ => None,
        }
    }

    /// Another state is being made: the log is brought back, begins or ends.
    pub(in crate::module) fn is_changing(&self) -> bool {
        matches!(self, Life::Changing)
    }

    /// Up to here the former primary may have acknowledged what the log of a promoted replica has.
    pub(in crate::module) fn taken_over(&self) -> Lsn {
        self.logging().map_or(Lsn::ZERO, |logging| logging.taken_over)
    }

    pub(super) fn logging_mut(&mut self) -> Option<&mut Logging> {
        match self {
            Life::Logging(logging) => Some(logging),
            _ => None,
        }
    }

    /// The folder of a state in which nothing is logged.
    pub(super) fn resting_mut(&mut self) -> Option<&mut Rest> {
        match self {
            Life::Disabled(rest) | Life::Replica(rest) => Some(rest),
            Life::GivenUp(Failing { rest, .. }) | Life::Failing(Failing { rest, .. }) => Some(rest),
            _ => None,
        }
    }

    /// Whether the next change by a client makes the server go on without a log that it was started beside;
    /// [`super::dataset_changed`] must then be called.
    pub(crate) fn is_unchanged(&self) -> bool {
        match self {
            Life::Disabled(rest) | Life::Replica(rest) => rest.is_unchanged(),
            Life::GivenUp(failing) | Life::Failing(failing) => failing.rest.is_unchanged(),
            _ => false,
        }
    }

    pub(super) fn change(&mut self) -> Life {
        std::mem::replace(self, Life::Changing)
    }

    /// The folder of a state in which nothing is logged; the caller must set the next state at once. `None` for other
    /// states, which stay as they are.
    pub(super) fn take_rest(&mut self) -> Option<Rest> {
        match self.change() {
            Life::Replica(rest) | Life::Disabled(rest) => Some(rest),
            Life::Failing(failing) | Life::GivenUp(failing) => Some(failing.rest),
            other => {
                *self = other;
                None
            }
        }
    }
}

impl Module {
    /// The open log.
    pub(in crate::module) fn log(&self) -> Option<&Arc<Release>> {
        self.life.log()
    }

    /// A base is being written, or is to be.
    pub(in crate::module) fn writes_base(&self) -> bool {
        self.life.logging().is_some_and(|logging| !logging.base.is_idle())
    }

    /// The whole dataset is being replaced from outside; a new log follows.
    pub(in crate::module) fn is_dataset_replaced(&self) -> bool {
        self.life.logging().is_some_and(|logging| logging.base.is_replacing())
    }

    /// Has a client wait until the log is active; gives it back when no log will be.
    pub(in crate::module) fn wait_for_active(&mut self, waiting: Waiting) -> Result<(), Waiting> {
        match self.life.logging_mut().and_then(|logging| logging.visible.pending_mut()) {
            Some(pending) => pending.waiting.push(waiting),
            None => return Err(waiting),
        }
        Ok(())
    }

    /// Has a client wait for the checkpoint that is to be written.
    pub(in crate::module) fn wait_for_checkpoint(&mut self, held: Held) -> Result<(), Held> {
        match self.life.logging_mut() {
            Some(logging) => logging.asked.push(held),
            None => return Err(held),
        }
        Ok(())
    }
}
