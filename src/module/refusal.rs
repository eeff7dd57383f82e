//! Writes while the log cannot begin: each is refused, as none could be kept.
//!
//! The filter turns a write into a command of the module that answers with the reason: also in scripts, in transactions
//! that are queued meanwhile, and in what other modules call.

use crate::ffi::{Ctx, Filter};
use crate::module::{Module, errors, with};
use std::ffi::CStr;

/// The command that refused writes become.
pub(super) const REFUSED: &CStr = c"wbl.refused";

impl Module {
    /// Whether the server marks the command as a write.
    pub(super) fn is_write(&self, filter: &Filter) -> bool {
        self.known(filter.arg(0), filter.arg(1)).writes
    }
}

/// WBL.REFUSED command...
pub(super) fn refused(ctx: Ctx<'_>, _args: &[&[u8]]) {
    ctx.reply_error(&text());
}

/// What a client is told.
pub(super) fn text() -> String {
    let reason = with(|module| module.life.failure().map(String::from)).flatten();
    match reason {
        Some(reason) => errors::no_log(&reason),
        // The log has begun since the command was queued.
        None => errors::no_log("the log could not begin when the command was queued"),
    }
}

/// What a client is told whose command needs a log.
pub(super) fn no_log_text() -> String {
    let reason = with(|module| module.life.failure().map(String::from)).flatten();
    reason.map_or_else(|| errors::NOT_ENABLED.into(), |reason| errors::without_log(&reason))
}
