//! The callbacks that the server calls: a few lines each, no decisions. Each catches panics; as every callback may
//! stand on the way to an acknowledgement, a panic ends the process rather than let a reply go on a broken state.

use super::api;
use super::call::{Answer, OwnedString, Reply, take_own_call};
use super::client::User;
use super::context::{Ctx, detached};
use super::errors::find_optional_functions;
use super::info::InfoWriter;
use super::load::ChildResult;
use super::names::{self, Translated};
use super::registration::{PRIVATE_EVENT, answer_key_positions};
use super::settings;
use crate::module::{blocking, commands, config, hooks, life};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use valkey_module::raw;

/// Runs a callback's body; a panic is logged and ends the process.
pub(super) fn guard<T>(name: &str, body: impl FnOnce() -> T) -> T {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(value) => value,
        Err(_) => {
            super::log(super::Level::Warning, &format!("a panic in {name}; ending the process"));
            std::process::abort()
        }
    }
}

pub(super) const OK: c_int = raw::VALKEYMODULE_OK as c_int;
pub(super) const ERR: c_int = raw::VALKEYMODULE_ERR as c_int;

/// The bytes of a server string.
///
/// # Safety
/// `string` is a live string that nothing changes during `'a`.
pub(super) unsafe fn bytes<'a>(string: *const raw::ValkeyModuleString) -> &'a [u8] {
    let mut len = 0;
    // SAFETY: the string is live (caller) and `len` a live integer.
    let pointer = unsafe { api!(ValkeyModule_StringPtrLen)(string, &raw mut len) };
    // SAFETY: the server returned that many bytes of the string (caller: live and unchanged).
    unsafe { std::slice::from_raw_parts(pointer.cast(), len) }
}

/// The bytes of a command's arguments.
///
/// # Safety
/// `argv` holds `argc` live strings that nothing changes during `'a`.
unsafe fn arguments<'a>(argv: *mut *mut raw::ValkeyModuleString, argc: c_int) -> Vec<&'a [u8]> {
    // SAFETY: see the function's contract.
    (0..usize::try_from(argc).unwrap_or(0)).map(|index| unsafe { bytes(*argv.add(index)) }).collect()
}

/// What a client may run of a command and the module's command that would run it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Not even the command: the server refuses it.
    None,
    /// The command alone.
    Own,
    /// Both.
    Both,
}

/// A command in the command filter, before it runs.
pub struct Filter {
    raw: *mut raw::ValkeyModuleCommandFilterCtx,
    /// The command's own name, where it was sent by another; empty when the server knows no command by the name that
    /// was sent.
    name: Option<Box<[u8]>>,
}

impl Filter {
    fn new(raw: *mut raw::ValkeyModuleCommandFilterCtx) -> Filter {
        let mut filter = Filter { raw, name: None };
        filter.name = names::own(filter.arg(0)).replacement();
        filter
    }

    /// The client that sent it (a script's own for its commands).
    pub fn client_id(&self) -> u64 {
        // SAFETY: the filter context is the running callback's (only `filter` makes one).
        unsafe { api!(ValkeyModule_CommandFilterGetClientId)(self.raw) }
    }

    /// The number of arguments, with the command's name.
    pub fn len(&self) -> usize {
        // SAFETY: as above.
        usize::try_from(unsafe { api!(ValkeyModule_CommandFilterArgsCount)(self.raw) }).unwrap_or(0)
    }

    /// An argument; empty when there is none at the index. The first is the command's own name, whatever the server
    /// calls it.
    pub fn arg(&self, index: usize) -> &[u8] {
        if let (Some(name), 0) = (&self.name, index) {
            return name;
        }
        let Ok(index) = c_int::try_from(index) else { return &[] };
        // SAFETY: as above; an index behind the end is answered with null.
        let string = unsafe { api!(ValkeyModule_CommandFilterArgGet)(self.raw, index) };
        if string.is_null() {
            return &[];
        }
        // SAFETY: the argument lives while the filter runs, and `insert`, which could move it, takes `self` by value.
        unsafe { bytes(string) }
    }

    /// Whether the client's user may run the command, and `name NAME ARG...` as well.
    pub fn rights(&self, ctx: Ctx<'_>, name: &CStr) -> Rights {
        let Some(user) = User::of(ctx, self.client_id()) else { return Rights::Own };
        let name = OwnedString::new(name.to_bytes());
        // SAFETY: the filter context is the running callback's; indices below the count have an argument.
        let arg = |index| unsafe { api!(ValkeyModule_CommandFilterArgGet)(self.raw, index) };
        let count = i32::try_from(self.len()).unwrap_or(0);
        let mut argv: Vec<_> = std::iter::once(name.as_raw()).chain((0..count).map(arg)).collect();
        match argv.get_mut(1..).is_some_and(|own| user.may_run(own)) {
            false => Rights::None,
            true if user.may_run(&mut argv) => Rights::Both,
            true => Rights::Own,
        }
    }

