//! The server's role, when it changes.

use super::begin::begin_as_primary;
use super::followed::Following;
use super::rest::{NoLog, Rest};
use super::state::{Failing, Life, State};
use super::{end, follow, leave};
use crate::ffi::{Ctx, Level, log};
use crate::module::role::{Role, role_at_start};
use crate::module::{config, server, with};

/// The server is a replica already, and the folder is open: the log rests. A primary that the server has synchronised
/// with before no longer raises an event.
///
/// # Errors
/// The folder holds the log of another dataset, or one that has more and takes no mark.
pub(super) fn rest_as_replica(ctx: Ctx<'_>, mut rest: Rest) -> Result<(), NoLog> {
    let follows = server::follows_primary(ctx);
    if follows || server::has_data(ctx) {
        // It is a dataset even if it is empty.
        if let Err(reason) = rest.may_begin(true) {
            return Err((reason.into(), rest));
        }
    } else {
        rest.lacks_all();
    }
    let rest = if follows {
        let mut rest = rest.left_behind(ctx);
        if config::logs_replicas() {
            rest.replaces_log();
        } else {
            rest.supersede();
        }
        rest
    } else {
        rest.left_before_serving(ctx)?
    };
    with(|module| module.life = Life::Replica(rest));
    Ok(())
}

/// The server became a replica or a primary.
pub fn role_changed(ctx: Ctx<'_>, is_replica: bool) {
    let (logs, follows, state) = with(|module| (module.life.logs(), module.life.follows(), module.life.state()))
        .unwrap_or((false, false, State::Closed));
    match (state, is_replica) {
        _ if logs && follows != is_replica => {
            if is_replica {
                demote(ctx);
            } else {
                follow::lead(ctx);
            }
        }
        (State::Failing | State::Disabled, true) => {
            with(|module| {
                if module.life.failure().is_some()
                    && let Some(rest) = module.life.take_rest()
                {
                    module.life = Life::Replica(rest);
                }
            });
        }
        (State::Replica, false) if !logs => begin_as_primary(ctx),
        _ => {}
    }
}

/// Everything executed is logged, even a transaction or a script that demotes the server: the log goes on as a
/// replica's at the end of the iteration.
fn demote(ctx: Ctx<'_>) {
    leave::close_waiting(ctx);
    let flags = ctx.flags();
    if flags.in_exec() && !flags.in_script() {
        return;
    }
    // It was executed as a primary's, and the new primary has no part in it.
    let shown = with(|module| {
        module.settle_inside(ctx);
        module.shown_unlogged()
    });
    shown.into_iter().flatten().for_each(|client| {
        ctx.close_client(client);
    });
    if !config::logs_replicas() {
        rest_demoted(ctx);
    }
}

/// No log is wanted on replicas: it rests until the server is a primary again.
fn rest_demoted(ctx: Ctx<'_>) {
    let Some(rest) = end::stop(ctx) else { return };
    with(|module| module.life = Life::Replica(rest));
    log(Level::Notice, "the server is a replica now: the log rests until it is a primary again");
}

/// The event loop is about to sleep, and all that was executed is logged: the log of a server that is a replica by now
/// goes on as a replica's.
pub(super) fn follow_as_replica(ctx: Ctx<'_>) {
    let state = with(|module| (module.life.logs(), module.life.follows()));
    let wanted = config::logs_replicas();
    match state {
        Some((true, false)) if ctx.flags().is_replica() && wanted => follow::follow(ctx),
        Some((true, false)) if ctx.flags().is_replica() => rest_demoted(ctx),
        Some((true, true)) if !wanted => leave::rest_unwanted(ctx),
        _ => {}
    }
}

/// The server has its primary's dataset, whole or by what it lacked, and follows it from here on; or no longer does.
///
/// The dataset gets a log, and until that has its base the one before stays valid. If none is to begin, no later start
/// may fall back to it.
pub fn primary_link_changed(is_up: bool) {
    with(|module| match &mut module.life {
        Life::Replica(rest) if is_up && config::logs_replicas() => {
            rest.replaces_log();
            module.bases.retry_now();
        }
        Life::Replica(rest) if is_up => rest.supersede(),
        Life::Disabled(rest) | Life::GivenUp(Failing { rest, .. }) if is_up => rest.supersede(),
        Life::Logging(_) if !is_up => {
            module.life.following_mut().into_iter().for_each(Following::link_down);
        }
        _ => {}
    });
}

/// The dataset or a database was emptied. A replica does that with all of it for what its primary may never finish
/// sending: until the link is up memory has less than the log, whatever is written there.
pub fn emptied(ctx: Ctx<'_>, db: Option<u32>) {
    if db.is_some() || !ctx.flags().is_full_sync() {
        return;
    }
    leave::emptied(ctx);
    with(|module| match &mut module.life {
        Life::Replica(rest) | Life::Failing(Failing { rest, .. }) | Life::GivenUp(Failing { rest, .. }) => {
            rest.lose_dataset();
            rest.note_lack(ctx);
        }
        // Nobody wants its log back.
        Life::Disabled(rest) => rest.lose_dataset(),
        _ => {}
    });
}

/// A node of a cluster that is promoted before it has followed its primary raises no event of it.
pub(super) fn notice_promotion(ctx: Ctx<'_>) {
    if ctx.flags().in_cluster() && role_at_start(ctx) == Ok(Role::Primary) {
        role_changed(ctx, false);
    }
}
