//! The base that a log has been asked for, and how far that has come.

use super::relief::Relief;
use super::speed::Speed;
use crate::core::ack::Why;
use crate::ffi::{Held, kill_child};
use crate::log::{LogError, NewBase, PreparedBase};
use crate::machine;
use crate::module::gate::GatedFile;
use crate::module::release::{Release, release};
use crate::module::{errors, second_server};
use crossbeam::channel::Receiver;
use std::io::PipeReader;
use std::time::Duration;

/// How long after a base that failed no automatic one is begun; twice as long after each further failure.
const RETRY_MIN: Duration = Duration::from_secs(1);

/// How long after a base no automatic one is begun: the server begins its own children (save points, a rewrite of its
/// append-only file) only in its cron, 10 times a second, and only if no child ran the time before.
const REST: Duration = Duration::from_millis(250);

/// The base that is being written.
pub(super) enum Base {
    /// None is.
    Idle,
    /// One is to be begun when no other child runs, and some time after the last failure.
    Wanted,
    /// The log's threads create its file.
    Creating(Creating),
    /// Its file is there. It is begun when no other child runs.
    Created(Created),
    /// A child writes it.
    Child(Child),
    /// Another process writes it.
    Process(Process),
    /// The log's threads put it in place.
    Installing(Receiver<Result<(), LogError>>),
    /// They prepare the first base of a log for that.
    Preparing(Preparing),
    /// They name the first base of a log ([`super::visible::Visible::Soon`]). Nothing stops that.
    Naming,
    /// The dataset is being replaced from outside.
    Replacing,
    /// What changed can't be logged: a new log begins, with its base, before any reply leaves.
    Now,
}

pub(super) struct Creating {
    pub(super) name: String,
    pub(super) file: Receiver<Result<GatedFile, LogError>>,
}

pub(super) struct Created {
    pub(super) name: String,
    pub(super) file: GatedFile,
}

pub(super) struct Preparing {
    /// What it is called when it is prepared.
    pub(super) name: Option<String>,
    pub(super) prepared: Receiver<Result<PreparedBase, LogError>>,
}

pub(super) struct Child {
    pub(super) pid: i32,
    pub(super) base: NewBase,
    pub(super) report: PipeReader,
}

pub(super) struct Process {
    pub(super) base: NewBase,
    pub(super) outcome: Receiver<Result<(), String>>,
}

/// What a base can be made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Source {
    /// Of memory, or of base and log, which have the same.
    #[default]
    Any,
    /// Of memory alone, which may have what no log has.
    Memory,
}

/// The bases that have been written since the module was loaded.
#[derive(Debug, Default)]
pub(crate) struct Bases {
    pub(in crate::module) done: u64,
    pub(in crate::module) failed: u64,
    /// Why the log has no newer one, if that has failed.
    failure: Option<String>,
    /// How often in a row that has failed.
    failures: u32,
    /// When the last one was in place, or failed, in monotonic microseconds.
    ended_us: u64,
    source: Source,
    /// How quick recoveries are.
    pub(in crate::module) speed: Speed,
    /// Checkpoints for lack of room.
    pub(in crate::module) relief: Relief,
}

