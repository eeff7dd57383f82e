//! Running the server's commands.

use super::context::Ctx;
use super::names;
use super::shells::OK;
use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::ptr::NonNull;
use valkey_module::raw;

/// A string object of the server, owned here. Main thread only.
pub(super) struct OwnedString(NonNull<raw::ValkeyModuleString>);

impl OwnedString {
    pub(super) fn new(bytes: &[u8]) -> OwnedString {
        // SAFETY: pointer and length are those of a live slice, which the server copies; a null context means no
        // automatic memory.
        let raw = unsafe { api!(ValkeyModule_CreateString)(std::ptr::null_mut(), bytes.as_ptr().cast(), bytes.len()) };
        match NonNull::new(raw) {
            Some(raw) => OwnedString(raw),
            None => super::missing_api("memory for a string"),
        }
    }

    pub(super) fn as_raw(&self) -> *mut raw::ValkeyModuleString {
        self.0.as_ptr()
    }
}

impl Drop for OwnedString {
    fn drop(&mut self) {
        // SAFETY: the object came from CreateString and this is its only owner here.
        unsafe { api!(ValkeyModule_FreeString)(std::ptr::null_mut(), self.0.as_ptr()) };
    }
}

/// Longer than any command's name, with its final NUL.
const NAME_BYTES_MAX: usize = 128;

/// How a command is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallMode {
    /// As the module: no ACL check, not replicated. For replaying while the server is loading, and for settings.
    Internal,
    /// The same, and refused if the command could write. For questions.
    Question,
    /// As the context's client: its user's ACL rules, its protocol, replicated, refused when out of memory.
    AsClient,
    /// The same, and refused where the server takes no writes (no replicas, a disk that fails).
    Collected,
    /// The same, but it does not run, and nobody's rights are looked at: there is an error for a reply if it would be
    /// refused before.
    DryRunCollected,
    /// Whether the server takes a write of anybody's.
    DryRunWrite,
    /// As `AsClient`, but it does not run: there is an error for a reply if it would be refused before.
    DryRunAsClient,
    /// As nobody's user, in RESP2 or RESP3, and it may block: its reply is a promise then. The server goes on
    /// using the user of a call that waits, though ACL LOAD frees it.
    Waiting {
        /// RESP3.
        resp3: bool,
    },
    /// As the context's user, but it does not run, as with `DryRunAsClient`.
    DryRunAsUser,
    /// As the context's user, in RESP2 or RESP3, replicated, refused when out of memory.
    AsUser {
        /// RESP3.
        resp3: bool,
    },
}

/// The type of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyKind {
    /// A bulk or simple string.
    String,
    /// An error.
    Error,
    /// An integer.
    Integer,
    /// An array or set.
    Array,
    /// A map.
    Map,
    /// A null.
    Null,
    /// None yet: the command blocks.
    Promise,
    /// None, and none will come: the server has made a command wait that was about to run again (CLIENT PAUSE), and has
    /// then let go of it.
    Missing,
    /// Anything else (double, boolean, ...).
    Other,
}

/// What a command answered, or an element of that. Main thread only.
pub struct Reply<'a> {
    raw: NonNull<raw::ValkeyModuleCallReply>,
    /// Elements belong to their outer reply, which they borrow.
    owned: bool,
    outer: PhantomData<&'a ()>,
}

thread_local! {
    /// Set while a `call` waits for its own pass through the module's command filter; see `call`.
    static OWN_CALL: Cell<bool> = const { Cell::new(false) };
    /// The arguments of that call; the filter drops them so that the server's command is their only owner.
    static ARGUMENTS: RefCell<Vec<OwnedString>> = const { RefCell::new(Vec::new()) };
    /// The memory of a finished call's argument vector, for the next one.
    static RAW_ARGUMENTS: Cell<Vec<*mut raw::ValkeyModuleString>> = const { Cell::new(Vec::new()) };
}

/// For the filter shell: whether this pass is that of a call of the module itself, which the filter then ignores. What
/// other modules' filters have made of its arguments is taken back: they have seen the command before, when its client
/// sent it.
///
/// It also gives up the module's references to the arguments. The server does not compact shared strings
/// (`tryObjectEncoding`, object.c), so a replayed `SET k 1` would otherwise be stored as a string and not as an
/// integer.
///
/// # Safety
/// `filter` is the context of the filter callback that runs now.
pub(super) unsafe fn take_own_call(filter: *mut raw::ValkeyModuleCommandFilterCtx) -> bool {
    let own = OWN_CALL.replace(false);
    if own {
        // SAFETY: as above.
        ARGUMENTS.with_borrow_mut(|arguments| unsafe { restore(filter, arguments) });
    }
    own
}

