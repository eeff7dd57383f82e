//! How a replica's log begins, goes on as its primary's or as a primary's, and is left.
//!
//! A log that was written goes on whatever the role; only a dataset that is replaced, or a log that can't follow, leads
//! to another one. That begins in one place, [`begin`], at the end of an iteration, with a base, until which the log
//! before stands.

use super::base::{Base, answer};
use super::begin::{Known, begin_replica_log};
use super::descent::Origin;
use super::failing::fail;
use super::own_file::{Child, left_now};
use super::rest::Rest;
use super::role::{begin_as_primary, close_waiting};
use super::state::{IfLost, Life, Visible};
use crate::core::ack::Why;
use crate::ffi::{Ctx, Level, log};
use crate::module::config::{self, Setting, value};
use crate::module::following::{self, Following};
use crate::module::release::release;
use crate::module::{gate, listed, own_aof, server, with};
use std::time::Duration;

/// A replica's log that could not begin is tried again within this time.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// The server has become a replica: its log goes on, and nobody waits for it any more.
pub(super) fn follow(ctx: Ctx<'_>) {
    let following = Box::new(Following::begin(ctx));
    // Those who came since the role has changed.
    close_waiting(ctx);
    let waiting = with(|module| {
        module.paused = false;
        module.hand_over();
        module.forget_captured();
        let logging = module.life.logging_mut()?;
        logging.log.log().resume();
        logging.following = Some(following);
        Some(logging.visible.take_waiting())
    });
    gate::open();
    waiting.flatten().into_iter().flatten().for_each(|waiting| release(waiting.held, Why::Own));
    log(Level::Notice, "the server is a replica now: its log goes on with what the primary sends");
}

/// The server has become a primary: its log goes on, and replies wait for it.
pub(super) fn lead(ctx: Ctx<'_>) {
    let settled = following::settle(ctx);
    if !settled {
        return begin_as_primary(ctx);
    }
    match Known::ask(ctx) {
        Ok(known) => {
            with(|module| {
                module.hand_over();
                module.begin_capture(ctx, known);
                let logging = module.life.logging_mut()?;
                logging.following = None;
                match &mut logging.visible {
                    Visible::Yes => module.became_visible(),
                    Visible::WithItsBase { if_lost, .. } => *if_lost = IfLost::RefusesWrites,
                }
                Some(())
            });
            own_aof::log_goes_on(ctx);
        }
        Err(reason) => {
            if let Some(rest) = leave(ctx, Origin::Folder) {
                fail(ctx, reason, rest);
            }
        }
    }
}

/// Leaves a replica's log, with what was handed over. A thread closes it. `origin`: of what memory holds.
pub(super) fn leave(ctx: Ctx<'_>, origin: Origin) -> Option<Rest> {
    let standing = left_now(ctx, Child::GoesOn);
    let logging = with(|module| {
        module.drop_unsettled();
        super::end::take_logging(module)
    })
    .flatten()?;
    let super::state::Logging { log, base, asked, .. } = logging;
    base.stop(&log);
    log.log().resume();
    gate::open();
    answer(asked, &Err("the log was left".into()));
    Some(Rest::closing(log, standing, origin))
}

/// The log can't follow the primary. What is in memory gets another one.
pub fn lose_primary(ctx: Ctx<'_>, why: &str) {
    rest(ctx, Origin::Folder);
    with(|module| module.bases.ended(Err(why.into())));
}

/// Leaves the log until memory may get another one.
fn rest(ctx: Ctx<'_>, origin: Origin) {
    if let Some(rest) = leave(ctx, origin) {
        with(|module| module.life = Life::Replica(rest));
    }
}

/// The log failed. The replica serves on, and another one is tried again and again.
pub(super) fn give_up(ctx: Ctx<'_>, error: &str) {
    log(
        Level::Warning,
        &format!(
            "the replica's log can't be written: {error}. The server goes on without it; it is tried again by itself, with a new base"
        ),
    );
    rest(ctx, Origin::Folder);
    with(|module| module.bases.ended(Err(error.into())));
}

/// More waits for a replica's disk than may: the log is left, as nobody waits for it.
pub(super) fn watch_pending(ctx: Ctx<'_>) {
    let pending = with(|module| {
        let log = module.log().filter(|_| module.life.follows())?;
        let limit = u64::try_from(value(Setting::MaxPendingBytes)).unwrap_or(u64::MAX);
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
    with(crate::module::Module::hand_over);
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
        // What is not logged yet would be read from what is there now.
        rest(ctx, Origin::Unknown);
        log(Level::Notice, "the primary sends its whole dataset: the log of the one before stands until that is here");
    }
}

/// A dataset has been loaded in the place of the one before.
pub(super) fn replaced(ctx: Ctx<'_>) {
    rest(ctx, Origin::Folder);
}

/// A base that is being written is of a dataset that is being replaced, or was to be.
pub(super) fn stop_base() {
    with(|module| {
        let Some(logging) = module.life.logging_mut() else { return };
        let base = std::mem::replace(&mut logging.base, Base::Idle);
        let is_wanted = !base.is_idle();
        base.stop(&logging.log);
        if is_wanted {
            logging.base = Base::Wanted;
        }
    });
}

/// Begins a log on a replica whose dataset has none, as soon as that may be.
pub(super) fn begin(ctx: Ctx<'_>) {
    let is_due = with(|module| match &module.life {
        Life::Replica(rest) => {
            let is_wanted = config::is_enabled() && config::logs_replicas();
            is_wanted && rest.may_follow() && module.bases.may_retry(LONGEST_RETRY)
        }
        _ => false,
    });
    // A node of a cluster whose promotion nobody tells of does not follow yet. Of what a pause makes wait nobody knows
    // whether it has been seen.
    let flags = ctx.flags();
    if is_due != Some(true) || !flags.is_replica() || flags.is_loading() || ctx.writes_are_paused() {
        return;
    }
    if listed::primary(ctx).is_some_and(|primary| primary.is_queueing || primary.is_blocked) {
        return;
    }
    let Some(Some(rest)) = with(|module| module.life.take_rest()) else { return };
    if let Err((reason, mut rest)) = begin_replica_log(ctx, rest) {
        log(
            Level::Warning,
            &format!("the replica's log can't begin: {reason}. The server goes on without it, and tries that again"),
        );
        if server::follows_primary(ctx) {
            rest.supersede();
        }
        with(|module| {
            module.life = Life::Replica(rest.stale());
            module.bases.ended(Err(reason));
        });
    }
}

/// `replica-read-only` has changed: what clients may have begun is not known.
pub(super) fn setting_changed(ctx: Ctx<'_>) {
    if with(|module| module.life.follows()) == Some(true) && following::settle(ctx) {
        let writable = server::is_writable_replica(ctx);
        with(|module| module.life.following_mut().map(|following| following.set_writable(writable)));
    }
}
