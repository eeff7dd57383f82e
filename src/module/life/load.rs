//! Loading the module.

use super::arrival::Arrival;
use super::base::Bases;
use super::begin::begin_log;
use super::behind::check_disabled_start;
use super::beside::Beside;
use super::descent::Origin;
use super::opening::{LOCK_PATIENCE, OpenedFolder, open_folder};
use super::own_file::{Child, OwnFile, OwnFiles, left_now, origin_beside};
use super::recover::begin_or_recover;
use super::rest::Rest;
use super::state::{Found, Life};
use super::visible::IfLost;
use super::{newer, role, unload};
use crate::core::calls::Calls;
use crate::core::capture::Capture;
use crate::core::client::Clients;
use crate::core::commit::Chooser;
use crate::core::delayed::Delayed;
use crate::core::dirty::DirtyKeys;
use crate::core::execution::{Replies, Running, UnitEnd};
use crate::core::lag::Lag;
use crate::core::notices::Notices;
use crate::core::time_outs::TimeOuts;
use crate::core::unit::Batch;
use crate::core::versions::Versions;
use crate::ffi::{
    Ctx, Level, check_descriptor_paths, declare_options, follow_events, forget_file_size_limit, log, offer_api,
    register_hooks, server_version, survive_file_size_limit, unregister_hooks,
};
use crate::log::{Lsn, Standing};
use crate::module::aof_folder::AofFolder;
use crate::module::backup::Backups;
use crate::module::config::{self, Setting};
use crate::module::disk::Disk;
use crate::module::history::History;
use crate::module::listening::Others;
use crate::module::looking::Looks;
use crate::module::moving::Moving;
use crate::module::own_aof::{self, OwnAof};
use crate::module::role::{Role, role_at_start};
use crate::module::shortage::Shortage;
use crate::module::waitaof::AofWaits;
use crate::module::{
    Counters, Iteration, Module, cluster, commands, cut_commands, homes, listed, names, notify, points, recovery,
    replace, second_server, server, with,
};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

/// The oldest server with what the module needs: holding replies from event callbacks.
const SERVER_VERSION_MIN: u32 = 0x0008_0100;

/// `loadmodule` or MODULE LOAD. `false` refuses; the reason is in the server's log.
pub fn load(ctx: Ctx<'_>, args: &[&[u8]]) -> bool {
    if ctx.flags().is_loading() {
        // Half of the server's dataset is there, and it cannot be replaced now.
        log(
            Level::Warning,
            "the module is not loaded: the server loads its data, and has come to a MODULE LOAD in its own append-only file. Load the module with loadmodule; a BGREWRITEAOF leaves the line out of the file",
        );
        return false;
    }
    if ctx.flags().is_inside_another() {
        log(
            Level::Warning,
            "the module is not loaded: the MODULE LOAD is part of a transaction or a script, the rest of which the log would not see",
        );
        return false;
    }
    match try_load(ctx, args) {
        Ok(()) => true,
        Err(reason) => {
            log(Level::Warning, &format!("the module is not loaded: {reason}"));
            // Joins the log's threads, if they were started.
            drop(replace(None));
            unregister_hooks(ctx);
            forget_file_size_limit();
            ctx.free_detached();
            false
        }
    }
}

