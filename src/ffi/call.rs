//! Running the server's commands.

use super::context::Ctx;
use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::ptr::NonNull;
use valkey_module::raw;

/// A string object of the server, owned here. Main thread only.
pub(super) struct OwnedString(NonNull<raw::ValkeyModuleString>);

impl OwnedString {
    pub(super) fn new(bytes: &[u8]) -> OwnedString {
        // SAFETY: pointer and length are those of a live slice, which the server copies; a null context means no automatic memory.
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
    /// As the module: no ACL check, not replicated. For reading, and for replaying while the server is loading.
    Internal,
    /// As the context's client: its user's ACL rules, its protocol, replicated, refused when out of memory.
    AsClient,
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

/// For the filter shell: whether this pass is that of a call of the module itself, which the filter then ignores.
///
/// It also gives up the module's references to the arguments. The server does not compact shared strings (`tryObjectEncoding`, object.c),
/// so a replayed `SET k 1` would otherwise be stored as a string and not as an integer.
pub(super) fn take_own_call() -> bool {
    let own = OWN_CALL.replace(false);
    if own {
        ARGUMENTS.with_borrow_mut(Vec::clear);
    }
    own
}

impl Ctx<'_> {
    /// Runs a command in the context's database. `None` when it was refused before it ran (unknown, wrong arity).
    pub fn call<'a>(
        self,
        mode: CallMode,
        command: &str,
        args: impl IntoIterator<Item = &'a [u8]>,
    ) -> Option<Reply<'static>> {
        let mut name = [0; NAME_BYTES_MAX];
        name.get_mut(..command.len()).filter(|place| place.len() < NAME_BYTES_MAX)?.copy_from_slice(command.as_bytes());
        let mut raw_args = RAW_ARGUMENTS.take();
        raw_args.clear();
        ARGUMENTS.with_borrow_mut(|arguments| {
            arguments.clear();
            arguments.extend(args.into_iter().map(OwnedString::new));
            raw_args.extend(arguments.iter().map(OwnedString::as_raw));
        });
        let format = match mode {
            CallMode::Internal => c"Ev",
            CallMode::AsClient => c"!CE0Mv",
        };
        OWN_CALL.set(true);
        // SAFETY: the context is valid (type invariant), the strings are NUL-terminated, and `v` takes a pointer to that many live string
        // objects and their count; the server takes its own references to them.
        let reply = unsafe {
            api!(ValkeyModule_Call)(
                self.as_raw(),
                name.as_ptr().cast(),
                format.as_ptr(),
                raw_args.as_mut_ptr(),
                raw_args.len(),
            )
        };
        take_own_call();
        RAW_ARGUMENTS.set(raw_args);
        NonNull::new(reply).map(|raw| Reply { raw, owned: true, outer: PhantomData })
    }

    /// Answers the context's client with what a command answered, byte for byte.
    pub fn reply_with(self, reply: &Reply<'_>) {
        // SAFETY: context and reply are valid (type invariants).
        unsafe { api!(ValkeyModule_ReplyWithCallReply)(self.as_raw(), reply.raw.as_ptr()) };
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

    /// An element of an element of an array.
    pub fn element_of_element(&self, outer: usize, inner: usize) -> Option<Reply<'_>> {
        let raw = self.element(outer)?.element(inner)?.raw;
        // Both belong to this reply, which the returned lifetime keeps borrowed.
        Some(Reply { raw, owned: false, outer: PhantomData })
    }

    /// Key and value of a map's entry.
    pub fn map_element(&self, index: usize) -> Option<(Reply<'_>, Reply<'_>)> {
        if self.kind() != ReplyKind::Map {
            return None;
        }
        let (mut key, mut value) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: the reply is a map (checked), an index behind its end is answered with an error, and both places are live. Key and value
        // belong to this reply, which the returned lifetime keeps borrowed.
        unsafe { api!(ValkeyModule_CallReplyMapElement)(self.raw.as_ptr(), index, &raw mut key, &raw mut value) };
        let part = |raw| NonNull::new(raw).map(|raw| Reply { raw, owned: false, outer: PhantomData });
        Some((part(key)?, part(value)?))
    }

    /// An element of an array or set.
    pub fn element(&self, index: usize) -> Option<Reply<'_>> {
        // SAFETY: the reply is valid (type invariant).
        let kind = unsafe { api!(ValkeyModule_CallReplyType)(self.raw.as_ptr()) } as isize;
        // SAFETY: the reply is of the type that each function takes, and an index behind its end is answered with null. The element belongs to this reply,
        // which the returned lifetime keeps borrowed; its handle does not free it.
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
