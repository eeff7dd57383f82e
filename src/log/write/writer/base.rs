//! The base of a log that is written: it replaces what is before it (step 3 of `write/checkpoint.rs`).

use super::{LogWriter, StepError};
use crate::log::error::LogError;
use crate::log::format::manifest::{BaseFacts, Beginning, Manifest};
use crate::log::format::names::{base_name, new_number, segment_name, temporary_base_name};
use crate::log::open::CheckBase;
use crate::log::storage::Storage;
use crate::log::write::checkpoint::{BaseJob, NewBase, PreparedBase, create_base};
use crate::log::write::reserve::WantedReserve;
use std::collections::HashSet;

impl<S: Storage> LogWriter<S> {
    /// A number for the next base.
    pub(crate) fn next_base(&self) -> u64 {
        self.folder.next_base
    }

    /// What a new base is checked with.
    pub(crate) fn check_base(&self) -> CheckBase {
        self.folder.options.check_base
    }

    /// The file name of the base, where there is one.
    pub fn base(&self) -> Option<String> {
        self.folder.manifest.as_ref()?.base().map(|base| base_name(base.seq))
    }

    /// Creates the file of the next base; also returns its name.
    pub fn new_base_file(&mut self) -> Result<(String, S::File), LogError> {
        let name = temporary_base_name(new_number(self.folder.next_base)?);
        self.folder.next_base += 1;
        let file = create_base(&*self.folder.storage, &self.expendable, &name)?;
        Ok((name, file))
    }

    /// Makes a file the base of the log: all steps, in this thread.
    ///
    /// Where this fails before the manifest is touched, the log goes on with the old base; the file is not to be tried
    /// again.
    pub fn install_base(&mut self, base: &NewBase) -> Result<(), LogError> {
        self.check_usable()?;
        let storage = self.storage();
        let expendable = self.expendable();
        let job =
            BaseJob { storage: &*storage, expendable: &expendable, check: self.check_base(), is_cancelled: &|| false };
        let prepared = job.run(base)?;
        let named = self.name_base(prepared);
        self.remove_leftovers();
        named
    }

    /// Step 3. [`LogWriter::take_leftovers`] has the files that are no longer part of the log.
    pub(crate) fn name_base(&mut self, base: PreparedBase) -> Result<(), LogError> {
        let PreparedBase(facts) = base;
        self.check_usable().inspect_err(|_| self.folder.leftovers.push(base_name(facts.seq)))?;
        match self.try_name_base(facts) {
            Ok(()) => Ok(()),
            Err(StepError::Untouched(error)) => {
                self.folder.leftovers.push(base_name(facts.seq));
                Err(error)
            }
            Err(StepError::Fatal(error)) => self.guarded(|_| Err(error)),
        }
    }

    fn try_name_base(&mut self, base: BaseFacts) -> Result<(), StepError> {
        let has_boundary = self.log.segments.iter().any(|segment| segment.first == base.lsn);
        if !has_boundary || base.lsn < self.log.beginning.lsn() {
            let refused = LogError::Refused { why: "no segment begins at the position of the base" };
            let missing = self.missing_boundary.take().filter(|(lsn, _)| *lsn == base.lsn);
            return Err(StepError::Untouched(missing.map_or(refused, |(_, error)| error)));
        }
        self.sync_current().map_err(StepError::Fatal)?;
        self.keep_replaced(base.lsn);
        let old: Vec<String> = self.folder.manifest.iter().chain([&self.log]).flat_map(Manifest::names).collect();
        let mut log = Manifest { beginning: Beginning::Base(base), ..self.log.clone() };
        log.segments.retain(|segment| segment.first >= base.lsn);
        if self.waits_for_base {
            // The first segment that must not be taken for one of a log that never came to be.
            let next = self.create_next(false)?;
            log.segments.retain(|segment| segment.seq != self.current.seq);
            if !self.current.is_blank() {
                log.segments.push(self.leave_current()?);
            }
            log.segments.push(next.named(false));
            let stored = self.store(&log, Some(&next.name));
            // If the last step failed, a start may find the log.
            self.waits_for_base = matches!(stored, Err(StepError::Untouched(_)));
            stored?;
            self.set_current(next);
        } else {
            self.store(&log, None)?;
        }
        self.log = log;
        self.measure();
        let named: HashSet<String> = self.log.names().collect();
        self.folder.leftovers.extend(old.into_iter().filter(|name| !named.contains(name)));
        Ok(())
    }

    /// The base that the log waits for begins at the current segment: what is before it no longer belongs to any base.
    pub(super) fn forget_before_cut(&mut self) {
        let (first, seq) = (self.appended(), self.current.seq);
        let before = self.log.segments.iter().filter(|segment| segment.seq != seq);
        self.folder.leftovers.extend(before.map(|segment| segment_name(segment.seq)));
        self.log.segments.retain(|segment| segment.seq == seq);
        self.log.beginning = Beginning::Empty(first);
        self.measure();
    }

    /// Updates the number of segments in the statistics. Those that an error has ended have no seal.
    pub(super) fn count_segments(&self) {
        let segments = &self.log.segments;
        let open = segments.iter().filter(|segment| segment.sealed.is_none()).count();
        self.statistics.set_segments(segments.len(), open.saturating_sub(1));
    }

    /// Updates the sizes of the base and the segments after it in the statistics.
    pub(super) fn measure(&self) {
        self.count_segments();
        let ends = self.log.segments.iter().skip(1).map(|next| next.first).chain([self.current.end]);
        let segments = self.log.segments.iter().zip(ends).map(|(segment, end)| match segment.sealed {
            _ if end == segment.first => 0,
            _ if segment.seq == self.current.seq => self.current.bytes,
            Some(sealed) => sealed.bytes,
            None => end.bytes_since(segment.first),
        });
        self.statistics.set_log(self.log.base().map_or(0, |base| base.bytes), segments.sum());
    }

    /// The files that are no longer part of the log; a crash before they are removed leaves them to the next start.
    pub(crate) fn take_leftovers(&mut self) -> Vec<String> {
        let mut names = std::mem::take(&mut self.folder.leftovers);
        names.sort();
        names.dedup();
        let named: HashSet<String> = self.folder.manifest.iter().chain([&self.log]).flat_map(Manifest::names).collect();
        assert!(names.iter().all(|name| !named.contains(name)), "a file of the log must not be removed");
        self.expendable.give_up(&names);
        names
    }

    /// Removes the files that are no longer part of the log, in this thread; returns their names.
    pub fn remove_leftovers(&mut self) -> Vec<String> {
        let names = self.take_leftovers();
        self.expendable.remove(&names);
        names
    }

    /// Holds this many bytes for the next base, in this thread; 0 for none.
    pub fn keep_reserve(&mut self, bytes: u64) -> Result<(), LogError> {
        self.expendable().keep_reserve(WantedReserve::exactly(bytes))
    }

    /// Whether the log has taken them because the disk was full.
    pub fn is_short_of_room(&self) -> bool {
        self.expendable().reserve.is_short()
    }
}
