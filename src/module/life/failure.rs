//! A log that fails while it is written. What that means is what was promised of it.

use super::end;
use super::failing::fail;
use super::follow;
use super::state::{Failing, IfLost, Life, Visible};
use crate::ffi::{Ctx, Level, exit_now, log};
use crate::module::units::finish_unit;
use crate::module::{Module, disk, history, shortage, with};

/// Looks whether the log has failed.
pub(super) fn poll(ctx: Ctx<'_>) {
    disk::watch();
    shortage::watch(ctx);
    history::watch();
    if with(|module| module.log().is_some_and(|log| log.has_failed())) != Some(true) {
        return;
    }
    let Some(Some((error, if_lost))) = with(Module::failed_log) else { return };
    match if_lost {
        None => end_process(&error),
        Some(if_lost) => give_up(ctx, &error, if_lost),
    }
}

/// Ends the process if the log has failed of which replies wait.
pub(in crate::module) fn end_if_failed() {
    if let Some(Some((error, None))) = with(Module::failed_log) {
        end_process(&error);
    }
}

impl Module {
    /// The failure of the log; with it, unless a start would find that log, what becomes of the server.
    fn failed_log(&mut self) -> Option<(String, Option<IfLost>)> {
        let logging = self.life.logging()?;
        let error = logging.log.log().error()?;
        let if_lost = match logging.visible {
            _ if logging.following.is_some() => Some(IfLost::ServesOn),
            Visible::WithItsBase { if_lost, .. } => Some(if_lost),
            Visible::Yes => None,
        };
        Some((error.to_string(), if_lost))
    }
}

fn end_process(error: &str) -> ! {
    log(
        Level::Warning,
        &format!("the log can't be written: {error}. Exiting, as nothing can be acknowledged any more."),
    );
    exit_now(1)
}

/// No start would find the log, so that nobody relies on it. Its files are removed: they may be what the disk has no
/// room for.
fn give_up(ctx: Ctx<'_>, error: &str, if_lost: IfLost) {
    if with(|module| module.life.follows()) == Some(true) {
        return follow::give_up(ctx, error);
    }
    finish_unit(ctx);
    // The last step of naming it may have failed, so that a start finds it after all: what is there now is looked at.
    let Some(rest) = end::stop(ctx) else { return };
    let rest = rest.without_leftovers().left_behind(ctx);
    let reason = format!("the log failed before its first base was in place: {error}");
    with(|module| module.bases.ended(Err(reason.clone())));
    if if_lost == IfLost::RefusesWrites {
        return fail(ctx, reason, rest);
    }
    log(
        Level::Warning,
        &format!(
            "{reason}. The server goes on without a log, as nothing was promised of it; when that is mended, set wbl.enabled to no and to yes again"
        ),
    );
    with(|module| module.life = Life::GivenUp(Failing::new(reason, rest)));
}
