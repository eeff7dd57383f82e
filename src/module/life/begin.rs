//! How a log begins in the folder.

use super::base::Base;
use super::cause::Cause;
use super::descent::Descent;
use super::failing::{fail, fail_for_now, fail_until_free};
use super::followed::Following;
use super::rest::{NoLog, Rest};
use super::state::{Life, Logging};
use super::visible::{IfLost, Visible};
use crate::core::unit::Batch;
use crate::ffi::{Ctx, Level, log};
use crate::log::{Begin, LogState, LogWriter, Lsn, NotBegun};
use crate::machine::unix_ms;
use crate::module::census::Census;
use crate::module::gate::GatedStorage;
use crate::module::history::History;
use crate::module::known::Commands;
use crate::module::points::{self, Point};
use crate::module::release::Release;
use crate::module::{Module, config, own_aof, server, with};
use std::sync::Arc;

/// Begins a new log in place of what the folder holds, if that is allowed. It begins with the dataset in memory.
pub(super) fn begin_log(ctx: Ctx<'_>, rest: Rest, if_lost: IfLost) -> Result<(), NoLog> {
    begin_log_of(ctx, rest, (None, Captured::Begins), if_lost, None)
}

/// The same in place of the log that has just been stopped, with a base of what is in memory, whatever the folder
/// holds.
pub(super) fn begin_log_anew(ctx: Ctx<'_>, rest: Rest) -> Result<(), NoLog> {
    begin_log_of(ctx, rest, (Some(Begin::WaitsForBase), Captured::GoesOn), IfLost::RefusesWrites, None)
}

/// What is known of clients and of what they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Captured {
    /// Nothing: it is captured from now on.
    Begins,
    /// All that was, in the log before, whose positions go on.
    GoesOn,
}

/// The same for a replica, which logs what its primary sends.
pub(super) fn begin_replica_log(ctx: Ctx<'_>, rest: Rest) -> Result<(), NoLog> {
    begin_log_of(ctx, rest, (None, Captured::Begins), IfLost::ServesOn, Some(Box::new(Following::begin(ctx))))
}

fn begin_log_of(
    ctx: Ctx<'_>,
    rest: Rest,
    (with_what, captured): (Option<Begin>, Captured),
    if_lost: IfLost,
    following: Option<Box<Following>>,
) -> Result<(), NoLog> {
    // What is in memory is not the dataset before all of it is loaded.
    if let Err(reason) = server::has_loaded(ctx) {
        return Err((reason.into(), rest));
    }
    let rest = rest.opened()?;
    let has_data = server::has_data(ctx);
    let begin = match rest.may_begin(has_data) {
        Ok(begin) => with_what.unwrap_or(begin),
        Err(reason) => return Err((reason.into(), rest)),
    };
    let known = match captured {
        Captured::GoesOn => None,
        Captured::Begins => match if following.is_some() { Known::ask_on_replica(ctx) } else { Known::ask(ctx) } {
            Ok(known) => Some(known),
            Err(reason) => return Err((reason.into(), rest)),
        },
    };
    let (rest, before) = rest.give_up(ctx, has_data)?;
    let descent = rest.descent().clone();
    let before = rest.generation().zip(before);
    let folder = rest.into_folder(ctx).map_err(|rest| ("the folder was lost".into(), rest))?;
    match folder.begin(begin, unix_ms()) {
        Ok(writer) if begin == Begin::WaitsForBase => {
            let descent = descent.or_own(writer.generation());
            let written = write(ctx, writer, known, Visible::with_its_base(descent, if_lost), following);
            written.map_err(|(reason, rest)| (reason, rest.counts_again(before)))
        }
        Ok(writer) => write(ctx, writer, known, Visible::Yes, following),
        Err(not_begun) => {
            let NotBegun { folder, error } = *not_begun;
            Err((error.into(), Rest::new(folder, descent.origin()).counts_again(before)))
        }
    }
}