/// Has the command run with these arguments behind its name.
///
/// # Safety
/// `filter` is the context of the filter callback that runs now.
unsafe fn restore(filter: *mut raw::ValkeyModuleCommandFilterCtx, arguments: &mut Vec<OwnedString>) {
    let wanted = arguments.len();
    for (position, argument) in (1..).zip(arguments.drain(..)) {
        // SAFETY: the filter context is valid (caller). The server answers an index after the end with null, and takes
        // over the reference to a string that it takes, so that it is not dropped here.
        let taken = unsafe {
            match api!(ValkeyModule_CommandFilterArgGet)(filter, position) {
                present if present == argument.as_raw() => continue,
                present if present.is_null() => {
                    api!(ValkeyModule_CommandFilterArgInsert)(filter, position, argument.as_raw())
                }
                _ => api!(ValkeyModule_CommandFilterArgReplace)(filter, position, argument.as_raw()),
            }
        };
        if taken == OK {
            std::mem::forget(argument);
        }
    }
    let Ok(first_surplus) = i32::try_from(wanted + 1) else { return };
    // SAFETY: as above; an index after the end is answered with an error.
    while unsafe { api!(ValkeyModule_CommandFilterArgDelete)(filter, first_surplus) } == OK {}
}

impl Ctx<'_> {
    /// Runs a command, given by its own name, in the context's database. `None` when the server has no such command.
    pub fn call<'a>(
        self,
        mode: CallMode,
        command: &str,
        args: impl IntoIterator<Item = &'a [u8]>,
    ) -> Option<Reply<'static>> {
        let translated = names::present(command.as_bytes()).replacement();
        self.call_by_name(mode, translated.as_deref().unwrap_or(command.as_bytes()), args)
    }

    /// Asks the server a question. `None` when there is no answer: the server has no such command, or refused it.
    pub fn ask<'a>(self, command: &str, args: impl IntoIterator<Item = &'a [u8]>) -> Option<Reply<'static>> {
        self.call(CallMode::Question, command, args).filter(|reply| reply.kind() != ReplyKind::Error)
    }

    /// Runs the command that the server knows by this name.
    pub fn call_by_name<'a>(
        self,
        mode: CallMode,
        present: &[u8],
        args: impl IntoIterator<Item = &'a [u8]>,
    ) -> Option<Reply<'static>> {
        let mut name = [0; NAME_BYTES_MAX];
        let fits = present.len() < NAME_BYTES_MAX && !present.is_empty() && !present.contains(&0);
        name.get_mut(..present.len()).filter(|_| fits)?.copy_from_slice(present);
        let mut raw_args = RAW_ARGUMENTS.take();
        raw_args.clear();
        ARGUMENTS.with_borrow_mut(|arguments| {
            arguments.clear();
            arguments.extend(args.into_iter().map(OwnedString::new));
            raw_args.extend(arguments.iter().map(OwnedString::as_raw));
        });
        let format = match mode {
            CallMode::Internal => c"Ev",
            CallMode::Question => c"EWv",
            CallMode::AsClient => c"!CE0Mv",
            CallMode::Collected => c"!CE0MSv",
            CallMode::DryRunCollected => c"!E0MSDv",
            CallMode::DryRunWrite => c"ESDv",
            CallMode::DryRunAsClient => c"!CE0MDv",
            CallMode::Waiting { resp3: false } => c"!EMKv",
            CallMode::Waiting { resp3: true } => c"!E3MKv",
            CallMode::DryRunAsUser => c"CEDv",
            CallMode::AsUser { resp3: false } => c"!CEMv",
            CallMode::AsUser { resp3: true } => c"!CE3Mv",
        };
        OWN_CALL.set(true);
        // SAFETY: the context is valid (type invariant), the strings are NUL-terminated, and `v` takes a pointer to
        // that many live string objects and their count; the server takes its own references to them.
        let reply = unsafe {
            api!(ValkeyModule_Call)(
                self.as_raw(),
                name.as_ptr().cast(),
                format.as_ptr(),
                raw_args.as_mut_ptr(),
                raw_args.len(),
            )
        };
        // Where the server knows no such command no filter has seen it.
        OWN_CALL.set(false);
        ARGUMENTS.with_borrow_mut(Vec::clear);
        RAW_ARGUMENTS.set(raw_args);
        NonNull::new(reply).map(|raw| Reply { raw, owned: true, outer: PhantomData })
    }

    /// The indices of a command's keys among its arguments (0 is its own name), where the server can name them.
    pub fn command_keys<'a>(self, args: impl Iterator<Item = &'a [u8]>) -> Vec<usize> {
        let mut strings: Vec<OwnedString> = args.map(OwnedString::new).collect();
        if let Some(name) = strings.first_mut()
            // SAFETY: the string was just made, and lives while it is translated.
            && let Some(present) = names::present(unsafe { super::shells::bytes(name.as_raw()) }).replacement()
        {
            *name = OwnedString::new(&present);
        }
        let mut argv: Vec<_> = strings.iter().map(OwnedString::as_raw).collect();
        // The server looks at the first one.
        let Some(argc) = i32::try_from(argv.len()).ok().filter(|argc| *argc > 0) else { return Vec::new() };
        let mut count = 0;
        // SAFETY: the context is valid (type invariant), `argv` holds `argc` live strings, `count` is a live integer.
        let positions =
            unsafe { api!(ValkeyModule_GetCommandKeys)(self.as_raw(), argv.as_mut_ptr(), argc, &raw mut count) };
        if positions.is_null() {
            return Vec::new();
        }
        let count = usize::try_from(count).unwrap_or(0);
        // SAFETY: the server returned `count` positions.
        let found = unsafe { std::slice::from_raw_parts(positions, count) };
        let found = found.iter().filter_map(|position| usize::try_from(*position).ok()).collect();
        // SAFETY: the caller of GetCommandKeys owns the array, allocated with the server's allocator.
        unsafe { api!(ValkeyModule_Free)(positions.cast()) };
        found
    }

    /// Answers the context's client with what a command answered, byte for byte.
    pub fn reply_with(self, reply: &Reply<'_>) {
        // SAFETY: context and reply are valid (type invariants).
        unsafe { api!(ValkeyModule_ReplyWithCallReply)(self.as_raw(), reply.raw.as_ptr()) };
    }
}

