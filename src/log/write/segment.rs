//! The segment that is written.

use super::ahead::Ahead;
use super::flush::Flush;
use crate::log::error::LogError;
use crate::log::format::Generation;
use crate::log::format::frame::{BACK_BYTES_MAX, FrameHeader, PAYLOAD_BYTES_MAX, Place, UNIX_MS_MAX, push_time_line};
use crate::log::format::header::SegmentHeader;
use crate::log::format::manifest::{NamedSegment, Sealed};
use crate::log::format::names::segment_name;
use crate::log::lsn::Lsn;
use crate::log::storage::{Storage, StorageFile, failed};
use std::sync::Arc;

/// Frames up to this size are copied after their annotation to go out with one write.
const JOINED_BYTES_MAX: usize = 128 << 10;

/// A frame states its time when it is this far from the last stated one.
const TIME_STATED_EVERY_MS: u64 = 1000;

/// A segment that frames are appended to.
#[derive(Debug)]
pub(crate) struct Segment<F> {
    pub seq: u64,
    pub name: String,
    /// The name, as people know it.
    shown: Arc<str>,
    file: F,
    /// Openings that no flush has.
    idle: Vec<F>,
    /// All openings for flushes.
    openings: usize,
    salt: u64,
    /// The position it begins with.
    pub first: Lsn,
    /// The position after its last frame.
    pub end: Lsn,
    /// Bytes of the file up to there.
    pub bytes: u64,
    /// Bytes of the file: more where it was written ahead.
    file_bytes: u64,
    /// Bytes of the file that are durable.
    durable_bytes: u64,
    /// The time that was stated last.
    stated_unix_ms: u64,
    scratch: Vec<u8>,
}

/// What a new segment is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewSegment {
    pub seq: u64,
    pub generation: Generation,
    pub first: Lsn,
    pub unix_ms: u64,
    pub is_pending: bool,
}

/// What a segment's header has brought about.
struct Header {
    salt: u64,
    bytes: u64,
    unix_ms: u64,
}

impl Header {
    /// Writes the header of a new segment, durably.
    fn write<S: Storage>(storage: &S, file: &mut S::File, name: &str, new: NewSegment) -> Result<Header, LogError> {
        let NewSegment { generation, first, is_pending, .. } = new;
        let unix_ms = new.unix_ms.min(UNIX_MS_MAX);
        let salt = storage.random().map_err(failed(storage, "make a salt for", name))?;
        let line = SegmentHeader { generation, first, salt, unix_ms, is_pending }.to_line();
        file.write_all_at(0, &line).map_err(failed(storage, "write", name))?;
        file.sync_data().map_err(failed(storage, "sync", name))?;
        Ok(Header { salt, bytes: line.len() as u64, unix_ms })
    }
}

impl<F: StorageFile> Segment<F> {
    /// Creates a segment without frames, durably. Where this fails it leaves nothing that anybody would take for a part
    /// of the log.
    pub fn create<S: Storage<File = F>>(storage: &S, new: NewSegment) -> Result<Segment<F>, LogError> {
        let name = segment_name(new.seq);
        let mut file = storage.create(&name).map_err(failed(storage, "create", &name))?;
        let mut steps = || -> Result<(Header, F), LogError> {
            let header = Header::write(storage, &mut file, &name, new)?;
            storage.sync_dir().map_err(failed(storage, "sync the folder of", &name))?;
            Ok((header, storage.reopen(&name, &file).map_err(failed(storage, "open", &name))?))
        };
        match steps() {
            Ok((header, again)) => Ok(Segment::begun(storage, new, header, (file, again))),
            Err(error) => {
                // A leftover, which the next start removes if it cannot be removed now.
                let _ = storage.remove(&name);
                Err(error)
            }
        }
    }

    /// The same, of a file that was written ahead. `new` has its number.
    pub fn begin_ahead<S: Storage<File = F>>(
        storage: &S,
        ahead: Ahead<F>,
        new: NewSegment,
    ) -> Result<Segment<F>, LogError> {
        let (name, Ahead { mut file, again, bytes, .. }) = (segment_name(new.seq), ahead);
        match Header::write(storage, &mut file, &name, new) {
            Ok(header) => {
                let segment = Segment::begun(storage, new, header, (file, again));
                Ok(Segment { file_bytes: bytes.max(segment.bytes), ..segment })
            }
            Err(error) => {
                let _ = storage.remove(&name);
                Err(error)
            }
        }
    }

