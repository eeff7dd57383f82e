//! The server's role: at the start, and when it changes.

use super::begin::begin_log;
use super::descent::Origin;
use super::end;
use super::failing::fail;
use super::opening::OpenedFolder;
use super::own_file::{OwnFile, origin_beside};
use super::rest::{NoLog, Rest};
use super::state::{Failing, IfLost, Life, State};
use crate::core::ack::Why;
use crate::ffi::{CallMode, Ctx, Level, ReplyKind, ServerInfo, log};
use crate::module::points::{self, Point};
use crate::module::release::release;
use crate::module::role::{Role, role_at_start};
use crate::module::{config, listed, recovery, server, with};

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
    if server::has_data(ctx) {
        log(
            Level::Warning,
            "the log's folder holds a state: it takes the place of the data that the server loaded by itself",
        );
    }
    let examined = recovery::examine(ctx, &opened)?;
    // Readers see what is recovered.
    opened.make_durable().map_err(|error| error.to_string())?;
    let (source, report) = recovery::recover(ctx, recovery::Source::Opened(Box::new(opened)), examined)?;
    points::reach(Point::Recovered);
    with(|module| module.recovered = Some(report));
    // The server begins a history of its own for what it holds now, so that its primary sends a whole dataset.
    if !replicate(ctx, &primary.host, &primary.port) {
        return Err(format!("the server does not become a replica of {} {} again", primary.host, primary.port));
    }
    match source {
        recovery::Source::Opened(opened) => rest(Rest::new(opened.into_folder(), Origin::Folder).left_behind(ctx)),
        recovery::Source::Prepared(_) => return Err("the recovery's state was lost".into()),
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
    if follows {
        rest.supersede();
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
    match (with(|module| module.life.state()), is_replica) {
        (Some(State::Baselining | State::Active), true) => demote(ctx),
        (Some(State::Failing | State::Disabled), true) => {
            with(|module| {
                if module.life.failure().is_some()
                    && let Some(rest) = module.life.take_rest()
                {
                    module.life = Life::Replica(rest);
                }
            });
        }
        (Some(State::Replica), false) => promote(ctx),
        _ => {}
    }
}

/// A transaction that demotes the server is still logged, all of it: the log rests after that.
fn demote(ctx: Ctx<'_>) {
    close_waiting(ctx);
    let flags = ctx.flags();
    if flags.in_exec() && !flags.in_script() {
        return;
    }
    // What runs is not logged any more.
    let shown = with(|module| {
        module.settle_inside(ctx);
        module.shown_unlogged()
    });
    shown.into_iter().flatten().for_each(|client| {
        ctx.close_client(client);
    });
    rest_demoted(ctx);
}

/// The event loop is about to sleep: a log that is still written by a server that is a replica by now rests.
pub(super) fn rest_after_transaction(ctx: Ctx<'_>) {
    if with(|module| module.life.logs()) == Some(true) && ctx.flags().is_replica() {
        rest_demoted(ctx);
    }
}

fn rest_demoted(ctx: Ctx<'_>) {
    let Some(rest) = end::stop(ctx) else { return };
    with(|module| module.life = Life::Replica(rest));
    log(Level::Notice, "the server is a replica now: the log rests until it is a primary again");
}

/// The server has ended the wait of all clients.
fn close_waiting(ctx: Ctx<'_>) {
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

/// A new log begins; the one before, if it is not superseded, stands until the base of the new one is in place.
fn promote(ctx: Ctx<'_>) {
    let Some(Some(rest)) = with(|module| module.life.take_rest()) else { return };
    if !config::is_enabled() {
        with(|module| module.life = Life::Disabled(rest));
        return;
    }
    if let Err((reason, rest)) = begin_log(ctx, rest, None, IfLost::RefusesWrites) {
        fail(ctx, reason, rest);
    }
}

/// The server has its primary's dataset, whole or by what it lacked, and follows it from here on. No later start may
/// fall back to the log from before.
pub fn primary_link_up() {
    with(|module| match &mut module.life {
        Life::Replica(rest) | Life::Disabled(rest) | Life::GivenUp(Failing { rest, .. }) => {
            rest.supersede();
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
