//! What the end of each iteration of the event loop does for the log's life.

use super::base::Base;
use super::{Failing, Life, base, begin, failure, fatal, role};
use crate::ffi::Ctx;
use crate::module::with;

enum Work {
    None,
    Start,
    Rest,
    Base,
    BaseNow,
}

/// Work of the event loop's end that is not tied to units: the first recovery, bases, marks.
pub fn before_sleep(ctx: Ctx<'_>) {
    failure::poll(ctx);
    let work = with(|module| match &module.life {
        Life::Starting(_) => Work::Start,
        Life::Disabled(Some(_)) | Life::GivenUp(_) | Life::Replica(_) => Work::Rest,
        Life::Logging(logging) => match logging.base {
            Base::Idle | Base::Replacing => Work::None,
            Base::Now => Work::BaseNow,
            _ => Work::Base,
        },
        _ => Work::None,
    });
    match work.unwrap_or(Work::None) {
        Work::None => {}
        Work::Start => {
            let life = with(|module| module.life.change());
            if let Some(Life::Starting(opened)) = life {
                begin::start(ctx, *opened);
            }
        }
        Work::Rest => {
            with(|module| match &mut module.life {
                Life::Disabled(Some(rest)) | Life::GivenUp(Failing { rest: Some(rest), .. }) | Life::Replica(rest) => {
                    rest.poll(ctx)
                }
                _ => {}
            });
            if with(|module| matches!(module.life, Life::Replica(_))) == Some(true) {
                role::notice_promotion(ctx);
            }
        }
        Work::Base => {
            base::poll(ctx);
            base::start(ctx);
        }
        Work::BaseNow => {
            if let Err((reason, _)) = base::begin_anew(ctx) {
                fatal("a change can't be logged, and its replies would leave", &reason);
            }
        }
    }
}
