//! Copies of a log that is written: backups, and the history that a base replaces.

use super::LogWriter;
use crate::log::error::LogError;
use crate::log::format::manifest::Manifest;
use crate::log::format::names::shared_name;
use crate::log::lsn::Lsn;
use crate::log::storage::Storage;
use crate::log::write::backup::{Backup, make_backup, make_copy};

impl<S: Storage> LogWriter<S> {
    /// Makes a backup of all that was appended, in a new folder that is named for this time.
    ///
    /// # Errors
    /// The log goes on as before, but for a failure of its own, and what was made of the backup is removed.
    pub fn back_up(&mut self, unix_ms: u64) -> Result<Backup, LogError> {
        let end = self.cut_for_copy()?;
        make_backup(&*self.storage(), &self.left_here(), (unix_ms, end))
    }

    /// Makes a copy of all that was appended, in a folder that belongs to the file of a new base; returns its name.
    ///
    /// # Errors
    /// The log goes on as before, but for a failure of its own, and what was made of the copy is removed.
    pub fn share(&mut self, base: &str) -> Result<String, LogError> {
        let name = shared_name(base).ok_or(LogError::Refused { why: "the name is not one of a temporary base" })?;
        self.cut_for_copy()?;
        make_copy(&*self.storage(), &self.left_here(), &name, |_| Ok(()))?;
        Ok(name)
    }

    /// Closes the current segment, so that nobody writes to what is copied; returns the position.
    fn cut_for_copy(&mut self) -> Result<Lsn, LogError> {
        if self.waits_for_base {
            return Err(LogError::Refused { why: "the log waits for its first base" });
        }
        let end = self.cut()?;
        match self.missing_boundary.take_if(|(missing, _)| *missing == end) {
            Some((_, error)) => Err(error),
            None => Ok(end),
        }
    }

    /// The log as it would be if it were left now.
    fn left_here(&self) -> Manifest {
        let mut log = self.log.clone();
        if let Some(last) = log.segments.last_mut() {
            // It has no frames here, and gets none.
            *last = self.current.named(true);
        }
        log
    }

    /// A base of this position is about to replace everything before it: that is kept.
    pub(super) fn keep_replaced(&self, base: Lsn) {
        let history = &self.expendable.history;
        if history.keeps() && !self.waits_for_base && base > self.log.beginning.lsn() {
            history.keep(&*self.folder.storage, self.log.clone(), base);
        }
    }

    /// Sets whether to keep what bases replace from now on.
    pub fn keep_history(&mut self, keeps: bool) {
        self.expendable.history.set_keeps(keeps);
    }

    /// Gives up what was logged before this.
    pub fn trim_history(&mut self, since_unix_ms: u64) {
        self.expendable.trim_history(since_unix_ms, u64::MAX);
    }
}
