//! Where the frames of a segment are, in both formats.

use super::window::Window;
use crate::log::error::LogError;
use crate::log::format::frame::{self, FrameHeader, HEAD_BYTES_MAX, Place, TIME_LINE_BYTES_MAX, TIME_PREFIX};
use crate::log::format::header::{HEADER_BYTES_MAX, HEADER_PREFIX, SegmentHeader};
use crate::log::format::{FormatError, Generation, leading_line};
use crate::log::format1;
use crate::log::lsn::Lsn;
use crate::log::storage::{Storage, StorageFile};

const _: () = assert!(HEADER_BYTES_MAX >= format1::LINE_BYTES_MAX);

const RANGE: FormatError = FormatError::Field("the frame's length is out of range");

/// How far from its place a frame is recognised as proof that something before it was durable.
const SHIFT_BYTES_MAX: u64 = 8;

/// How a segment's frames are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grammar {
    /// Format 1; its checksums cover the position that the segment begins with.
    One { first: Lsn },
    /// Format 2.
    Two { salt: u64 },
}

/// A frame and where it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Located {
    /// Offset of the frame's first byte.
    pub start: u64,
    /// Offset of the payload.
    pub payload: u64,
    /// Offset after the payload.
    pub payload_end: u64,
    /// Offset after the frame: after the padding that follows the payload.
    pub end: u64,
    /// The checksum, which covers the padding, too.
    pub crc: u32,
    /// The checksum over all before the payload.
    pub seed: u32,
    /// The position of the payload, where the frame states it (format 1).
    pub lsn: Option<Lsn>,
    pub unix_ms: Option<u64>,
    /// The offset up to which the file was durable when the frame was written.
    pub durable: u64,
}

impl Located {
    pub fn length(&self) -> u64 {
        self.payload_end - self.payload
    }
}

/// What a segment says of itself at its start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub grammar: Grammar,
    pub first: Lsn,
    pub unix_ms: u64,
    /// `None` in format 1.
    pub generation: Option<Generation>,
    pub is_pending: bool,
    /// Offset of the first frame.
    pub bytes: u64,
}

impl<F: StorageFile> Window<F> {
    /// The head of the segment.
    pub fn head(&mut self) -> Result<Result<Head, FormatError>, LogError> {
        const CUT_SHORT: FormatError = FormatError::Field("the segment's header is cut short");
        const BYTES_MAX: usize = HEADER_BYTES_MAX;
        let bytes = self.bytes_at(0, BYTES_MAX)?;
        let Some(line) = leading_line(bytes, BYTES_MAX) else {
            let ours = [HEADER_PREFIX, format1::SEGMENT_PREFIX].iter().any(|prefix| bytes.starts_with(prefix));
            return Ok(Err(if ours { CUT_SHORT } else { FormatError::NotAnAnnotation }));
        };
        if line.starts_with(format1::SEGMENT_PREFIX) {
            return Ok(head_of_format_1(line));
        }
        Ok(SegmentHeader::parse(line).map(|header| Head {
            grammar: Grammar::Two { salt: header.salt },
            first: header.first,
            unix_ms: header.unix_ms,
            generation: Some(header.generation),
            is_pending: header.is_pending,
            bytes: line.len() as u64,
        }))
    }

    /// The frame that begins at `offset`. In format 2 the header is verified, in neither the payload.
    pub fn header_at(&mut self, offset: u64, grammar: Grammar) -> Result<Result<Located, FormatError>, LogError> {
        let Grammar::Two { .. } = grammar else {
            return self.line_at(offset, grammar);
        };
        let bytes = self.bytes_at(offset, HEAD_BYTES_MAX)?;
        let time_line = if bytes.starts_with(TIME_PREFIX) { leading_line(bytes, TIME_LINE_BYTES_MAX) } else { None };
        let time_line = time_line.map(<[u8]>::to_vec).unwrap_or_default();
        let located = match self.line_at(offset + time_line.len() as u64, grammar)? {
            Ok(located) => located,
            Err(error) => return Ok(Err(error)),
        };
        let mut expected = Vec::new();
        located.unix_ms.iter().for_each(|unix_ms| frame::push_time_line(&mut expected, *unix_ms));
        Ok(if time_line == expected {
            Ok(located)
        } else {
            Err(FormatError::Field("the frame's time line is not that of its time"))
        })
    }

    /// The frame whose annotation line, which is after its time line, is at `offset`.
    pub fn line_at(&mut self, offset: u64, grammar: Grammar) -> Result<Result<Located, FormatError>, LogError> {
        let bytes_max = match grammar {
            Grammar::One { .. } => format1::LINE_BYTES_MAX,
            Grammar::Two { .. } => frame::LINE_BYTES_MAX,
        };
        let file_bytes = self.file_bytes();
        let bytes = self.bytes_at(offset, bytes_max)?;
        let line = leading_line(bytes, bytes_max);
        let looked_at = line.map_or(bytes_max, <[u8]>::len) as u64;
        let located = line.ok_or(FormatError::Field("the annotation is cut short")).and_then(|line| {
            let payload = offset + line.len() as u64;
            locate(line, offset, payload, grammar).and_then(|located| {
                if located.end <= file_bytes { Ok(located) } else { Err(FormatError::Field("the frame is cut short")) }
            })
        });
        self.count_examined(looked_at);
        Ok(located)
    }

