//! Reading the frames of one segment, and distinguishing a clean end, a torn tail and damage.
//!
//! A bad place is damage where something proves that it was durable once: a seal, a segment that goes on from a later
//! position, or a frame that was written when the file was durable beyond the place. Otherwise it is what a crash
//! leaves of a write that was never acknowledged.

use super::grammar::{Grammar, Head, Located};
use super::window::Window;
use crate::log::error::LogError;
use crate::log::format::FormatError;
use crate::log::format::manifest::Sealed;
use crate::log::lsn::Lsn;
use crate::log::storage::StorageFile;

/// Payloads of frames found while looking for proof are verified up to this many times the bytes looked through, and
/// `PROOF_BYTES_MIN`. Format 2 stays far below; in format 1, bytes that a client had stored may reach it.
const PROOF_FACTOR: u64 = 16;
const PROOF_BYTES_MIN: u64 = 64 << 20;

/// What is known of a segment's end before it is read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expected {
    /// It was closed: it holds just this.
    Sealed(Sealed),
    /// The log goes on elsewhere from this position; what is beyond is void.
    Until(Lsn),
    /// It is the last one.
    Open,
}

/// What one segment holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scan {
    /// The position after its last frame.
    pub end: Lsn,
    /// Bytes of the file up to there.
    pub bytes: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Bytes of the file without the zeros at its end, which are unused space.
    pub used_bytes: u64,
    /// Bytes of the file that are known to have been durable.
    pub durable_bytes: u64,
    /// Whether what is after the last frame is more than unused space.
    pub is_torn: bool,
}

/// Reads and verifies all frames of a segment.
pub(crate) fn scan_segment<F: StorageFile>(
    window: &mut Window<F>,
    head: &Head,
    expected: Expected,
) -> Result<Scan, LogError> {
    let mut scan = SegmentScan::begin(window, head, expected)?;
    loop {
        if let Step::End(found) = scan.next(window)? {
            return Ok(found);
        }
    }
}

/// A segment that is read and verified frame by frame.
pub(crate) struct SegmentScan {
    grammar: Grammar,
    expected: Expected,
    /// The position after the frames that are good.
    pub end: Lsn,
    /// The offset after them.
    pub offset: u64,
    durable_bytes: u64,
}

/// What comes next in a segment.
pub(crate) enum Step {
    /// A good frame.
    Frame(Located),
    /// The segment's end.
    End(Scan),
}

impl SegmentScan {
    pub fn begin<F: StorageFile>(window: &Window<F>, head: &Head, expected: Expected) -> Result<SegmentScan, LogError> {
        let file_bytes = window.file_bytes();
        if let Expected::Sealed(sealed) = expected
            && sealed.bytes != file_bytes
        {
            let why = format!("it has {file_bytes} bytes instead of {}, which it had when it was left", sealed.bytes);
            return Err(window.damaged(sealed.bytes.min(file_bytes), why));
        }
        let Head { grammar, first, bytes, .. } = *head;
        Ok(SegmentScan { grammar, expected, end: first, offset: bytes, durable_bytes: bytes })
    }

    /// Reads on. After an error the scan is as it was before.
    pub fn next<F: StorageFile>(&mut self, window: &mut Window<F>) -> Result<Step, LogError> {
        let (offset, end, expected) = (self.offset, self.end, self.expected);
        if offset >= window.file_bytes() || matches!(expected, Expected::Until(stop) if end == stop) {
            return self.finish(window, false).map(Step::End);
        }
        let located = match window.frame_at(offset, self.grammar)? {
            Ok(located) => located,
            Err(error) => {
                let is_torn = judge(window, (offset, end), self.grammar, expected, error)?;
                return self.finish(window, is_torn).map(Step::End);
            }
        };
        if let Some(lsn) = located.lsn.filter(|lsn| *lsn != end) {
            return Err(window.damaged(offset, format!("a frame has position {lsn} instead of {end}")));
        }
        let next = end.checked_advance(located.length());
        self.end = next.ok_or_else(|| window.damaged(offset, "a position is out of range"))?;
        self.durable_bytes = self.durable_bytes.max(located.durable);
        self.offset = located.end;
        Ok(Step::Frame(located))
    }

