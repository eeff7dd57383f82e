//! Writing frames, segment after segment.
//!
//! - At most one frame is not durable: a frame is written after the one before is synced. Only so can recovery call a
//!   bad frame before a good one damage; with two frames in flight a crash could lose the first and keep the second.
//! - A segment is followed by the next only at the end of a unit and after it is synced whole, so a torn tail can be in
//!   the last segment only.
//! - After the first failure nothing more is written, and nothing more is called durable.

use super::error::LogError;
use super::format::{Boundary, FrameHeader, encode_annotation};
use super::lsn::Lsn;
use super::manifest::{Manifest, segment_name};
use super::recovery::Options;
use super::short::{Place, SHORT_LENGTH_MAX, push_short_annotation};
use super::statistics::Statistics;
use super::storage::{Storage, StorageFile};
use std::sync::Arc;

/// Frames up to this size are copied behind their annotation to go out with one write.
const JOINED_BYTES_MAX: usize = 128 << 10;

/// A frame has the whole annotation, with its time, at least this often.
const WHOLE_ANNOTATION_EVERY_MS: u64 = 1000;

/// What becomes one frame.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// The position of the payload's first byte.
    pub start: Lsn,
    /// RESP commands.
    pub payload: &'a [u8],
    /// Whether the payload ends with a whole unit.
    pub boundary: Boundary,
    /// Wall-clock time of the hand-over.
    pub unix_ms: u64,
}

/// The segment that is written.
pub(super) struct Current<F> {
    pub seq: u64,
    pub name: String,
    pub file: F,
    pub bytes: u64,
    /// The position it begins with.
    pub first: Lsn,
}

/// Appends to a log.
pub struct LogWriter<S: Storage> {
    pub(super) storage: S,
    _lock: S::Lock,
    options: Options,
    pub(super) manifest: Manifest,
    current: Current<S::File>,
    /// Behind all that is written.
    appended: Lsn,
    /// Behind all that is durable and ends with a whole unit.
    durable: Lsn,
    last_boundary: Boundary,
    is_synced: bool,
    last_unix_ms: u64,
    /// The time of the last whole annotation that this writer wrote into the segment.
    annotated_unix_ms: Option<u64>,
    failure: Option<String>,
    removed: Vec<String>,
    /// Files the log no longer needs that could not be removed yet.
    pub(super) unremoved: Vec<String>,
    scratch: Vec<u8>,
    statistics: Arc<Statistics>,
}

impl<S: Storage> LogWriter<S> {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn new(
        storage: S,
        lock: S::Lock,
        options: Options,
        manifest: Manifest,
        current: Current<S::File>,
        next: Lsn,
        removed: Vec<String>,
        unix_ms: u64,
    ) -> LogWriter<S> {
        assert_eq!(manifest.segments.last(), Some(&current.seq), "the newest segment is the one to write");
        LogWriter {
            storage,
            _lock: lock,
            options,
            manifest,
            current,
            appended: next,
            durable: next,
            last_boundary: Boundary::Unit,
            is_synced: true,
            last_unix_ms: unix_ms,
            annotated_unix_ms: None,
            failure: None,
            removed,
            unremoved: Vec::new(),
            scratch: Vec::new(),
            statistics: Arc::default(),
        }
    }

    /// The position the next batch must have.
    pub fn appended(&self) -> Lsn {
        self.appended
    }

    /// The position up to which whole units are durable.
    pub fn durable(&self) -> Lsn {
        self.durable
    }

    /// The number of the segment that is written.
    pub fn segment_seq(&self) -> u64 {
        self.current.seq
    }

    /// The leftovers of a crash that were removed when writing started.
    pub fn removed(&self) -> &[String] {
        &self.removed
    }

    /// Whether a failure has closed the log to writing.
    pub fn is_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Counters that other threads may read at any time.
    pub fn statistics(&self) -> Arc<Statistics> {
        Arc::clone(&self.statistics)
    }

    /// Writes a batch as one frame and returns the position behind it. The frame is *not* synced.
    ///
    /// Syncs the frame before, if that was not done, and begins a new segment when the current one is full.
    ///
    /// # Panics
    ///
    /// When the batch does not begin where the last one ended.
    pub fn append(&mut self, batch: Batch<'_>) -> Result<Lsn, LogError> {
        self.guarded(|writer| {
            assert_eq!(batch.start, writer.appended, "batches must be contiguous");
            if batch.payload.is_empty() {
                return Ok(writer.appended);
            }
            writer.sync_current()?;
            writer.last_unix_ms = batch.unix_ms;
            let is_full = writer.current.bytes >= writer.options.segment_bytes;
            if is_full && writer.last_boundary == Boundary::Unit && writer.current.first < writer.appended {
                writer.begin_segment()?;
            }
            writer.write_frame(&batch)?;
            Ok(writer.appended)
        })
    }

    /// Makes all frames durable; returns the position up to which whole units are durable.
    pub fn sync(&mut self) -> Result<Lsn, LogError> {
        self.guarded(|writer| {
            writer.sync_current()?;
            Ok(writer.durable)
        })
    }

    /// Makes all frames durable and returns the number of a segment that holds none of them: all before are complete.
    pub fn rotate(&mut self) -> Result<u64, LogError> {
        if self.last_boundary != Boundary::Unit {
            return Err(LogError::Refused { why: "a unit is not finished" });
        }
        self.guarded(|writer| {
            writer.sync_current()?;
            if writer.current.first < writer.appended {
                writer.begin_segment()?;
            }
            Ok(writer.current.seq)
        })
    }

