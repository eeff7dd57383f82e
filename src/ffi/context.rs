//! A callback's context.

use super::call::OwnedString;
use super::client::{Held, User};
use std::cell::Cell;
use std::ffi::CStr;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, Ordering};
use valkey_module::raw;

/// The context of the callback that runs now; also the proof of holding the server's global lock (of being on the main
/// thread, except in events that another module raises from a thread of its own under that lock).
#[derive(Clone, Copy)]
pub struct Ctx<'a> {
    raw: NonNull<raw::ValkeyModuleCtx>,
    main_thread_only: PhantomData<(&'a (), *const ())>,
}

/// What [`Ctx::flags`] says about the execution that a callback is part of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContextFlags(u32);

impl ContextFlags {
    /// Between the first and the last command of an EXEC.
    pub fn in_exec(self) -> bool {
        self.0 & raw::VALKEYMODULE_CTX_FLAGS_MULTI != 0
    }

    /// Inside a script or function.
    pub fn in_script(self) -> bool {
        self.0 & raw::VALKEYMODULE_CTX_FLAGS_LUA != 0
    }

    /// What runs is part of a transaction or of a script.
    pub fn is_inside_another(self) -> bool {
        self.in_exec() || self.in_script()
    }

    /// The client may not be blocked (a module's `Call`, for one); asking for it kills a 9.1 server.
    pub fn denies_blocking(self) -> bool {
        self.0 & raw::VALKEYMODULE_CTX_FLAGS_DENY_BLOCKING != 0
    }

    /// The context's client may be blocked by a command of the module.
    pub fn can_block(self) -> bool {
        !self.in_exec() && !self.in_script() && !self.denies_blocking()
    }

    /// The server is a replica.
    pub fn is_replica(self) -> bool {
        self.0 & raw::VALKEYMODULE_CTX_FLAGS_REPLICA != 0
    }

    /// The server is a replica in the middle of a full sync.
    pub fn is_full_sync(self) -> bool {
        self.0 & raw::VALKEYMODULE_CTX_FLAGS_REPLICA_IS_TRANSFERRING != 0
    }

    /// The server is loading a dataset.
    pub fn is_loading(self) -> bool {
        self.0 & raw::VALKEYMODULE_CTX_FLAGS_LOADING != 0
    }

    /// A forked child runs.
    pub fn has_active_child(self) -> bool {
        self.0 & raw::VALKEYMODULE_CTX_FLAGS_ACTIVE_CHILD != 0
    }

    /// The context's client uses RESP3.
    pub fn is_resp3(self) -> bool {
        self.0 & raw::VALKEYMODULE_CTX_FLAGS_RESP3 != 0
    }

    /// The server is a node of a cluster.
    pub fn in_cluster(self) -> bool {
        self.0 & raw::VALKEYMODULE_CTX_FLAGS_CLUSTER != 0
    }

    /// The client brings the keys of a slot that moves here. It may not be blocked: it does not wait for replies.
    pub fn is_slot_import(self) -> bool {
        self.0 & super::api::WBL_CTX_FLAGS_SLOT_IMPORT_CLIENT != 0
    }

    /// The server has not finished starting.
    pub fn is_starting(self) -> bool {
        self.0 & raw::VALKEYMODULE_CTX_FLAGS_SERVER_STARTUP != 0
    }
}

/// The module's detached context; null while the module is not loaded.
static DETACHED: AtomicPtr<raw::ValkeyModuleCtx> = AtomicPtr::new(std::ptr::null_mut());

/// The context in which scripts run; null while the module is not loaded.
static SCRIPTS: AtomicPtr<raw::ValkeyModuleCtx> = AtomicPtr::new(std::ptr::null_mut());

/// The module's own context, for callbacks that bring none (the command filter, settings, fork-done). `None` while not
/// loaded.
pub(super) fn detached() -> Option<Ctx<'static>> {
    NonNull::new(DETACHED.load(Ordering::Relaxed)).map(|raw| Ctx { raw, main_thread_only: PhantomData })
}

thread_local! {
    /// The outcome of the private event, for the code that has raised it.
    static OWN_HOLD: Cell<Option<Held>> = const { Cell::new(None) };
}

/// Wakes the event loop. Any thread.
pub fn wake_event_loop() {
    // SAFETY: the server documents the function as safe to call from any thread; the callback takes no data.
    unsafe { api!(ValkeyModule_EventLoopAddOneShot)(Some(super::shells::woken as _), std::ptr::null_mut()) };
}

