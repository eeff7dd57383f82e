//! What becomes of the server where there can be no log, or none any more.

use super::cause::Cause;
use super::rest::Rest;
use super::state::{Failing, Life, Until};
use super::visible::IfLost;
use crate::ffi::{Ctx, Level, exit_now, log};
use crate::module::{Module, refusal, server, with};

/// Ends the process: nothing else keeps the promise. For a recovery that fails at the start, and for a visible log that
/// fails.
pub(super) fn fatal(what: &str, reason: &str) -> ! {
    log(Level::Warning, &format!("{what}: {reason}"));
    exit_now(1)
}

/// The log cannot begin. The server lives on, and takes no writes. Where the disk is the cause, a log is tried again by
/// itself.
pub(super) fn fail(ctx: Ctx<'_>, cause: Cause, rest: Rest) {
    match cause {
        Cause::Disk(reason) => fail_for_now(ctx, reason, rest),
        Cause::Other(reason) => {
            let failing = Failing::new(reason, rest.supersede_if_sent(), server::has_data(ctx));
            refuse_and_tell(ctx, failing);
        }
    }
}

/// The same, whatever the cause is: a log is tried again by itself.
pub(super) fn fail_for_now(ctx: Ctx<'_>, reason: String, rest: Rest) {
    let failing = Failing::until_disk_is_back(reason, rest.supersede_if_sent(), server::has_data(ctx));
    refuse_and_tell(ctx, failing);
}

fn refuse_and_tell(ctx: Ctx<'_>, failing: Failing) {
    if ctx.flags().is_replica() {
        return serve_as_replica(failing);
    }
    let advice = match failing.until {
        _ if failing.is_less() => "Reads and writes are refused, and nobody may copy this server",
        Until::DiskIsBack => "Writes are refused until that works, which is tried again by itself",
        _ => "Writes are refused; when that is mended, set wbl.enabled to no and to yes again",
    };
    log(Level::Warning, &format!("the log can't begin: {}. {advice}", failing.reason));
    refuse(ctx, failing);
}

/// The server has become a replica in the unit that can't be logged: nothing of its own is kept, and what its primary
/// sends gets a log in its time.
fn serve_as_replica(failing: Failing) {
    let reason = &failing.reason;
    log(Level::Warning, &format!("the log can't go on: {reason}. The server is a replica by now, and serves as one"));
    with(|module| module.life = Life::Replica(failing.rest));
}

/// The same for as long as a thread has the folder.
pub(super) fn fail_until_free(ctx: Ctx<'_>, rest: Rest) {
    let failing = Failing::until_free(rest, server::has_data(ctx));
    log(Level::Notice, &format!("the log can't begin yet: {}. Writes are refused until then", failing.reason));
    refuse(ctx, failing);
}

fn refuse(ctx: Ctx<'_>, failing: Failing) {
    with(|module| module.life = Life::Failing(failing));
    refusal::begin(ctx);
}

/// Ends the process if a log has failed that replies wait for.
pub(in crate::module) fn end_if_failed() {
    if let Some(Some((error, None))) = with(Module::failed_log) {
        end_process(&error);
    }
}

impl Module {
    /// The failure of the log, and, unless a start would find that log, what becomes of the server.
    pub(super) fn failed_log(&mut self) -> Option<(String, Option<IfLost>)> {
        let logging = self.life.logging()?;
        let error = logging.log.log().error()?;
        let pending = logging.visible.pending().filter(|_| !logging.log.log().is_visible());
        let if_lost = match pending {
            _ if logging.following.is_some() => Some(IfLost::ServesOn),
            pending => pending.map(|pending| pending.if_lost),
        };
        Some((error.to_string(), if_lost))
    }
}

/// Replies wait for a log that has failed.
pub(super) fn end_process(error: &str) -> ! {
    log(
        Level::Warning,
        &format!("the log can't be written: {error}. Exiting, because nothing can be acknowledged any more."),
    );
    exit_now(1)
}
