//! Writing frames, segment after segment.
//!
//! - Frames are written while flushes of earlier ones are under way. Each says what was durable when it was written,
//!   and the reader relies only on that.
//! - A flush vouches for what was written before it began, once it and all before it have succeeded.
//! - A segment is followed by the next after all of it is synced.
//! - After the first failure of the frames' own path nothing more is written, and nothing more is called durable,
//!   unless the log goes on elsewhere (`writer/go_on.rs`). A new segment, base or manifest that cannot be written is
//!   not such a failure while the manifest is untouched: the log goes on as it was.

mod ahead;
mod base;
mod close;
mod copy;
mod flush;
mod go_on;

use super::ahead::{Ahead, AheadSlot};
use super::expendable::Expendable;
use super::flush::Flights;
use super::folder::Folder;
use super::segment::{NewSegment, Segment};
use crate::log::error::LogError;
use crate::log::format::Generation;
use crate::log::format::manifest::Manifest;
use crate::log::lsn::Lsn;
use crate::log::open::Options;
use crate::log::storage::Storage;
use crate::log::thread::Statistics;
use std::collections::HashSet;
use std::sync::Arc;

/// What becomes one frame.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// The position of the payload's first byte.
    pub start: Lsn,
    /// RESP commands: whole units.
    pub payload: &'a [u8],
    /// Wall-clock time of the hand-over.
    pub unix_ms: u64,
}

/// Appends to a log.
#[derive(Debug)]
pub struct LogWriter<S: Storage> {
    folder: Folder<S>,
    /// The log, which the folder's manifest names unless it waits for its base.
    log: Manifest,
    waits_for_base: bool,
    current: Segment<S::File>,
    flights: Flights,
    /// The position after everything durable.
    durable: Lsn,
    /// The current segment is followed by a new one when it has reached this many bytes.
    rotate_at_bytes: u64,
    last_unix_ms: u64,
    failure: Option<Arc<LogError>>,
    /// Files named by a manifest that may or may not be on the disk.
    doubtful: Vec<String>,
    /// The last boundary that was asked for and could not be made.
    pub(crate) missing_boundary: Option<(Lsn, LogError)>,
    statistics: Arc<Statistics>,
    expendable: Arc<Expendable<S>>,
    ahead_slot: Arc<AheadSlot<S::File>>,
    /// The next segment, written ahead.
    ahead: Option<Ahead<S::File>>,
    /// When the current segment has reached this many bytes the next one is to be written ahead.
    ahead_at_bytes: u64,
}

/// The failure of a step that must leave the manifest alone or replace it.
enum StepError {
    /// The manifest is untouched, and the log is as it was.
    Untouched(LogError),
    /// It is unknown which manifest a start will find, or what is durable.
    Fatal(LogError),
}

impl<S: Storage> LogWriter<S> {
    pub(crate) fn new(
        folder: Folder<S>,
        current: Segment<S::File>,
        log: Manifest,
        waits_for_base: bool,
        unix_ms: u64,
    ) -> LogWriter<S> {
        assert_eq!(
            log.segments.last().map(|last| last.seq),
            Some(current.seq),
            "the newest segment is the one to write"
        );
        let writer = LogWriter {
            durable: current.end,
            flights: Flights::default(),
            rotate_at_bytes: segment_bytes(&folder.options, log.segments.len()),
            ahead_slot: Arc::new(AheadSlot::new()),
            ahead: None,
            ahead_at_bytes: 0,
            expendable: Arc::new(Expendable::new(Arc::clone(&folder.storage))),
            folder,
            log,
            waits_for_base,
            current,
            last_unix_ms: unix_ms,
            failure: None,
            doubtful: Vec::new(),
            missing_boundary: None,
            statistics: Arc::default(),
        };
        writer.measure();
        writer
    }

    /// The position the next batch must have.
    pub fn appended(&self) -> Lsn {
        self.current.end
    }

    /// The position up to which all is durable.
    pub fn durable(&self) -> Lsn {
        self.durable
    }

    /// How many flushes may be under way, if that does not follow from how long they take.
    pub(crate) fn in_flight_max(&self) -> Option<usize> {
        self.folder.options.max_inflight_flushes
    }

    /// How large the next segment gets.
    pub(crate) fn segment_bytes(&self) -> u64 {
        segment_bytes(&self.folder.options, self.log.segments.len())
    }

    /// Which log is written.
    pub fn generation(&self) -> Generation {
        self.log.generation
    }

    /// Whether the log is not visible yet, because it waits for its first base.
    pub fn waits_for_base(&self) -> bool {
        self.waits_for_base
    }

    /// The failure that has closed the log to writing.
    pub fn failure(&self) -> Option<&Arc<LogError>> {
        self.failure.as_ref()
    }

