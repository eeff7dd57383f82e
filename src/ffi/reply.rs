//! What the server's commands answer.

use super::context::Ctx;
use std::marker::PhantomData;
use std::ptr::NonNull;
use valkey_module::raw;

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
    /// None, and none will come: the server made a command wait that was about to run again (CLIENT PAUSE), and has
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

impl Reply<'static> {
    /// Takes over a reply that the server passed to a callback.
    ///
    /// # Safety
    /// `raw` is a reply that the callback owns, or null.
    pub(super) unsafe fn from_raw(raw: *mut raw::ValkeyModuleCallReply) -> Option<Reply<'static>> {
        NonNull::new(raw).map(|raw| Reply { raw, owned: true, outer: PhantomData })
    }

    /// The reply as a promise; the reply itself when it is not one.
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

    /// How many bytes it has, as it is sent.
    pub fn sent_bytes(&self) -> usize {
        let mut len = 0;
        // SAFETY: the reply is valid (type invariant) and `len` is a live integer.
        unsafe { api!(ValkeyModule_CallReplyProto)(self.raw.as_ptr(), &raw mut len) };
        len
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
        self.0.sent_bytes()
    }
}

/// The answer of a command that blocks: its reply is still to come. Used only under the server's global lock.
pub struct Promise(NonNull<raw::ValkeyModuleCallReply>);

// SAFETY: a promise is memory of the server that is only touched under its global lock, which every caller holds, on
// whatever thread.
unsafe impl Send for Promise {}

impl Promise {
    /// Has [`super::Handlers::promise_kept`] called with the reply, when there is one, and this number.
    pub fn on_answer(&self, call: u64) {
        let data = std::ptr::without_provenance_mut(usize::try_from(call).unwrap_or(0));
        let callback = Some(super::shells::promise_kept as _);
        // SAFETY: the promise is live (owned); the private data is a number only.
        unsafe { api!(ValkeyModule_CallReplyPromiseSetUnblockHandler)(self.0.as_ptr(), callback, data) };
    }

    /// The command must no longer run. Nothing happens if its wait has ended; its reply may then still come.
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

impl Ctx<'_> {
    /// Answers the context's client with what a command answered, byte for byte.
    pub fn reply_with(self, reply: &Reply<'_>) {
        // SAFETY: context and reply are valid (type invariants).
        unsafe { api!(ValkeyModule_ReplyWithCallReply)(self.as_raw(), reply.raw.as_ptr()) };
    }
}
