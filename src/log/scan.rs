//! Finding the frames of one segment, and telling a clean end, a torn tail and damage apart.

use super::error::LogError;
use super::format::{
    ANNOTATION_BYTES_MAX, ANNOTATION_PREFIX, Boundary, FormatError, FrameHeader, header_checksum, leading_line,
    parse_annotation,
};
use super::lsn::Lsn;
use super::storage::{Storage, StorageFile};

const BUFFER_BYTES: usize = 1 << 20;
const _: () = assert!(ANNOTATION_BYTES_MAX < BUFFER_BYTES);

/// A file read through one big buffer.
pub(crate) struct Window<F> {
    file: F,
    /// The file's name, as people know it.
    shown: String,
    file_bytes: u64,
    buffer: Vec<u8>,
    /// Offset in the file of the buffer's first byte.
    start: u64,
}

/// A frame and where it lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Located {
    pub header: FrameHeader,
    pub crc: u32,
    /// Offset of the payload.
    pub payload: u64,
    /// Offset behind the payload.
    pub end: u64,
}

impl<F: StorageFile> Window<F> {
    pub fn open<S: Storage<File = F>>(storage: &S, name: &str) -> Result<Window<F>, LogError> {
        let shown = storage.locate(name);
        let file = storage.open_read(name).map_err(|source| LogError::io("open", &shown, source))?;
        let file_bytes = file.len().map_err(|source| LogError::io("measure", &shown, source))?;
        Ok(Window { file, shown, file_bytes, buffer: Vec::new(), start: 0 })
    }

    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// What the buffer has from `offset` on: at least `wanted` bytes, or all up to the end of the file.
    pub fn bytes_at(&mut self, offset: u64, wanted: usize) -> Result<&[u8], LogError> {
        assert!(wanted <= BUFFER_BYTES, "a look ahead must fit the buffer");
        let wanted = (self.file_bytes.saturating_sub(offset)).min(wanted as u64);
        let end = self.start + self.buffer.len() as u64;
        if offset < self.start || offset + wanted > end {
            let rest = self.file_bytes.saturating_sub(offset).min(BUFFER_BYTES as u64);
            self.buffer.resize(rest as usize, 0);
            let count = self.file.read_at(offset, &mut self.buffer);
            let count = count.map_err(|source| LogError::io("read", &self.shown, source))?;
            self.buffer.truncate(count);
            self.start = offset;
        }
        let skipped = offset.saturating_sub(self.start) as usize;
        Ok(self.buffer.get(skipped..).unwrap_or(&[]))
    }

    /// Reads a payload piece by piece; `false` when the file ends before.
    pub fn each_piece(&mut self, offset: u64, end: u64, mut piece: impl FnMut(&[u8])) -> Result<bool, LogError> {
        let mut at = offset;
        while at < end {
            let bytes = self.bytes_at(at, 1)?;
            let count = (end - at).min(bytes.len() as u64);
            if count == 0 {
                return Ok(false);
            }
            piece(bytes.get(..count as usize).unwrap_or(bytes));
            at += count;
        }
        Ok(true)
    }

    /// The frame that begins at `offset`, its checksum not verified yet.
    pub fn header_at(&mut self, offset: u64) -> Result<Result<Located, FormatError>, LogError> {
        let file_bytes = self.file_bytes;
        let bytes = self.bytes_at(offset, ANNOTATION_BYTES_MAX)?;
        let Some(line) = leading_line(bytes) else {
            return Ok(Err(FormatError::Field("the annotation is cut short")));
        };
        let (header, crc) = match parse_annotation(line) {
            Ok(parsed) => parsed,
            Err(error) => return Ok(Err(error)),
        };
        let payload = offset + line.len() as u64;
        match payload.checked_add(header.length).filter(|end| *end <= file_bytes) {
            Some(end) => Ok(Ok(Located { header, crc, payload, end })),
            None => Ok(Err(FormatError::Field("the frame is cut short"))),
        }
    }

    /// The frame that begins at `offset`, verified.
    pub fn frame_at(&mut self, offset: u64) -> Result<Result<Located, FormatError>, LogError> {
        let located = match self.header_at(offset)? {
            Ok(located) => located,
            Err(error) => return Ok(Err(error)),
        };
        let mut crc = header_checksum(&located.header);
        let whole = self.each_piece(located.payload, located.end, |piece| crc = crc32c::crc32c_append(crc, piece))?;
        if whole && crc == located.crc {
            return Ok(Ok(located));
        }
        Ok(Err(FormatError::Field("the checksum is wrong")))
    }

    pub fn is_zero_from(&mut self, offset: u64) -> Result<bool, LogError> {
        let mut zero = true;
        self.each_piece(offset, self.file_bytes, |piece| zero = zero && piece.iter().all(|byte| *byte == 0))?;
        Ok(zero)
    }