fn try_load(ctx: Ctx<'_>, args: &[&[u8]]) -> Result<(), String> {
    check_version(server_version(ctx))?;
    ctx.create_detached();
    names::find(ctx)?;
    declare_options(ctx);
    config::register(ctx, args)?;
    // Where an AOF is loaded first events come later, see `follow_events`.
    let follows = |ctx: Ctx<'_>| homes::loads_commands(ctx) || follow_events(ctx);
    if !commands::register(ctx) || !register_hooks(ctx) || !follows(ctx) || !offer_api(ctx) {
        return Err("the server refused its commands or hooks".into());
    }
    survive_file_size_limit();
    let mut folder = PathBuf::from(config::text(Setting::Dir as usize));
    if folder.is_relative() {
        folder = std::env::current_dir().map_err(|error| format!("no current folder: {error}"))?.join(folder);
    }
    config::set_folder(&folder);
    server::check_rdb_version(ctx)?;
    check_descriptor_paths()
        .map_err(|error| format!("it reads and writes bases through /proc/self/fd, which does not work: {error}"))?;
    replace(Some(new_module(ctx, folder)?));
    newer::warn(ctx);
    cut_commands::warn(ctx);
    points::set_from_environment();
    notify::setting_changed(ctx);
    if !config::is_enabled() {
        stay_beside(ctx)?;
        log(Level::Notice, "loaded, not enabled");
        return Ok(());
    }
    let slots = cluster::own_slots(ctx)?;
    second_server::join_first()?;
    // On a replica, too: that a folder cannot be used must show now, and not when the replica is to take over.
    let opened = open_folder(if ctx.flags().is_starting() { LOCK_PATIENCE } else { Duration::ZERO })?;
    if ctx.flags().is_starting() {
        // The server loads its own files first.
        let own = OwnFile::look(ctx);
        with(|module| module.life = Life::Starting(Box::new(Found { opened, own, slots })));
        return Ok(());
    }
    load_into_running(ctx, opened)
}

/// The module is not enabled. The folder stays as it is until the server goes on without it.
///
/// # Errors
/// The server would lose what only the folder holds.
fn stay_beside(ctx: Ctx<'_>) -> Result<(), String> {
    let is_running = !ctx.flags().is_starting();
    let folder = with(|module| module.folder.clone()).unwrap_or_default();
    if !is_running {
        check_disabled_start(ctx, &folder)?;
    }
    // It, or a child of its, may have saved what it has gone on with before the module came.
    let has_gone_on = is_running && server::has_data(ctx) && has_gone_on(ctx, OwnFile::look(ctx));
    let own = if has_gone_on { None } else { Some(OwnFiles::look(ctx)) };
    let mut beside = Beside::new(&folder, own, left_now(ctx, Child::Unwatched));
    if is_running {
        // It already serves: clients may have sent changes in this iteration of the event loop.
        beside.mark_now(if server::follows_primary(ctx) {
            Standing::Superseded(None)
        } else if has_gone_on {
            left_now(ctx, Child::Unwatched)
        } else {
            Standing::Current
        });
    }
    with(|module| module.life = Life::Disabled(Rest::beside(beside)));
    Ok(())
}

/// Whether the server has changed what it has in this file. An AOF that is written has all of that; what was loaded
/// from it counts as changes.
fn has_gone_on(ctx: Ctx<'_>, own: OwnFile) -> bool {
    let has_all = matches!(own, OwnFile::Aof { .. }) && own_aof::is_written(ctx);
    !has_all && server::has_unsaved_changes(ctx)
}

/// The server changes for the first time what it had loaded beside a log, and thereby goes on without the log.
pub fn dataset_changed(ctx: Ctx<'_>) {
    let standing = left_now(ctx, Child::Unwatched);
    with(|module| module.life.resting_mut().map(|rest| rest.leave(standing)));
}

/// The server begins to save its own file, or has forked a child that may.
pub fn save_begins(ctx: Ctx<'_>) {
    settle_child(ctx);
    with(|module| module.life.resting_mut().map(Rest::save_begins));
}

/// A child of the server's has ended.
pub fn settle_child(ctx: Ctx<'_>) {
    if note_older_save(ctx) {
        return;
    }
    if with(|module| module.life.resting_mut().is_some_and(|rest| rest.has_child())) == Some(true) {
        let own = OwnFiles::look(ctx);
        with(|module| module.life.resting_mut().map(|rest| rest.settle_child(own)));
    }
}

/// Notes what was saved of a memory that has less than the log, if something was.
pub(super) fn note_older_save(ctx: Ctx<'_>) -> bool {
    if with(|module| module.life.resting_mut().is_some_and(|rest| rest.awaits_older_save())) != Some(true) {
        return false;
    }
    let now = left_now(ctx, Child::GoesOn);
    with(|module| module.life.resting_mut().map(|rest| rest.note_older_save(&now)));
    true
}

/// Where the data of a running server come from: from its own file, as far as anybody knows, unless they have changed
/// since.
fn origin_of_memory(ctx: Ctx<'_>, opened: &OpenedFolder) -> Origin {
    let own = OwnFile::look(ctx);
    if server::follows_primary(ctx) || !own.may_hold_data() || has_gone_on(ctx, own) {
        return Origin::Unknown;
    }
    origin_beside(opened, own)
}

