//! Going on after a disk has failed.
//!
//! A flush that fails may have lost what was written, while the system calls the bytes clean: a later flush of the same
//! file would succeed, and not report them. So the file is given up. A new segment begins where everything is durable,
//! and what was written after that place goes to the new one, from memory. The manifest names the new segment after the
//! old one, which gets no seal: its end is where the new one begins, and what it holds beyond is void.
//!
//! What if it crashes here, step by step:
//! 1. The rest of the old segment is cut, unless that fails: a start finds it with or without frames that were never
//!    acknowledged, as after any crash between writing and flushing.
//! 2. The new segment is created, as for a rotation: a file without frames that no manifest names.
//! 3. The manifest is replaced: the old one, with what step 1 left; or the new one, with just what is durable. If this
//!    fails, it is unknown which of the two a start will find. Then nothing is written to the new segment, and nothing
//!    is removed: each manifest that may be there finds its files. The next try writes another manifest, with another
//!    new segment.
//! 4. Frames are written to the new segment as to any other.

use super::{LogWriter, StepError};
use crate::log::error::LogError;
use crate::log::lsn::Lsn;
use crate::log::storage::Storage;
use std::sync::Arc;

impl<S: Storage> LogWriter<S> {
    /// Whether the failure is one that may pass: of the disk, in a log that a start finds in any case.
    pub fn can_go_on(&self) -> bool {
        let is_named = self.folder.generation() == Some(self.log.generation);
        is_named && self.failure().is_some_and(|first| matches!(**first, LogError::Io { .. }))
    }

    /// Goes on after a failure: in a new segment, which begins where all is durable. Returns that position; what was
    /// appended after it is to be appended again. Flushes that are still under way do not count.
    ///
    /// # Errors
    /// It fails again, or finally.
    pub fn go_on(&mut self) -> Result<Lsn, LogError> {
        if self.failure().is_some() {
            if !self.can_go_on() {
                self.check_usable()?;
            }
            self.begin_again().map_err(|error| match error {
                StepError::Untouched(error @ LogError::Io { .. }) | StepError::Fatal(error @ LogError::Io { .. }) => {
                    error
                }
                StepError::Untouched(error) | StepError::Fatal(error) => self.fail_for_good(error),
            })?;
        }
        Ok(self.durable)
    }

    fn fail_for_good(&mut self, error: LogError) -> LogError {
        let error = Arc::new(error);
        self.failure = Some(Arc::clone(&error));
        LogError::Failed(error)
    }

    fn begin_again(&mut self) -> Result<(), StepError> {
        let storage = self.storage();
        self.current.check_place(&*storage).map_err(StepError::Untouched)?;
        self.current.give_up_rest();
        let mut removed = self.expendable.removed();
        let next = loop {
            match self.create_next(false) {
                Err(StepError::Untouched(error))
                    if error.is_no_room() && self.expendable.make_room(&mut removed, &error) => {}
                outcome => break outcome?,
            }
        };
        let mut log = self.log.clone();
        let old = self.current.name.clone();
        // A segment in which nothing is durable is replaced, so that failures do not pile them up.
        let is_replaced = self.current.first == self.durable;
        if is_replaced {
            log.segments.pop();
        }
        log.segments.push(next.named(false));
        self.store(&log, Some(&next.name))?;
        self.log = log;
        self.set_current(next);
        self.flights.give_up();
        self.failure = None;
        self.measure();
        let doubtful = std::mem::take(&mut self.doubtful);
        self.folder.leftovers.extend(doubtful.into_iter().chain(is_replaced.then_some(old)));
        Ok(())
    }
}