    /// Where a good frame begins behind the bad byte at `offset`, whose frame should have had position `expected`.
    ///
    /// A frame behind others of this file is never further from them by position than by bytes. That rule keeps most
    /// frames that are only part of a value (a client may store anything, also a log) from being taken for ours.
    fn later_frame(&mut self, offset: u64, expected: Lsn) -> Result<Option<u64>, LogError> {
        let mut at = offset + 1;
        while at < self.file_bytes {
            let bytes = self.bytes_at(at, ANNOTATION_PREFIX.len())?;
            let found = bytes.windows(ANNOTATION_PREFIX.len()).position(|bytes| bytes == ANNOTATION_PREFIX);
            let Some(skipped) = found else {
                // A prefix may begin in the last bytes of the buffer.
                at += bytes.len().saturating_sub(ANNOTATION_PREFIX.len() - 1).max(1) as u64;
                continue;
            };
            let candidate = at + skipped as u64;
            let near = |lsn: Lsn| lsn >= expected && lsn.bytes_since(expected) <= candidate - offset;
            let plausible = matches!(self.header_at(candidate)?, Ok(located) if near(located.header.lsn));
            if plausible && self.frame_at(candidate)?.is_ok() {
                return Ok(Some(candidate));
            }
            at = candidate + 1;
        }
        Ok(None)
    }
}

/// What one segment holds.
#[derive(Clone, Debug)]
pub(crate) struct Scan {
    /// The position its first frame has.
    pub first: Lsn,
    /// The position behind its last whole unit.
    pub end: Lsn,
    /// Bytes of the file up to there.
    pub kept_bytes: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Whether what is behind them is more than unused space.
    pub torn: bool,
}

/// Verifies a segment. `expected` is the position it must begin with, where that is known.
pub(crate) fn scan_segment<F: StorageFile>(
    window: &mut Window<F>,
    expected: Option<Lsn>,
    is_last: bool,
) -> Result<Scan, LogError> {
    let first = match window.frame_at(0)? {
        Ok(located) => located.header.lsn,
        Err(error) => return Err(bad_start(window, error)?),
    };
    let mut next = expected.unwrap_or(first);
    let mut offset = 0;
    let mut scan = Scan { first, end: first, kept_bytes: 0, file_bytes: window.file_bytes(), torn: false };
    while offset < window.file_bytes() {
        let located = match window.frame_at(offset)? {
            Ok(located) => located,
            Err(error) => {
                scan.torn = judge_bad_spot(window, offset, next, is_last, error)?;
                break;
            }
        };
        if located.header.lsn != next {
            let (file, found) = (window.shown().to_string(), located.header.lsn);
            return Err(LogError::NonMonotonic { file, offset, expected: next, found });
        }
        next = located.header.end();
        offset = located.end;
        if located.header.boundary == Boundary::Unit {
            (scan.end, scan.kept_bytes) = (next, offset);
        }
    }
    // Frames of a unit whose end was never written are as good as not written.
    let unfinished = offset > scan.kept_bytes;
    if unfinished && !is_last {
        return Err(damaged(window, scan.kept_bytes, "the segment ends within a unit"));
    }
    scan.torn |= unfinished;
    Ok(scan)
}

/// Judges bytes at which no good frame begins: `true` for a torn tail, `false` for unused space.
fn judge_bad_spot<F: StorageFile>(
    window: &mut Window<F>,
    offset: u64,
    expected: Lsn,
    is_last: bool,
    error: FormatError,
) -> Result<bool, LogError> {
    if !is_last {
        return Err(damaged(window, offset, &format!("{error}, and later segments follow")));
    }
    if window.is_zero_from(offset)? {
        return Ok(false);
    }
    match window.later_frame(offset, expected)? {
        None => Ok(true),
        Some(later) => Err(damaged(window, offset, &format!("{error}, but a good frame follows at byte {later}"))),
    }
}

/// The error of a named segment that does not begin with a good frame, which no crash of ours leaves behind.
fn bad_start<F: StorageFile>(window: &mut Window<F>, error: FormatError) -> Result<LogError, LogError> {
    let zero = window.is_zero_from(0)?;
    let file = window.shown().to_string();
    Ok(match error {
        FormatError::UnsupportedVersion => LogError::UnsupportedVersion { file },
        _ if zero || window.bytes_at(0, ANNOTATION_PREFIX.len())?.starts_with(ANNOTATION_PREFIX) => {
            damaged(window, 0, error.why())
        }
        _ => LogError::ForeignFolder { file, why: "the segment does not begin with a frame of this module".into() },
    })
}

fn damaged<F: StorageFile>(window: &Window<F>, offset: u64, why: &str) -> LogError {
    LogError::Damaged { file: window.shown().to_string(), offset, why: why.to_string() }
}