impl Reply<'static> {
    /// Takes over a reply that the server passed to a callback.
    ///
    /// # Safety
    /// `raw` is a reply that the callback owns, or null.
    pub(super) unsafe fn from_raw(raw: *mut raw::ValkeyModuleCallReply) -> Option<Reply<'static>> {
        NonNull::new(raw).map(|raw| Reply { raw, owned: true, outer: PhantomData })
    }

    /// The promise that the reply is; the reply itself when it is none.
    ///
    /// # Errors
    /// The reply.
    pub fn into_promise(mut self) -> Result<Promise, Reply<'static>> {
        if self.kind() != ReplyKind::Promise {
            return Err(self);
        }
        self.owned = false;
        Ok(Promise(self.raw))
    }
}

/// A reply that is kept until later.
pub struct Kept(Reply<'static>);

// SAFETY: a reply is memory of the server that is only touched under its global lock, which every caller holds, on
// whatever thread.
unsafe impl Send for Kept {}

impl Kept {
    /// Keeps it.
    pub fn new(reply: Reply<'static>) -> Kept {
        Kept(reply)
    }

    /// The reply.
    pub fn reply(&self) -> &Reply<'static> {
        &self.0
    }

    /// How many bytes it has, as it is sent.
    pub fn sent_bytes(&self) -> usize {
        let mut len = 0;
        // SAFETY: the reply is valid (type invariant) and `len` is a live integer.
        unsafe { api!(ValkeyModule_CallReplyProto)(self.0.raw.as_ptr(), &raw mut len) };
        len
    }
}

/// What a command answered that blocks: its reply is to come. Used by whoever holds the server's global lock.
pub struct Promise(NonNull<raw::ValkeyModuleCallReply>);

// SAFETY: a promise is memory of the server that is only touched under its global lock, which every caller holds, on
// whatever thread.
unsafe impl Send for Promise {}

impl Promise {
    /// Has [`super::Handlers::promise_kept`] called with the reply, and this number, when there is one.
    pub fn on_answer(&self, call: u64) {
        let data = std::ptr::without_provenance_mut(usize::try_from(call).unwrap_or(0));
        let callback = Some(super::shells::promise_kept as _);
        // SAFETY: the promise is live (owned); the private data is a number only.
        unsafe { api!(ValkeyModule_CallReplyPromiseSetUnblockHandler)(self.0.as_ptr(), callback, data) };
    }

