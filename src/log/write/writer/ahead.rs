//! Which segments are written ahead (`write/ahead.rs`), and when the log goes on in one.

use super::{LogWriter, StepError};
use crate::log::error::LogError;
use crate::log::format::manifest::NamedSegment;
use crate::log::format::names::segment_name;
use crate::log::storage::Storage;
use crate::log::write::ahead::{Ahead, AheadJob, AheadStep, PAGE_BYTES, WantedAhead};
use crate::log::write::segment::Segment;

/// Larger segments are not written ahead.
const BYTES_MAX: u64 = 1 << 30;

/// The first one of a log, which is needed soon, is no larger.
const FIRST_BYTES: u64 = 64 << 10;
/// Each is this many times as large as the one before, up to a segment's size: a log that hardly grows takes little
/// room.
const GROWTH: u64 = 8;

impl<S: Storage> LogWriter<S> {
    /// The segment to write ahead, if one is wanted now: at once beside a segment that was not itself written ahead,
    /// and beside others when they are half full.
    pub(crate) fn want_ahead(&mut self) -> Option<WantedAhead> {
        self.ahead = self.ahead.take().or_else(|| self.ahead_slot.take());
        let bytes_max = self.segment_bytes();
        let is_wanted = self.ahead.is_none() && self.current.bytes >= self.ahead_at_bytes && bytes_max <= BYTES_MAX;
        if !is_wanted || self.failure().is_some() || !self.ahead_slot.want() {
            return None;
        }
        // If it cannot be had, it is tried again then.
        self.ahead_at_bytes = self.current.bytes + bytes_max / 4 + 1;
        let bytes = self.current.file_bytes().saturating_mul(GROWTH).max(FIRST_BYTES).min(bytes_max);
        let seq = self.folder.take_segment_number();
        let direct_block_bytes = self.folder.options.direct_block_bytes;
        let bytes = if direct_block_bytes.is_some() { bytes.next_multiple_of(PAGE_BYTES) } else { bytes };
        // Numbers are used up when the log itself finds none, and says so.
        seq.inspect_err(|_| self.ahead_slot.give(None)).ok().map(|seq| WantedAhead { seq, bytes, direct_block_bytes })
    }

    /// Writes the next segment ahead, in this thread. Where that fails the log goes on without.
    pub fn write_ahead(&mut self) -> Result<(), LogError> {
        self.ahead_at_bytes = 0;
        let Some(wanted) = self.want_ahead() else { return Ok(()) };
        self.ahead_slot.give(None);
        let (storage, expendable) = (self.storage(), self.expendable());
        let mut job = AheadJob::begin(&*storage, &expendable, wanted)?;
        loop {
            match job.step(&*storage, &expendable)? {
                AheadStep::More(more) => job = more,
                AheadStep::Done(ahead) => break self.ahead = Some(ahead),
            }
        }
        Ok(())
    }

    /// The segment that was written ahead, where there is one that can be used. Segments have rising numbers.
    pub(super) fn take_ahead(&mut self) -> Option<Ahead<S::File>> {
        let ahead = self.ahead.take().or_else(|| self.ahead_slot.take())?;
        let name = segment_name(ahead.seq);
        let is_whole = self.expendable.keep(&name);
        if is_whole && ahead.seq > self.current.seq {
            return Some(ahead);
        }
        self.expendable.remove(&[name]);
        None
    }

    /// Removes the segment that was written ahead: nobody will use it.
    pub(crate) fn drop_ahead(&mut self) {
        if let Some(ahead) = self.ahead.take().or_else(|| self.ahead_slot.take()) {
            self.expendable.remove(&[segment_name(ahead.seq)]);
        }
    }

    /// Cuts what was written ahead and is not used: a closed segment holds its frames and nothing more. It is looked
    /// for once more where a start will look, because no flush will do so again.
    pub(super) fn leave_current(&mut self) -> Result<NamedSegment, StepError> {
        self.current.check_place(&*self.folder.storage).map_err(StepError::Fatal)?;
        self.current.cut_unused().map_err(StepError::Fatal)?;
        Ok(self.current.named(true))
    }

    pub(super) fn set_current(&mut self, next: Segment<S::File>) {
        self.ahead_at_bytes = if next.has_unused() { next.file_bytes() / 2 } else { 0 };
        self.statistics.set_direct(next.is_direct());
        self.current = next;
        self.rotate_at_bytes = self.segment_bytes();
    }
}
