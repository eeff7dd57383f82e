//! A dataset that is replaced from outside: a new log begins.

use super::base::{Base, answer};
use super::begin::begin_log;
use super::checkpoint::{ended, write_here};
use super::end::stop_log;
use super::failing::fail;
use super::rest::{NoLog, Rest};
use super::visible::{IfLost, Visible};
use super::{follow, leave, naming};
use crate::ffi::{Ctx, LoadingPhase};
use crate::log::Begin;
use crate::module::with;

/// The whole dataset is being replaced from outside (DEBUG RELOAD, another module): no unit reports how.
pub(in crate::module) fn dataset_loading(ctx: Ctx<'_>, phase: LoadingPhase) {
    if with(|module| module.life.follows()) == Some(true) {
        return match phase {
            LoadingPhase::Started => follow::stop_base(),
            LoadingPhase::Ended => leave::replaced(ctx),
            // What was there before stays.
            LoadingPhase::Failed => {}
        };
    }
    if with(|module| module.life.logs()) != Some(true) {
        return;
    }
    if phase == LoadingPhase::Started {
        naming::settle();
        with(|module| {
            let Some(logging) = module.life.logging_mut() else { return };
            // What a child saves is the dataset before.
            let base = std::mem::replace(&mut logging.base, Base::Replacing);
            base.stop(&logging.log);
        });
        return;
    }
    // What was captured is void: it belongs to a dataset that will never be recovered.
    with(|module| module.capture.clear());
    if let Err((reason, rest)) = begin_anew(ctx) {
        // What was acknowledged is in the log before.
        fail(ctx, format!("the dataset was replaced from outside, and {reason}"), rest);
    }
}

/// Begins a new log with a base of the present dataset, before any other command runs and any reply leaves. It takes as
/// long as the loading before it. Until it is there the log before stays valid, with all that was acknowledged.
///
/// # Errors
/// Why there is no log now.
pub(super) fn begin_anew(ctx: Ctx<'_>) -> Result<(), NoLog> {
    naming::settle();
    let asked = with(|module| {
        module.hand_over();
        let logging = module.life.logging_mut()?;
        if matches!(logging.visible, Visible::WithItsBase(_)) {
            // Nothing is promised yet; what was logged comes before the base, whenever that is written.
            logging.base = Base::Wanted;
            module.bases.retry_now();
            logging.log.log().resume();
            return None;
        }
        Some(std::mem::take(&mut logging.asked))
    });
    let Some(Some(asked)) = asked else { return Ok(()) };
    let Some(rest) = stop_log(ctx) else { return Ok(()) };
    let outcome = begin_log(ctx, rest, Some(Begin::WaitsForBase), IfLost::RefusesWrites).and_then(|()| {
        let release = with(|module| module.log().cloned()).flatten();
        let written = release.ok_or_else(|| "there is no log".into()).and_then(|release| write_here(ctx, &release));
        written.map_err(|reason| (reason, stop_log(ctx).unwrap_or_else(Rest::unopened)))
    });
    let written = outcome.as_ref().map(drop).map_err(|(reason, _)| reason.clone());
    match &written {
        Ok(()) => ended(Ok(())),
        Err(_) => {
            with(|module| module.bases.ended(written.clone()));
        }
    }
    answer(asked, &written);
    outcome
}
