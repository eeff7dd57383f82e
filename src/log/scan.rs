//! Finding the frames of one segment, and telling a clean end, a torn tail and damage apart.

use super::error::LogError;
use super::format::{
    ANNOTATION_BYTES_MAX, ANNOTATION_PREFIX, Boundary, FormatError, FrameHeader, header_checksum, leading_line,
    parse_annotation,
};
use super::lsn::Lsn;
use super::short::{Place, parse_short_annotation, short_checksum};
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

/// What a short annotation leaves to the frames before it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Before {
    /// The position the segment begins with.
    pub first: Lsn,
    /// The position behind the frame before.
    pub next: Lsn,
    /// The time of the frame before.
    pub unix_ms: u64,
}

impl Before {
    /// What comes behind this frame.
    pub fn behind(self, header: &FrameHeader) -> Before {
        Before { next: header.end(), unix_ms: header.unix_ms, ..self }
    }
}

/// A frame and where it lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Located {
    pub header: FrameHeader,
    pub crc: u32,
    /// The checksum over all but the payload.
    pub seed: u32,
    /// It has the short form, which tells no position.
    pub is_short: bool,
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

    /// The frame that begins at `offset`, its checksum not verified yet. `before` is needed where a short annotation may stand.
    pub fn header_at(&mut self, offset: u64, before: Option<Before>) -> Result<Result<Located, FormatError>, LogError> {
        let file_bytes = self.file_bytes;
        let bytes = self.bytes_at(offset, ANNOTATION_BYTES_MAX)?;
        let Some(line) = leading_line(bytes) else {
            return Ok(Err(FormatError::Field("the annotation is cut short")));
        };
        let (header, crc, seed, is_short) = match (parse_short_annotation(line), before) {
            (Some(Ok((length, crc))), Some(Before { first, next: lsn, unix_ms })) => {
                if lsn.checked_advance(length).is_none() {
                    return Ok(Err(FormatError::Field("the annotation's length is out of range")));
                }
                let header = FrameHeader { lsn, length, boundary: Boundary::Unit, unix_ms };
                (header, crc, short_checksum(Place { first, offset }, length), true)
            }
            (Some(Ok(_)), None) => return Ok(Err(FormatError::Field("a segment begins with a short annotation"))),
            (Some(Err(error)), _) => return Ok(Err(error)),
            (None, _) => match parse_annotation(line) {
                Ok((header, crc)) => (header, crc, header_checksum(&header), false),
                Err(error) => return Ok(Err(error)),
            },
        };
        let payload = offset + line.len() as u64;
        match payload.checked_add(header.length).filter(|end| *end <= file_bytes) {
            Some(end) => Ok(Ok(Located { header, crc, seed, is_short, payload, end })),
            None => Ok(Err(FormatError::Field("the frame is cut short"))),
        }
    }

    /// The frame that begins at `offset`, verified.
    pub fn frame_at(&mut self, offset: u64, before: Option<Before>) -> Result<Result<Located, FormatError>, LogError> {
        let located = match self.header_at(offset, before)? {
            Ok(located) => located,
            Err(error) => return Ok(Err(error)),
        };
        let mut crc = located.seed;
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

    /// Where a good frame begins behind the bad byte at `offset`, whose frame should have come behind `before`.
    ///
    /// A frame behind others of this file is never further from them by position than by bytes, and a short one is good in its place only.
    /// That keeps most frames that are only part of a value (a client may store anything, also a log) from being taken for ours.
    fn later_frame(&mut self, offset: u64, before: Before) -> Result<Option<u64>, LogError> {
        let expected = before.next;
        let mut at = offset + 1;
        while at < self.file_bytes {
            let bytes = self.bytes_at(at, 1)?;
            let Some(skipped) = bytes.iter().position(|byte| *byte == b'#') else {
                at += bytes.len().max(1) as u64;
                continue;
            };
            let candidate = at + skipped as u64;
            let near = |lsn: Lsn| lsn >= expected && lsn.bytes_since(expected) <= candidate - offset;
            let found = self.header_at(candidate, Some(before))?;
            let plausible = found.is_ok_and(|located| located.is_short || near(located.header.lsn));
            if plausible && self.frame_at(candidate, Some(before))?.is_ok() {
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
    let (first, unix_ms) = match window.frame_at(0, None)? {
        Ok(located) => (located.header.lsn, located.header.unix_ms),
        Err(error) => return Err(bad_start(window, error)?),
    };
    let mut before = Before { first, next: expected.unwrap_or(first), unix_ms };
    let mut offset = 0;
    let mut scan = Scan { first, end: first, kept_bytes: 0, file_bytes: window.file_bytes(), torn: false };
    while offset < window.file_bytes() {
        let located = match window.frame_at(offset, Some(before))? {
            Ok(located) => located,
            Err(error) => {
                scan.torn = judge_bad_spot(window, offset, before, is_last, error)?;
                break;
            }
        };
        if located.header.lsn != before.next {
            let (file, found) = (window.shown().to_string(), located.header.lsn);
            return Err(LogError::NonMonotonic { file, offset, expected: before.next, found });
        }
        before = before.behind(&located.header);
        offset = located.end;
        if located.header.boundary == Boundary::Unit {
            (scan.end, scan.kept_bytes) = (before.next, offset);
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
    before: Before,
    is_last: bool,
    error: FormatError,
) -> Result<bool, LogError> {
    if !is_last {
        return Err(damaged(window, offset, &format!("{error}, and later segments follow")));
    }
    if window.is_zero_from(offset)? {
        return Ok(false);
    }
    match window.later_frame(offset, before)? {
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
