//! Format 1, read only: what version 0.1 wrote. A log of format 1 is read and carried on; nothing is written in this
//! form.
//!
//! A segment begins with a whole annotation of an empty frame. Frames have the whole annotation or the short one:
//!
//! ```text
//! #WBL1 <lsn> <length> u <unix-ms> <crc32c>\r\n     hexadecimal; the checksum covers the fields and the payload
//! #<crc32c><length>\r\n                             base 64; the checksum covers the segment's position, the line's
//!                                                   offset and the payload
//! ```
//!
//! The manifest has the server's own lines only.

use super::format::names::{OwnName, number, own_name};
use super::format::{FormatError, base_64, foreign_line, hexadecimal};
use super::lsn::Lsn;

/// The longest annotation line, with its line end.
pub(crate) const LINE_BYTES_MAX: usize = 96;
/// What begins a segment.
pub(crate) const SEGMENT_PREFIX: &[u8] = b"#WBL1 ";

const SHORT_LINE_BYTES_MAX: usize = 12;
const SHORT_CRC_DIGITS: usize = 6;
const NUMBER: FormatError = FormatError::Field("the annotation has a wrong number");

/// An annotation of format 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Annotation {
    /// The position of the payload, which a short one does not state.
    pub lsn: Option<Lsn>,
    pub length: u64,
    pub crc: u32,
    /// What the checksum covers besides the payload.
    pub seed: u32,
    /// The time, which a short one does not state.
    pub unix_ms: Option<u64>,
}

/// Parses a line, with its line end. `first` is the position that the segment begins with, `offset` that of the line in
/// the file.
pub(crate) fn parse_annotation(line: &[u8], first: Lsn, offset: u64) -> Result<Annotation, FormatError> {
    match parse_short(line, first, offset) {
        Some(outcome) => outcome,
        None => parse_whole(line),
    }
}

/// Parses a whole annotation.
pub(crate) fn parse_whole(line: &[u8]) -> Result<Annotation, FormatError> {
    let Some(body) = line.strip_prefix(SEGMENT_PREFIX) else {
        return Err(foreign_line(line, &[b"1"]));
    };
    let body = body.strip_suffix(b"\r\n").ok_or(FormatError::Field("the annotation has no line end"))?;
    let fields: Vec<&[u8]> = body.split(|byte| *byte == b' ').collect();
    let [lsn, length, b"u", unix_ms, crc] = fields[..] else {
        return Err(FormatError::Field("the annotation has the wrong fields"));
    };
    let (lsn, length, unix_ms) = (plain(lsn)?, plain(length)?, plain(unix_ms)?);
    let crc = Some(crc).filter(|digits| digits.len() == 8).and_then(hexadecimal).ok_or(NUMBER)?;
    let seed = crc32c::crc32c(&lsn.to_le_bytes());
    let seed = crc32c::crc32c_append(seed, &length.to_le_bytes());
    let seed = crc32c::crc32c_append(seed, b"u");
    let seed = crc32c::crc32c_append(seed, &unix_ms.to_le_bytes());
    let crc = u32::try_from(crc).map_err(|_| NUMBER)?;
    Ok(Annotation { lsn: Some(Lsn::new(lsn)), length, crc, seed, unix_ms: Some(unix_ms) })
}

/// Parses a short annotation; `None` when it is another line.
fn parse_short(line: &[u8], first: Lsn, offset: u64) -> Option<Result<Annotation, FormatError>> {
    let digits = line.strip_prefix(b"#")?.strip_suffix(b"\r\n")?;
    if line.len() > SHORT_LINE_BYTES_MAX || digits.iter().any(|digit| base_64(&[*digit]).is_none()) {
        return None;
    }
    let (crc, length) = digits.split_at_checked(SHORT_CRC_DIGITS)?;
    let padded = *length.first()? == b'A';
    let crc = base_64(crc).and_then(|crc| u32::try_from(crc).ok());
    let (Some(crc), Some(length), false) = (crc, base_64(length), padded) else {
        return Some(Err(NUMBER));
    };
    let seed = crc32c::crc32c(&first.get().to_le_bytes());
    let seed = crc32c::crc32c_append(seed, &offset.to_le_bytes());
    let seed = crc32c::crc32c_append(seed, &length.to_le_bytes());
    Some(Ok(Annotation { lsn: None, length, crc, seed, unix_ms: None }))
}

fn plain(digits: &[u8]) -> Result<u64, FormatError> {
    let padded = digits.len() > 1 && digits.first() == Some(&b'0');
    if padded { Err(NUMBER) } else { hexadecimal(digits).ok_or(NUMBER) }
}

