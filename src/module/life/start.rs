//! The start of a server whose folder holds a log: that is brought back, unless what the server has loaded is newer.

use super::begin::{Known, begin_log, write};
use super::descent::Origin;
use super::failing::fatal;
use super::opening::{LOCK_PATIENCE, OpenedFolder, open_folder};
use super::own_file::{Newer, origin_beside};
use super::rest::Rest;
use super::state::{Found, IfLost, Life, Visible};
use super::{checkpoint, end, replaced, role};
use crate::ffi::{Ctx, Level, ServerInfo, exit_now, log};
use crate::module::points::{self, Point};
use crate::module::role::{Role, role_at_start};
use crate::module::waits::unix_ms;
use crate::module::{cluster, config, recovery, second_server, server, with};

/// The server is about to serve its first client. What the folder holds takes the place of what the server has loaded.
pub(super) fn start(ctx: Ctx<'_>, found: Found) {
    let own = found.own;
    let outcome = role_at_start(ctx).and_then(|role| match role {
        Role::Primary => {
            let opened = newest(ctx, found, Role::Primary)?;
            let origin = origin_beside(&opened, own);
            begin_or_recover(ctx, opened, origin, Role::Primary)
        }
        // What such a node has is its dump.
        Role::Replica if ctx.flags().in_cluster() => {
            if config::keeps_existing_log() && !found.opened.is_empty() {
                log(
                    Level::Warning,
                    "wbl.on-existing-log is keep, but the node is a replica of a cluster, which brings no log back: to have the folder's log, make the node a primary with CLUSTER FAILOVER TAKEOVER before it follows another one, and restart it",
                );
            }
            role::start_as_replica(ctx, found.opened, own)
        }
        Role::Replica => role::start_as_replica(ctx, newest(ctx, found, Role::Replica)?, own),
    });
    if let Err(reason) = outcome {
        fatal("the log can't be brought back, and the server does not start without it", &reason);
    }
}

/// The folder, with its log marked as superseded where that is older than what the server has loaded by itself.
///
/// # Errors
/// Nobody knows which of the two is newer.
fn newest(ctx: Ctx<'_>, found: Found, role: Role) -> Result<OpenedFolder, String> {
    let Found { mut opened, own } = found;
    if config::keeps_existing_log() {
        if opened.is_superseded() {
            log(
                Level::Warning,
                "the folder's log is superseded, and brought back all the same, as wbl.on-existing-log is keep: what a primary, or the server by itself, has taken since is not in it. Set wbl.on-existing-log back to refuse",
            );
        }
        opened.reinstate();
        return Ok(opened);
    }
    // A file without data holds nothing that would be missed.
    let newer = opened.left().filter(|_| server::has_data(ctx)).map(|left| own.or_log(left));
    match newer {
        None | Some(Newer::Log) => {}
        // Its primary's data are what counts; the file may be a dump of the primary's, by the primary's clock.
        Some(Newer::Unknown) if role == Role::Replica => {}
        Some(Newer::Unknown) if !config::replaces_existing_log() => {
            return Err(
                "the server's own data file was changed since it went on without the log, but by its own time it is older than that, or may be what a child was saving then, so that nobody knows which of the two is newer: move that file away or set wbl.on-existing-log to keep to bring the log back, or set it to replace to go on with what the file holds".into(),
            );
        }
        Some(Newer::Unknown | Newer::OwnFile) => {
            opened.supersede().map_err(|error| error.to_string())?;
        }
    }
    Ok(opened)
}

/// Begins a log on a server that is to recover what the folder holds, or has nothing to lose. `origin`: of what it has
/// beside a log that is superseded. `role`: what the server is to be afterwards; a replica serves also where its log
/// can't go on.
pub(super) fn begin_or_recover(ctx: Ctx<'_>, opened: OpenedFolder, origin: Origin, role: Role) -> Result<(), String> {
    if opened.is_empty() || opened.is_superseded() {
        let is_superseded = opened.is_superseded();
        begin_log(ctx, Rest::new(opened.into_folder(), origin), None, IfLost::ServesOn)
            .map_err(|(reason, _)| reason)?;
        if is_superseded {
            log(
                Level::Warning,
                "the folder's log was superseded by a primary's dataset, or by what the server saved later: the server's own data stand",
            );
        }
        return Ok(());
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
    // Whether the folder can be written to is found before what it holds is loaded.
    let prepared = match opened.prepare(unix_ms()) {
        Err(error) if role == Role::Replica => return recover_alone(ctx, error.to_string()),
        prepared => prepared.map_err(|error| error.to_string())?,
    };
    if prepared.given_up_bytes() > 0 {
        log(
            Level::Warning,
            &format!(
                "{} bytes of the unfinished write are not kept, as the disk has no room for them",
                prepared.given_up_bytes()
            ),
        );
    }
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
    write(ctx, writer, Known::ask(ctx)?, Visible::Yes, None).map_err(|(reason, _)| reason)?;
    if role_at_start(ctx)? == Role::Replica {
        // The role has changed while the log was replayed.
        role::role_changed(ctx, true);
        return Ok(());
    }
    cluster::fit_slots(ctx)?;
    if second_server::is_folding() {
        replaced::begin_anew(ctx).map_err(|(reason, _)| beside_log(ctx, &reason))?;
        drop(end::stop(ctx));
        second_server::leave_skipped(&with(|module| module.folder.clone()).unwrap_or_default(), report.errors)?;
        exit_now(0);
    }
    if !is_exact {
        // What happens from now on happens to what is there, and has nothing to do with what was left out.
        replaced::begin_anew(ctx)
            .map_err(|(reason, _)| format!("commands of the log were skipped, and it can't begin anew: {reason}"))?;
    }
    Ok(())
}

/// Brings back what the folder of a replica holds, which can't be written to.
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

/// The second server has no base: what that takes.
fn beside_log(ctx: Ctx<'_>, reason: &str) -> String {
    let memory = ServerInfo::read(ctx, "memory").and_then(|info| info.text("used_memory_dataset"));
    let memory = memory.map_or(String::new(), |bytes| format!(", which takes {bytes} bytes in memory,"));
    format!(
        "{reason}. A node of a cluster starts with a base of its whole dataset{memory} for which there must be room beside its log"
    )
}

/// A node of a cluster cannot replay commands: has a second server make a base of them. Returns how many it has
/// skipped, too.
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
