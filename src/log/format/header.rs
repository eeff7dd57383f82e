//! The line that begins a segment.
//!
//! ```text
//! #WBL2 <generation counter> <generation random> <first> <salt> <unix ms> <p|-> <crc32c>\n
//! ```
//!
//! Hexadecimal; random, salt and checksum with all their digits. The checksum covers the line before it.

use super::{FormatError, Generation, foreign_line, hexadecimal};
use crate::log::lsn::Lsn;

/// What begins the header of a segment of this version.
pub(crate) const HEADER_PREFIX: &[u8] = b"#WBL2 ";
/// The longest header, with its line end.
pub(crate) const HEADER_BYTES_MAX: usize = 6 + 5 * 17 + 2 + 8 + 1;

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// The log it belongs to.
    pub generation: Generation,
    /// The position of its first byte of payload. What earlier segments hold from there on is void.
    pub first: Lsn,
    /// Covered by each checksum of the segment.
    pub salt: u64,
    /// When it was created.
    pub unix_ms: u64,
    /// The log waited for its first base: without a manifest that names the segment it is void.
    pub is_pending: bool,
}

impl SegmentHeader {
    /// The line, with its line end.
    pub fn to_line(self) -> Vec<u8> {
        let pending = if self.is_pending { 'p' } else { '-' };
        let SegmentHeader { generation, first, salt, unix_ms, .. } = self;
        let mut text = format!("#WBL2 {generation} {:x} {salt:016x} {unix_ms:x} {pending} ", first.get());
        text.push_str(&format!("{:08x}\n", crc32c::crc32c(text.as_bytes())));
        assert!(text.len() <= HEADER_BYTES_MAX, "a header has its longest form");
        text.into_bytes()
    }

    /// Parses a line, with its line end. There is one way to write a header.
    pub fn parse(line: &[u8]) -> Result<SegmentHeader, FormatError> {
        const WRONG: FormatError = FormatError::Field("the segment's header is wrong");
        if !line.starts_with(HEADER_PREFIX) {
            return Err(foreign_line(line, &[b"1", b"2"]));
        }
        let fields: Vec<&[u8]> = line.strip_suffix(b"\n").ok_or(WRONG)?.split(|byte| *byte == b' ').collect();
        let [_, counter, random, first, salt, unix_ms, pending, _] = fields[..] else { return Err(WRONG) };
        let number = |digits| hexadecimal(digits).ok_or(WRONG);
        let header = SegmentHeader {
            generation: Generation { counter: number(counter)?, random: number(random)? },
            first: Some(Lsn::new(number(first)?)).filter(|first| *first <= Lsn::LIMIT).ok_or(WRONG)?,
            salt: number(salt)?,
            unix_ms: number(unix_ms)?,
            is_pending: pending == b"p",
        };
        if header.to_line() == line { Ok(header) } else { Err(WRONG) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: SegmentHeader = SegmentHeader {
        generation: Generation { counter: 3, random: 0xfedc },
        first: Lsn::new(0x1f),
        salt: 0xabc,
        unix_ms: 1_700_000_000_000,
        is_pending: false,
    };

    #[test]
    fn the_bytes_of_a_header_are_fixed() {
        let text = "#WBL2 3 000000000000fedc 1f 0000000000000abc 18bcfe56800 - 276795d8\n";
        assert_eq!(String::from_utf8(HEADER.to_line()).as_deref(), Ok(text));
    }

    #[test]
    fn a_header_comes_back_as_it_went() {
        let largest = SegmentHeader {
            generation: Generation { counter: u64::MAX, random: u64::MAX },
            first: Lsn::LIMIT,
            salt: u64::MAX,
            unix_ms: u64::MAX,
            is_pending: true,
        };
        for header in [HEADER, largest, SegmentHeader { is_pending: true, ..HEADER }] {
            assert_eq!(SegmentHeader::parse(&header.to_line()), Ok(header));
        }
    }

    #[test]
    fn every_other_byte_is_noticed() {
        let whole = HEADER.to_line();
        for at in 0..whole.len() {
            for byte in (0..=255).filter(|byte| *byte != whole[at]) {
                let mut other = whole.clone();
                other[at] = byte;
                assert!(SegmentHeader::parse(&other).is_err(), "byte {byte} at {at}");
            }
        }
    }

    #[test]
    fn another_version_is_named() {
        assert_eq!(SegmentHeader::parse(b"#WBL3 1\r\n"), Err(FormatError::UnknownFormat(3)));
        assert_eq!(SegmentHeader::parse(b"#WBL1 0 0 u 0 00000000\r\n"), Err(FormatError::NotAnAnnotation));
        assert_eq!(SegmentHeader::parse(b"*1\r\n"), Err(FormatError::NotAnAnnotation));
    }
}
