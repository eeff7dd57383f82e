//! Checkpoints, which write new bases: the RDB files that the log continues.
//!
//! A forked child writes a base, or a second server makes it from a copy of the log. The main thread waits for none of
//! it: the log's own threads create the file and wake the event loop; the child is forked, and the log is cut where the
//! base's dataset ends; the log's threads make the file durable, check it, name it in the manifest, and wake the event
//! loop again.

use super::base::{Base, Bases, Created, Creating, Preparing};
use super::cause::Cause;
use super::installed::{ended, installed, reported};
use super::naming;
use super::relief;
use super::state::Logging;
use super::visible::Visible;
use crate::ffi::{ChildResult, Ctx, descriptor_path, save_rdb};
use crate::log::{LogError, NewBase, PreparedBase, Statistics};
use crate::module::gate::GatedFile;
use crate::module::points::{self, Point};
use crate::module::release::Release;
use crate::module::{Module, config, room, with};
use crossbeam::channel::{Receiver, TryRecvError};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

pub(super) mod start;

/// What the child reports when its file is whole.
const WRITTEN: &str = "written";

/// A checkpoint begins when errors of the disk have begun this many segments, or there are this many more than the log
/// would fill: each start and each backup begins one.
const SPARE_SEGMENTS_MAX: u64 = 100;

/// More than a child reports.
const REPORT_BYTES_MAX: u64 = 64 << 10;

impl Module {
    /// What the running unit has changed can't be logged: a new log begins with its base when the unit ends, before any
    /// reply leaves that shows it.
    pub(in crate::module) fn request_base_now(&mut self) {
        if let Some(following) = self.life.following_mut() {
            return following.followed.lose("a change can't be logged");
        }
        let before = self.appended();
        if let Some(logging) = self.life.logging_mut() {
            // What is logged without that change must not be acknowledged. What was before may be, and waited for.
            logging.log.log().set_limit(before);
            let base = std::mem::replace(&mut logging.base, Base::Now);
            base.stop(&logging.log);
        }
    }

    /// Whether that has been asked for.
    pub(in crate::module) fn needs_base_now(&self) -> bool {
        self.life.logging().is_some_and(|logging| matches!(logging.base, Base::Now))
    }
}

/// Asks for a new base; `false` when one is being written.
pub(in crate::module) fn request_checkpoint() -> bool {
    let asked = with(|module| {
        let logging = module.life.logging_mut()?;
        let is_put_off = matches!(logging.base, Base::Wanted) && !logging.may_retry(&module.bases);
        if !logging.base.is_idle() && !is_put_off {
            return None;
        }
        module.bases.retry_now();
        logging.base = Base::Wanted;
        Some(())
    });
    asked.flatten().is_some()
}

impl Logging {
    /// Whether the last failure was long enough ago to begin a base that nobody has asked for since.
    fn may_retry(&self, bases: &Bases) -> bool {
        let longest = self.visible.longest_retry();
        // Writes are refused until there is one.
        let is_urgent = bases.relief.is_wanted(self.log.log());
        bases.may_retry(if is_urgent { longest.min(relief::PUT_OFF_MAX) } else { longest })
    }

    /// Whether the log has grown so much since its base that it is to get a new one automatically.
    pub(super) fn has_outgrown_base(&self, bases: &Bases) -> bool {
        let log = self.log.log();
        let (log_bytes, base_bytes) = (log.statistics().bytes_since_base(), log.statistics().base_bytes());
        let has_many_segments = has_many_segments(log.statistics(), log_bytes);
        let gains_room = bases.relief.may_help(log) && bases.may_relieve();
        let is_slow = bases.speed.is_too_slow(base_bytes, log_bytes);
        matches!(self.visible, Visible::Yes)
            && (config::wants_checkpoint(log_bytes, base_bytes) || gains_room || has_many_segments || is_slow)
            && self.may_retry(bases)
            && bases.has_rested()
            && !log.is_failing()
    }
}

fn has_many_segments(statistics: &Statistics, log_bytes: u64) -> bool {
    let filled = log_bytes / config::segment_bytes().max(1);
    let spare = statistics.segments().saturating_sub(filled);
    spare.max(statistics.segments_after_errors()) >= SPARE_SEGMENTS_MAX
}

/// Writes the first base of a log and puts it in place, on the main thread.
pub(super) fn write_here(ctx: Ctx<'_>, release: &Release) -> Result<(), Cause> {
    let (name, file) = release.log().new_base_file()?;
    let lsn = release.log().cut();
    if let Err(reason) = save(ctx, &descriptor_path(&file)) {
        release.log().remove_base_file(name);
        return Err(Cause::Disk(reason));
    }
    let prepared = naming::wait_for(release, &prepare(release, NewBase { name, lsn }).prepared)?;
    naming::begin(prepared);
    Ok(naming::outcome().unwrap_or(Ok(()))?)
}

/// Writes the dataset to the file of this path.
pub(super) fn save(ctx: Ctx<'_>, path: &Path) -> Result<(), String> {
    if !save_rdb(ctx, path) {
        return Err(format!("the server could not save its dataset: {}", room::written_and_free(path)));
    }
    Ok(())
}

/// The child that writes the base has ended.
pub fn child_done(_ctx: Ctx<'_>, result: ChildResult) {
    let taken = take_base(|base| match base {
        Base::Child(child) => Ok(child),
        other => Err(other),
    });
    let Some((child, release)) = taken else { return };
    let mut report = String::new();
    if let ChildResult::Exited(_) = result {
        // All of it is there. A report that cannot be read counts as none.
        let _ = child.report.take(REPORT_BYTES_MAX).read_to_string(&mut report);
    }
    let outcome = match report {
        report if result == ChildResult::Exited(0) && report == WRITTEN => Ok(()),
        report if !report.is_empty() && report != WRITTEN => Err(report),
        _ => Err(format!("the child that writes it ended: {result:?}")),
    };
    written(&release, child.base, outcome);
}