    /// Like [`Window::line_at`], for a frame that is a few bytes away from the place it was written for, because
    /// somebody has inserted or removed bytes before it. The offsets are those it was written for, except the
    /// payload's.
    pub fn shifted_line_at(&mut self, offset: u64, salt: u64) -> Result<Option<Located>, LogError> {
        let bytes = self.bytes_at(offset, frame::LINE_BYTES_MAX)?;
        let line = leading_line(bytes, frame::LINE_BYTES_MAX);
        let line_bytes = line.map_or(frame::LINE_BYTES_MAX, <[u8]>::len) as u64;
        let parsed = line.and_then(|line| FrameHeader::parse_unchecked(line).ok());
        self.count_examined(line_bytes);
        let Some((header, check)) = parsed else { return Ok(None) };
        let payload = offset + line_bytes;
        let places =
            (offset.saturating_sub(SHIFT_BYTES_MAX)..=offset + SHIFT_BYTES_MAX).map(|offset| Place { salt, offset });
        let located = places.filter(|place| header.check(place.seed()) == check).find_map(|place| {
            let located = locate_header(header, place.offset, place.seed(), payload).ok()?;
            (located.end <= self.file_bytes()).then_some(located)
        });
        Ok(located)
    }

    /// Whether the frame's payload is the one that its checksum covers.
    pub fn is_good(&mut self, located: &Located) -> Result<bool, LogError> {
        let mut crc = located.seed;
        let whole = self.each_piece(located.payload, located.end, |piece| crc = crc32c::crc32c_append(crc, piece))?;
        Ok(whole && crc == located.crc)
    }

    /// The frame that begins at `offset`, verified.
    pub fn frame_at(&mut self, offset: u64, grammar: Grammar) -> Result<Result<Located, FormatError>, LogError> {
        match self.header_at(offset, grammar)? {
            Ok(located) if !self.is_good(&located)? => Ok(Err(FormatError::Field("the checksum is wrong"))),
            outcome => Ok(outcome),
        }
    }
}

fn head_of_format_1(line: &[u8]) -> Result<Head, FormatError> {
    const WRONG: FormatError = FormatError::Field("the segment's first frame is wrong");
    let annotation = format1::parse_whole(line)?;
    let first = annotation.lsn.filter(|first| *first <= Lsn::LIMIT).ok_or(WRONG)?;
    if annotation.length != 0 || annotation.seed != annotation.crc {
        return Err(WRONG);
    }
    Ok(Head {
        grammar: Grammar::One { first },
        first,
        unix_ms: annotation.unix_ms.unwrap_or(0),
        generation: None,
        is_pending: false,
        bytes: line.len() as u64,
    })
}

fn locate(line: &[u8], offset: u64, payload: u64, grammar: Grammar) -> Result<Located, FormatError> {
    match grammar {
        Grammar::One { first } => {
            let format1::Annotation { lsn, length, crc, seed, unix_ms } =
                format1::parse_annotation(line, first, offset)?;
            let end = payload.checked_add(length).ok_or(RANGE)?;
            // Version 0.1 never had two frames in flight.
            let payload_end = end;
            Ok(Located { start: offset, payload, payload_end, end, crc, seed, lsn, unix_ms, durable: offset })
        }
        Grammar::Two { salt } => {
            let seed = Place { salt, offset }.seed();
            locate_header(FrameHeader::parse(line, seed)?, offset, seed, payload)
        }
    }
}

fn locate_header(header: FrameHeader, offset: u64, seed: u32, payload: u64) -> Result<Located, FormatError> {
    let FrameHeader { length, crc, unix_ms, durable_back, .. } = header;
    let payload_end = payload.checked_add(length).ok_or(RANGE)?;
    let written_end = (offset + header.line_bytes() as u64).checked_add(length).ok_or(RANGE)?;
    let end = payload_end.checked_add(header.padding(written_end)).ok_or(RANGE)?;
    let start = offset.checked_sub(header.time_line_bytes()).ok_or(RANGE)?;
    let durable = start.checked_sub(durable_back).ok_or(RANGE)?;
    Ok(Located { start, payload, payload_end, end, crc, seed, lsn: None, unix_ms, durable })
}

/// The header of a segment.
pub(in crate::log) struct SegmentHead {
    /// Its bytes.
    pub bytes: u64,
    /// When the segment was begun, by the last unit before it.
    pub unix_ms: u64,
}

/// Reads the header of a segment.
pub(in crate::log) fn segment_head<S: Storage>(storage: &S, name: &str) -> Result<SegmentHead, LogError> {
    let mut window = Window::open(storage, name)?;
    match window.head()? {
        Ok(Head { bytes, unix_ms, .. }) => Ok(SegmentHead { bytes, unix_ms }),
        Err(error) => Err(window.damaged(0, error.to_string())),
    }
}
