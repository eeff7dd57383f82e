//! The callbacks through which the server reads and writes settings.

use super::call::OwnedString;
use super::context::Ctx;
use super::handlers::handlers;
use super::shells::{ERR, OK, bytes, guard};
use std::cell::RefCell;
use std::ffi::{c_char, c_int, c_longlong, c_void};
use valkey_module::raw;

thread_local! {
    /// What `config_get_text` returned last: the server copies it before it asks again.
    static LAST_TEXT: RefCell<Option<OwnedString>> = const { RefCell::new(None) };
}

/// Frees what the server was given last, while the module's functions can still be called.
pub(super) fn forget_last_text() {
    LAST_TEXT.with_borrow_mut(Option::take);
}

/// Reports to the server why a value was refused.
fn refuse(error: *mut *mut raw::ValkeyModuleString, result: Result<(), String>) -> c_int {
    let Err(text) = result else { return OK };
    let string = OwnedString::new(text.as_bytes());
    // SAFETY: the server passes a place for one string and takes over the reference.
    unsafe { *error = string.as_raw() };
    std::mem::forget(string);
    ERR
}

pub(super) unsafe extern "C" fn config_get_bool(_name: *const c_char, index: *mut c_void) -> c_int {
    guard("a setting", || c_int::from(handlers().setting(index as usize) != 0))
}

pub(super) unsafe extern "C" fn config_set_int(
    _name: *const c_char,
    value: c_int,
    index: *mut c_void,
    error: *mut *mut raw::ValkeyModuleString,
) -> c_int {
    guard("a setting", || refuse(error, handlers().set_setting(index as usize, i64::from(value))))
}

pub(super) unsafe extern "C" fn config_apply(
    ctx: *mut raw::ValkeyModuleCtx,
    index: *mut c_void,
    error: *mut *mut raw::ValkeyModuleString,
) -> c_int {
    guard("a setting", || {
        // SAFETY: the server passes a valid context for the time of the callback.
        let applied = unsafe { Ctx::from_raw(ctx) }.map(|ctx| handlers().apply_setting(ctx, index as usize));
        refuse(error, applied.unwrap_or(Ok(())))
    })
}

pub(super) unsafe extern "C" fn config_get_number(_name: *const c_char, index: *mut c_void) -> c_longlong {
    guard("a setting", || handlers().setting(index as usize))
}

pub(super) unsafe extern "C" fn config_set_number(
    _name: *const c_char,
    value: c_longlong,
    index: *mut c_void,
    error: *mut *mut raw::ValkeyModuleString,
) -> c_int {
    guard("a setting", || refuse(error, handlers().set_setting(index as usize, value)))
}

pub(super) unsafe extern "C" fn config_get_enum(_name: *const c_char, index: *mut c_void) -> c_int {
    guard("a setting", || c_int::try_from(handlers().setting(index as usize)).unwrap_or(0))
}

pub(super) unsafe extern "C" fn config_get_text(
    _name: *const c_char,
    index: *mut c_void,
) -> *mut raw::ValkeyModuleString {
    guard("a setting", || {
        LAST_TEXT.with_borrow_mut(|last| {
            last.insert(OwnedString::new(handlers().setting_text(index as usize).as_bytes())).as_raw()
        })
    })
}

pub(super) unsafe extern "C" fn config_set_text(
    _name: *const c_char,
    value: *mut raw::ValkeyModuleString,
    index: *mut c_void,
    error: *mut *mut raw::ValkeyModuleString,
) -> c_int {
    guard("a setting", || {
        // SAFETY: the server passes a live string for the time of the callback.
        let value = std::str::from_utf8(unsafe { bytes(value) }).map_err(|_| "the value is not UTF-8".to_string());
        refuse(error, value.and_then(|value| handlers().set_setting_text(index as usize, value.to_string())))
    })
}
