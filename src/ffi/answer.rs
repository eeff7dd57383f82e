//! What a blocked client is answered.

use super::context::Ctx;
use super::reply::{Reply, ReplyKind};
use std::ffi::c_void;

/// What a client that was blocked for an answer gets: the server takes it with the release, and gives it back on the
/// main thread.
pub(super) enum Answer {
    /// What a command answered.
    Reply(Reply<'static>),
    /// An error of the module's own.
    Error(String),
    /// An array of two numbers.
    Pair([i64; 2]),
    /// What the module writes.
    Written(Box<dyn Fn(Ctx<'_>) + Send>),
}

// SAFETY: between threads only the answer as a whole moves; its reply is read and freed under the server's global lock.
unsafe impl Send for Answer {}

impl Answer {
    /// Answers the context's client with it.
    pub(super) fn send(&self, ctx: Ctx<'_>) {
        match self {
            Answer::Error(text) => ctx.reply_error(text),
            Answer::Pair(numbers) => ctx.reply_integers(numbers),
            Answer::Written(write) => write(ctx),
            Answer::Reply(reply) if reply.kind() == ReplyKind::Error && ctx.reply_with_error_of(reply) => {}
            Answer::Reply(reply) => ctx.reply_with(reply),
        }
    }

    /// For ValkeyModule_UnblockClient, whose callbacks then own it.
    pub(super) fn into_raw(self) -> *mut c_void {
        Box::into_raw(Box::new(self)).cast()
    }

    /// Looks at an answer that the server has.
    ///
    /// # Safety
    /// `raw` came from `into_raw` and lives as long as the result is used, or is null.
    pub(super) unsafe fn borrow_raw<'a>(raw: *const c_void) -> Option<&'a Answer> {
        // SAFETY: see the function's contract.
        unsafe { raw.cast::<Answer>().as_ref() }
    }

    /// Takes an answer back.
    ///
    /// # Safety
    /// `raw` came from `into_raw`, and nothing else uses it from now on; or it is null.
    pub(super) unsafe fn free_raw(raw: *mut c_void) {
        if !raw.is_null() {
            // SAFETY: see the function's contract.
            drop(unsafe { Box::from_raw(raw.cast::<Answer>()) });
        }
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an answer")
    }
}
