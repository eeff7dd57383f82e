//! Server events.

use super::api;
use super::context::Ctx;
use super::handlers::handlers;
use super::names::{self, Translated};
use super::shells::{arguments, guard};
use std::ffi::{CStr, c_void};
use valkey_module::raw;

const COMMAND_SUCCEEDED: u64 = api::WBL_EVENT_COMMAND_RESULT_SUCCESS as u64;
const COMMAND_FAILED: u64 = api::WBL_EVENT_COMMAND_RESULT_FAILURE as u64;

/// A command that has run.
pub struct CommandResult<'a> {
    /// Its client.
    pub client: u64,
    /// The server counted changes of the dataset.
    pub changed: bool,
    /// It was answered with an error.
    pub failed: bool,
    raw: &'a api::WblCommandResultInfo,
    /// The command's own name, where it was sent by another.
    name: Option<Box<[u8]>>,
}

impl<'a> CommandResult<'a> {
    /// # Safety
    /// `raw` is what the server passed with a command's result, and lives as long as its callback.
    unsafe fn new(raw: &'a api::WblCommandResultInfo, failed: bool) -> CommandResult<'a> {
        let mut result = CommandResult { client: raw.client_id, changed: raw.dirty > 0, failed, raw, name: None };
        // The server may have put a command's own name in place of the one that was sent.
        let name = result.args().first().map_or(Translated::Same, |name| names::own(name));
        result.name = name.replacement().filter(|name| !name.is_empty());
        result
    }

    /// Its arguments, with its own name.
    pub fn args(&self) -> Vec<&[u8]> {
        // SAFETY: `new` has the server's information, whose arguments live as long as the callback.
        let mut args = unsafe { arguments(self.raw.argv.cast(), self.raw.argc) };
        if let (Some(name), Some(place)) = (&self.name, args.first_mut()) {
            *place = name;
        }
        args
    }
}

pub(super) unsafe extern "C" fn server_event(
    ctx: *mut raw::ValkeyModuleCtx,
    event: raw::ValkeyModuleEvent,
    sub: u64,
    data: *mut c_void,
) {
    guard("the server event callback", || {
        // SAFETY: the server passes a valid context for the time of the callback.
        let Some(ctx) = (unsafe { Ctx::from_raw(ctx) }) else { return };
        match event.id {
            raw::VALKEYMODULE_EVENT_EVENTLOOP if sub == raw::VALKEYMODULE_SUBEVENT_EVENTLOOP_BEFORE_SLEEP => {
                handlers().before_sleep(ctx)
            }
            raw::VALKEYMODULE_EVENT_EVENTLOOP if sub == raw::VALKEYMODULE_SUBEVENT_EVENTLOOP_AFTER_SLEEP => {
                handlers().after_sleep(ctx)
            }
            raw::VALKEYMODULE_EVENT_FLUSHDB if sub == raw::VALKEYMODULE_SUBEVENT_FLUSHDB_END => {
                // SAFETY: for this event the server passes a FlushInfo of at least version 1.
                let dbnum = unsafe { &*data.cast::<raw::ValkeyModuleFlushInfo>() }.dbnum;
                handlers().flushed(ctx, u32::try_from(dbnum).ok());
            }
            raw::VALKEYMODULE_EVENT_SWAPDB => {
                // SAFETY: for this event the server passes a SwapDbInfo of at least version 1.
                databases_swapped(ctx, unsafe { &*data.cast() });
            }
            raw::VALKEYMODULE_EVENT_LOADING => handlers().loading(ctx, loading_phase(sub)),
            raw::VALKEYMODULE_EVENT_CLIENT_CHANGE => {
                // SAFETY: for this event the server passes a ClientInfo of at least version 1.
                client_changed(sub, unsafe { &*data.cast::<raw::ValkeyModuleClientInfo>() }.id);
            }
            raw::VALKEYMODULE_EVENT_MODULE_CHANGE => {
                // SAFETY: for this event the server passes a ModuleChange of at least version 1, with a NUL-terminated
                // name.
                unsafe { module_changed(ctx, sub, &*data.cast()) };
            }
            COMMAND_SUCCEEDED | COMMAND_FAILED => {
                // SAFETY: for these events the server passes a CommandResultInfo of at least version 1, with `argc`
                // live arguments.
                unsafe { command_done(ctx, &*data.cast(), event.id == COMMAND_FAILED) };
            }
            raw::VALKEYMODULE_EVENT_CONFIG => {
                // SAFETY: for this event the server passes a ConfigChange of at least version 1, with that many names.
                handlers().config_changed(ctx, &unsafe { changed_settings(&*data.cast()) });
            }
            raw::VALKEYMODULE_EVENT_PRIMARY_LINK_CHANGE => {
                handlers().primary_link_changed(sub == raw::VALKEYMODULE_SUBEVENT_PRIMARY_LINK_UP);
            }
            raw::VALKEYMODULE_EVENT_PERSISTENCE if is_own_save(sub) => handlers().save_begins(ctx),
            raw::VALKEYMODULE_EVENT_FORK_CHILD if sub == raw::VALKEYMODULE_SUBEVENT_FORK_CHILD_BORN => {
                handlers().save_begins(ctx);
            }
            raw::VALKEYMODULE_EVENT_FORK_CHILD => handlers().child_gone(ctx),
            raw::VALKEYMODULE_EVENT_SHUTDOWN => handlers().shut_down(ctx),
            raw::VALKEYMODULE_EVENT_REPLICATION_ROLE_CHANGED => {
                handlers().role_changed(ctx, sub == raw::VALKEYMODULE_EVENT_REPLROLECHANGED_NOW_REPLICA);
            }
            _ => {}
        }
    });
}

fn databases_swapped(ctx: Ctx<'_>, info: &raw::ValkeyModuleSwapDbInfo) {
    if let (Ok(first), Ok(second)) = (u32::try_from(info.dbnum_first), u32::try_from(info.dbnum_second)) {
        handlers().databases_swapped(ctx, first, second);
    }
}

/// A module was loaded or unloaded.
///
/// # Safety
///
/// `change` has a NUL-terminated name.
unsafe fn module_changed(ctx: Ctx<'_>, sub: u64, change: &raw::ValkeyModuleModuleChange) {
    // SAFETY: the caller vouches for the name.
    let name = unsafe { CStr::from_ptr(change.module_name) };
    let is_unloaded = sub == raw::VALKEYMODULE_SUBEVENT_MODULE_UNLOADED;
    handlers().modules_changed(ctx, is_unloaded.then(|| name.to_bytes()));
}

fn client_changed(sub: u64, client: u64) {
    if sub == raw::VALKEYMODULE_SUBEVENT_CLIENT_CHANGE_DISCONNECTED {
        handlers().client_gone(client);
    } else {
        handlers().client_came(client);
    }
}

/// A command has run.
///
/// # Safety
/// `info` is what the server passed with a command's result, with `argc` live arguments.
unsafe fn command_done(ctx: Ctx<'_>, info: &api::WblCommandResultInfo, failed: bool) {
    // Clients of modules' calls may have the id of a connected one.
    if info.is_module_client == 0 {
        // SAFETY: see the function's contract.
        handlers().command_done(ctx, &unsafe { CommandResult::new(info, failed) });
    }
}

/// The names of the settings that have changed.
///
/// # Safety
/// `change` is what the server passed with the event: it holds `num_changes` NUL-terminated names.
unsafe fn changed_settings(change: &raw::ValkeyModuleConfigChange) -> Vec<&[u8]> {
    let name = |index| {
        // SAFETY: see the function's contract.
        unsafe { CStr::from_ptr(*change.config_names.add(index)) }
    };
    (0..change.num_changes as usize).map(|index| name(index).to_bytes()).collect()
}

/// Whether the server's main process begins to save. A child's events arrive in the child.
fn is_own_save(sub: u64) -> bool {
    let starts =
        [raw::VALKEYMODULE_SUBEVENT_PERSISTENCE_SYNC_RDB_START, raw::VALKEYMODULE_SUBEVENT_PERSISTENCE_SYNC_AOF_START];
    starts.contains(&sub)
}

/// A phase of loading a whole dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadingPhase {
    /// It begins.
    Started,
    /// It has ended well.
    Ended,
    /// It has failed.
    Failed,
}

fn loading_phase(sub: u64) -> LoadingPhase {
    match sub {
        raw::VALKEYMODULE_SUBEVENT_LOADING_ENDED => LoadingPhase::Ended,
        raw::VALKEYMODULE_SUBEVENT_LOADING_FAILED => LoadingPhase::Failed,
        _ => LoadingPhase::Started,
    }
}