    /// Makes all frames durable, cuts unused space and unlocks the folder.
    pub fn close(mut self) -> Result<(), LogError> {
        self.finish()
    }

    pub(super) fn finish(&mut self) -> Result<(), LogError> {
        self.guarded(|writer| {
            writer.sync_current()?;
            let shown = writer.storage.locate(&writer.current.name);
            let current = &mut writer.current;
            let bytes = current.file.len().map_err(|source| LogError::io("measure", &shown, source))?;
            assert!(bytes >= current.bytes, "the segment is shorter than what was written");
            if bytes > current.bytes {
                let cut = current.file.set_len(current.bytes).and_then(|()| current.file.sync_data());
                cut.map_err(|source| LogError::io("cut", &shown, source))?;
            }
            Ok(())
        })
    }

    /// Runs a step that must not run after a failure, and remembers its own failure at once.
    pub(super) fn guarded<T>(&mut self, step: impl FnOnce(&mut Self) -> Result<T, LogError>) -> Result<T, LogError> {
        self.check_usable()?;
        let outcome = step(self);
        if let Err(error) = &outcome {
            self.failure = Some(error.to_string());
        }
        outcome
    }

    pub(super) fn check_usable(&self) -> Result<(), LogError> {
        match &self.failure {
            Some(first) => Err(LogError::Failed { first: first.clone() }),
            None => Ok(()),
        }
    }

    fn sync_current(&mut self) -> Result<(), LogError> {
        if !self.is_synced {
            let synced = self.current.file.sync_data();
            synced.map_err(|source| LogError::io("sync", self.storage.locate(&self.current.name), source))?;
            self.is_synced = true;
            self.statistics.count_sync();
        }
        if self.last_boundary == Boundary::Unit {
            self.durable = self.appended;
        }
        assert!(self.durable <= self.appended, "more is durable than was written");
        Ok(())
    }

    fn write_frame(&mut self, batch: &Batch<'_>) -> Result<(), LogError> {
        assert!(self.is_synced, "at most one frame may be in flight");
        let length = batch.payload.len() as u64;
        let Batch { start: lsn, boundary, unix_ms, .. } = *batch;
        let header = FrameHeader { lsn, length, boundary, unix_ms };
        self.scratch.clear();
        if self.may_be_short(&header) {
            let place = Place { first: self.current.first, offset: self.current.bytes };
            push_short_annotation(&mut self.scratch, place, batch.payload);
        } else {
            self.scratch.extend_from_slice(encode_annotation(&header, batch.payload).as_bytes());
            self.annotated_unix_ms = Some(unix_ms);
        }
        self.is_synced = false;
        let (file, at) = (&mut self.current.file, self.current.bytes);
        let frame_bytes = self.scratch.len() as u64 + length;
        let written = if batch.payload.len() <= JOINED_BYTES_MAX {
            self.scratch.extend_from_slice(batch.payload);
            file.write_all_at(at, &self.scratch)
        } else {
            let head = file.write_all_at(at, &self.scratch);
            head.and_then(|()| file.write_all_at(at + self.scratch.len() as u64, batch.payload))
        };
        written.map_err(|source| LogError::io("write", self.storage.locate(&self.current.name), source))?;
        self.current.bytes += frame_bytes;
        self.appended = header.end();
        self.last_boundary = boundary;
        self.statistics.count_frame(frame_bytes);
        Ok(())
    }

    /// Whether the frame's annotation may be the short one: the frame before tells the rest, and the time is about the same. Clocks may step
    /// back, too.
    fn may_be_short(&self, header: &FrameHeader) -> bool {
        let same_time = |annotated: u64| header.unix_ms.abs_diff(annotated) < WHOLE_ANNOTATION_EVERY_MS;
        header.boundary == Boundary::Unit
            && header.length <= SHORT_LENGTH_MAX
            && self.annotated_unix_ms.is_some_and(same_time)
    }

    /// Goes on in a new segment.
    ///
    /// The segment goes first, the manifest second. A crash between leaves a segment that holds no frame and that no
    /// manifest names, which the next start removes. The other order could name a segment that does not exist.
    fn begin_segment(&mut self) -> Result<(), LogError> {
        assert!(self.is_synced && self.durable == self.appended, "a segment is left when it is durable");
        let seq = self.current.seq + 1;
        let next = create_segment(&self.storage, seq, self.appended, self.last_unix_ms)?;
        let mut manifest = self.manifest.clone();
        manifest.segments.push(seq);
        manifest.store(&self.storage)?;
        self.manifest = manifest;
        self.current = next;
        self.annotated_unix_ms = None;
        Ok(())
    }
}

/// Creates a durable segment that holds nothing but the frame that says where it begins.
pub(super) fn create_segment<S: Storage>(
    storage: &S,
    seq: u64,
    first: Lsn,
    unix_ms: u64,
) -> Result<Current<S::File>, LogError> {
    let name = segment_name(seq);
    let header = FrameHeader { lsn: first, length: 0, boundary: Boundary::Unit, unix_ms };
    let annotation = encode_annotation(&header, &[]);
    let bytes = annotation.as_bytes();
    let failed = |operation: &'static str| {
        let shown = storage.locate(&name);
        move |source| LogError::io(operation, shown, source)
    };
    let mut file = storage.create(&name).map_err(failed("create"))?;
    file.write_all_at(0, bytes).map_err(failed("write"))?;
    file.sync_data().map_err(failed("sync"))?;
    storage.sync_dir().map_err(failed("sync the folder of"))?;
    Ok(Current { seq, file, bytes: bytes.len() as u64, first, name })
}
