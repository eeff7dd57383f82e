//! Reading a log that was verified.

use super::grammar::{Grammar, Located};
use super::opened::{Opened, Segment};
use super::window::Window;
use crate::log::error::LogError;
use crate::log::format::frame::push_padding;
use crate::log::lsn::Lsn;
use crate::log::storage::Storage;

/// One frame of a log: whole units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The position of its first byte of payload.
    pub lsn: Lsn,
    /// Bytes of payload.
    pub length: u64,
    /// The wall-clock time of the hand-over, to a second.
    pub unix_ms: u64,
    /// It is one of format 1.
    pub is_format_1: bool,
}

impl Frame {
    /// The position after the frame.
    pub fn end(&self) -> Lsn {
        self.lsn.advance(self.length)
    }
}

/// The frames of a log, one at a time.
pub struct Frames<'a, S: Storage> {
    storage: &'a S,
    waiting: std::slice::Iter<'a, Segment>,
    current: Option<Current<'a, S>>,
    read_bytes: u64,
}

struct Current<'a, S: Storage> {
    segment: &'a Segment,
    window: Window<S::File>,
    /// Of the next frame.
    offset: u64,
    lsn: Lsn,
    unix_ms: u64,
    /// The frame whose payload is read.
    frame: Option<Payload>,
}

struct Payload {
    located: Located,
    at: u64,
    crc: u32,
}

impl<S: Storage> Opened<S> {
    /// The frames of the log, in order, from the base on.
    pub fn frames(&self) -> Frames<'_, S> {
        Frames { storage: self.storage(), waiting: self.segments().iter(), current: None, read_bytes: 0 }
    }
}

impl<S: Storage> Frames<'_, S> {
    /// Bytes of the segments read so far, out of [`Opened::log_bytes`].
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes
    }

    /// Goes on to the next frame; `None` at the end of the log. What was not read of the one before is skipped,
    /// unverified.
    pub fn next_header(&mut self) -> Result<Option<Frame>, LogError> {
        loop {
            let ended = self.current.as_ref().is_none_or(|current| current.offset >= current.segment.bytes);
            if ended && !self.next_segment()? {
                return Ok(None);
            }
            let Some(current) = self.current.as_mut().filter(|current| current.offset < current.segment.bytes) else {
                continue;
            };
            let (frame, bytes) = current.next_frame()?;
            self.read_bytes += bytes;
            return Ok(Some(frame));
        }
    }

    /// The next piece of the frame's payload; `None` after its end. The checksum is verified with the last piece.
    pub fn next_piece(&mut self) -> Result<Option<&[u8]>, LogError> {
        match &mut self.current {
            Some(current) => current.next_piece(),
            None => Ok(None),
        }
    }

    /// Replaces `payload` with the next frame's; `None` at the end of the log.
    pub fn next_frame(&mut self, payload: &mut Vec<u8>) -> Result<Option<Frame>, LogError> {
        payload.clear();
        let Some(frame) = self.next_header()? else { return Ok(None) };
        payload.reserve(usize::try_from(frame.length).unwrap_or(0));
        while let Some(piece) = self.next_piece()? {
            payload.extend_from_slice(piece);
        }
        Ok(Some(frame))
    }

    /// The error of a frame whose content, though its checksum is right, is not what a log holds.
    pub fn damaged(&self, why: impl Into<String>) -> LogError {
        match &self.current {
            Some(Current { window, frame: Some(payload), .. }) => window.damaged(payload.located.start, why),
            Some(Current { window, offset, .. }) => window.damaged(*offset, why),
            None => LogError::damaged("", 0, why),
        }
    }

    fn next_segment(&mut self) -> Result<bool, LogError> {
        let Some(segment) = self.waiting.next() else { return Ok(false) };
        let window = Window::open(self.storage, &segment.name)?;
        self.read_bytes += segment.head_bytes;
        self.current = Some(Current {
            segment,
            window,
            offset: segment.head_bytes,
            lsn: segment.first,
            unix_ms: segment.unix_ms,
            frame: None,
        });
        Ok(true)
    }
}

impl<S: Storage> Current<'_, S> {
    fn next_frame(&mut self) -> Result<(Frame, u64), LogError> {
        let located = match self.window.header_at(self.offset, self.segment.grammar)? {
            Ok(located) if located.end <= self.segment.bytes => located,
            Ok(_) => return Err(self.changed(self.offset)),
            Err(_) => return Err(self.changed(self.offset)),
        };
        let bytes = located.end - self.offset;
        self.unix_ms = located.unix_ms.unwrap_or(self.unix_ms);
        let is_format_1 = matches!(self.segment.grammar, Grammar::One { .. });
        let frame = Frame { lsn: self.lsn, length: located.length(), unix_ms: self.unix_ms, is_format_1 };
        // It was verified when the log was opened, but the file may have changed since.
        self.lsn = self.lsn.checked_advance(frame.length).ok_or_else(|| self.changed(self.offset))?;
        self.offset = located.end;
        self.frame = Some(Payload { located, at: located.payload, crc: located.seed });
        Ok((frame, bytes))
    }

    fn next_piece(&mut self) -> Result<Option<&[u8]>, LogError> {
        let Some(Payload { located, at, crc }) = &mut self.frame else { return Ok(None) };
        let (offset, end) = (*at, located.payload_end);
        if offset == end {
            return Ok(None);
        }
        let piece = self.window.piece(offset, end)?;
        *crc = crc32c::crc32c_append(*crc, piece);
        *at += piece.len() as u64;
        let length = piece.len();
        if *at == end {
            let mut padding = Vec::new();
            push_padding(&mut padding, located.end - end);
            *crc = crc32c::crc32c_append(*crc, &padding);
        }
        if length == 0 || *at == end && *crc != located.crc {
            return Err(self.changed(offset));
        }
        Ok(self.window.bytes_at(offset, 1)?.get(..length))
    }

    fn changed(&self, offset: u64) -> LogError {
        self.window.damaged(offset, "the file has changed since the log was opened")
    }
}
