//! The functions that the module calls, by name.

mod calls;
mod context;
mod info;
mod keys;
mod replies;

use crate::api::{self, CallReply, Context, Filtering, Kind, ModuleString};
use crate::commands::{self, WRONG_TYPE};
use crate::data::{Bytes, Entry, Value};
use crate::exec::{self, begin_frame, show, write};
use crate::held::{self, Blocked, Promise};
use crate::resp::{self, Resp};
use crate::server::{
    Argv, Canary, Client, CommandCallback, EventCallback, Filter, Job, JobCallback, KeyspaceCallback, OneShot, User,
    server,
};
use crate::{admin, event_loop, rdb, table};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_longlong, c_void};
use std::rc::Rc;
use valkey_module::raw;

const OK: c_int = 0;
const ERR: c_int = 1;

pub type Raw = *mut c_void;

unsafe fn ctx<'a>(raw: Raw) -> &'a Context {
    unsafe { &*raw.cast::<Context>() }
}

unsafe fn text<'a>(raw: *const c_char) -> &'a str {
    unsafe { CStr::from_ptr(raw) }.to_str().unwrap_or("")
}

unsafe fn string<'a>(raw: Raw) -> &'a [u8] {
    &unsafe { &*raw.cast::<ModuleString>() }.bytes
}

unsafe fn argv_of(argv: *mut Raw, argc: usize) -> Argv {
    (0..argc).map(|at| unsafe { string(*argv.add(at)) }.to_vec()).collect()
}

unsafe extern "C" fn ok() -> c_int {
    OK
}

unsafe extern "C" fn nothing() {}

unsafe extern "C" fn no() -> c_int {
    0
}

unsafe extern "C" fn free(memory: Raw) {
    unsafe { libc::free(memory) }
}

unsafe extern "C" fn log(_: Raw, _level: Raw, _format: Raw, line: *const c_char) {
    let line = unsafe { text(line) }.to_string();
    crate::process::log_line(line);
}

unsafe extern "C" fn latency(_event: *const c_char, _ms: i64) {}

unsafe extern "C" fn create_string(_: Raw, bytes: *const u8, len: usize) -> Raw {
    ModuleString::make(unsafe { std::slice::from_raw_parts(bytes, len) }).cast()
}

unsafe extern "C" fn free_string(_: Raw, string: Raw) {
    unsafe { ModuleString::free(string.cast()) }
}

unsafe extern "C" fn string_ptr_len(string: Raw, len: *mut usize) -> *const u8 {
    let bytes = &unsafe { &*string.cast::<ModuleString>() }.bytes;
    unsafe { *len = bytes.len() };
    bytes.as_ptr()
}

unsafe extern "C" fn create_command(
    _: Raw,
    name: *const c_char,
    callback: CommandCallback,
    flags: *const c_char,
    _: c_int,
    _: c_int,
    _: c_int,
) -> c_int {
    let (name, flags) = unsafe { (text(name).to_string(), text(flags).to_string()) };
    server().registered.borrow_mut().commands.insert(name, (callback, flags));
    OK
}

unsafe extern "C" fn some() -> Raw {
    std::ptr::without_provenance_mut(8)
}

unsafe extern "C" fn register_filter(_: Raw, filter: Filter, _: c_int) -> Raw {
    server().registered.borrow_mut().filter = Some(filter);
    std::ptr::without_provenance_mut(8)
}

unsafe extern "C" fn unregister_filter(_: Raw, _: Raw) -> c_int {
    server().registered.borrow_mut().filter = None;
    OK
}

unsafe extern "C" fn subscribe_keyspace(_: Raw, mask: c_int, callback: KeyspaceCallback) -> c_int {
    server().registered.borrow_mut().keyspace.push((mask, callback, Rc::new(Cell::new(false))));
    OK
}

unsafe extern "C" fn subscribe_event(_: Raw, id: u64, _: u64, callback: Option<EventCallback>) -> c_int {
    let s = server();
    if id >= 20 && !s.is_9_1 {
        return ERR;
    }
    let mut registered = s.registered.borrow_mut();
    match callback {
        Some(callback) => registered.events.insert(id, callback),
        None => registered.events.remove(&id),
    };
    OK
}

unsafe extern "C" fn version() -> c_int {
    match server() {
        s if s.loses_cut_commands => 0x0009_0101,
        s if s.is_9_1 => 0x0009_0102,
        _ => 0x0008_0101,
    }
}

unsafe extern "C" fn unit_us() -> c_longlong {
    server().unit_ms.get() * 1000
}

/// The module does so only while WBL.DEBUG PAUSE is on.
unsafe extern "C" fn yield_to_clients() {
    event_loop::wait_for_resume();
}

unsafe extern "C" fn failing() -> c_int {
    ERR
}

fn find(name: &str) -> Option<*const c_void> {
    Some(match name {
        "SetModuleAttribs" | "InfoAddSection" | "InfoAddFieldULongLong" | "InfoAddFieldCString" => nothing as _,
        "Yield" => yield_to_clients as _,
        "IsModuleNameBusy" | "IsKeysPositionRequest" => no as _,
        "SetModuleOptions" | "SetCommandACLCategories" | "SetCommandInfo" | "RegisterInfoFunc" | "LoadConfigs" => {
            ok as _
        }
        "RegisterBoolConfig" | "RegisterNumericConfig" | "RegisterStringConfig" | "RegisterEnumConfig" => ok as _,
        "ExportSharedAPI" => ok as _,
        "PublishMessage" | "StreamIteratorStop" | "ResetDataset" | "KeyAtPosWithFlags" => ok as _,
        "GetApi" => get_api as _,
        "Free" => free as _,
        "Log" => log as _,
        "LatencyAddSample" => latency as _,
        "CreateString" => create_string as _,
        "FreeString" => free_string as _,
        "StringPtrLen" => string_ptr_len as _,
        "CreateCommand" => create_command as _,
        "GetCommand" => some as _,
        "RegisterCommandFilter" => register_filter as _,
        "UnregisterCommandFilter" => unregister_filter as _,
        "SubscribeToKeyspaceEvents" => subscribe_keyspace as _,
        "SubscribeToServerEvent" => subscribe_event as _,
        "GetServerVersion" => version as _,
        "CachedMicroseconds" => unit_us as _,
        "HashGet" => failing as _,
        _ => return None,
    })
}

/// Finds a function of the API; the module's `ValkeyModule_Init` calls it for each name.
pub unsafe extern "C" fn get_api(name: *const c_char, place: *mut *const c_void) -> c_int {
    let name = unsafe { text(name) };
    let name = name.strip_prefix("ValkeyModule_").unwrap_or(name);
    let found =
        [find, context::find, replies::find, calls::find, keys::find, info::find].iter().find_map(|find| find(name));
    match found {
        Some(function) => {
            unsafe { *place = function };
            OK
        }
        None => ERR,
    }
}
