//! The callbacks that the server calls: a few lines each, no decisions. Each catches panics; because every callback may
//! be on the way to an acknowledgement, a panic ends the process rather than let a reply go in a broken state.

use super::answer::Answer;
use super::call::take_own_call;
use super::context::{Ctx, detached};
use super::filter::Filter;
use super::handlers::handlers;
use super::info::InfoWriter;
use super::load::ChildResult;
use super::names::{self, Translated};
use super::registration::{PRIVATE_EVENT, answer_key_positions};
use super::reply::Reply;
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
pub(super) unsafe fn arguments<'a>(argv: *mut *mut raw::ValkeyModuleString, argc: c_int) -> Vec<&'a [u8]> {
    // SAFETY: see the function's contract.
    (0..usize::try_from(argc).unwrap_or(0)).map(|index| unsafe { bytes(*argv.add(index)) }).collect()
}

pub(super) unsafe extern "C" fn filter(raw: *mut raw::ValkeyModuleCommandFilterCtx) {
    guard("the command filter", || {
        // SAFETY: the server passes the context of this callback.
        if unsafe { !take_own_call(raw) }
            && let Some(ctx) = detached()
        {
            // SAFETY: the server passes the context of this callback.
            handlers().command_filter(ctx, unsafe { Filter::new(raw) });
        }
    });
}

/// What a keyspace event says.
type OnEvent = fn(Ctx<'_>, class: c_int, event: &[u8], key: &[u8]);

/// Hands an event on; always OK.
///
/// # Safety
/// The context is valid, the name is NUL-terminated, and the key lives, until this returns: the server's promise for
/// the callbacks of events.
unsafe fn event(
    ctx: *mut raw::ValkeyModuleCtx,
    class: c_int,
    event: *const c_char,
    key: *mut raw::ValkeyModuleString,
    take: OnEvent,
) -> c_int {
    guard("the keyspace event callback", || {
        // SAFETY: of this function.
        let (ctx, event, key) = unsafe { (Ctx::from_raw(ctx), CStr::from_ptr(event), bytes(key)) };
        if let Some(ctx) = ctx {
            take(ctx, class, event.to_bytes(), key);
        }
    });
    OK
}

pub(super) unsafe extern "C" fn keyspace_event(
    ctx: *mut raw::ValkeyModuleCtx,
    class: c_int,
    name: *const c_char,
    key: *mut raw::ValkeyModuleString,
) -> c_int {
    let take: OnEvent = |ctx, class, name, key| {
        if class == PRIVATE_EVENT {
            ctx.hold_in_own_event();
        } else if class & raw::VALKEYMODULE_NOTIFY_LOADED != 0 {
            handlers().key_loaded(ctx, key);
        } else {
            let removed_by_server = class & (raw::VALKEYMODULE_NOTIFY_EXPIRED | raw::VALKEYMODULE_NOTIFY_EVICTED) != 0;
            handlers().key_changed(ctx, class.cast_unsigned(), name, key, removed_by_server);
        }
    };
    // SAFETY: the server calls this for an event.
    unsafe { event(ctx, class, name, key, take) }
}

pub(super) unsafe extern "C" fn noted_event(
    ctx: *mut raw::ValkeyModuleCtx,
    class: c_int,
    name: *const c_char,
    key: *mut raw::ValkeyModuleString,
) -> c_int {
    let take: OnEvent = |ctx, class, name, key| handlers().key_noted(ctx, class.cast_unsigned(), name, key);
    // SAFETY: the server calls this for an event.
    unsafe { event(ctx, class, name, key, take) }
}

/// Wakes the event loop; the work itself is done before it sleeps again.
pub(super) unsafe extern "C" fn woken(_data: *mut c_void) {}

pub(super) unsafe extern "C" fn unit_end(ctx: *mut raw::ValkeyModuleCtx, _data: *mut c_void) {
    // SAFETY: the server passes a valid context for the time of the callback.
    guard("the unit-end job", || unsafe { Ctx::from_raw(ctx) }.map(|ctx| handlers().unit_end(ctx)));
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
            let wrapped = args
                .get(1)
                .filter(|_| handlers().is_wrapper(args[0]))
                .map_or(Translated::Same, |name| names::own(name));
            let wrapped = wrapped.replacement();
            if let (Some(name), Some(place)) = (&wrapped, args.get_mut(1)) {
                *place = name;
            }
            handlers().run_command(ctx, &args);
        }
    });
    OK
}

pub(super) unsafe extern "C" fn blocked_reply(
    ctx: *mut raw::ValkeyModuleCtx,
    _argv: *mut *mut raw::ValkeyModuleString,
    _argc: c_int,
) -> c_int {
    guard("a blocked command's reply", || {
        // SAFETY: the server passes a valid context for the time of the callback.
        if let Some(ctx) = unsafe { Ctx::from_raw(ctx) } {
            handlers().blocked_reply(ctx);
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
            handlers().blocked_timeout(ctx, &unsafe { arguments(argv, argc) });
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
    guard("the end of an answer", || unsafe { Answer::free_raw(answer) });
}

pub(super) unsafe extern "C" fn blocked_left(
    ctx: *mut raw::ValkeyModuleCtx,
    _blocked: *mut raw::ValkeyModuleBlockedClient,
) {
    guard("a blocked client's leave", || {
        // SAFETY: the server passes a valid context for the time of the callback.
        if let Some(ctx) = unsafe { Ctx::from_raw(ctx) } {
            handlers().client_left(ctx.client_id());
        }
    });
}

pub(super) unsafe extern "C" fn promise_kept(
    ctx: *mut raw::ValkeyModuleCtx,
    reply: *mut raw::ValkeyModuleCallReply,
    call: *mut c_void,
) {
    guard("a blocked command's reply", || {
        // SAFETY: the server passes a valid context for the time of the callback, and hands the reply over.
        if let (Some(ctx), Some(reply)) = unsafe { (Ctx::from_raw(ctx), Reply::from_raw(reply)) } {
            handlers().promise_kept(ctx, call.addr() as u64, reply);
        }
    });
}

pub(super) unsafe extern "C" fn info(raw: *mut raw::ValkeyModuleInfoCtx, for_crash_report: c_int) {
    if for_crash_report != 0 {
        // The module's state may be what broke; a crash report does without it.
        return;
    }
    guard("the INFO callback", || {
        // SAFETY: the server passes a valid INFO context for the time of the callback.
        if let (Some(ctx), Some(mut writer)) = (detached(), unsafe { InfoWriter::from_raw(raw) }) {
            handlers().write_info(ctx, &mut writer);
        }
    });
}

pub(super) unsafe extern "C" fn fork_done(exit_code: c_int, by_signal: c_int, _data: *mut c_void) {
    let result = if by_signal == 0 { ChildResult::Exited(exit_code) } else { ChildResult::Killed(by_signal) };
    guard("the fork-done callback", || detached().map(|ctx| handlers().child_done(ctx, result)));
}
