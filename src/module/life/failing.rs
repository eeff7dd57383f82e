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
    refuse(ctx, Failing::new(reason, rest));
}

/// The same for as long as a thread has the folder.
pub(super) fn fail_until_free(ctx: Ctx<'_>, rest: Rest) {
    let failing = Failing::until_free(rest);
    log(Level::Notice, &format!("the log can't begin yet: {}. Writes are refused until then", failing.reason));
    refuse(ctx, failing);
}

fn refuse(ctx: Ctx<'_>, failing: Failing) {
    with(|module| module.life = Life::Failing(failing));
    refusal::begin(ctx);
}
