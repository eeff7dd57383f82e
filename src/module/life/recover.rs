//! How a log begins with what the folder holds, or anew where that is nothing.

use super::begin::{Known, begin_log, write};
use super::descent::Origin;
use super::opening::{LOCK_PATIENCE, OpenedFolder, open_folder};
use super::rest::Rest;
use super::state::Life;
use super::visible::{IfLost, Visible};
use super::{checkpoint, end, replaced, role};
use crate::ffi::{Ctx, Level, ServerInfo, exit_now, log};
use crate::machine::unix_ms;
use crate::module::points::{self, Point};
use crate::module::role::{Role, role_at_start};
use crate::module::{cluster, recovery, second_server, server, with};

/// Begins a log on a server that is to recover what the folder holds, or has nothing to lose. `origin`: that of what it
/// has beside a superseded log. `role`: what the server is to be afterwards; a replica serves even if its log can't go
/// on.
pub(super) fn begin_or_recover(ctx: Ctx<'_>, opened: OpenedFolder, origin: Origin, role: Role) -> Result<(), String> {
    if opened.is_empty() || opened.is_superseded() {
        return begin_anew(ctx, opened, origin);
    }
    with(|module| module.life = Life::Changing);
    if server::has_data(ctx) {
        log(
            Level::Warning,
            "the log's folder holds a state: it takes the place of the data that the server loaded by itself",
        );
    }
    let (opened, skipped) = fold(ctx, opened)?;
    let examined = recovery::examine(ctx, &opened)?;
    // Whether the folder can be written to shows before its content is loaded.
    let prepared = match opened.prepare(unix_ms()) {
        Err(error) if role == Role::Replica => return recover_alone(ctx, error.to_string()),
        prepared => prepared.map_err(|error| error.to_string())?,
    };
    tell_given_up(prepared.given_up_bytes());
    let (source, mut report) = recovery::recover(ctx, recovery::Source::Prepared(Box::new(prepared)), examined)?;
    points::reach(Point::Recovered);
    let is_exact = report.errors == 0;
    report.errors += skipped;
    with(|module| module.recovered = Some(report));
    if let Some(base) = second_server::checkpoint_base() {
        // The folder, which is a copy, has done its work.
        points::reach(Point::BaseChild);
        checkpoint::save(ctx, &base)?;
        exit_now(0);
    }
    let recovery::Source::Prepared(prepared) = source else { return Err("the recovery's state was lost".into()) };
    let writer = prepared.start().map_err(|error| error.to_string())?;
    write(ctx, writer, Some(Known::ask(ctx)?), Visible::Yes, None).map_err(|(cause, _)| cause.to_string())?;
    serve_recovered(ctx, is_exact, report.errors)
}

/// Begins a log where the folder holds none that counts.
fn begin_anew(ctx: Ctx<'_>, opened: OpenedFolder, origin: Origin) -> Result<(), String> {
    let is_superseded = opened.is_superseded();
    begin_log(ctx, Rest::new(opened.into_folder(), origin), IfLost::ServesOn)
        .map_err(|(cause, _)| cause.to_string())?;
    if is_superseded {
        log(
            Level::Warning,
            "the folder's log was superseded by a primary's dataset, or by what the server saved later: the server's own data stand",
        );
    }
    Ok(())
}

fn tell_given_up(bytes: u64) {
    if bytes > 0 {
        log(
            Level::Warning,
            &format!("{bytes} bytes of the unfinished write are not kept, because the disk has no room for them"),
        );
    }
}

/// The log goes on with what was recovered, except for this many commands. `is_exact`: none of them is missing from
/// memory.
fn serve_recovered(ctx: Ctx<'_>, is_exact: bool, errors: u64) -> Result<(), String> {
    if role_at_start(ctx)? == Role::Replica {
        // The role has changed while the log was replayed.
        role::role_changed(ctx, true);
        return Ok(());
    }
    cluster::fit_slots(ctx)?;
    if second_server::is_folding() {
        replaced::begin_anew(ctx).map_err(|(cause, _)| beside_log(ctx, &cause.to_string()))?;
        drop(end::stop(ctx));
        second_server::leave_skipped(&with(|module| module.folder.clone()).unwrap_or_default(), errors)?;
        exit_now(0);
    }
    if !is_exact {
        // From now on changes apply to what is there, and have nothing to do with what was left out.
        replaced::begin_anew(ctx)
            .map_err(|(reason, _)| format!("commands of the log were skipped, and it can't begin anew: {reason}"))?;
    }
    Ok(())
}

/// Brings back what a replica's folder holds, where that can't be written to.
fn recover_alone(ctx: Ctx<'_>, reason: String) -> Result<(), String> {
    log(Level::Warning, &format!("the replica's log can't go on: {reason}. What it holds is brought back, and served"));
    let opened = open_folder(LOCK_PATIENCE)?;
    let examined = recovery::examine(ctx, &opened)?;
    let (source, report) = recovery::recover(ctx, recovery::Source::Opened(Box::new(opened)), examined)?;
    points::reach(Point::Recovered);
    let recovery::Source::Opened(opened) = source else { return Err("the recovery's state was lost".into()) };
    let rest = Rest::new(opened.into_folder(), Origin::Folder).left_behind(ctx);
    with(|module| {
        module.recovered = Some(report);
        module.life = Life::Replica(rest);
        module.bases.ended(Err(reason));
    });
    Ok(())
}

/// The second server has no base: what to do about it.
fn beside_log(ctx: Ctx<'_>, reason: &str) -> String {
    let memory = ServerInfo::read(ctx, "memory").and_then(|info| info.text("used_memory_dataset"));
    let memory = memory.map_or(String::new(), |bytes| format!(", which takes {bytes} bytes in memory,"));
    format!(
        "{reason}. A node of a cluster starts with a base of its whole dataset{memory} for which there must be room beside its log"
    )
}

/// A node of a cluster cannot replay commands: a second server makes a base of them. Returns how many it has skipped,
/// too.
fn fold(ctx: Ctx<'_>, opened: OpenedFolder) -> Result<(OpenedFolder, u64), String> {
    if !ctx.flags().in_cluster() || !cluster::has_commands(&opened).map_err(|error| error.to_string())? {
        return Ok((opened, 0));
    }
    // The second server locks the folder.
    drop(opened);
    let folder = with(|module| module.folder.clone()).unwrap_or_default();
    let skipped = second_server::fold(ctx, &folder)?;
    Ok((open_folder(LOCK_PATIENCE)?, skipped))
}