/// The numbers of base and segments that a manifest of format 1 names. The segments are in order, with rising numbers.
pub(crate) fn parse_manifest(text: &[u8]) -> Result<(Option<u64>, Vec<u64>), &'static str> {
    let text = std::str::from_utf8(text).map_err(|_| "the manifest is no text")?;
    let whole = text.strip_suffix('\n').ok_or("the manifest does not end with a line end")?;
    let (mut base, mut segments) = (None, Vec::new());
    for line in whole.split('\n').filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split(' ').collect();
        let ["file", name, "seq", seq, "type", kind] = fields[..] else {
            return Err("a line of the manifest has an unknown form");
        };
        let seq = number(seq).ok_or("the manifest has a wrong sequence number")?;
        match (kind, own_name(name.as_bytes())) {
            ("b", Some(OwnName::Base(named))) if named == seq && base.is_none() => base = Some(seq),
            ("i", Some(OwnName::Segment(named))) if named == seq && segments.last().is_none_or(|last| *last < seq) => {
                segments.push(seq);
            }
            _ => return Err("the manifest names a file this module does not write"),
        }
    }
    if segments.is_empty() { Err("the manifest names no segment") } else { Ok((base, segments)) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    // Lines as version 0.1 wrote them, all of the payload "abc".
    const WHOLE: &[u8] = b"#WBL1 1f 3 u 18bcfe56800 8c0cc252\r\n";
    const SHORT: &[u8] = b"#DV5maUD\r\n";
    const FIRST: Lsn = Lsn::new(0x1f);

    fn is_good(line: &[u8], first: Lsn, offset: u64) -> bool {
        let good = |found: Annotation| found.length == 3 && found.crc == crc32c::crc32c_append(found.seed, b"abc");
        parse_annotation(line, first, offset).is_ok_and(good)
    }

    #[test]
    fn lines_of_version_0_1_are_read() {
        assert!(is_good(WHOLE, FIRST, 0) && is_good(SHORT, FIRST, 77));
        assert!(
            !is_good(SHORT, FIRST, 78) && !is_good(SHORT, Lsn::new(0x20), 77),
            "a short line is bound to its place"
        );
        let whole = parse_annotation(WHOLE, FIRST, 0).unwrap();
        assert_eq!((whole.lsn, whole.unix_ms), (Some(FIRST), Some(1_700_000_000_000)));
    }

    #[test]
    fn every_flipped_bit_of_a_line_is_noticed() {
        for line in [WHOLE, SHORT] {
            for bit in 0..line.len() * 8 {
                let mut flipped = line.to_vec();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(!is_good(&flipped, FIRST, 77), "bit {bit}");
            }
        }
    }

    #[test]
    fn other_lines_are_refused() {
        for line in [
            "#WBL1 01 3 u 1 00000000\r\n",
            "#WBL1 1F 3 u 1 00000000\r\n",
            "#WBL1 1 3 c 1 00000000\r\n",
            "#WBL1 1 3 u 1 000000\r\n",
            "#WBL1 1 3 u 1 00000000 1\r\n",
            "#WBL1 1  u 1 00000000\r\n",
            "#WBL1 1 3 u 1 00000000\n",
            "#WBL1 11111111111111111 1 u 1 00000000\r\n",
            "#AAAAAAAB\r\n",
            "#______B\r\n",
        ] {
            assert!(matches!(parse_annotation(line.as_bytes(), FIRST, 0), Err(FormatError::Field(_))), "{line}");
        }
        assert_eq!(parse_annotation(b"#WBL2 1\r\n", FIRST, 0), Err(FormatError::UnknownFormat(2)));
        assert_eq!(parse_annotation(b"*1\r\n", FIRST, 0), Err(FormatError::NotAnAnnotation));
    }

    #[test]
    fn a_manifest_names_base_and_segments() {
        let text = "file appendonly.aof.3.base.rdb seq 3 type b\n\
                    file appendonly.aof.7.incr.aof seq 7 type i\n\
                    file appendonly.aof.8.incr.aof seq 8 type i\n";
        assert_eq!(parse_manifest(text.as_bytes()), Ok((Some(3), vec![7, 8])));
        for text in [
            "",
            "\n",
            "file appendonly.aof.3.base.rdb seq 3 type b\n",
            "file appendonly.aof.7.incr.aof seq 7 type i",
            "file appendonly.aof.7.incr.aof seq 8 type i\n",
            "file appendonly.aof.7.incr.aof seq 7 type h\n",
            "file other.aof.7.incr.aof seq 7 type i\n",
            "file appendonly.aof.7.incr.aof seq 7 type i startoffset 1\n",
            "file appendonly.aof.8.incr.aof seq 8 type i\nfile appendonly.aof.7.incr.aof seq 7 type i\n",
            "file appendonly.aof.1.base.aof seq 1 type b\nfile appendonly.aof.7.incr.aof seq 7 type i\n",
        ] {
            assert!(parse_manifest(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(parse_manifest(b"\xff\n").is_err());
    }
}