    fn finish<F: StorageFile>(&self, window: &mut Window<F>, is_torn: bool) -> Result<Scan, LogError> {
        let (end, offset) = (self.end, self.offset);
        let wanted = match self.expected {
            Expected::Sealed(sealed) => Some(sealed.end),
            Expected::Until(stop) => Some(stop),
            Expected::Open => None,
        };
        if let Some(wanted) = wanted.filter(|wanted| *wanted != end) {
            return Err(window.damaged(offset, format!("it ends at position {end} instead of {wanted}")));
        }
        let is_sealed = matches!(self.expected, Expected::Sealed(_));
        let durable_bytes = if is_sealed { offset } else { self.durable_bytes };
        let used_bytes = if is_torn { window.used_end(offset)? } else { offset };
        Ok(Scan { end, bytes: offset, file_bytes: window.file_bytes(), used_bytes, durable_bytes, is_torn })
    }
}

/// Judges bytes at which no good frame begins: `true` for a torn tail, `false` for unused space.
fn judge<F: StorageFile>(
    window: &mut Window<F>,
    (offset, end): (u64, Lsn),
    grammar: Grammar,
    expected: Expected,
    error: FormatError,
) -> Result<bool, LogError> {
    if let FormatError::UnknownFormat(format) = error {
        return Err(LogError::UnsupportedVersion { file: window.shown().to_string(), format });
    }
    match expected {
        Expected::Sealed(_) => return Err(window.damaged(offset, format!("{error}, in a segment that was whole"))),
        Expected::Until(_) => return Err(window.damaged(offset, format!("{error}, and later segments follow"))),
        Expected::Open => {}
    }
    if window.is_zero_from(offset)? {
        return Ok(false);
    }
    match proof_of_damage(window, offset, end, grammar)? {
        None => Ok(true),
        Some(later) => {
            Err(window.damaged(offset, format!("{error}, but a frame that was written later follows at byte {later}")))
        }
    }
}

/// Where a frame is that was written when the bad place at `offset` was durable.
///
/// The work is linear in the bytes after the place, whatever a client had stored there: the lines that begin frames
/// are short, and those that only look like one fail their check, which covers the segment's salt.
fn proof_of_damage<F: StorageFile>(
    window: &mut Window<F>,
    offset: u64,
    end: Lsn,
    grammar: Grammar,
) -> Result<Option<u64>, LogError> {
    if let Some(next) = next_header(window, offset, grammar)? {
        return Ok(Some(next));
    }
    let file_bytes = window.file_bytes();
    let mut budget = PROOF_BYTES_MIN + PROOF_FACTOR * (file_bytes - offset);
    let mut at = offset + 1;
    while at < file_bytes {
        let bytes = window.bytes_at(at, 1)?;
        let found = bytes.iter().position(|byte| *byte == b'#');
        let looked_at = found.map_or(bytes.len(), |skipped| skipped + 1) as u64;
        if looked_at == 0 {
            break;
        }
        window.count_examined(looked_at);
        at += looked_at;
        if found.is_none() {
            continue;
        }
        let located = match grammar {
            Grammar::One { .. } => window.line_at(at - 1, grammar)?.ok(),
            Grammar::Two { salt } => window.shifted_line_at(at - 1, salt)?,
        };
        let Some(located) = located else { continue };
        if located.durable <= offset || !is_near(&located, offset, end) {
            continue;
        }
        budget = budget.checked_sub(located.length()).ok_or_else(|| {
            window.damaged(offset, "no frame begins here, and what follows looks like too many frames to be judged")
        })?;
        if window.is_good(&located)? {
            return Ok(Some(located.start));
        }
    }
    Ok(None)
}

/// The frame after a frame whose header is good and whose payload is not. Only the writer knows its place, so its
/// header is proof enough. In format 1 headers have no check.
fn next_header<F: StorageFile>(window: &mut Window<F>, offset: u64, grammar: Grammar) -> Result<Option<u64>, LogError> {
    let Grammar::Two { .. } = grammar else { return Ok(None) };
    let Ok(bad) = window.header_at(offset, grammar)? else { return Ok(None) };
    let next = window.header_at(bad.end, grammar)?;
    Ok(next.ok().filter(|next| next.durable > offset).map(|next| next.start))
}

/// Whether a frame of format 1 may be there: it is never further from those before it by position than by bytes. So
/// most frames that are only part of a value (a client may store anything, even a log) are not taken for ours.
fn is_near(located: &Located, offset: u64, end: Lsn) -> bool {
    located.lsn.is_none_or(|lsn| lsn >= end && lsn.bytes_since(end) <= located.start.saturating_sub(offset))
}
