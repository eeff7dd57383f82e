//! How a replica's log begins, and goes on as its primary's or as a primary's. How it is left: `leave.rs`.
//!
//! A log that was written goes on whatever the role; only a replaced dataset, or a log that can't follow, leads to
//! another one. That begins in one place, [`begin`], at the end of an iteration, with a base; until that is there the
//! log before stays valid.

use super::base::Base;
use super::begin::{Known, begin_as_primary, begin_replica_log};
use super::descent::Origin;
use super::failing::fail;
use super::followed::Following;
use super::leave::{close_waiting, leave, lose_primary};
use super::state::Life;
use super::visible::{IfLost, Visible};
use crate::core::ack::Why;
use crate::ffi::{Ctx, Level, log};
use crate::module::config;
use crate::module::following;
use crate::module::release::release;
use crate::module::{disk, gate, listed, own_aof, server, with};
use std::time::Duration;

/// How soon, at the latest, a replica's log that could not begin is tried again.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// The server has become a replica: its log goes on, and nobody waits for it any more.
pub(super) fn follow(ctx: Ctx<'_>) {
    let following = Box::new(Following::begin(ctx));
    // Those who have come since the role changed.
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

/// The server has become a primary: its log goes on, and replies wait for it. If that may lack anything, another one
/// begins, with a base that has all.
pub(super) fn lead(ctx: Ctx<'_>) {
    let settled = following::settle(ctx);
    let writable = with(|module| module.life.following_mut().is_some_and(|following| following.is_writable));
    let lacks = match () {
        // The log sees nothing of the rest of that.
        () if ctx.flags().is_inside_another() => Some("a transaction has made the server a primary"),
        // What they had queued, waited in or had delayed is logged as it was before it ran, unless an event shows it.
        () if writable == Some(true) => Some("clients could write to the replica, and the server is a primary now"),
        () => None,
    };
    if let (true, Some(why)) = (settled, lacks) {
        lose_primary(ctx, why);
    }
    if !settled || lacks.is_some() {
        return begin_as_primary(ctx);
    }
    match Known::ask(ctx) {
        Ok(known) => {
            with(|module| {
                module.hand_over();
                module.begin_capture(ctx, known);
                let logging = module.life.logging_mut()?;
                logging.following = None;
                if let Some(pending) = logging.visible.pending_mut() {
                    pending.if_lost = IfLost::RefusesWrites;
                }
                match logging.visible {
                    Visible::WithItsBase(_) => {}
                    Visible::Soon { .. } => module.begin_to_withhold(),
                    Visible::Yes => module.became_visible(),
                }
                Some(())
            });
            take_over();
            own_aof::log_goes_on(ctx);
        }
        Err(reason) => {
            if let Some(rest) = leave(ctx, Origin::Folder) {
                fail(ctx, reason.into(), rest);
            }
        }
    }
}

/// What the former primary has acknowledged may soon be here only, because it copies this server from now on. So it is
/// made durable before anybody hears of the new role; if the disk does not answer, `wbl_safe` is `no` until it does.
fn take_over() {
    let taken_over = with(|module| {
        let appended = module.appended();
        let logging = module.life.logging_mut()?;
        logging.taken_over = appended;
        (!matches!(logging.visible, Visible::WithItsBase(_))).then(|| (logging.log.clone(), appended))
    });
    let Some(Some((release, appended))) = taken_over else { return };
    if !disk::wait_if_it_answers(&release, appended) {
        log(
            Level::Warning,
            "the server is a primary now, and its disk has not answered: what the former primary has acknowledged is not durable here yet",
        );
    }
}

/// A base that is being written, or is to be, is of a dataset that is being replaced.
pub(super) fn stop_base() {
    with(|module| {
        let Some(logging) = module.life.logging_mut() else { return };
        if matches!(logging.base, Base::Naming) {
            // It is whole, and of what there is until the other dataset takes its place.
            return;
        }
        let base = std::mem::replace(&mut logging.base, Base::Idle);
        let is_wanted = !base.is_idle();
        base.stop(&logging.log);
        if is_wanted {
            logging.base = Base::Wanted;
        }
    });
}

/// Begins a log on a replica whose dataset has none, as soon as possible.
pub(super) fn begin(ctx: Ctx<'_>) {
    let is_due = with(|module| match &module.life {
        Life::Replica(rest) => {
            let is_wanted = config::is_enabled() && config::logs_replicas();
            is_wanted && rest.may_follow() && module.bases.may_retry(LONGEST_RETRY)
        }
        _ => false,
    });
    // A node of a cluster whose promotion no event reports does not follow yet. It is unknown whether what a pause
    // makes wait has been seen.
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
            module.life = Life::Replica(rest.supersede_if_sent().stale());
            module.bases.ended(Err(reason.to_string()));
        });
    }
}

/// `replica-read-only` has changed: what clients may have begun is unknown.
pub(super) fn setting_changed(ctx: Ctx<'_>) {
    if with(|module| module.life.follows()) == Some(true) && following::settle(ctx) {
        let writable = server::is_writable_replica(ctx);
        with(|module| module.life.following_mut().map(|following| following.set_writable(writable)));
    }
}
