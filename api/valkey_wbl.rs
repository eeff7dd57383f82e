//! What valkey-wbl offers to other modules, for modules in Rust; `valkey_wbl.h` says what each means. No crate is
//! needed:
//!
//! ```ignore
//! #[path = "valkey_wbl.rs"]
//! mod valkey_wbl;
//!
//! let wbl = unsafe { valkey_wbl::Wbl::find(ctx, ValkeyModule_GetSharedAPI.unwrap()) };
//! wbl.unwrap().when_durable(c"my-module", None, |position, is_durable| ...);
//! ```
//!
//! A panic in a closure ends the process, as nothing may unwind into the server.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

const VERSION: c_int = 1;
const ALL: u64 = u64::MAX;

type Durable = unsafe extern "C" fn(u64, c_int, *mut c_void);
type OnEvent = unsafe extern "C" fn(*const RawEvent, *mut c_void);

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

#[repr(C)]
struct Table {
    version: c_int,
    positions: unsafe extern "C" fn(*mut u64, *mut u64) -> c_int,
    when_durable: unsafe extern "C" fn(*const c_char, u64, Durable, *mut c_void) -> u64,
    subscribe: unsafe extern "C" fn(*const c_char, u32, OnEvent, *mut c_void) -> u64,
    cancel: unsafe extern "C" fn(u64) -> c_int,
}

/// A keyspace event whose change is durable.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// The durable position after its unit.
    pub position: u64,
    /// The database; none for all of them.
    pub db: Option<u32>,
    /// `VALKEYMODULE_NOTIFY_...`, or 0 for `flushdb`, `flushall` and `swapdb`.
    pub classes: u32,
    /// Its name.
    pub name: &'a [u8],
    /// The key.
    pub key: &'a [u8],
}

type OnDurable = Box<dyn FnOnce(u64, bool)>;
type OnEachEvent = Box<dyn FnMut(Event<'_>)>;

/// The API. Not to be kept beyond the module that has asked for it, nor used without the server's global lock.
#[derive(Clone, Copy)]
pub struct Wbl(&'static Table);

/// Events that are told until [`Wbl::cancel`].
#[derive(Debug)]
pub struct Subscription {
    token: u64,
    data: *mut OnEachEvent,
}

impl Wbl {
    /// Asks for it; none where valkey-wbl is not loaded, or too old.
    ///
    /// # Safety
    /// The context is one of the module's own, and the function is the server's `ValkeyModule_GetSharedAPI`.
    pub unsafe fn find<C>(
        ctx: *mut C,
        get_shared_api: unsafe extern "C" fn(*mut C, *const c_char) -> *mut c_void,
    ) -> Option<Wbl> {
        // SAFETY: see the function's contract.
        let found = unsafe { get_shared_api(ctx, c"valkey_wbl_api".as_ptr()) };
        if found.is_null() {
            return None;
        }
        // SAFETY: what has this name is this function, whose table lives as long as valkey-wbl is loaded.
        unsafe {
            let get = std::mem::transmute::<*mut c_void, unsafe extern "C" fn(c_int) -> *const Table>(found);
            get(VERSION).as_ref().map(Wbl)
        }
    }

    /// The appended and the durable position; none where no log protects the server.
    pub fn positions(self) -> Option<(u64, u64)> {
        let (mut appended, mut durable) = (0, 0);
        // SAFETY: both places are live.
        let is_there = unsafe { (self.0.positions)(&raw mut appended, &raw mut durable) } != 0;
        is_there.then_some((appended, durable))
    }

    /// Calls once, when this position, or all that has been executed, is durable (`true`), or nobody knows what became
    /// of it. `false` where no log protects the server, and no call comes.
    pub fn when_durable(self, owner: &CStr, position: Option<u64>, call: impl FnOnce(u64, bool) + 'static) -> bool {
        let data = Box::into_raw(Box::new(Box::new(call) as OnDurable));
        // SAFETY: the function takes what it is given here, once.
        let token =
            unsafe { (self.0.when_durable)(owner.as_ptr(), position.unwrap_or(ALL), told_of_position, data.cast()) };
        if token == 0 {
            // SAFETY: nobody has it.
            drop(unsafe { Box::from_raw(data) });
        }
        token != 0
    }

    /// Calls for each event of these classes that becomes durable.
    pub fn subscribe(self, owner: &CStr, classes: u32, call: impl FnMut(Event<'_>) + 'static) -> Option<Subscription> {
        let data = Box::into_raw(Box::new(Box::new(call) as OnEachEvent));
        // SAFETY: the function takes what it is given here, until it is cancelled.
        let token = unsafe { (self.0.subscribe)(owner.as_ptr(), classes, told_of_event, data.cast()) };
        if token == 0 {
            // SAFETY: nobody has it.
            drop(unsafe { Box::from_raw(data) });
            return None;
        }
        Some(Subscription { token, data })
    }

    /// Ends a subscription. Not from within its own call.
    pub fn cancel(self, subscription: Subscription) {
        // SAFETY: no call comes once it is cancelled, so that nobody has the closure any more.
        unsafe {
            if (self.0.cancel)(subscription.token) != 0 {
                drop(Box::from_raw(subscription.data));
            }
        }
    }
}

fn contained(call: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(call)).is_err() {
        std::process::abort();
    }
}

unsafe extern "C" fn told_of_position(position: u64, is_durable: c_int, data: *mut c_void) {
    // SAFETY: the pointer is the one of `when_durable`, and comes once.
    let call = unsafe { Box::from_raw(data.cast::<OnDurable>()) };
    contained(|| call(position, is_durable != 0));
}

unsafe extern "C" fn told_of_event(event: *const RawEvent, data: *mut c_void) {
    // SAFETY: the pointer is the one of `subscribe`, which is not cancelled; calls do not overlap. The event and what
    // it points to live over the call.
    let (call, event) = unsafe { (&mut *data.cast::<OnEachEvent>(), &*event) };
    // SAFETY: as above.
    let bytes = |from: *const c_char, len| unsafe { std::slice::from_raw_parts(from.cast::<u8>(), len) };
    let event = Event {
        position: event.position,
        db: u32::try_from(event.db).ok(),
        classes: event.classes,
        name: bytes(event.name, event.name_len),
        key: bytes(event.key, event.key_len),
    };
    contained(|| call(event));
}
