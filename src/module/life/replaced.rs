//! A dataset that is replaced from outside, and other changes that can't be logged: a new log begins.

use super::base::{Base, answer};
use super::begin::begin_log_anew;
use super::checkpoint::write_here;
use super::end::stop_log;
use super::failing::fail;
use super::installed::ended;
use super::rest::{NoLog, Rest};
use super::visible::Visible;
use super::{follow, leave, naming};
use crate::core::ack::Why;
use crate::core::leaf::ClientId;
use crate::ffi::{Ctx, LoadingPhase};
use crate::module::release::{Waiting, release};
use crate::module::{disk, listening, with};

/// The whole dataset is being replaced from outside (DEBUG RELOAD, another module): no unit reports how. Returns
/// whether it has been, at least in part, and the log lacks that.
pub(in crate::module) fn dataset_loading(ctx: Ctx<'_>, phase: LoadingPhase) -> bool {
    if with(|module| module.life.follows()) == Some(true) {
        match phase {
            LoadingPhase::Started => follow::stop_base(),
            LoadingPhase::Ended => leave::replaced(ctx),
            // What was there before stays.
            LoadingPhase::Failed => {}
        }
        return false;
    }
    let logs = with(|module| module.life.logs()) == Some(true);
    if !logs || phase != LoadingPhase::Started {
        return logs;
    }
    naming::settle();
    with(|module| {
        let Some(logging) = module.life.logging_mut() else { return };
        // What a child saves is the dataset before.
        let base = std::mem::replace(&mut logging.base, Base::Replacing);
        base.stop(&logging.log);
    });
    false
}

/// Does what `request_base_now` has asked for, at the end of a unit. If that fails, nobody gets a reply that shows the
/// change: what was acknowledged is in the log before.
pub(in crate::module) fn begin_anew_now(ctx: Ctx<'_>) {
    let asked = with(|module| {
        let log = module.log().filter(|_| module.needs_base_now())?;
        let limit = log.log().limit()?;
        let held = log.take_waiting_after(limit);
        // The server may be about to serve the others, which no log would have.
        let readers = module.capture.blocked.clients_of_module();
        let shown: Vec<ClientId> = held.iter().map(|(_, waiting)| waiting.client).chain(readers).collect();
        Some((limit, held, shown))
    });
    let Some(Some((limit, held, shown))) = asked else { return };
    let outcome = begin_anew(ctx);
    if outcome.is_err() {
        // The server would let the client whose command runs have its reply before it closes it.
        disk::disconnect(ctx, &shown);
        disk::cut_off_after(ctx, limit);
        // Nor is it reported.
        with(|module| module.notices.take_all());
        listening::demoted();
    }
    let durable = with(|module| module.log().filter(|_| module.life.withholds()).map(|log| log.log().durable()));
    for (waits_for, Waiting { held, .. }) in held {
        let why = match (&outcome, durable.flatten()) {
            (Err(_), _) => Why::Left,
            (Ok(()), Some(durable)) => Why::Durable { waits_for, durable },
            (Ok(()), None) => Why::NotActive,
        };
        release(held, why);
    }
    if let Err((cause, rest)) = outcome {
        fail(ctx, cause.told(|reason| format!("a change can't be logged, and {reason}")), rest);
    }
}

/// Begins a new log with a base of the present dataset, before any other command runs and any reply leaves. Until it is
/// there the log before stays valid, with all that was acknowledged.
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
            logging.log.log().lift_limit();
            return None;
        }
        Some(std::mem::take(&mut logging.asked))
    });
    let Some(Some(asked)) = asked else { return Ok(()) };
    let Some(rest) = stop_log(ctx) else { return Ok(()) };
    let outcome = begin_log_anew(ctx, rest).and_then(|()| {
        let release = with(|module| module.log().cloned()).flatten();
        let written = release.ok_or_else(|| "there is no log".into()).and_then(|release| write_here(ctx, &release));
        written.map_err(|cause| (cause, stop_log(ctx).unwrap_or_else(Rest::unopened)))
    });
    let written = outcome.as_ref().map(drop).map_err(|(cause, _)| cause.to_string());
    match &written {
        Ok(()) => ended(Ok(())),
        Err(_) => {
            with(|module| {
                module.forget_captured();
                module.bases.ended(written.clone());
            });
        }
    }
    answer(asked, &written);
    outcome
}