/// The second server has ended.
fn process_done(outcome: Result<(), String>) {
    let taken = take_base(|base| match base {
        Base::Process(process) => Ok(process),
        other => Err(other),
    });
    if let Some((process, release)) = taken {
        written(&release, process.base, outcome);
    }
}

/// Takes out the base that is being written, if it is that one, and the log.
fn take_base<T>(pick: impl FnOnce(Base) -> Result<T, Base>) -> Option<(T, Arc<Release>)> {
    let taken = with(|module| {
        let logging = module.life.logging_mut()?;
        match pick(std::mem::replace(&mut logging.base, Base::Idle)) {
            Ok(base) => Some((base, Arc::clone(&logging.log))),
            Err(other) => {
                logging.base = other;
                None
            }
        }
    });
    taken.flatten()
}

/// The process that was to write the base has ended.
fn written(release: &Release, base: NewBase, outcome: Result<(), String>) {
    match outcome {
        Ok(()) => {
            points::reach(Point::BaseWritten);
            install(release, base);
        }
        Err(reason) => {
            release.log().remove_base_file(base.name);
            ended(Err(reason));
        }
    }
}

/// Has a base put in place; the first one of a log in two steps, between which replies begin to wait.
fn install(release: &Release, base: NewBase) {
    if with(|module| module.life.logging().is_some_and(|logging| logging.visible.pending().is_some())) == Some(true) {
        let preparing = prepare(release, base);
        with(|module| {
            if let Some(logging) = module.life.logging_mut() {
                logging.base = Base::Preparing(preparing);
            }
        });
        return;
    }
    let (on_done, outcome) = installed();
    with(|module| {
        if let Some(logging) = module.life.logging_mut() {
            logging.base = Base::Installing(outcome);
        }
    });
    release.log().install_base(base, Box::new(on_done));
}

/// Has the first base of a log made ready to be named.
fn prepare(release: &Release, base: NewBase) -> Preparing {
    let (on_done, prepared) = reported();
    let name = base.final_name();
    release.log().prepare_base(base, Box::new(on_done));
    Preparing { name, prepared }
}

/// Checks how far the base is, and whether the child is still there: a SHUTDOWN that fails ends it silently.
pub(super) fn poll(ctx: Ctx<'_>) {
    let outcome = with(|module| {
        let logging = module.life.logging()?;
        if logging.base.name().is_some_and(|name| logging.log.log().has_given_up(name)) {
            return Some(Poll::NoRoom);
        }
        match &logging.base {
            Base::Creating(creating) => Some(Poll::Created(received(&creating.file)?)),
            Base::Child(_) => Some(Poll::ChildRuns),
            Base::Process(process) => Some(match process.outcome.try_recv() {
                Ok(outcome) => Poll::Written(outcome),
                Err(TryRecvError::Empty) => return None,
                Err(TryRecvError::Disconnected) => Poll::Written(Err("its thread has ended".into())),
            }),
            Base::Installing(outcome) => Some(Poll::Installed(received(outcome)?)),
            Base::Preparing(preparing) => Some(Poll::Prepared(received(&preparing.prepared)?)),
            Base::Naming => Some(Poll::Installed(received(logging.visible.named()?)?)),
            _ => None,
        }
    });
    match outcome.flatten() {
        Some(Poll::NoRoom) => give_up(),
        Some(Poll::Created(outcome)) => created(outcome),
        Some(Poll::Prepared(Ok(prepared))) => naming::begin(prepared),
        Some(Poll::Prepared(Err(reason))) => ended(Err(reason)),
        Some(Poll::Installed(outcome)) => ended(outcome),
        Some(Poll::Written(outcome)) => process_done(outcome),
        Some(Poll::ChildRuns) if !ctx.flags().has_active_child() => child_done(ctx, ChildResult::Killed(libc::SIGUSR1)),
        _ => {}
    }
}

/// What one of the log's threads has answered, if it has.
fn received<T>(answer: &Receiver<Result<T, LogError>>) -> Option<Result<T, String>> {
    match answer.try_recv() {
        Ok(outcome) => Some(outcome.map_err(|error| error.to_string())),
        Err(TryRecvError::Empty) => None,
        Err(TryRecvError::Disconnected) => Some(Err("the log was closed".into())),
    }
}

enum Poll {
    NoRoom,
    /// Its file is there.
    Created(Result<GatedFile, String>),
    /// Another process has ended.
    Written(Result<(), String>),
    Prepared(Result<PreparedBase, String>),
    Installed(Result<(), String>),
    ChildRuns,
}

/// The file of the base is there, or can't be.
fn created(outcome: Result<GatedFile, String>) {
    let creating = take_base(|base| match base {
        Base::Creating(creating) => Ok(creating),
        other => Err(other),
    });
    let Some((Creating { name, .. }, _)) = creating else { return };
    match outcome {
        Ok(file) => {
            with(|module| {
                if let Some(logging) = module.life.logging_mut() {
                    logging.base = Base::Created(Created { name, file });
                }
            });
        }
        Err(reason) => ended(Err(reason)),
    }
}

/// The log has taken the room of the base that is being written.
fn give_up() {
    with(|module| {
        let Some(logging) = module.life.logging_mut() else { return };
        let base = std::mem::replace(&mut logging.base, Base::Idle);
        base.stop(&logging.log);
    });
    ended(Err("the disk is full, and the log needed the room that the base took".into()));
}