    fn begun<S: Storage<File = F>>(storage: &S, new: NewSegment, header: Header, files: (F, F)) -> Segment<F> {
        let (name, Header { salt, bytes, unix_ms }, (file, again)) = (segment_name(new.seq), header, files);
        Segment {
            seq: new.seq,
            shown: storage.locate(&name).into(),
            name,
            file,
            idle: vec![again],
            openings: 1,
            salt,
            first: new.first,
            end: new.first,
            bytes,
            file_bytes: bytes,
            durable_bytes: bytes,
            stated_unix_ms: unix_ms,
            scratch: Vec::new(),
        }
    }

    /// Whether frames overwrite zeros that were written ahead.
    pub fn has_unused(&self) -> bool {
        self.bytes < self.file_bytes
    }

    pub fn is_blank(&self) -> bool {
        self.first == self.end
    }

    /// Whether all frames are durable.
    pub fn is_synced(&self) -> bool {
        self.durable_bytes == self.bytes
    }

    /// The manifest's lines for it.
    pub fn named(&self, is_left: bool) -> NamedSegment {
        let sealed = is_left.then_some(Sealed { end: self.end, bytes: self.bytes });
        NamedSegment { seq: self.seq, first: self.first, sealed }
    }

    /// Writes a frame, which is not durable then; returns its bytes. A failure leaves it unknown what the file holds.
    pub fn append(&mut self, payload: &[u8], unix_ms: u64) -> Result<u64, LogError> {
        let length = payload.len() as u64;
        let unix_ms = unix_ms.min(UNIX_MS_MAX);
        let is_stated = unix_ms.abs_diff(self.stated_unix_ms) >= TIME_STATED_EVERY_MS;
        let durable_back = self.bytes - self.durable_bytes;
        let end =
            self.end.checked_advance(length).filter(|_| length <= PAYLOAD_BYTES_MAX && durable_back <= BACK_BYTES_MAX);
        let end = end.ok_or(LogError::Refused { why: "the frame is too large" })?;
        self.scratch.clear();
        if is_stated {
            push_time_line(&mut self.scratch, unix_ms);
        }
        let place = Place { salt: self.salt, offset: self.bytes + self.scratch.len() as u64 };
        let seed = place.seed();
        let crc = crc32c::crc32c_append(seed, payload);
        let unix_ms = is_stated.then_some(unix_ms);
        FrameHeader { length, crc, durable_back, unix_ms }.push_line(&mut self.scratch, seed);
        let (at, frame_bytes) = (self.bytes, self.scratch.len() as u64 + length);
        let written = if payload.len() <= JOINED_BYTES_MAX {
            self.scratch.extend_from_slice(payload);
            self.file.write_all_at(at, &self.scratch)
        } else {
            let head = self.file.write_all_at(at, &self.scratch);
            head.and_then(|()| self.file.write_all_at(at + self.scratch.len() as u64, payload))
        };
        written.map_err(|source| LogError::io("write", &*self.shown, source))?;
        self.bytes += frame_bytes;
        self.file_bytes = self.file_bytes.max(self.bytes);
        self.end = end;
        self.stated_unix_ms = unix_ms.unwrap_or(self.stated_unix_ms);
        Ok(frame_bytes)
    }

    /// How many flushes can be under way at a time: one for each opening of the file. Adds one if none is idle and more
    /// are wanted.
    pub fn openings<S: Storage<File = F>>(&mut self, storage: &S, is_more_wanted: bool) -> usize {
        if is_more_wanted && self.idle.is_empty() {
            self.idle.extend(storage.reopen(&self.name, &self.file));
            self.openings += self.idle.len();
        }
        self.openings
    }

    /// What makes all frames that are written now durable; `None` where nothing is idle to do it.
    pub fn flush(&mut self, number: u64) -> Option<Flush<F>> {
        let (shown, bytes, end) = (Arc::clone(&self.shown), self.bytes, self.end);
        self.idle.pop().map(|file| Flush { number, segment: self.seq, file, shown, bytes, end })
    }

    /// Takes back what a flush has used.
    pub fn take_back(&mut self, file: F) {
        self.idle.push(file);
    }

    /// All flushes up to this offset have succeeded.
    pub fn set_durable(&mut self, bytes: u64) {
        assert!((self.durable_bytes..=self.bytes).contains(&bytes), "what is durable was written, and stays so");
        self.durable_bytes = bytes;
    }

    /// Cuts what is after the last frame.
    pub fn cut_unused(&mut self) -> Result<(), LogError> {
        let bytes = self.file.status().map_err(|source| LogError::io("measure", &*self.shown, source))?.bytes;
        if bytes > self.bytes {
            let cut = self.file.set_len(self.bytes).and_then(|()| self.file.sync_data());
            cut.map_err(|source| LogError::io("cut", &*self.shown, source))?;
        }
        self.file_bytes = self.bytes;
        Ok(())
    }
}