    /// Replaces an argument.
    pub fn replace(self, index: usize, with: &[u8]) {
        let Ok(index) = c_int::try_from(index) else { return };
        let string = OwnedString::new(with);
        // SAFETY: the filter context is valid; the server checks the index and takes over the reference when it is one,
        // so that it is not dropped here.
        if unsafe { api!(ValkeyModule_CommandFilterArgReplace)(self.raw, index, string.as_raw()) } == OK {
            std::mem::forget(string);
        }
    }

    /// Inserts an argument; 0 puts it before the command's name.
    pub fn insert(self, index: usize, with: &CStr) {
        let Ok(index) = c_int::try_from(index) else { return };
        let string = OwnedString::new(with.to_bytes());
        // SAFETY: the filter context is valid; the server checks the index and takes over the reference when it is one,
        // so that it is not dropped here.
        if unsafe { api!(ValkeyModule_CommandFilterArgInsert)(self.raw, index, string.as_raw()) } == OK {
            std::mem::forget(string);
        }
    }
}

pub(super) unsafe extern "C" fn filter(raw: *mut raw::ValkeyModuleCommandFilterCtx) {
    guard("the command filter", || {
        if !take_own_call()
            && let Some(ctx) = detached()
        {
            hooks::command_filter(ctx, Filter::new(raw));
        }
    });
}

pub(super) unsafe extern "C" fn keyspace_event(
    ctx: *mut raw::ValkeyModuleCtx,
    class: c_int,
    event: *const c_char,
    key: *mut raw::ValkeyModuleString,
) -> c_int {
    guard("the keyspace event callback", || {
        // SAFETY: the server passes a valid context, a NUL-terminated event name and a live key for the time of the
        // callback.
        let (ctx, event, key) = unsafe { (Ctx::from_raw(ctx), CStr::from_ptr(event), bytes(key)) };
        let Some(ctx) = ctx else { return };
        if class == PRIVATE_EVENT {
            hooks::private_event(ctx);
        } else if class & raw::VALKEYMODULE_NOTIFY_LOADED != 0 {
            hooks::key_loaded(ctx, key);
        } else {
            let removed_by_server = class & (raw::VALKEYMODULE_NOTIFY_EXPIRED | raw::VALKEYMODULE_NOTIFY_EVICTED) != 0;
            hooks::key_changed(ctx, class.cast_unsigned(), event.to_bytes(), key, removed_by_server);
        }
    });
    OK
}

pub(super) unsafe extern "C" fn noted_event(
    ctx: *mut raw::ValkeyModuleCtx,
    class: c_int,
    event: *const c_char,
    key: *mut raw::ValkeyModuleString,
) -> c_int {
    guard("the keyspace event callback", || {
        // SAFETY: the server passes a valid context, a NUL-terminated event name and a live key for the time of the
        // callback.
        let (ctx, event, key) = unsafe { (Ctx::from_raw(ctx), CStr::from_ptr(event), bytes(key)) };
        if let Some(ctx) = ctx {
            hooks::key_noted(ctx, class.cast_unsigned(), event.to_bytes(), key);
        }
    });
    OK
}

/// Wakes the event loop; what there is to do is done before it sleeps again.
pub(super) unsafe extern "C" fn woken(_data: *mut c_void) {}

pub(super) unsafe extern "C" fn unit_end(ctx: *mut raw::ValkeyModuleCtx, _data: *mut c_void) {
    // SAFETY: the server passes a valid context for the time of the callback.
    guard("the unit-end job", || unsafe { Ctx::from_raw(ctx) }.map(hooks::unit_end));
}

const COMMAND_SUCCEEDED: u64 = api::WBL_EVENT_COMMAND_RESULT_SUCCESS as u64;
const COMMAND_FAILED: u64 = api::WBL_EVENT_COMMAND_RESULT_FAILURE as u64;

