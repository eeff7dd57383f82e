//! The base that a log has been asked for, and how far that has come.

use crate::ffi::kill_child;
use crate::log::{LogError, Lsn};
use crate::module::release::Release;
use crossbeam::channel::Receiver;
use std::io::PipeReader;
use std::time::Instant;

/// The base that is being written.
pub(super) enum Base {
    /// None is.
    Idle,
    /// One is to be begun when no other child runs.
    Wanted { not_before: Option<Instant> },
    /// A child writes it.
    Child(Child),
    /// The log's threads put it in place.
    Installing(Receiver<Result<(), LogError>>),
    /// The dataset is being replaced from outside.
    Replacing,
    /// What changed can't be logged: a new log begins, with its base, before any reply leaves.
    Now,
}

pub(super) struct Child {
    pub(super) pid: i32,
    /// The file's name.
    pub(super) name: String,
    /// The position whose dataset it gets.
    pub(super) lsn: Lsn,
    pub(super) report: PipeReader,
}

/// The bases that have been written since the module was loaded.
#[derive(Debug)]
pub(crate) struct Bases {
    pub(in crate::module) done: u64,
    /// What became of the last one, for whoever has asked for it.
    pub(in crate::module) last: Result<(), String>,
    /// Why the log has no newer one, if that has failed.
    failure: Option<String>,
}

impl Default for Bases {
    fn default() -> Bases {
        Bases { done: 0, last: Ok(()), failure: None }
    }
}

impl Bases {
    /// A base is in place, or failed.
    pub(super) fn ended(&mut self, outcome: Result<(), String>) {
        self.done += u64::from(outcome.is_ok());
        self.failure = outcome.as_ref().err().cloned();
        self.last = outcome;
    }

    /// The log is closed, and whoever waits for a base gets none.
    pub(super) fn log_closed(&mut self) {
        self.last = Err("the log was closed".into());
    }

    /// Another log begins.
    pub(super) fn log_begun(&mut self) {
        self.failure = None;
    }

    /// Why the log has no newer one, if that has failed.
    pub(in crate::module) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }
}

impl Base {
    pub(super) fn is_idle(&self) -> bool {
        matches!(self, Base::Idle)
    }

    pub(super) fn is_replacing(&self) -> bool {
        matches!(self, Base::Replacing)
    }

    /// Gives up what is under way.
    pub(super) fn stop(self, release: &Release) {
        if let Base::Child(child) = self {
            kill_child(child.pid);
            release.log().remove_base_file(child.name);
        }
    }
}
