//! How a log ends in the server's own time: at the shutdown, and on the way to another state.

use super::base;
use super::begin::Captured;
use super::cause::Cause;
use super::closing::{Closing, owed};
use super::descent::{Descent, Origin};
use super::failing::fatal;
use super::leave::take_logging;
use super::opening::LogFolder;
use super::own_file::{Child, left_now};
use super::rest::Rest;
use super::state::{Life, Logging};
use crate::core::ack::Why;
use crate::ffi::{Ctx, Level, log};
use crate::log::Standing;
use crate::module::points::{self, Point};
use crate::module::release::release;
use crate::module::units::finish_unit;
use crate::module::{following, gate, listening, notify, second_server, with};

/// The server shuts down, and nothing can prevent that any more.
pub fn shut_down(ctx: Ctx<'_>) {
    second_server::end_and_wait();
    following::settle(ctx);
    finish_unit(ctx);
    let closes = with(|module| module.life.logging().map(Logging::once_closed)).flatten();
    // What a start makes of that is reported.
    if close(ctx, Child::Killed).is_err() {
        with(|module| module.life = Life::Closed);
    }
    if let Some(what) = closes {
        log(Level::Notice, &format!("the log is closed; {what}"));
    }
}

/// Closes the log, or the folder at rest, for good.
///
/// # Errors
/// It can't be noted that the server goes on without the folder's log. That is at rest.
pub(super) fn close(ctx: Ctx<'_>, child: Child) -> Result<(), Cause> {
    if let Some(rest) = stop_beside(ctx, child) {
        with(|module| module.life = Life::Disabled(rest));
    }
    let mut life = with(|module| module.life.change()).unwrap_or(Life::Closed);
    let takes_no_writes = matches!(life, Life::Replica(_) | Life::Failing(_));
    let ended = life.resting_mut().map_or(Ok(()), |rest| rest.end(ctx, takes_no_writes, child));
    with(|module| module.life = if ended.is_ok() { Life::Closed } else { life });
    ended
}

/// Makes everything durable, releases everyone, and closes the log; the next state is the caller's to set. `None` when
/// there is no log. What runs meanwhile is not in it. Waiting scripts run in the next state, if that is reached.
pub(super) fn stop(ctx: Ctx<'_>) -> Option<Rest> {
    stop_beside(ctx, Child::GoesOn)
}

/// The same. `child`: what has become of one that saves the server's own file.
fn stop_beside(ctx: Ctx<'_>, child: Child) -> Option<Rest> {
    with(|module| module.paused = false);
    stop_log_beside(ctx, child, Captured::Begins)
}

/// The same where another log follows at once, with what is captured.
pub(super) fn stop_log(ctx: Ctx<'_>) -> Option<Rest> {
    stop_log_beside(ctx, Child::GoesOn, Captured::GoesOn)
}

fn stop_log_beside(ctx: Ctx<'_>, child: Child, captured: Captured) -> Option<Rest> {
    if with(|module| module.life.logs()) != Some(true) {
        return None;
    }
    // The second server does not leave the log: the first goes on with it.
    let standing = if second_server::is_folding() { Standing::Current } else { left_now(ctx, child) };
    let mut logging = with(|module| take_logging(module, captured)).flatten()?;
    std::mem::replace(&mut logging.base, base::Base::Idle).stop(&logging.log);
    logging.log.log().resume();
    logging.log.log().lift_limit();
    gate::open();
    points::reach(Point::LogCloses);
    let folder = close_files(&logging, &standing);
    points::reach(Point::LogClosed);
    logging.log.release_closed();
    if captured == Captured::Begins {
        notify::publish_all(ctx);
        listening::log_closed(logging.log.log().appended());
    }
    with(|module| module.drop_replies());
    base::answer(logging.asked, &Err("the log was closed".into()));
    let is_visible = logging.log.log().is_visible();
    let pending = logging.visible.into_pending().map(|pending| {
        pending.waiting.into_iter().for_each(|waiting| release(waiting.held, Why::Own));
        pending.descent
    });
    // The log from before is still the one that a start would find, unless naming the new one failed late.
    let pending = pending.filter(|_| !is_visible);
    Some(match (folder, pending) {
        (Ok(folder), Some(descent)) => {
            let origin = descent.origin_in(&folder);
            Rest::new(folder, origin)
        }
        (Ok(folder), None) => Rest::after(folder, standing),
        (Err(Lost { descent, owed }), _) => Rest::lost(descent, owed),
    })
}

/// A log that could not be closed, whose folder is lost.
struct Lost {
    /// Where memory comes from.
    descent: Descent,
    /// The mark that the log is still owed.
    owed: Option<Standing>,
}

/// Closes the log, which syncs and publishes everything, so that every waiter is released. A visible log that fails
/// ends the process; of one that nobody relies on, what is known of memory remains.
fn close_files(logging: &Logging, standing: &Standing) -> Result<LogFolder, Lost> {
    let closed = logging.log.log().close_as(standing.clone());
    // It may have become visible until then.
    let pending = logging.visible.pending().filter(|_| !logging.log.log().is_visible());
    match (closed, pending) {
        (Ok(folder), _) => {
            if let Some(error) = folder.seal_error() {
                log(
                    Level::Warning,
                    &format!("all of the log is durable, but it could not be marked as closed: {error}"),
                );
            }
            Ok(folder)
        }
        (Err(error), Some(pending)) => {
            log(Level::Warning, &format!("a log that nobody relies on could not be closed: {error}"));
            Err(Lost { descent: pending.descent.clone(), owed: None })
        }
        (Err(error), None) if logging.following.is_some() => {
            log(Level::Warning, &format!("the replica's log could not be closed, and ends before that: {error}"));
            let descent = Closing::descent(&logging.log, Origin::Folder);
            Err(Lost { descent, owed: owed(&logging.log, standing.clone()) })
        }
        (Err(error), None) => {
            fatal("the log could not be closed, and nothing can be acknowledged any more", &error.to_string())
        }
    }
}
