//! What the end of each iteration of the event loop does for the log's life.

use super::base::Base;
use super::opening::open_folder;
use super::state::{Life, Logging, Until};
use super::{begin, checkpoint, enable, failure, follow, leave, load, replaced, role, start};
use crate::ffi::Ctx;
use crate::module::{own_aof, with};
use std::time::Duration;

/// How soon, at the latest, a log whose disk has failed is tried again.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

enum Work {
    None,
    Start,
    Rest,
    Base,
    BaseNow,
    NewBase,
}

/// Work of the event loop's end that is not tied to units: the first recovery, bases, marks.
pub fn before_sleep(ctx: Ctx<'_>) {
    failure::poll(ctx);
    own_aof::poll(ctx);
    enable::disable_if_unwanted(ctx);
    role::follow_as_replica(ctx);
    leave::watch_pending(ctx);
    let work = with(|module| {
        module.arrival = None;
        if let Life::Logging(Logging { base: Base::Idle, log, .. }) = &module.life {
            module.bases.relief.settle(log.log());
        }
        match &module.life {
            Life::Starting(_) => Work::Start,
            Life::Disabled(_) | Life::GivenUp(_) | Life::Failing(_) | Life::Replica(_) => Work::Rest,
            Life::Logging(logging) => match logging.base {
                Base::Idle if logging.has_outgrown_base(&module.bases) => Work::NewBase,
                Base::Idle | Base::Replacing => Work::None,
                Base::Now => Work::BaseNow,
                _ => Work::Base,
            },
            _ => Work::None,
        }
    });
    match work.unwrap_or(Work::None) {
        Work::None => {}
        Work::Start => {
            let life = with(|module| module.life.change());
            if let Some(Life::Starting(found)) = life {
                start::start(ctx, *found);
            }
        }
        Work::Rest => {
            if !ctx.flags().has_active_child() {
                load::note_older_save(ctx);
            }
            poll_rest();
            begin_in_time(ctx);
            if with(|module| matches!(module.life, Life::Replica(_))) == Some(true) {
                role::notice_promotion(ctx);
                follow::begin(ctx);
            }
        }
        Work::Base => {
            checkpoint::poll(ctx);
            checkpoint::start::start(ctx);
        }
        Work::NewBase => checkpoint::start::start_by_itself(ctx),
        Work::BaseNow => replaced::begin_anew_now(ctx),
    }
}

/// Begins the log of a primary that has none yet, if it is time.
fn begin_in_time(ctx: Ctx<'_>) {
    let until = with(|module| match &module.life {
        Life::Failing(failing) if !failing.rest.is_busy() => match failing.until {
            Until::DiskIsBack if !module.bases.may_retry(LONGEST_RETRY) => None,
            until => Some(until),
        },
        _ => None,
    });
    match until.flatten() {
        Some(Until::FolderIsFree) => begin::begin_as_primary(ctx),
        Some(Until::DiskIsBack) => begin::begin_again(ctx),
        Some(Until::Asked) | None => {}
    }
}

/// Takes care of marks.
fn poll_rest() {
    let is_missed = with(|module| {
        let rest = module.life.resting_mut()?;
        rest.poll();
        Some(rest.is_missed())
    });
    if is_missed.flatten() == Some(true) {
        let opened = open_folder(Duration::ZERO);
        with(|module| module.life.resting_mut().map(|rest| rest.take_in(opened)));
    }
}
