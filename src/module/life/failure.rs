//! A log that fails while it is written. What follows depends on what was promised of it.

use super::failing::{end_process, fail_for_now};
use super::state::{Failing, Life};
use super::visible::IfLost;
use super::{end, leave};
use crate::ffi::{Ctx, Level, log};
use crate::module::units::finish_unit;
use crate::module::{Module, disk, history, server, shortage, with};

/// Checks whether the log has failed.
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

/// No start would find the log, so nobody relies on it. Its files are removed: they may be what the disk has no room
/// for.
fn give_up(ctx: Ctx<'_>, error: &str, if_lost: IfLost) {
    if with(|module| module.life.follows()) == Some(true) {
        return leave::give_up(ctx, error);
    }
    finish_unit(ctx);
    // The last step of naming it may have failed, and a start would find it after all: looks at what is there now.
    let Some(rest) = end::stop(ctx) else { return };
    let rest = rest.without_leftovers().left_behind(ctx).supersede_if_sent();
    let reason = format!("the log failed before its first base was in place: {error}");
    with(|module| module.bases.ended(Err(reason.clone())));
    if if_lost == IfLost::RefusesWrites {
        return fail_for_now(ctx, reason, rest);
    }
    log(
        Level::Warning,
        &format!(
            "{reason}. The server goes on without a log, as nothing was promised of it; when that is mended, set wbl.enabled to no and to yes again"
        ),
    );
    with(|module| module.life = Life::GivenUp(Failing::new(reason, rest, server::has_data(ctx))));
}