    /// Counters that other threads may read at any time.
    pub fn statistics(&self) -> Arc<Statistics> {
        Arc::clone(&self.statistics)
    }

    /// What the log takes room from.
    pub(crate) fn expendable(&self) -> Arc<Expendable<S>> {
        Arc::clone(&self.expendable)
    }

    /// The storage that the log is written to.
    pub fn storage(&self) -> Arc<S> {
        Arc::clone(&self.folder.storage)
    }

    /// Where segments that were written ahead come from.
    pub(crate) fn ahead_slot(&self) -> Arc<AheadSlot<S::File>> {
        Arc::clone(&self.ahead_slot)
    }

    /// Whether the next batch goes into a new segment, which begins when no flush is under way.
    pub fn is_full(&self) -> bool {
        let has_better = self.ahead.is_some() && !self.current.has_unused();
        (self.current.bytes >= self.rotate_at_bytes || has_better) && !self.current.is_blank()
    }

    /// How many flushes can be under way at a time, at least one; tries to make it more if more are wanted.
    pub(crate) fn openings(&mut self, is_more_wanted: bool) -> usize {
        self.current.openings(&*self.folder.storage, is_more_wanted)
    }

    /// Writes a batch as one frame and returns the position after it. The frame is *not* synced.
    ///
    /// Begins a new segment when the current one is full, after a sync. If there is no room for the frame, it takes
    /// that of bases that are being written.
    ///
    /// # Panics
    ///
    /// When the batch does not begin where the last one ended, or flushes are under way in a full segment.
    pub fn append(&mut self, batch: Batch<'_>) -> Result<Lsn, LogError> {
        self.append_before(batch, false)
    }

    /// The same; says whether a flush of later batches is to begin while that of this one is under way.
    pub fn append_before(&mut self, batch: Batch<'_>, overlaps: bool) -> Result<Lsn, LogError> {
        self.guarded(|writer| {
            assert_eq!(batch.start, writer.appended(), "batches must be contiguous");
            if batch.payload.is_empty() {
                return Ok(writer.appended());
            }
            writer.last_unix_ms = batch.unix_ms;
            if writer.is_full() {
                writer.sync_current()?;
                writer.rotate()?;
            }
            let is_beside = !writer.flights.is_empty();
            assert!(!is_beside || !writer.current.has_open_block(), "two flushes would write the same block");
            let frame_bytes = writer.append_frame(batch, overlaps || is_beside)?;
            writer.statistics.count_frame(frame_bytes);
            writer.expendable.log_has_grown(frame_bytes);
            Ok(writer.appended())
        })
    }

    /// A write that found no room has changed nothing that counts, and is done again where there is more.
    fn append_frame(&mut self, batch: Batch<'_>, padded: bool) -> Result<u64, LogError> {
        let mut removed = self.expendable.removed();
        loop {
            match self.current.append(batch.payload, batch.unix_ms, padded) {
                // A log that waits for its base cannot do without it.
                Err(error)
                    if error.is_no_room()
                        && !self.waits_for_base
                        && self.expendable.make_room(&mut removed, &error) => {}
                Err(error) if error.is_no_room() => {
                    // What was written of it holds room that the next start needs, and none of it was acknowledged.
                    let _ = self.current.cut_unused();
                    return Err(error);
                }
                outcome => return outcome,
            }
        }
    }

    /// Whether the next batch begins within a block that a flush writes past the page cache, and so must wait for all
    /// flushes to end.
    pub fn has_open_block(&self) -> bool {
        self.current.has_open_block()
    }

    /// Makes all frames durable; returns the position up to which they are.
    ///
    /// # Panics
    ///
    /// When flushes are under way.
    pub fn sync(&mut self) -> Result<Lsn, LogError> {
        self.guarded(|writer| {
            writer.sync_current()?;
            Ok(writer.durable)
        })
    }

    /// Begins a segment at the present position, so that a base can replace everything before it; returns the position.
    /// If the disk is full no segment begins, which [`LogWriter::install_base`] reports.
    pub fn cut(&mut self) -> Result<Lsn, LogError> {
        self.guarded(|writer| {
            writer.sync_current()?;
            if !writer.current.is_blank() {
                match writer.begin_segment() {
                    Ok(()) => {}
                    Err(StepError::Untouched(error)) => writer.missing_boundary = Some((writer.appended(), error)),
                    Err(StepError::Fatal(error)) => return Err(error),
                }
            }
            if writer.waits_for_base && writer.current.is_blank() {
                writer.forget_before_cut();
            }
            Ok(writer.appended())
        })
    }

