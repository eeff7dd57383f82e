//! What becomes of the server where there can be no log.

use super::rest::Rest;
use super::state::{Failing, Life};
use crate::ffi::{Ctx, Level, exit_now, log};
use crate::module::{refusal, with};

/// Ends the process: nothing else keeps the promise. For a recovery at the start, and for a visible log that fails.
pub(super) fn fatal(what: &str, reason: &str) -> ! {
    log(Level::Warning, &format!("{what}: {reason}"));
    exit_now(1)
}

/// The log cannot begin. The server lives on, and takes no writes.
pub(super) fn fail(ctx: Ctx<'_>, reason: String, rest: Rest) {
    log(
        Level::Warning,
        &format!(
            "the log can't begin: {reason}. Writes are refused; when that is mended, set wbl.enabled to no and to yes again"
        ),
    );
    with(|module| module.life = Life::Failing(Failing::new(reason, rest)));
    refusal::begin(ctx);
}
