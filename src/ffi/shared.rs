//! What the module offers to other modules, as `api/valkey_wbl.h` declares it.
//!
//! They call on the main thread, or with the server's global lock. Their callbacks are called on the main thread. A
//! panic on the way in ends the process, as in any callback; so does one that escapes from theirs.

use super::Ctx;
use super::handlers::handlers;
use super::shells::{OK, guard};
use std::ffi::{CStr, c_char, c_int, c_void};
use valkey_module::raw;

/// The version of the API.
const VERSION: c_int = 1;

/// As a position: everything that has been executed.
const ALL: u64 = u64::MAX;

type Durable = unsafe extern "C" fn(position: u64, is_durable: c_int, data: *mut c_void);
type OnEvent = unsafe extern "C" fn(event: *const RawEvent, data: *mut c_void);

/// `WblEvent`
#[repr(C)]
struct RawEvent {
    position: u64,
    db: i32,
    classes: u32,
    name: *const c_char,
    name_len: usize,
    key: *const c_char,
    key_len: usize,
}

/// `WblApi`
#[repr(C)]
struct Table {
    version: c_int,
    positions: unsafe extern "C" fn(*mut u64, *mut u64) -> c_int,
    when_durable: unsafe extern "C" fn(*const c_char, u64, Option<Durable>, *mut c_void) -> u64,
    subscribe: unsafe extern "C" fn(*const c_char, u32, Option<OnEvent>, *mut c_void) -> u64,
    cancel: unsafe extern "C" fn(u64) -> c_int,
}

static TABLE: Table = Table { version: VERSION, positions, when_durable, subscribe, cancel };

/// What another module wants called for a position.
#[derive(Clone, Copy, Debug)]
pub struct DurableListener {
    call: Durable,
    data: *mut c_void,
}

/// What another module wants called for events.
#[derive(Clone, Copy, Debug)]
pub struct EventListener {
    call: OnEvent,
    data: *mut c_void,
}

// SAFETY: the pointer is the other module's, and only handed back to it, on the main thread (a `Ctx` is needed for it).
unsafe impl Send for DurableListener {}
// SAFETY: as above.
unsafe impl Send for EventListener {}

impl DurableListener {
    /// Tells it. The module that it belongs to is still loaded.
    pub fn tell(self, _ctx: Ctx<'_>, position: u64, is_durable: bool) {
        // SAFETY: the other module promises that its function takes this (the header), and is loaded (caller).
        unsafe { (self.call)(position, c_int::from(is_durable), self.data) };
    }
}

impl EventListener {
    /// Tells it. The module that it belongs to is still loaded.
    pub fn tell(self, _ctx: Ctx<'_>, position: u64, db: Option<u32>, class: u32, name: &[u8], key: &[u8]) {
        let event = RawEvent {
            position,
            db: db.map_or(-1, |db| i32::try_from(db).unwrap_or(i32::MAX)),
            classes: class,
            name: name.as_ptr().cast(),
            name_len: name.len(),
            key: key.as_ptr().cast(),
            key_len: key.len(),
        };
        // SAFETY: as above; the event and what it points to live over the call.
        unsafe { (self.call)(&raw const event, self.data) };
    }
}

/// Offers it. `false` when the server refused.
pub fn offer_api(ctx: Ctx<'_>) -> bool {
    let function = get as unsafe extern "C" fn(c_int) -> *const Table;
    // SAFETY: the context is valid (type invariant), the name NUL-terminated and static.
    unsafe {
        api!(ValkeyModule_ExportSharedAPI)(ctx.as_raw(), c"valkey_wbl_api".as_ptr(), function as *mut c_void) == OK
    }
}

/// `WblApi_Get`: null for unknown versions.
unsafe extern "C" fn get(version: c_int) -> *const Table {
    if version == VERSION { &raw const TABLE } else { std::ptr::null() }
}

/// The name of the calling module; `None` where it gives none.
///
/// # Safety
/// `owner` is null or NUL-terminated, and nothing changes it during `'a`.
unsafe fn name_of<'a>(owner: *const c_char) -> Option<&'a [u8]> {
    if owner.is_null() {
        return None;
    }
    // SAFETY: see the function's contract.
    Some(unsafe { CStr::from_ptr(owner) }.to_bytes()).filter(|name| !name.is_empty())
}

unsafe extern "C" fn positions(appended: *mut u64, durable: *mut u64) -> c_int {
    guard("another module's call", || {
        let Some(found) = handlers().positions() else { return 0 };
        if appended.is_null() || durable.is_null() {
            return 0;
        }
        // SAFETY: the other module passes places for two numbers.
        unsafe { (*appended, *durable) = found };
        1
    })
}

unsafe extern "C" fn when_durable(
    owner: *const c_char,
    position: u64,
    call: Option<Durable>,
    data: *mut c_void,
) -> u64 {
    guard("another module's call", || {
        // SAFETY: the other module passes its name.
        let (Some(owner), Some(call)) = (unsafe { name_of(owner) }, call) else { return 0 };
        let position = Some(position).filter(|position| *position != ALL);
        handlers().tell_when_durable(owner, position, DurableListener { call, data }).unwrap_or(0)
    })
}

unsafe extern "C" fn subscribe(owner: *const c_char, classes: u32, call: Option<OnEvent>, data: *mut c_void) -> u64 {
    guard("another module's call", || {
        // SAFETY: the other module passes its name.
        let (Some(owner), Some(call)) = (unsafe { name_of(owner) }, call) else { return 0 };
        handlers().tell_of_events(
            owner,
            classes & raw::VALKEYMODULE_NOTIFY_ALL.cast_unsigned(),
            EventListener { call, data },
        )
    })
}

unsafe extern "C" fn cancel(token: u64) -> c_int {
    guard("another module's call", || c_int::from(handlers().stop_telling(token)))
}