/// MODULE LOAD.
fn load_into_running(ctx: Ctx<'_>, opened: OpenedFolder) -> Result<(), String> {
    let has_data = server::has_data(ctx);
    let arrival = Arrival::new(&opened, has_data);
    let recovers = arrival.recovers;
    with(|module| module.arrival = Some(arrival));
    let origin = if has_data { origin_of_memory(ctx, &opened) } else { Origin::Unknown };
    if role_at_start(ctx)? == Role::Replica {
        let rest = Rest::new(opened.into_folder(), origin);
        return role::rest_as_replica(ctx, rest).map_err(|(cause, _)| cause.into());
    }
    if has_data {
        return begin_log(ctx, Rest::new(opened.into_folder(), origin), IfLost::ServesOn)
            .map_err(|(cause, _)| cause.into());
    }
    if recovers && own_aof::is_wanted(ctx) {
        return Err(
            "the folder holds a log, and the server has an append-only file of its own on, which would take the MODULE LOAD for a change of the dataset once the log is brought back in it: load the module with loadmodule, or turn the file off (CONFIG SET appendonly no) until the module is loaded".into(),
        );
    }
    let begun = begin_or_recover(ctx, opened, Origin::Unknown, Role::Primary);
    if begun.is_err() && recovers {
        unload::leave_clients(ctx);
        if server::has_data(ctx) {
            // Half of a recovery is not a dataset; the server had none before.
            recovery::empty_dataset(ctx)?;
        }
    }
    begun
}

fn new_module(ctx: Ctx<'_>, folder: PathBuf) -> Result<Module, String> {
    let mut clients = Clients::default();
    listed::clients(ctx)?.iter().for_each(|listed| {
        clients.insert(listed.id);
    });
    Ok(Module {
        life: Life::Disabled(Rest::unopened()),
        folder,
        aof_folder: AofFolder::of(ctx),
        capture: Capture::default(),
        batch: Batch::new(Lsn::ZERO),
        dirty: DirtyKeys::default(),
        versions: Versions::default(),
        notices: Notices::default(),
        others: Others::default(),
        running: Running::default(),
        replies: Replies::default(),
        unheld: Vec::new(),
        time_outs: TimeOuts::default(),
        unit_end: UnitEnd::default(),
        iteration: Iteration::default(),
        commits: Chooser::default(),
        scripts: VecDeque::new(),
        readers: Calls::default(),
        aof_waits: AofWaits::default(),
        looks: Looks::at_start(),
        collecting: None,
        clients,
        homes: homes::of_server(ctx),
        delayed: Delayed::default(),
        moving: Moving::default(),
        server: server::Facts::ask(ctx)?,
        paused: false,
        arrival: None,
        own_aof: OwnAof::Settled,
        bases: Bases::default(),
        disk: Disk::default(),
        backups: Backups::default(),
        shortage: Shortage::default(),
        history: History::default(),
        counters: Counters::default(),
        lag: Lag::default(),
        units_handed_over: 0,
        explained: None,
        recovered: None,
    })
}

/// Whether the module can work on a server of this version, 0x00MMmmpp.
fn check_version(version: u32) -> Result<(), String> {
    if version >= SERVER_VERSION_MIN {
        return Ok(());
    }
    let [_, major, minor, patch] = version.to_be_bytes();
    Err(format!("it needs Valkey 8.1 or later, and this is {major}.{minor}.{patch}"))
}

#[cfg(test)]
mod tests {
    use super::check_version;

    #[test]
    fn servers_before_8_1_are_refused() {
        for old in [0, 0x0007_0204, 0x0008_0000, 0x0008_00ff] {
            assert!(check_version(old).is_err(), "{old:#x}");
        }
        for supported in [0x0008_0100, 0x0008_0101, 0x0009_0000, 0x0009_0102, 0x000a_0000] {
            assert_eq!(check_version(supported), Ok(()), "{supported:#x}");
        }
        let refusal = check_version(0x0008_0002).expect_err("8.0 is too old");
        assert_eq!(refusal, "it needs Valkey 8.1 or later, and this is 8.0.2");
    }
}