    /// The command is not to run any more. Nothing happens when its wait has ended; its reply may still come then.
    pub fn abort(&self) {
        // SAFETY: the promise is live (owned); the private data is not asked for.
        unsafe { api!(ValkeyModule_CallReplyPromiseAbort)(self.0.as_ptr(), std::ptr::null_mut()) };
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        // SAFETY: the promise came from Call and is freed once, by its only owner.
        unsafe { api!(ValkeyModule_FreeCallReply)(self.0.as_ptr()) };
    }
}

impl Reply<'_> {
    /// Its type.
    pub fn kind(&self) -> ReplyKind {
        // SAFETY: the reply is valid (type invariant).
        let kind = unsafe { api!(ValkeyModule_CallReplyType)(self.raw.as_ptr()) };
        match kind as isize {
            raw::VALKEYMODULE_REPLY_STRING => ReplyKind::String,
            raw::VALKEYMODULE_REPLY_ERROR => ReplyKind::Error,
            raw::VALKEYMODULE_REPLY_INTEGER => ReplyKind::Integer,
            raw::VALKEYMODULE_REPLY_ARRAY | raw::VALKEYMODULE_REPLY_SET => ReplyKind::Array,
            raw::VALKEYMODULE_REPLY_MAP => ReplyKind::Map,
            raw::VALKEYMODULE_REPLY_NULL => ReplyKind::Null,
            raw::VALKEYMODULE_REPLY_PROMISE => ReplyKind::Promise,
            raw::VALKEYMODULE_REPLY_UNKNOWN => ReplyKind::Missing,
            _ => ReplyKind::Other,
        }
    }

    /// The bytes of a string or error; empty for other types.
    pub fn bytes(&self) -> &[u8] {
        let mut len = 0;
        // SAFETY: the reply is valid (type invariant) and `len` is a live integer.
        let pointer = unsafe { api!(ValkeyModule_CallReplyStringPtr)(self.raw.as_ptr(), &raw mut len) };
        if pointer.is_null() {
            return &[];
        }
        // SAFETY: the server returned that many bytes inside the reply, which `self` keeps alive and nothing changes.
        unsafe { std::slice::from_raw_parts(pointer.cast(), len) }
    }

    /// The value of an integer reply.
    pub fn integer(&self) -> i64 {
        // SAFETY: the reply is valid (type invariant); other types answer with a minimum value.
        unsafe { api!(ValkeyModule_CallReplyInteger)(self.raw.as_ptr()) }
    }

    /// The number of elements of an array.
    pub fn len(&self) -> usize {
        // SAFETY: the reply is valid (type invariant).
        unsafe { api!(ValkeyModule_CallReplyLength)(self.raw.as_ptr()) }
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Key and value of a map's entry.
    pub fn map_element(&self, index: usize) -> Option<(Reply<'_>, Reply<'_>)> {
        if self.kind() != ReplyKind::Map {
            return None;
        }
        let (mut key, mut value) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: the reply is a map (checked), an index after its end is answered with an error, and both places are
        // live. Key and value belong to this reply, which the returned lifetime keeps borrowed.
        unsafe { api!(ValkeyModule_CallReplyMapElement)(self.raw.as_ptr(), index, &raw mut key, &raw mut value) };
        let part = |raw| NonNull::new(raw).map(|raw| Reply { raw, owned: false, outer: PhantomData });
        Some((part(key)?, part(value)?))
    }

    /// An element of an array or set.
    pub fn element(&self, index: usize) -> Option<Reply<'_>> {
        // SAFETY: the reply is valid (type invariant).
        let kind = unsafe { api!(ValkeyModule_CallReplyType)(self.raw.as_ptr()) } as isize;
        // SAFETY: the reply is of the type that each function takes, and an index after its end is answered with null.
        // The element belongs to this reply, which the returned lifetime keeps borrowed; its handle does not free it.
        let element = unsafe {
            match kind {
                raw::VALKEYMODULE_REPLY_ARRAY => api!(ValkeyModule_CallReplyArrayElement)(self.raw.as_ptr(), index),
                raw::VALKEYMODULE_REPLY_SET => api!(ValkeyModule_CallReplySetElement)(self.raw.as_ptr(), index),
                _ => return None,
            }
        };
        NonNull::new(element).map(|raw| Reply { raw, owned: false, outer: PhantomData })
    }
}

impl Drop for Reply<'_> {
    fn drop(&mut self) {
        if self.owned {
            // SAFETY: the reply came from Call and is freed once, by its only owner.
            unsafe { api!(ValkeyModule_FreeCallReply)(self.raw.as_ptr()) };
        }
    }
}
