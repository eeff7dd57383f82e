//! The start of a server whose folder holds a log: the log is brought back, unless what the server has loaded is newer.

use super::descent::Origin;
use super::failing::fatal;
use super::opening::OpenedFolder;
use super::own_file::{Newer, OwnFile, origin_beside, was_cut};
use super::recover::begin_or_recover;
use super::rest::Rest;
use super::state::{Found, Life};
use crate::ffi::{CallMode, Ctx, Level, ReplyKind, ServerInfo, log};
use crate::module::role::{Role, role_at_start};
use crate::module::{cluster, config, server, with};

/// The server is about to serve its first client. What the folder holds replaces what the server has loaded.
pub(super) fn start(ctx: Ctx<'_>, found: Found) {
    let own = found.own;
    let slots = found.slots.clone();
    let outcome = role_at_start(ctx).and_then(|role| match role {
        Role::Primary => {
            let opened = newest(ctx, found, Role::Primary)?;
            let origin = origin_beside(&opened, own);
            begin_or_recover(ctx, opened, origin, Role::Primary)?;
            cluster::give_up_claims(ctx, &slots)
        }
        // What such a node has is its dump.
        Role::Replica if ctx.flags().in_cluster() && config::keeps_existing_log() => {
            if !found.opened.is_empty() {
                log(
                    Level::Warning,
                    "wbl.on-existing-log is keep, but the node is a replica of a cluster, which brings no log back: to have the folder's log, make the node a primary with CLUSTER FAILOVER TAKEOVER before it follows another one, and restart it",
                );
            }
            start_as_replica(ctx, found.opened, own)
        }
        Role::Replica => start_as_replica(ctx, newest(ctx, found, Role::Replica)?, own),
    });
    if let Err(reason) = outcome {
        fatal("the log can't be brought back, and the server does not start without it", &reason);
    }
}

/// The folder, with its log marked as superseded where it is older than what the server itself has loaded.
///
/// # Errors
/// It is unknown which of the two is newer.
fn newest(ctx: Ctx<'_>, found: Found, role: Role) -> Result<OpenedFolder, String> {
    let Found { mut opened, own, .. } = found;
    if config::keeps_existing_log() {
        if opened.is_superseded() {
            log(
                Level::Warning,
                "the folder's log is superseded, and brought back all the same, because wbl.on-existing-log is keep: what a primary, or the server by itself, has taken since is not in it. Set wbl.on-existing-log back to refuse",
            );
        }
        opened.reinstate();
        return Ok(opened);
    }
    // A file without data holds nothing that could be lost.
    let newer = opened.left().filter(|_| server::has_data(ctx)).map(|left| own.or_log(left));
    match newer {
        None | Some(Newer::Log) => {}
        // Its primary's data are what counts; the file may be a dump of the primary's, by the primary's clock.
        Some(Newer::Unknown) if role == Role::Replica => {}
        Some(Newer::Unknown) if !config::replaces_existing_log() && opened.left().is_some_and(was_cut) => {
            return Err(
                "a part of the log was cut (wbl repair), and the server has a data file of its own, so that nobody knows which of the two has more: set wbl.on-existing-log to keep to bring the log back, or to replace to continue with what the file holds".into(),
            );
        }
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

/// The server starts as a replica. What the folder holds is brought back, as the server's own AOF would be, and stays
/// until the primary sends its dataset. `own`: what the server itself has loaded.
///
/// # Errors
/// Why the dataset is incomplete; it must not be served.
fn start_as_replica(ctx: Ctx<'_>, opened: OpenedFolder, own: OwnFile) -> Result<(), String> {
    let has_log = !opened.is_empty() && !opened.is_superseded();
    let primary = if has_log && !ctx.flags().in_cluster() { own_primary(ctx) } else { None };
    let Some(primary) = primary else {
        // A superseded log may be all there is until the primary's dataset arrives.
        let origin = match () {
            () if opened.is_empty() => Origin::Folder,
            () if has_log => Origin::Lacking,
            () => origin_beside(&opened, own),
        };
        rest(ctx, Rest::new(opened.into_folder(), origin));
        return Ok(());
    };
    // Replicas load nothing for a module.
    if !replicate(ctx, "NO", "ONE") {
        log(
            Level::Warning,
            "the folder's log is not brought back, because the server has neither REPLICAOF nor SLAVEOF; it stays as it is",
        );
        rest(ctx, Rest::new(opened.into_folder(), Origin::Lacking));
        return Ok(());
    }
    begin_or_recover(ctx, opened, Origin::Folder, Role::Replica)?;
    // The server begins a history of its own for what it holds now, so that its primary sends a whole dataset.
    if !replicate(ctx, &primary.host, &primary.port) {
        return Err(format!("the server does not become a replica of {} {} again", primary.host, primary.port));
    }
    Ok(())
}

fn rest(ctx: Ctx<'_>, rest: Rest) {
    match rest.left_before_serving(ctx) {
        Ok(rest) => {
            with(|module| module.life = Life::Replica(rest));
            log(Level::Notice, "the server is a replica: the log rests");
        }
        Err((cause, _)) => fatal("the start has ended", &cause.to_string()),
    }
}

/// Whose replica the server is; a node of a cluster may not say yet.
struct Primary {
    host: String,
    port: String,
}

fn own_primary(ctx: Ctx<'_>) -> Option<Primary> {
    let info = ServerInfo::read(ctx, "replication")?;
    Some(Primary { host: info.text("master_host")?, port: info.text("master_port")? })
}

/// REPLICAOF, by the server's name for it.
fn replicate(ctx: Ctx<'_>, host: &str, port: &str) -> bool {
    ["REPLICAOF", "SLAVEOF"].into_iter().any(|command| {
        let reply = ctx.own().call(CallMode::Internal, command, [host.as_bytes(), port.as_bytes()]);
        reply.is_some_and(|reply| reply.kind() != ReplyKind::Error)
    })
}
