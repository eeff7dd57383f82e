//! How a log is left at once: that of a replica which goes on without it, whatever becomes of the rest of the log.

use super::base::answer;
use super::begin::Captured;
use super::closing::Closing;
use super::descent::Origin;
use super::own_file::{Child, lacking, left_now};
use super::rest::Rest;
use super::state::{Life, Logging};
use crate::core::ack::Why;
use crate::ffi::{Ctx, Level, log};
use crate::module::release::release;
use crate::module::{Module, config, gate, listed, listening, server, with};

/// Leaves a replica's log, with what was handed over. A thread closes it. `origin`: that of what memory holds.
pub(super) fn leave(ctx: Ctx<'_>, origin: Origin) -> Option<Rest> {
    let left = left_now(ctx, Child::GoesOn);
    let standing = if origin == Origin::Lacking { lacking(&left) } else { left };
    let logging = with(|module| {
        module.drop_unsettled();
        take_logging(module, Captured::Begins)
    })
    .flatten()?;
    let Logging { log, base, asked, visible, .. } = logging;
    base.stop(&log);
    log.log().resume();
    gate::open();
    answer(asked, &Err("the log was left".into()));
    let descent = match visible.into_pending() {
        // It has come from where it had come from when the log began.
        Some(pending) if origin == Origin::Folder => pending.descent,
        _ => Closing::descent(&log, origin),
    };
    Some(Rest::closing(log, standing, descent))
}

/// Takes the log out of the state, with all that was executed handed over. Nothing is noted for it any more.
/// `captured`: what the next one begins with.
pub(super) fn take_logging(module: &mut Module, captured: Captured) -> Option<Logging> {
    module.hand_over();
    if !module.life.logs() {
        return None;
    }
    match captured {
        Captured::Begins => module.forget_captured(),
        Captured::GoesOn => module.forget_undurable(),
    }
    module.iteration.waits.take();
    match module.life.change() {
        Life::Logging(logging) => Some(logging),
        other => {
            module.life = other;
            None
        }
    }
}

/// Leaves the log until memory may get another one.
fn rest(ctx: Ctx<'_>, origin: Origin) {
    if let Some(rest) = leave(ctx, origin) {
        with(|module| module.life = Life::Replica(rest));
    }
}

/// The log can't follow the primary. What is in memory gets another one.
pub fn lose_primary(ctx: Ctx<'_>, why: &str) {
    rest(ctx, Origin::Folder);
    with(|module| module.bases.ended(Err(why.into())));
}

/// The log failed. The replica serves on, and another log is tried again and again.
pub(super) fn give_up(ctx: Ctx<'_>, error: &str) {
    log(
        Level::Warning,
        &format!(
            "the replica's log can't be written: {error}. The server goes on without it; it is tried again by itself, with a new base"
        ),
    );
    if let Some(rest) = leave(ctx, Origin::Folder) {
        with(|module| module.life = Life::Replica(rest.supersede_if_sent()));
    }
    with(|module| module.bases.ended(Err(error.into())));
}

/// Too much waits for a replica's disk: the log is left, because nobody waits for it.
pub(super) fn watch_pending(ctx: Ctx<'_>) {
    let pending = with(|module| {
        let log = module.log().filter(|_| module.life.follows())?;
        let limit = config::max_pending_bytes();
        let pending = log.log().pending_bytes();
        (pending > limit).then(|| (pending, log.log().trouble().map(|error| error.to_string())))
    });
    if let Some(Some((pending, trouble))) = pending {
        let why = trouble.map_or(String::new(), |error| format!(" ({error})"));
        give_up(ctx, &format!("{pending} bytes wait for the disk{why}, which is more than wbl.max-pending-bytes"));
    }
}

/// No log is wanted on replicas any more.
pub(super) fn rest_unwanted(ctx: Ctx<'_>) {
    with(Module::hand_over);
    let Some(mut rest) = leave(ctx, Origin::Folder) else { return };
    if server::follows_primary(ctx) {
        rest.supersede();
    }
    with(|module| module.life = Life::Replica(rest));
    log(Level::Notice, "wbl.replica-log is no: the log rests until the server is a primary");
}

/// The dataset is emptied for another one that the primary sends.
pub(super) fn emptied(ctx: Ctx<'_>) {
    if with(|module| module.life.follows()) == Some(true) {
        // What is not logged yet would be read from the present data.
        rest(ctx, Origin::Lacking);
        log(
            Level::Notice,
            "the primary sends its whole dataset: until that has arrived, the log of the one before counts",
        );
    }
}

/// A dataset has been loaded in place of the one before.
pub(super) fn replaced(ctx: Ctx<'_>) {
    rest(ctx, if ctx.flags().is_full_sync() { Origin::Sent } else { Origin::Folder });
}

/// The server has ended the wait of all clients.
pub(super) fn close_waiting(ctx: Ctx<'_>) {
    let log_open = with(|module| module.log().cloned()).flatten();
    // Their writes are not acknowledged: the new primary's dataset is what counts.
    with(|module| module.notices.take_all());
    listening::demoted();
    for waiting in log_open.iter().flat_map(|log| log.take_waiting()) {
        ctx.close_client(waiting.client);
        release(waiting.held, Why::Demoted);
    }
    // The server has also ended the wait of those whose reply was let go a moment ago, and lost the reply.
    for client in log_open.iter().flat_map(|log| log.take_leaving()) {
        if listed::closes_after_reply(ctx, client) {
            ctx.close_client(client);
        }
    }
}
