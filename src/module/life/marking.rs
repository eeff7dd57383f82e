//! A thread that marks a log in its manifest: nobody waits for the disk.

use super::opening::LogFolder;
use super::own_file::is_lacking;
use crate::ffi::{Level, log};
use crate::log::{LogError, Standing};
use crate::module::points::{self, Point};
use crossbeam::channel::bounded;
use std::thread::JoinHandle;

/// A thread that marks a log.
pub(super) struct Marking {
    /// What it marks the log as.
    pub(super) standing: Standing,
    /// Whether the folder must be reopened before another log begins there.
    pub(super) is_stale: bool,
    thread: JoinHandle<Option<Marked>>,
}

/// The folder, and what became of the mark.
type Marked = (Box<LogFolder>, Result<(), LogError>);

impl Marking {
    /// Begins to mark the folder's log.
    ///
    /// # Errors
    /// The folder, where there is no thread.
    pub(super) fn begin(
        folder: Box<LogFolder>,
        standing: Standing,
        is_stale: bool,
    ) -> Result<Box<Marking>, Box<LogFolder>> {
        let (sender, receiver) = bounded::<Box<LogFolder>>(1);
        let wanted = standing.clone();
        let work = move || {
            let mut folder = receiver.recv().ok()?;
            let supersedes = wanted.is_superseded();
            if supersedes {
                points::reach(Point::Supersedes);
            }
            let marked = folder.mark(wanted);
            if supersedes {
                points::reach(Point::Superseded);
            }
            Some((folder, marked))
        };
        match std::thread::Builder::new().name("wbl-mark".into()).spawn(work) {
            Ok(thread) => match sender.send(folder) {
                Ok(()) => Ok(Box::new(Marking { standing, is_stale, thread })),
                Err(unsent) => Err(unsent.into_inner()),
            },
            Err(_) => Err(folder),
        }
    }

    /// Whether it is done.
    pub(super) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for it. `None` where the thread has panicked, and lost the folder.
    pub(super) fn join(self) -> Option<Marked> {
        self.thread.join().ok()?
    }
}

/// Reports that a mark could not be made.
pub(super) fn tell_unmarked(error: &impl std::fmt::Display) {
    tell("a start before it is noted would bring the log back", error);
}

/// The same of another mark for this folder's log.
pub(super) fn tell_unmarked_in(folder: &LogFolder, error: &LogError) {
    if folder.left().is_some_and(is_lacking) {
        tell(
            "its mark still says that the log has more, so that a start as a primary takes nothing else for newer",
            error,
        );
    } else {
        tell_unmarked(error);
    }
}

fn tell(until_then: &str, error: &impl std::fmt::Display) {
    log(
        Level::Warning,
        &format!("it can't be noted that the server goes on without the folder's log: {until_then}: {error}"),
    );
}