    /// Runs a step that must not run after a failure, and remembers its own failure at once.
    fn guarded<T>(&mut self, step: impl FnOnce(&mut Self) -> Result<T, LogError>) -> Result<T, LogError> {
        self.check_usable()?;
        step(self).map_err(|error| match &self.failure {
            // A step within this one has remembered it.
            Some(first) => LogError::Failed(Arc::clone(first)),
            None => {
                let error = Arc::new(error);
                self.failure = Some(Arc::clone(&error));
                LogError::Failed(error)
            }
        })
    }

    fn check_usable(&self) -> Result<(), LogError> {
        match &self.failure {
            Some(first) => Err(LogError::Failed(Arc::clone(first))),
            None => Ok(()),
        }
    }

    /// Closes a full segment. If there is no room for a new one the log goes on in it, and tries again later.
    fn rotate(&mut self) -> Result<(), LogError> {
        let stated_s = self.current.stated_s();
        match self.begin_segment() {
            Ok(()) => {
                self.current.set_stated_s(stated_s);
                Ok(())
            }
            Err(StepError::Untouched(_)) => {
                self.statistics.count_failed_rotation();
                self.rotate_at_bytes = self.current.bytes.saturating_add(self.segment_bytes().max(1));
                Ok(())
            }
            Err(StepError::Fatal(error)) => Err(error),
        }
    }

    /// Goes on in a new segment.
    ///
    /// The segment goes first, the manifest second. A crash between leaves a segment that holds no frame and that no
    /// manifest names, which the next start removes. The other order could name a segment that does not exist.
    fn begin_segment(&mut self) -> Result<(), StepError> {
        assert!(self.current.is_synced(), "a segment is left when it is durable");
        let next = self.create_next(self.waits_for_base)?;
        let left = self.leave_current()?;
        let mut log = self.log.clone();
        log.segments.pop();
        log.segments.push(left);
        log.segments.push(next.named(false));
        self.go_on_in(next, log)
    }

    /// A segment that begins where everything is durable.
    fn create_next(&mut self, is_pending: bool) -> Result<Segment<S::File>, StepError> {
        let (generation, first, unix_ms) = (self.log.generation, self.durable, self.last_unix_ms);
        let new = |seq| NewSegment { seq, generation, first, unix_ms, is_pending };
        let storage = self.storage();
        if let Some(ahead) = self.take_ahead() {
            let new = new(ahead.seq);
            if let Some(next) = Segment::begin_ahead(&*storage, ahead, new).map_err(StepError::Untouched)? {
                return Ok(next);
            }
        }
        let seq = self.folder.take_segment_number().map_err(StepError::Untouched)?;
        Segment::create(&*storage, new(seq)).map_err(StepError::Untouched)
    }

    /// Replaces the manifest, unless the log waits for its base, and writes to the next segment from now on.
    fn go_on_in(&mut self, next: Segment<S::File>, log: Manifest) -> Result<(), StepError> {
        if !self.waits_for_base {
            self.store(&log, Some(&next.name))?;
        }
        self.log = log;
        self.set_current(next);
        self.count_segments();
        Ok(())
    }

    /// Replaces the manifest. When that fails before it is touched, a segment that was made for it is removed.
    fn store(&mut self, log: &Manifest, created: Option<&str>) -> Result<(), StepError> {
        let storage = &*self.folder.storage;
        if let Err(error) = log.write_next(storage) {
            if let Some(name) = created {
                // It is not taken for part of the log; the next start removes it.
                let _ = storage.remove(name);
            }
            return Err(StepError::Untouched(error));
        }
        self.folder.name_next(log.clone()).map(drop).map_err(|error| {
            let known: HashSet<String> =
                self.folder.manifest.iter().chain([&self.log]).flat_map(Manifest::names).collect();
            self.doubtful.extend(log.names().filter(|name| !known.contains(name)));
            StepError::Fatal(error)
        })
    }
}

/// With this many segments they get twice as large, with twice as many three times, and so on: the manifest, which has
/// a line or two for each and is rewritten for each, costs no more per byte of a long log than of a short one.
const SEGMENTS_OF_ONE_SIZE: u64 = 256;

fn segment_bytes(options: &Options, segments: usize) -> u64 {
    options.segment_bytes.saturating_mul(1 + segments as u64 / SEGMENTS_OF_ONE_SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_never_many_segments() {
        let options = Options::default();
        let (mut bytes, mut segments, mut manifests) = (0_u64, 0, 0_u64);
        while bytes < 10 << 40 {
            bytes += segment_bytes(&options, segments);
            segments += 1;
            manifests += 120 * segments as u64;
        }
        assert!((8000..9500).contains(&segments), "{segments} segments of 10 TB");
        assert!(manifests < bytes / 1000, "{manifests} bytes of manifests for {bytes}");
    }
}
