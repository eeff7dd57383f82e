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
    thread: JoinHandle<Result<LogFolder, LogError>>,
}

/// A folder whose log was closed, and the mark that it is still owed.
pub(super) struct Closed {
    pub(super) folder: LogFolder,
    pub(super) owed: Option<Standing>,
}

impl Closing {
    /// Begins to close a log, which counts for this at the next start.
    ///
    /// # Errors
    /// There is no thread; what is not durable is lost.
    pub(super) fn begin(log: Arc<Release>, standing: Standing) -> Option<Closing> {
        let wanted = standing.clone();
        let close = move || {
            points::reach(Point::LogCloses);
            let folder = log.log().close_as(wanted);
            points::reach(Point::LogClosed);
            // Another log may wait for the folder.
            wake_event_loop();
            folder
        };
        let thread = std::thread::Builder::new().name("wbl-close".into()).spawn(close).ok()?;
        Some(Closing { standing, thread })
    }

    /// Whether it is done.
    pub(super) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for it. `None` where the folder is lost.
    pub(super) fn join(self) -> Option<Closed> {
        match self.thread.join() {
            Ok(Ok(folder)) => {
                let owed = folder.seal_error().map(|_| self.standing);
                Some(Closed { folder, owed })
            }
            Ok(Err(error)) => {
                log(Level::Warning, &format!("the replica's log could not be closed, and ends before that: {error}"));
                None
            }
            Err(_) => None,
        }
    }

    /// What is known of the dataset in memory, whatever becomes of the folder's handle.
    pub(super) fn descent(log: &Release, origin: Origin) -> Descent {
        let mut descent = Descent::unknown().or_own(log.log().generation());
        descent.set_origin(origin);
        descent
    }
}
