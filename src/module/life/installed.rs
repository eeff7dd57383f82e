//! How the main thread hears what has become of a base, and what follows from it.

use super::base::{Base, answer};
use crate::ffi::{Level, log, wake_event_loop};
use crate::log::LogError;
use crate::module::points::{self, Point};
use crate::module::with;
use crossbeam::channel::{Receiver, bounded};

/// What has become of a base that was to be put in place.
type Installed = Result<(), LogError>;

/// What the log's thread is to do when a base is in place, or will not be, and how the main thread hears of it.
pub(super) fn installed() -> (impl FnOnce(Installed) + Send, Receiver<Installed>) {
    let (report, outcome) = reported();
    let on_done = move |outcome: Installed| {
        if outcome.is_ok() {
            points::reach(Point::BaseInstalled);
        }
        report(outcome);
    };
    (on_done, outcome)
}

/// How one of the log's threads reports to the main thread, and where that finds it.
pub(super) fn reported<T: Send + 'static>() -> (impl FnOnce(T) + Send + 'static, Receiver<T>) {
    let (sender, reported) = bounded(1);
    let report = move |what| {
        // A caller that has given up, or has left the log, does not listen, and has had the file removed.
        let _ = sender.send(what);
        wake_event_loop();
    };
    (report, reported)
}

/// A base is in place, or failed.
pub(super) fn ended(outcome: Result<(), String>) {
    match &outcome {
        Ok(()) => log(Level::Notice, "a new base is in place; the log before it is removed"),
        Err(reason) => log(Level::Warning, &format!("no new base: {reason}")),
    }
    let asked = with(|module| {
        module.bases.ended(outcome.clone());
        module.end_naming(outcome.is_ok());
        let logging = module.life.logging_mut()?;
        if !matches!(logging.base, Base::Now | Base::Replacing) {
            logging.base = if logging.visible.pending().is_some() { Base::Wanted } else { Base::Idle };
        }
        Some(std::mem::take(&mut logging.asked))
    });
    answer(asked.flatten().unwrap_or_default(), &outcome);
}