impl Bases {
    /// A base is in place, or failed.
    pub(super) fn ended(&mut self, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => {
                self.done += 1;
                self.failures = 0;
            }
            Err(_) => {
                self.failed += 1;
                self.failures = self.failures.saturating_add(1);
            }
        }
        self.ended_us = machine::monotonic_us();
        self.failure = outcome.err();
    }

    /// Another log begins. `is_retry`: perhaps only because the one before has failed.
    pub(super) fn log_begun(&mut self, is_retry: bool) {
        if !is_retry {
            self.forget_failures();
        }
        self.source = Source::Any;
        self.relief = Relief::default();
    }

    /// A command changes data that will not be logged, because nothing shows what. It may run later than it is seen, so
    /// that no base ends this, but another log.
    pub(in crate::module) fn log_lacks_changes(&mut self) {
        self.source = Source::Memory;
    }

    /// What the next base can be made of.
    pub(super) fn source(&self) -> Source {
        self.source
    }

    /// What has failed before does not matter.
    pub(super) fn forget_failures(&mut self) {
        self.failure = None;
        self.failures = 0;
    }

    /// Whether the last one is in place, or has failed.
    pub(in crate::module) fn status(&self) -> &'static str {
        if self.failure.is_none() { "ok" } else { "err" }
    }

    /// Somebody wants a base at once, whatever has failed before.
    pub(super) fn retry_now(&mut self) {
        self.failures = 0;
    }

    /// Whether it is time for a base that nobody has just asked for: some time after the last failure, at most
    /// `longest`.
    pub(super) fn may_retry(&self, longest: Duration) -> bool {
        self.has_rested_for(self.retry_delay(longest))
    }

    /// Whether the server's own children have had their turn since the last one.
    pub(super) fn has_rested(&self) -> bool {
        self.has_rested_for(REST)
    }

    /// Whether the last base for lack of room was long enough ago that another may be begun for that.
    pub(super) fn may_relieve(&self) -> bool {
        self.has_rested_for(self.relief.put_off())
    }

    fn has_rested_for(&self, delay: Duration) -> bool {
        machine::monotonic_us() >= self.ended_us.saturating_add(delay.as_micros() as u64)
    }

    fn retry_delay(&self, longest: Duration) -> Duration {
        match self.failures.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => RETRY_MIN.saturating_mul(1 << doublings.min(20)).min(longest),
        }
    }

    /// Whether the last one has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failures > 0
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

    /// Gives up what is under way, and waits for none of it.
    pub(super) fn stop(self, release: &Release) {
        let name = match self {
            Base::Creating(Creating { name, .. }) | Base::Created(Created { name, .. }) => name,
            Base::Child(child) => {
                kill_child(child.pid);
                child.base.name
            }
            Base::Process(process) => {
                second_server::end();
                process.base.name
            }
            // It is removed after that.
            Base::Preparing(Preparing { name: Some(name), .. }) => name,
            _ => return,
        };
        release.log().remove_base_file(name);
    }

    /// The name of its file, until that is put in place.
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Base::Creating(Creating { name, .. }) | Base::Created(Created { name, .. }) => Some(name),
            Base::Child(Child { base, .. }) | Base::Process(Process { base, .. }) => Some(&base.name),
            _ => None,
        }
    }
}

/// Answers those who have asked for a base.
pub(super) fn answer(asked: Vec<Held>, outcome: &Result<(), String>) {
    for mut held in asked {
        match outcome {
            Ok(()) => held.set_written(|ctx| ctx.reply_simple(c"OK")),
            Err(reason) => held.set_error(errors::checkpoint_failed(reason)),
        }
        release(held, Why::Own);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_doubles_the_delay_up_to_the_longest() {
        let mut bases = Bases::default();
        let longest = Duration::from_secs(3600);
        assert_eq!(bases.retry_delay(longest), Duration::ZERO);
        for expected in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600] {
            bases.ended(Err("no fork".into()));
            assert_eq!(bases.retry_delay(longest), Duration::from_secs(expected));
        }
        bases.failures = u32::MAX;
        bases.ended(Err("no fork".into()));
        assert_eq!(bases.retry_delay(longest), longest);
        assert!(!bases.may_retry(longest));
        assert_eq!((bases.failed, bases.status()), (15, "err"));
        bases.log_begun(true);
        assert!(!bases.may_retry(longest), "it fails again and again");
        bases.log_lacks_changes();
        assert_eq!(bases.source(), Source::Memory);
        bases.log_begun(false);
        assert!(bases.may_retry(longest) && bases.status() == "ok" && bases.source() == Source::Any);
        bases.ended(Err("no fork".into()));
        bases.retry_now();
        assert!(bases.may_retry(longest));
        bases.ended(Err("no fork".into()));
        bases.ended(Ok(()));
        assert!(bases.may_retry(longest) && !bases.has_rested());
        assert_eq!((bases.done, bases.status()), (1, "ok"));
    }
}
