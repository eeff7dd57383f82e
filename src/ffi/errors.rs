//! Error replies of commands that the module ran for a client that waits.
//!
//! The server counts errors when they are replied to a client (`INFO errorstats`), and the module's own clients do not
//! count. What ReplyWithCallReply would count is lost where a blocked command was run again, and is not limited for
//! errors that scripts make up.

use super::context::Ctx;
use super::optional::find;
use super::reply::Reply;
use std::ffi::{CString, c_char, c_int};
use std::sync::OnceLock;
use valkey_module::raw;

type ReplyWithCustomError = unsafe extern "C" fn(*mut raw::ValkeyModuleCtx, c_int, *const c_char, ...) -> c_int;

/// Counts the error as one made by a script: servers from 9.1 on have it.
static REPLY_WITH_CUSTOM_ERROR: OnceLock<Option<ReplyWithCustomError>> = OnceLock::new();

/// Looks for functions that not every server has. Once, at load, after ValkeyModule_Init.
pub(super) fn find_optional_functions() {
    // SAFETY: the function has this type.
    REPLY_WITH_CUSTOM_ERROR.get_or_init(|| unsafe { find(c"ValkeyModule_ReplyWithCustomErrorFormat") });
}

impl Ctx<'_> {
    /// Answers the context's client with an error that a command answered, and has it counted. `false` when the text
    /// cannot be an error reply.
    pub(super) fn reply_with_error_of(self, reply: &Reply<'_>) -> bool {
        let Ok(text) = CString::new(reply.bytes()) else { return false };
        // SAFETY: the context is valid (type invariant), the strings are NUL-terminated, and the format takes one
        // string.
        unsafe {
            match REPLY_WITH_CUSTOM_ERROR.get().copied().flatten() {
                Some(reply_with) => reply_with(self.as_raw(), 1, c"%s".as_ptr(), text.as_ptr()),
                None => api!(ValkeyModule_ReplyWithError)(self.as_raw(), text.as_ptr()),
            };
        }
        true
    }
}