/// A new log begins on a server that has none of what is in memory; the one before, if it is not superseded, stays
/// valid until the base of the new one is in place.
pub(super) fn begin_as_primary(ctx: Ctx<'_>) {
    let Some(Some(rest)) = with(|module| module.life.take_rest()) else { return };
    if !config::is_enabled() {
        with(|module| module.life = Life::Disabled(rest));
        return;
    }
    // A disk that answers takes milliseconds for it, and no write is refused.
    rest.wait_until_free();
    if rest.is_busy() {
        return fail_until_free(ctx, rest);
    }
    with(|module| module.bases.forget_failures());
    // The base has what the rest of a transaction does, which was queued before.
    let with_what = ctx.flags().is_inside_another().then_some(Begin::WaitsForBase);
    let begun = begin_log_of(ctx, rest, (with_what, Captured::Begins), IfLost::RefusesWrites, None);
    if let Err((cause, rest)) = begun {
        if let Cause::Disk(reason) = &cause {
            // From now on the tries are spaced.
            with(|module| module.bases.ended(Err(reason.clone())));
        }
        fail(ctx, cause, rest);
    }
}

/// The same again, where the log that began has failed with its disk.
pub(super) fn begin_again(ctx: Ctx<'_>) {
    let Some(Some(rest)) = with(|module| module.life.take_rest()) else { return };
    if let Err((cause, rest)) = begin_log(ctx, rest, IfLost::RefusesWrites) {
        let reason = cause.to_string();
        with(|module| module.bases.ended(Err(reason.clone())));
        fail_for_now(ctx, reason, rest);
    }
}

/// What is asked of the server as a log begins.
pub(super) struct Known {
    commands: Commands,
    clients: Census,
    fields_expire: bool,
}

impl Known {
    pub(super) fn ask(ctx: Ctx<'_>) -> Result<Known, String> {
        Known::with(ctx, Census::take)
    }

    /// The same for a replica's log.
    fn ask_on_replica(ctx: Ctx<'_>) -> Result<Known, String> {
        // Clients may write there, too.
        let is_writable = server::is_writable_replica(ctx);
        Known::with(ctx, if is_writable { Census::take } else { Census::of_replica })
    }

    fn with(ctx: Ctx<'_>, census: impl Fn(Ctx<'_>) -> Result<Census, String>) -> Result<Known, String> {
        let fields_expire = server::has_expiring_fields(ctx);
        Ok(Known { commands: Commands::ask(ctx)?, clients: census(ctx)?, fields_expire })
    }
}

/// Starts the log's threads.
pub(super) fn write(
    ctx: Ctx<'_>,
    writer: LogWriter<GatedStorage>,
    known: Option<Known>,
    visible: Visible,
    following: Option<Box<Following>>,
) -> Result<(), NoLog> {
    own_aof::log_goes_on(ctx);
    let appended = writer.appended();
    let descent = match visible.pending() {
        Some(pending) => pending.descent.clone(),
        None => Descent::from(LogState { generation: writer.generation(), end: appended }),
    };
    let release = Release::start(writer).map_err(|error| (error.into(), Rest::lost(descent, None)))?;
    let waits_for_base = visible.pending().is_some();
    let is_retried = visible.pending().is_some_and(|pending| pending.if_lost == IfLost::RefusesWrites);
    with(|module| {
        module.batch = Batch::new(appended);
        // It is tried again until its base is in place.
        module.bases.log_begun(is_retried || waits_for_base && following.is_some());
        module.history = History::default();
        module.lag.clear();
        if let Some(known) = known {
            module.begin_capture(ctx, known);
        }
        if module.paused {
            release.log().pause();
        }
        module.life = Life::Logging(Logging {
            log: Arc::new(release),
            visible,
            base: if waits_for_base { Base::Wanted } else { Base::Idle },
            asked: Vec::new(),
            following,
            taken_over: Lsn::ZERO,
        });
        if !waits_for_base && !module.life.follows() {
            module.became_visible();
        }
    });
    if waits_for_base {
        log(Level::Notice, "the log is open; writing its base");
        points::reach(Point::LogBegun);
    }
    Ok(())
}

impl Module {
    /// What clients do is captured from now on.
    pub(super) fn begin_capture(&mut self, ctx: Ctx<'_>, known: Known) {
        self.forget_captured();
        if ctx.flags().in_exec() {
            self.running.is_within_exec();
        }
        if known.fields_expire {
            self.capture.fields_expire();
        }
        self.take_clients_in(ctx, &known.clients);
        self.server.commands = known.commands;
    }

    /// Nothing is noted any more of what clients have done.
    pub(super) fn forget_captured(&mut self) {
        self.capture.clear();
        self.running.forget();
        self.time_outs.forget();
        self.forget_undurable();
    }

    /// Nothing is noted any more of what is not durable.
    pub(super) fn forget_undurable(&mut self) {
        self.dirty.clear();
        self.versions.clear();
    }
}