impl<'a> Ctx<'a> {
    /// Wraps the context that the server passed to a callback.
    ///
    /// # Safety
    /// `raw` is a context that stays valid for `'a`, and this is the server's main thread.
    pub(super) unsafe fn from_raw(raw: *mut raw::ValkeyModuleCtx) -> Option<Ctx<'a>> {
        NonNull::new(raw).map(|raw| Ctx { raw, main_thread_only: PhantomData })
    }

    pub(super) fn as_raw(self) -> *mut raw::ValkeyModuleCtx {
        self.raw.as_ptr()
    }

    /// The module's own context, whose selected database the module may choose. For commands that the module runs for
    /// itself.
    pub fn own(self) -> Ctx<'a> {
        detached().unwrap_or(self)
    }

    /// Makes the module's own contexts, at load.
    pub fn create_detached(self) {
        for place in [&DETACHED, &SCRIPTS] {
            // SAFETY: the context is valid (type invariant); the result is freed in `free_detached`.
            let raw = unsafe { api!(ValkeyModule_GetDetachedThreadSafeContext)(self.as_raw()) };
            place.store(raw, Ordering::Relaxed);
        }
    }

    /// Frees the module's own contexts, at unload.
    pub fn free_detached(self) {
        for place in [&DETACHED, &SCRIPTS] {
            let raw = place.swap(std::ptr::null_mut(), Ordering::Relaxed);
            if !raw.is_null() {
                // SAFETY: it was made by `create_detached`; callbacks get it for their own time only, and none runs
                // now.
                unsafe { api!(ValkeyModule_FreeThreadSafeContext)(raw) };
            }
        }
    }

    /// Runs `work` in a context that is no client's, as the user of `client` and in this database. `None` when there is
    /// no such user.
    pub fn as_user_of<T>(self, client: u64, db: u32, work: impl FnOnce(Ctx<'_>) -> T) -> Option<T> {
        let user = User::of(self, client)?;
        let raw = NonNull::new(SCRIPTS.load(Ordering::Relaxed))?;
        let scripts = Ctx { raw, main_thread_only: PhantomData };
        if !scripts.select_db(db) {
            return None;
        }
        // SAFETY: the context lives until unload, the user until it is taken out of it below.
        unsafe { api!(ValkeyModule_SetContextUser)(scripts.as_raw(), user.as_raw()) };
        let result = work(scripts);
        // SAFETY: as above.
        unsafe { api!(ValkeyModule_SetContextUser)(scripts.as_raw(), std::ptr::null()) };
        Some(result)
    }

    /// Whether writes are paused: CLIENT PAUSE, a failover. Replicating anything then crashes the server.
    pub fn writes_are_paused(self) -> bool {
        // SAFETY: called on the main thread (the context proves it); it takes nothing.
        unsafe { api!(ValkeyModule_AvoidReplicaTraffic)() != 0 }
    }

    /// The id of the client that executes; in an event callback the one whose command raised it.
    pub fn client_id(self) -> u64 {
        // SAFETY: the context is valid (type invariant).
        unsafe { api!(ValkeyModule_GetClientId)(self.as_raw()) }
    }

    /// In an event callback: whether a command executes, a client's, a script's or a module's. Outside of all of them
    /// the server makes a context's client for the event, which has none.
    pub fn executes_command(self) -> bool {
        // SAFETY: the context is valid (type invariant).
        !unsafe { api!(ValkeyModule_GetCurrentCommandName)(self.as_raw()) }.is_null()
    }

    /// The selected database; in an event callback that of the key.
    pub fn selected_db(self) -> u32 {
        // SAFETY: the context is valid (type invariant).
        let db = unsafe { api!(ValkeyModule_GetSelectedDb)(self.as_raw()) };
        u32::try_from(db).unwrap_or(0)
    }

    /// Selects a database for the calls that follow in this context; `false` when there is no such database.
    pub fn select_db(self, db: u32) -> bool {
        let Ok(db) = i32::try_from(db) else { return false };
        // SAFETY: the context is valid (type invariant).
        unsafe { api!(ValkeyModule_SelectDb)(self.as_raw(), db) == raw::VALKEYMODULE_OK as i32 }
    }

    /// What kind of execution this is.
    pub fn flags(self) -> ContextFlags {
        // SAFETY: the context is valid (type invariant).
        let flags = unsafe { api!(ValkeyModule_GetContextFlags)(self.as_raw()) };
        ContextFlags(flags.cast_unsigned())
    }

    /// The cached time of the current unit, microseconds since the Unix epoch.
    pub fn unit_time_us(self) -> i64 {
        // SAFETY: takes no arguments.
        unsafe { api!(ValkeyModule_CachedMicroseconds)() }
    }

    /// In an event callback: has the server keep the executing client's reply until the handle is released. `None` when
    /// it cannot: inside EXEC, scripts, for temporary and module clients, and for a client that is blocked already.
    pub fn hold_reply(self) -> Option<Held> {
        if self.flags().denies_blocking() {
            return None;
        }
        // SAFETY: the context is valid (type invariant); no callbacks and no private data are passed, a timeout of 0 is
        // none.
        let blocked = unsafe { api!(ValkeyModule_BlockClient)(self.as_raw(), None, None, None, 0) };
        Held::from_raw(blocked)
    }

    /// In a command of the module: blocks its client; when released (or after `timeout_ms`, 0 for none) the command's
    /// blocked reply is asked for, which shows the state by then. It must not show the outcome of the command itself:
    /// others may have run meanwhile. For that there is [`Ctx::block_for_answer`].
    pub fn block_command(self, timeout_ms: i64) -> Option<Held> {
        let (reply, timeout) = (Some(super::shells::blocked_reply as _), Some(super::shells::blocked_timeout as _));
        // SAFETY: the context is valid (type invariant); the callbacks are shells with the server's signature, and
        // there is no private data.
        let blocked = unsafe { api!(ValkeyModule_BlockClient)(self.as_raw(), reply, timeout, None, timeout_ms) };
        Held::from_raw(blocked)
    }

    /// In a command of the module: blocks its client without a limit; what it gets is set with [`Held::set_answer`],
    /// and is for it alone. CLIENT UNBLOCK ends the wait of one that is `interruptible`, as for the server's commands
    /// that wait for something, and leaves others alone.
    pub fn block_for_answer(self, interruptible: bool) -> Option<Held> {
        self.block_until_answer(if interruptible { Some(super::shells::blocked_timeout as _) } else { None }, 0)
    }

    /// The same for at most `timeout_ms`, 0 for no limit: then, or when CLIENT UNBLOCK ends its wait, the command's
    /// time-out reply is asked for.
    pub fn block_for_answer_within(self, timeout_ms: i64) -> Option<Held> {
        self.block_until_answer(Some(super::shells::blocked_timeout as _), timeout_ms)
    }

    fn block_until_answer(self, timeout: raw::ValkeyModuleCmdFunc, timeout_ms: i64) -> Option<Held> {
        let (reply, free) = (Some(super::shells::blocked_answer as _), Some(super::shells::free_answer as _));
        // SAFETY: the context is valid (type invariant); the callbacks are shells with the server's signatures; the
        // private data, which comes with the release, is an `Answer`.
        let blocked = unsafe { api!(ValkeyModule_BlockClient)(self.as_raw(), reply, timeout, free, timeout_ms) };
        Held::from_raw(blocked)
    }

    /// Asks for the unit-end callback when the current unit ends; `false` where the server accepts no such jobs
    /// (replicas, loading).
    pub fn ask_for_unit_end(self) -> bool {
        let callback = Some(super::shells::unit_end as _);
        // SAFETY: the context is valid (type invariant); the job has no private data to free.
        let status =
            unsafe { api!(ValkeyModule_AddPostNotificationJob)(self.as_raw(), callback, std::ptr::null_mut(), None) };
        status == raw::VALKEYMODULE_OK as i32
    }

    /// In a command of the module: has the server keep its client's reply, as [`Ctx::hold_reply`] does in an event.
    ///
    /// The server defers replies only in events, so one is raised for it, of the module's private class, which only the
    /// module's own event callback gets.
    pub fn hold_own_reply(self) -> Option<Held> {
        let key = OwnedString::new(b"");
        // SAFETY: the context is valid (type invariant), the event name is NUL-terminated and the key lives over the
        // call.
        unsafe {
            api!(ValkeyModule_NotifyKeyspaceEvent)(
                self.as_raw(),
                super::registration::PRIVATE_EVENT,
                c"wbl".as_ptr(),
                key.as_raw(),
            );
        }
        OWN_HOLD.take()
    }

    /// In the event that [`Ctx::hold_own_reply`] raises.
    pub(super) fn hold_in_own_event(self) {
        OWN_HOLD.set(self.hold_reply());
    }

    /// Runs `work` with a context that is made for it: its first look at other clients is due after the present
    /// busy-reply-threshold, or, while the server loads, after a tick of its timer.
    pub fn with_new_context<T>(self, work: impl FnOnce(Ctx<'_>) -> T) -> T {
        // SAFETY: the context is valid (type invariant).
        let raw = unsafe { api!(ValkeyModule_GetDetachedThreadSafeContext)(self.as_raw()) };
        // SAFETY: it was just made, and lives until the call below that frees it.
        let result = work(unsafe { Ctx::from_raw(raw) }.unwrap_or(self));
        if !raw.is_null() {
            // SAFETY: it is freed once; `work` could not keep it, as its lifetime ends here.
            unsafe { api!(ValkeyModule_FreeThreadSafeContext)(raw) };
        }
        result
    }

    /// Lets the server answer other clients (with -LOADING or, when not loading, -BUSY) during long work.
    pub fn yield_to_clients(self) {
        let flags = raw::VALKEYMODULE_YIELD_FLAG_CLIENTS as i32;
        // SAFETY: the context is valid (type invariant); a null text means the default one.
        unsafe { api!(ValkeyModule_Yield)(self.as_raw(), flags, std::ptr::null()) };
    }

    /// Closes a client without an answer.
    pub fn close_client(self, client: u64) -> bool {
        // SAFETY: the context is valid (type invariant); an unknown id is answered with an error status.
        unsafe { api!(ValkeyModule_DeauthenticateAndCloseClient)(self.as_raw(), client) == raw::VALKEYMODULE_OK as i32 }
    }

    /// Publishes a message to the channel's subscribers.
    pub fn publish(self, channel: &[u8], message: &[u8]) {
        let (channel, message) = (OwnedString::new(channel), OwnedString::new(message));
        // SAFETY: the context is valid (type invariant) and both strings live over the call.
        unsafe { api!(ValkeyModule_PublishMessage)(self.as_raw(), channel.as_raw(), message.as_raw()) };
    }

    /// Replies with an integer.
    pub fn reply_integer(self, value: i64) {
        // SAFETY: the context is valid (type invariant).
        unsafe { api!(ValkeyModule_ReplyWithLongLong)(self.as_raw(), value) };
    }

    /// Replies with an error; the text begins with its code and must not hold line ends.
    pub fn reply_error(self, text: &str) {
        let text = std::ffi::CString::new(text.replace(['\0', '\r', '\n'], " ")).unwrap_or_default();
        // SAFETY: the context is valid (type invariant); the text is NUL-terminated and copied by the server.
        unsafe { api!(ValkeyModule_ReplyWithError)(self.as_raw(), text.as_ptr()) };
    }

    /// Replies with a simple string.
    pub fn reply_simple(self, text: &CStr) {
        // SAFETY: the context is valid (type invariant); the text is NUL-terminated and copied by the server.
        unsafe { api!(ValkeyModule_ReplyWithSimpleString)(self.as_raw(), text.as_ptr()) };
    }

    /// Replies with a null.
    pub fn reply_null(self) {
        // SAFETY: the context is valid (type invariant).
        unsafe { api!(ValkeyModule_ReplyWithNull)(self.as_raw()) };
    }

    /// Begins an array of `len` elements.
    pub fn reply_array(self, len: usize) {
        // SAFETY: the context is valid (type invariant).
        unsafe { api!(ValkeyModule_ReplyWithArray)(self.as_raw(), i64::try_from(len).unwrap_or(0)) };
    }

    /// Replies with an array of numbers.
    pub fn reply_integers(self, numbers: &[i64]) {
        self.reply_array(numbers.len());
        numbers.iter().for_each(|number| self.reply_integer(*number));
    }

    /// Replies with a null array.
    pub fn reply_null_array(self) {
        // SAFETY: the context is valid (type invariant).
        unsafe { api!(ValkeyModule_ReplyWithNullArray)(self.as_raw()) };
    }

    /// Replies with a bulk string.
    pub fn reply_bulk(self, bytes: &[u8]) {
        // SAFETY: the context is valid (type invariant); pointer and length are those of a live slice, which the server
        // copies.
        unsafe { api!(ValkeyModule_ReplyWithStringBuffer)(self.as_raw(), bytes.as_ptr().cast(), bytes.len()) };
    }

    /// Begins a map of `len` pairs (RESP2: a flat array).
    pub fn reply_map(self, len: usize) {
        // SAFETY: the context is valid (type invariant).
        unsafe { api!(ValkeyModule_ReplyWithMap)(self.as_raw(), i64::try_from(len).unwrap_or(0)) };
    }
}