/// A command that has run.
pub struct CommandResult<'a> {
    /// Whose it was.
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
                hooks::before_sleep(ctx)
            }
            raw::VALKEYMODULE_EVENT_FLUSHDB if sub == raw::VALKEYMODULE_SUBEVENT_FLUSHDB_END => {
                // SAFETY: for this event the server passes a FlushInfo of at least version 1.
                let info = unsafe { &*data.cast::<raw::ValkeyModuleFlushInfo>() };
                hooks::flushed(ctx, u32::try_from(info.dbnum).ok());
            }
            raw::VALKEYMODULE_EVENT_SWAPDB => {
                // SAFETY: for this event the server passes a SwapDbInfo of at least version 1.
                let info = unsafe { &*data.cast::<raw::ValkeyModuleSwapDbInfo>() };
                if let (Ok(first), Ok(second)) = (u32::try_from(info.dbnum_first), u32::try_from(info.dbnum_second)) {
                    hooks::databases_swapped(ctx, first, second);
                }
            }
            raw::VALKEYMODULE_EVENT_LOADING => hooks::loading(ctx, loading_phase(sub)),
            raw::VALKEYMODULE_EVENT_CLIENT_CHANGE => {
                // SAFETY: for this event the server passes a ClientInfo of at least version 1.
                let client = unsafe { &*data.cast::<raw::ValkeyModuleClientInfo>() }.id;
                if sub == raw::VALKEYMODULE_SUBEVENT_CLIENT_CHANGE_DISCONNECTED {
                    hooks::client_gone(client);
                } else {
                    hooks::client_came(client);
                }
            }
            raw::VALKEYMODULE_EVENT_MODULE_CHANGE => hooks::modules_changed(ctx),
            COMMAND_SUCCEEDED | COMMAND_FAILED => {
                // SAFETY: for these events the server passes a CommandResultInfo of at least version 1, with `argc`
                // live arguments.
                let info = unsafe { &*data.cast::<api::WblCommandResultInfo>() };
                // Clients of modules' calls may have the id of a connected one.
                if info.is_module_client == 0 {
                    // SAFETY: as above.
                    hooks::command_done(ctx, &unsafe { CommandResult::new(info, event.id == COMMAND_FAILED) });
                }
            }
            raw::VALKEYMODULE_EVENT_CONFIG => {
                // SAFETY: for this event the server passes a ConfigChange of at least version 1, which holds
                // `num_changes` NUL-terminated names.
                let names: Vec<&[u8]> = unsafe {
                    let change = &*data.cast::<raw::ValkeyModuleConfigChange>();
                    (0..change.num_changes as usize)
                        .map(|index| CStr::from_ptr(*change.config_names.add(index)).to_bytes())
                        .collect()
                };
                life::config_changed(ctx, &names);
            }
            raw::VALKEYMODULE_EVENT_PRIMARY_LINK_CHANGE if sub == raw::VALKEYMODULE_SUBEVENT_PRIMARY_LINK_UP => {
                life::primary_link_up();
            }
            raw::VALKEYMODULE_EVENT_SHUTDOWN => life::shut_down(ctx),
            raw::VALKEYMODULE_EVENT_REPLICATION_ROLE_CHANGED => {
                life::role_changed(ctx, sub == raw::VALKEYMODULE_EVENT_REPLROLECHANGED_NOW_REPLICA);
            }
            _ => {}
        }
    });
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

pub(super) unsafe extern "C" fn command(
    ctx: *mut raw::ValkeyModuleCtx,
    argv: *mut *mut raw::ValkeyModuleString,
    argc: c_int,
) -> c_int {
    guard("a command", || {
        // SAFETY: the server passes a valid context and `argc` live arguments for the time of the callback.
        let Some(ctx) = (unsafe { Ctx::from_raw(ctx) }) else { return };
        // SAFETY: as above.
        if unsafe { !answer_key_positions(ctx, argv, argc) } {
            // SAFETY: as above.
            let mut args = unsafe { arguments(argv, argc) };
            let wrapped =
                args.get(1).filter(|_| commands::is_wrapper(args[0])).map_or(Translated::Same, |name| names::own(name));
            let wrapped = wrapped.replacement();
            if let (Some(name), Some(place)) = (&wrapped, args.get_mut(1)) {
                *place = name;
            }
            commands::run(ctx, &args);
        }
    });
    OK
}

pub(super) unsafe extern "C" fn blocked_reply(
    ctx: *mut raw::ValkeyModuleCtx,
    argv: *mut *mut raw::ValkeyModuleString,
    argc: c_int,
) -> c_int {
    guard("a blocked command's reply", || {
        // SAFETY: the server passes a valid context and the command's arguments for the time of the callback.
        if let Some(ctx) = unsafe { Ctx::from_raw(ctx) } {
            // SAFETY: as above.
            commands::blocked_reply(ctx, &unsafe { arguments(argv, argc) });
        }
    });
    OK
}

pub(super) unsafe extern "C" fn blocked_timeout(
    ctx: *mut raw::ValkeyModuleCtx,
    argv: *mut *mut raw::ValkeyModuleString,
    argc: c_int,
) -> c_int {
    guard("a blocked command's time-out", || {
        // SAFETY: the server passes a valid context and the command's arguments for the time of the callback.
        if let Some(ctx) = unsafe { Ctx::from_raw(ctx) } {
            // SAFETY: as above.
            commands::blocked_timeout(ctx, &unsafe { arguments(argv, argc) });
        }
    });
    OK
}

