//! The segment that is written.

use super::ahead::{Ahead, PAGE_BYTES};
use super::direct::{Blocks, Direct};
use super::flush::{Extent, Flush, check_place, look};
use crate::log::error::LogError;
use crate::log::format::Generation;
use crate::log::format::frame::{
    BACK_BYTES_MAX, FrameHeader, PAYLOAD_BYTES_MAX, Place, UNIX_MS_MAX, push_padding, push_time_line,
};
use crate::log::format::header::SegmentHeader;
use crate::log::format::manifest::{NamedSegment, Sealed};
use crate::log::format::names::segment_name;
use crate::log::lsn::Lsn;
use crate::log::storage::{Storage, StorageFile, failed};
use std::io;
use std::sync::Arc;

/// Frames up to this size are copied after their annotation to go out with one write.
const JOINED_BYTES_MAX: usize = 128 << 10;

/// A segment that frames are appended to.
#[derive(Debug)]
pub(crate) struct Segment<F> {
    pub seq: u64,
    pub name: String,
    /// The name, as shown to people.
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
    /// Of the file: more bytes where it was written ahead.
    extent: Extent,
    /// Bytes of the file that were written ahead before the first frame.
    ahead_bytes: u64,
    /// Bytes of the file that are durable.
    durable_bytes: u64,
    /// The second that a frame has stated last.
    stated_s: Option<u64>,
    scratch: Vec<u8>,
    /// Frames are written past the page cache, by their flushes.
    direct: Option<Direct>,
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

/// The outcome of writing a segment's header.
struct Header {
    salt: u64,
    line: Vec<u8>,
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
        Ok(Header { salt, line })
    }
}

impl<F: StorageFile> Segment<F> {
    /// Creates a segment without frames, durably. If this fails it leaves nothing that could be taken for part of the
    /// log.
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

    /// The same, of a file that was written ahead; `None` where it is not there as it was, and no start would find it.
    /// What is there is left alone: without frames, it is no part of the log. `new` has its number.
    pub fn begin_ahead<S: Storage<File = F>>(
        storage: &S,
        ahead: Ahead<F>,
        new: NewSegment,
    ) -> Result<Option<Segment<F>>, LogError> {
        let (name, Ahead { mut file, again, bytes, direct_block_bytes, .. }) = (segment_name(new.seq), ahead);
        let shown = storage.locate(&name);
        let begun = Header::write(storage, &mut file, &name, new).and_then(|header| {
            check_place(storage, (&name, &shown), &file, &Extent::new(bytes))?;
            Ok(header)
        });
        match begun {
            Ok(header) => {
                let direct = direct_block_bytes.map(|block_bytes| Direct::new(block_bytes, &header.line));
                let segment = Segment::begun(storage, new, header, (file, again));
                let extent = Extent::new(bytes.max(segment.bytes));
                Ok(Some(Segment { extent, ahead_bytes: bytes, direct, ..segment }))
            }
            Err(LogError::TakenAway { .. }) => Ok(None),
            Err(error) => {
                let _ = storage.remove(&name);
                Err(error)
            }
        }
    }

