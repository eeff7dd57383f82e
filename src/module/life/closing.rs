//! A thread that closes a replica's log: nobody waits for the disk.

use super::descent::{Descent, Origin};
use super::opening::LogFolder;
use crate::ffi::{Level, log, wake_event_loop};
use crate::log::{LogError, Standing};
use crate::module::points::{self, Point};
use crate::module::release::Release;
use std::sync::Arc;
use std::thread::JoinHandle;

/// A log that is being closed.
pub(super) struct Closing {
    pub(super) standing: Standing,
    log: Arc<Release>,
    thread: JoinHandle<Result<LogFolder, LogError>>,
}

/// What has become of a log that was closed.
pub(super) struct Closed {
    /// Its folder; `None` where that was lost, because the log could not be closed.
    pub(super) folder: Option<LogFolder>,
    /// The mark that it is still owed.
    pub(super) owed: Option<Standing>,
}

impl Closing {
    /// Begins to close a log, which counts for this at the next start.
    ///
    /// # Errors
    /// There is no thread; what is not durable is lost. The mark that the log is owed.
    pub(super) fn begin(log: Arc<Release>, standing: Standing) -> Result<Closing, Option<Standing>> {
        let (closed, wanted) = (log.clone(), standing.clone());
        let close = move || {
            points::reach(Point::LogCloses);
            let folder = closed.log().close_as(wanted);
            points::reach(Point::LogClosed);
            // Another log may wait for the folder.
            wake_event_loop();
            folder
        };
        match std::thread::Builder::new().name("wbl-close".into()).spawn(close) {
            Ok(thread) => Ok(Closing { standing, log, thread }),
            Err(_) => Err(owed(&log, standing)),
        }
    }

    /// Whether it is done.
    pub(super) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for it.
    pub(super) fn join(self) -> Closed {
        let error = match self.thread.join() {
            Ok(Ok(folder)) => {
                let owed = folder.seal_error().map(|_| self.standing);
                return Closed { folder: Some(folder), owed };
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "its thread has ended".into(),
        };
        log(Level::Warning, &format!("the replica's log could not be closed, and ends before that: {error}"));
        Closed { folder: None, owed: owed(&self.log, self.standing) }
    }

    /// What is known of the dataset in memory, whatever becomes of the folder's handle.
    pub(super) fn descent(log: &Release, origin: Origin) -> Descent {
        let mut descent = Descent::unknown().or_own(log.log().generation());
        descent.set_origin(origin);
        descent
    }
}

/// The mark that a log is owed which could not be closed: a start would find it, unless nobody relies on it yet.
pub(super) fn owed(log: &Release, standing: Standing) -> Option<Standing> {
    log.log().is_visible().then_some(standing)
}