pub(super) unsafe extern "C" fn blocked_answer(
    ctx: *mut raw::ValkeyModuleCtx,
    _argv: *mut *mut raw::ValkeyModuleString,
    _argc: c_int,
) -> c_int {
    guard("a blocked client's answer", || {
        // SAFETY: the server passes a valid context; the private data is an `Answer`, which lives until `free_answer`,
        // or null.
        let (ctx, answer) = unsafe {
            let answer = api!(ValkeyModule_GetBlockedClientPrivateData)(ctx);
            (Ctx::from_raw(ctx), Answer::borrow_raw(answer))
        };
        if let (Some(ctx), Some(answer)) = (ctx, answer) {
            answer.send(ctx);
        }
    });
    OK
}

pub(super) unsafe extern "C" fn free_answer(_ctx: *mut raw::ValkeyModuleCtx, answer: *mut c_void) {
    // SAFETY: the server passes the private data, an `Answer`, once.
    unsafe { Answer::free_raw(answer) };
}

pub(super) unsafe extern "C" fn blocked_left(
    ctx: *mut raw::ValkeyModuleCtx,
    _blocked: *mut raw::ValkeyModuleBlockedClient,
) {
    // SAFETY: the server passes a valid context for the time of the callback.
    guard("a blocked client's leave", || unsafe { Ctx::from_raw(ctx) }.map(|ctx| blocking::left(ctx.client_id())));
}

pub(super) unsafe extern "C" fn promise_kept(
    ctx: *mut raw::ValkeyModuleCtx,
    reply: *mut raw::ValkeyModuleCallReply,
    client: *mut c_void,
) {
    guard("a blocked command's reply", || {
        // SAFETY: the server passes a valid context for the time of the callback, and hands the reply over.
        if let (Some(ctx), Some(reply)) = unsafe { (Ctx::from_raw(ctx), Reply::from_raw(reply)) } {
            blocking::answered(ctx, client.addr() as u64, reply);
        }
    });
}

pub(super) unsafe extern "C" fn info(raw: *mut raw::ValkeyModuleInfoCtx, for_crash_report: c_int) {
    if for_crash_report != 0 {
        // The module's state may be what broke; a crash report does without.
        return;
    }
    guard("the INFO callback", || {
        // SAFETY: the server passes a valid INFO context for the time of the callback.
        if let (Some(ctx), Some(mut writer)) = (detached(), unsafe { InfoWriter::from_raw(raw) }) {
            crate::module::info::write(ctx, &mut writer);
        }
    });
}

pub(super) unsafe extern "C" fn fork_done(exit_code: c_int, by_signal: c_int, _data: *mut c_void) {
    let result = if by_signal == 0 { ChildResult::Exited(exit_code) } else { ChildResult::Killed(by_signal) };
    guard("the fork-done callback", || detached().map(|ctx| life::child_done(ctx, result)));
}

/// The server's entry into the module (`loadmodule`, `MODULE LOAD`).
///
/// # Safety
/// Called by the server, with a valid context and `argc` live arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ValkeyModule_OnLoad(
    ctx: *mut raw::ValkeyModuleCtx,
    argv: *mut *mut raw::ValkeyModuleString,
    argc: c_int,
) -> c_int {
    // SAFETY: the context is valid (caller), the name NUL-terminated.
    if unsafe {
        raw::Export_ValkeyModule_Init(ctx, c"wbl".as_ptr(), config::MODULE_VERSION, raw::VALKEYMODULE_APIVER_1 as c_int)
    } != OK
    {
        return ERR;
    }
    let loaded = catch_unwind(AssertUnwindSafe(|| {
        find_optional_functions();
        // SAFETY: the context and the arguments are valid (caller).
        let (ctx, args) = unsafe { (Ctx::from_raw(ctx), arguments(argv, argc)) };
        ctx.is_some_and(|ctx| life::load(ctx, &args))
    }));
    if matches!(loaded, Ok(true)) { OK } else { ERR }
}

/// The server's call before it unloads the module (`MODULE UNLOAD`).
///
/// # Safety
/// Called by the server, with a valid context.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ValkeyModule_OnUnload(ctx: *mut raw::ValkeyModuleCtx) -> c_int {
    // SAFETY: the context is valid (caller).
    let unloaded = guard("unload", || unsafe { Ctx::from_raw(ctx) }.is_some_and(life::unload));
    settings::forget_last_text();
    if unloaded { OK } else { ERR }
}