    fn begun<S: Storage<File = F>>(storage: &S, new: NewSegment, header: Header, files: (F, F)) -> Segment<F> {
        let (name, Header { salt, line }, (file, again)) = (segment_name(new.seq), header, files);
        let bytes = line.len() as u64;
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
            extent: Extent::new(bytes),
            ahead_bytes: 0,
            durable_bytes: bytes,
            stated_s: None,
            scratch: Vec::new(),
            direct: None,
        }
    }

    /// The second that the last time line states.
    pub fn stated_s(&self) -> Option<u64> {
        self.stated_s
    }

    /// A line of an earlier segment, which goes no sooner than this one, has stated this second.
    pub fn set_stated_s(&mut self, second: Option<u64>) {
        self.stated_s = second;
    }

    /// Whether frames are written past the page cache.
    pub fn is_direct(&self) -> bool {
        self.direct.is_some()
    }

    /// Whether frames overwrite zeros that were written ahead. Those of the last page do not count that a frame beyond
    /// them has taken.
    pub fn has_unused(&self) -> bool {
        self.bytes < self.ahead_bytes
    }

    /// Bytes of the file, with what is unused.
    pub fn file_bytes(&self) -> u64 {
        self.extent.bytes
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

    /// Writes a frame, which is not durable then, or keeps it for its flush; returns its bytes. After a failure it is
    /// unknown what the file holds. If frames are written past the page cache, and a flush of later ones may run beside
    /// that of this one, it is `padded` to the end of its last block.
    pub fn append(&mut self, payload: &[u8], unix_ms: u64, padded: bool) -> Result<u64, LogError> {
        let length = payload.len() as u64;
        let unix_ms = unix_ms.min(UNIX_MS_MAX);
        let second = Some(unix_ms / 1000);
        let is_stated = second != self.stated_s;
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
        let unix_ms = is_stated.then_some(unix_ms);
        let block_bytes = self.direct.as_ref().map(Direct::block_bytes).filter(|_| padded);
        let mut header =
            FrameHeader { length, crc: crc32c::crc32c_append(seed, payload), durable_back, unix_ms, block_bytes };
        let mut padding = Vec::new();
        if block_bytes.is_some() {
            let head_bytes = self.scratch.len() + header.line_bytes();
            push_padding(&mut padding, header.padding(self.bytes + head_bytes as u64 + length));
            header.crc = crc32c::crc32c_append(header.crc, &padding);
        }
        header.push_line(&mut self.scratch, seed);
        let frame_bytes = (self.scratch.len() + payload.len() + padding.len()) as u64;
        let end_bytes = self.bytes + frame_bytes;
        if self.extent.is_reached_by(self.direct.as_ref().map_or(end_bytes, |direct| direct.end_of_blocks(end_bytes))) {
            look(&self.file, &self.shown, &self.extent)?;
        }
        let written = match self.direct {
            Some(_) => self.stage(payload, &padding),
            None => self.write(payload),
        };
        written.map_err(|source| LogError::io("write", &*self.shown, source))?;
        self.bytes += frame_bytes;
        self.extent.bytes = self.extent.bytes.max(self.bytes);
        self.end = end;
        self.stated_s = second;
        Ok(frame_bytes)
    }

    /// Writes the head of a frame, which is in `scratch`, and its payload.
    fn write(&mut self, payload: &[u8]) -> io::Result<()> {
        let at = self.bytes;
        if payload.len() <= JOINED_BYTES_MAX {
            self.scratch.extend_from_slice(payload);
            return self.file.write_all_at(at, &self.scratch);
        }
        self.file.write_all_at(at, &self.scratch)?;
        self.file.write_all_at(at + self.scratch.len() as u64, payload)
    }

    /// Keeps a frame, whose head is in `scratch`, for its flush. The room for it is taken now.
    fn stage(&mut self, payload: &[u8], padding: &[u8]) -> io::Result<()> {
        let end = self.bytes + (self.scratch.len() + payload.len() + padding.len()) as u64;
        self.write_ahead_to(end.next_multiple_of(PAGE_BYTES))?;
        let Some(direct) = &mut self.direct else { return Ok(()) };
        let mut idle = self.idle.last_mut();
        for part in [&*self.scratch, payload, padding] {
            // There is room: what fails here fails finally.
            direct.push(part, idle.as_deref_mut()).map_err(|error| io::Error::other(error.to_string()))?;
        }
        Ok(())
    }

    /// Extends the file with zeros up to an offset, durably. What was written past the page cache is in other pages.
    fn write_ahead_to(&mut self, end: u64) -> io::Result<()> {
        let mut at = self.extent.bytes;
        if at >= end {
            return Ok(());
        }
        while at < end {
            let zeros = vec![0; (end - at).min(JOINED_BYTES_MAX as u64) as usize];
            self.file.write_all_at(at, &zeros)?;
            at += zeros.len() as u64;
        }
        self.file.sync_data()?;
        self.extent.bytes = end;
        Ok(())
    }

    /// Whether the next frame begins within the block that the last one ends in, so that no flush may run beside the
    /// last one's.
    pub fn has_open_block(&self) -> bool {
        self.direct.as_ref().is_some_and(Direct::has_open_block)
    }

    /// How many flushes can be under way at a time: one for each opening of the file, or one where the next would write
    /// a block that the last one writes. Adds an opening if none is idle and more are wanted.
    pub fn openings<S: Storage<File = F>>(&mut self, storage: &S, is_more_wanted: bool) -> usize {
        if is_more_wanted && self.idle.is_empty() {
            let again = match self.direct {
                Some(_) => storage.reopen_direct(&self.name, &self.file),
                None => storage.reopen(&self.name, &self.file),
            };
            self.idle.extend(again);
            self.openings += self.idle.len();
        }
        if self.has_open_block() { 1 } else { self.openings }
    }

    /// What makes all frames that are written now durable; `None` where no opening is idle to do it.
    pub fn flush(&mut self, number: u64) -> Option<Flush<F>> {
        let (shown, bytes, extent, end) = (Arc::clone(&self.shown), self.bytes, self.extent.clone(), self.end);
        let file = self.idle.pop()?;
        let blocks = self.direct.as_mut().and_then(Direct::take);
        Some(Flush { number, segment: self.seq, file, shown, bytes, extent, end, blocks })
    }

    /// Takes back what a flush has used.
    pub fn take_back(&mut self, file: F, blocks: Option<Blocks>) {
        self.idle.push(file);
        if let (Some(direct), Some(blocks)) = (&mut self.direct, blocks) {
            direct.take_back(blocks);
        }
    }

    /// All flushes up to this offset have succeeded.
    pub fn set_durable(&mut self, bytes: u64) {
        assert!((self.durable_bytes..=self.bytes).contains(&bytes), "what is durable was written, and stays so");
        self.durable_bytes = bytes;
    }

    /// Checks whether the file that a start will find is this one, with everything that is durable.
    pub fn check_place<S: Storage<File = F>>(&self, storage: &S) -> Result<(), LogError> {
        check_place(storage, (&self.name, &self.shown), &self.file, &self.extent.with(self.durable_bytes))
    }

    /// Cuts what is not known to be durable, if possible: nothing relies on it, and it takes room.
    pub fn give_up_rest(&mut self) {
        let _ = self.cut(self.durable_bytes);
    }

    /// Everything that cuts the file calls this.
    fn cut(&mut self, bytes: u64) -> io::Result<()> {
        self.extent = self.extent.cut(bytes);
        self.file.set_len(bytes)
    }

    /// Cuts what is after the last frame.
    pub fn cut_unused(&mut self) -> Result<(), LogError> {
        let bytes = self.file.status().map_err(|source| LogError::io("measure", &*self.shown, source))?.bytes;
        if bytes > self.bytes {
            let cut = self.cut(self.bytes).and_then(|()| self.file.sync_data());
            cut.map_err(|source| LogError::io("cut", &*self.shown, source))?;
        }
        self.extent.bytes = self.bytes;
        Ok(())
    }
}
