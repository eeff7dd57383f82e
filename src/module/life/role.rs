//! The server's role: at the start, and when it changes.

use super::begin::begin_log;
use super::descent::Origin;
use super::failing::{fail, fail_until_free};
use super::opening::OpenedFolder;
use super::own_file::{OwnFile, origin_beside};
use super::rest::{NoLog, Rest};
use super::start::begin_or_recover;
use super::state::{Failing, IfLost, Life, State, Until};
use super::{end, follow};
use crate::core::ack::Why;
use crate::ffi::{CallMode, Ctx, Level, ReplyKind, ServerInfo, log};
use crate::module::following::Following;
use crate::module::release::release;
use crate::module::role::{Role, role_at_start};
use crate::module::{config, listed, server, with};

/// Whose replica the server is; a node of a cluster may not say yet.
struct Primary {
    host: String,
    port: String,
}

fn own_primary(ctx: Ctx<'_>) -> Option<Primary> {
    let info = ServerInfo::read(ctx, "replication")?;
    Some(Primary { host: info.text("master_host")?, port: info.text("master_port")? })
}

/// The server starts as a replica. What the folder holds is brought back, as the server's own AOF would be, and stands
/// until the primary sends its dataset. `own`: what the server has loaded by itself.
///
/// # Errors
/// Why the dataset is incomplete; it must not be served.
pub(super) fn start_as_replica(ctx: Ctx<'_>, opened: OpenedFolder, own: OwnFile) -> Result<(), String> {
    let has_log = !opened.is_empty() && !opened.is_superseded();
    let primary = if has_log && !ctx.flags().in_cluster() { own_primary(ctx) } else { None };
    let Some(primary) = primary else {
        // A superseded log may be all that there is, until the primary's dataset is here.
        let origin = if opened.is_empty() { Origin::Folder } else { origin_beside(&opened, own) };
        rest(Rest::new(opened.into_folder(), origin).left_behind(ctx));
        return Ok(());
    };
    // Replicas load nothing for a module.
    if !replicate(ctx, "NO", "ONE") {
        log(
            Level::Warning,
            "the folder's log is not brought back, as the server has neither REPLICAOF nor SLAVEOF; it stays as it is",
        );
        rest(Rest::new(opened.into_folder(), Origin::Unknown).left_behind(ctx));
        return Ok(());
    }
    begin_or_recover(ctx, opened, Origin::Folder, Role::Replica)?;
    // The server begins a history of its own for what it holds now, so that its primary sends a whole dataset.
    if !replicate(ctx, &primary.host, &primary.port) {
        return Err(format!("the server does not become a replica of {} {} again", primary.host, primary.port));
    }
    Ok(())
}

fn rest(rest: Rest) {
    with(|module| module.life = Life::Replica(rest));
    log(Level::Notice, "the server is a replica: the log rests");
}

/// The server is a replica already, and the folder is open: the log rests. A primary that the server has synchronised
/// with before raises no event any more.
///
/// # Errors
/// The folder holds the log of another dataset.
pub(super) fn rest_as_replica(ctx: Ctx<'_>, rest: Rest) -> Result<(), NoLog> {
    let follows = server::follows_primary(ctx);
    if follows || server::has_data(ctx) {
        // It is a dataset also where it is empty.
        if let Err(reason) = rest.may_begin(true) {
            return Err((reason, rest));
        }
    }
    let mut rest = rest.left_behind(ctx);
    match follows {
        true if config::logs_replicas() => rest.replaces_log(),
        true => rest.supersede(),
        false => {}
    }
    with(|module| module.life = Life::Replica(rest));
    Ok(())
}

/// REPLICAOF, under whichever name the server has it.
fn replicate(ctx: Ctx<'_>, host: &str, port: &str) -> bool {
    ["REPLICAOF", "SLAVEOF"].into_iter().any(|command| {
        let reply = ctx.own().call(CallMode::Internal, command, [host.as_bytes(), port.as_bytes()]);
        reply.is_some_and(|reply| reply.kind() != ReplyKind::Error)
    })
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

/// What was executed is logged, all of it, also a transaction or a script that demotes the server: the log goes on as a
/// replica's at the end of the iteration.
fn demote(ctx: Ctx<'_>) {
    close_waiting(ctx);
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
/// goes on as that.
pub(super) fn follow_as_replica(ctx: Ctx<'_>) {
    let state = with(|module| (module.life.logs(), module.life.follows()));
    let wanted = config::logs_replicas();
    match state {
        Some((true, false)) if ctx.flags().is_replica() && wanted => follow::follow(ctx),
        Some((true, false)) if ctx.flags().is_replica() => rest_demoted(ctx),
        Some((true, true)) if !wanted => follow::rest_unwanted(ctx),
        _ => {}
    }
}

/// The server has ended the wait of all clients.
pub(super) fn close_waiting(ctx: Ctx<'_>) {
    let log_open = with(|module| module.log().cloned()).flatten();
    // Their writes are not acknowledged: the new primary's dataset is what counts.
    with(|module| module.notices.take_all());
    for waiting in log_open.iter().flat_map(|log| log.take_waiting()) {
        ctx.close_client(waiting.client);
        release(waiting.held, Why::Demoted);
    }
    // The server has ended the wait of those, too, whose reply was let go a moment ago, and lost the reply.
    for client in log_open.iter().flat_map(|log| log.take_leaving()) {
        if listed::closes_after_reply(ctx, client) {
            ctx.close_client(client);
        }
    }
}

/// A new log begins on a server that has none of what is in memory; the one before, if it is not superseded, stands
/// until the base of the new one is in place.
pub(super) fn begin_as_primary(ctx: Ctx<'_>) {
    let Some(Some(rest)) = with(|module| module.life.take_rest()) else { return };
    if !config::is_enabled() {
        with(|module| module.life = Life::Disabled(rest));
        return;
    }
    // A disk that answers is done with it in milliseconds, and no write is refused.
    rest.wait_until_free();
    if rest.is_busy() {
        return fail_until_free(ctx, rest);
    }
    if let Err((reason, rest)) = begin_log(ctx, rest, None, IfLost::RefusesWrites) {
        fail(ctx, reason, rest);
    }
}

/// The same where a thread had the folder when the server became a primary, and is done.
pub(super) fn begin_when_free(ctx: Ctx<'_>) {
    let is_free = with(|module| match &module.life {
        Life::Failing(failing) => failing.until == Until::FolderIsFree && !failing.rest.is_busy(),
        _ => false,
    });
    if is_free == Some(true) {
        begin_as_primary(ctx);
    }
}

/// The server has its primary's dataset, whole or by what it lacked, and follows it from here on; or no longer does.
///
/// The dataset gets a log, and until that has its base the one before stands. Where none is to begin no later start may
/// fall back to it.
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

/// The dataset was emptied. A replica does that for what its primary may never send to the end: memory comes from
/// nowhere until the link is up.
pub fn emptied(ctx: Ctx<'_>) {
    if !ctx.flags().is_full_sync() {
        return;
    }
    follow::emptied(ctx);
    with(|module| match &mut module.life {
        Life::Replica(rest) | Life::Disabled(rest) | Life::GivenUp(Failing { rest, .. }) => rest.lose_dataset(),
        _ => {}
    });
}

/// A node of a cluster that is promoted before it has followed its primary raises no event of it.
pub(super) fn notice_promotion(ctx: Ctx<'_>) {
    if ctx.flags().in_cluster() && role_at_start(ctx) == Ok(Role::Primary) {
        role_changed(ctx, false);
    }
}
