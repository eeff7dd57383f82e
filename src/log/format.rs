//! The annotation line that begins a frame; `short.rs` has its short form.
//!
//! ```text
//! #WBL1 <lsn> <length> <boundary> <unix-ms> <crc32c>\r\n
//! ```
//!
//! Readers of append-only files skip lines that begin with `#`, so a segment stays readable by them. There is exactly
//! one way to write a header: a line with leading zeros or upper-case digits is refused.

use super::lsn::Lsn;
use std::fmt;

/// The first bytes of every annotation of this version.
pub const ANNOTATION_PREFIX: &[u8] = b"#WBL1 ";
/// The longest annotation line a reader accepts, with its line end.
pub const ANNOTATION_BYTES_MAX: usize = 96;

const FAMILY: &[u8] = b"#WBL";
const HEX_DIGITS_MAX: usize = 16;
const CRC_DIGITS: usize = 8;
/// The longest line `encode_annotation` writes: prefix, three numbers, boundary, checksum, four spaces, CR LF.
const ENCODED_BYTES_MAX: usize = ANNOTATION_PREFIX.len() + 3 * HEX_DIGITS_MAX + 1 + CRC_DIGITS + 4 + 2;
const _: () = assert!(ENCODED_BYTES_MAX <= ANNOTATION_BYTES_MAX);

/// Whether a frame ends with a whole unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Boundary {
    /// The frame ends with a whole unit.
    Unit,
    /// The last unit of the frame continues in the next frame.
    Continued,
}

impl Boundary {
    /// The letter in the annotation, which is also the byte the checksum covers.
    pub const fn letter(self) -> u8 {
        match self {
            Boundary::Unit => b'u',
            Boundary::Continued => b'c',
        }
    }
}

/// What an annotation says about its frame, except for the checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrameHeader {
    /// The position of the payload's first byte.
    pub lsn: Lsn,
    /// Bytes of payload.
    pub length: u64,
    /// Whether the frame ends with a whole unit.
    pub boundary: Boundary,
    /// Wall-clock time of the hand-over to the log; of a frame with a short annotation, that of the last frame with a whole one.
    pub unix_ms: u64,
}

impl FrameHeader {
    /// The position behind the frame's last byte.
    #[must_use]
    pub fn end(&self) -> Lsn {
        self.lsn.advance(self.length)
    }
}

/// Why bytes are not what the format says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FormatError {
    /// The line is no annotation at all.
    NotAnAnnotation,
    /// The annotation is of a version this program does not know.
    UnsupportedVersion,
    /// The named field of an annotation is wrong.
    Field(&'static str),
    /// A payload is not a sequence of whole RESP commands.
    Command(&'static str),
}

impl FormatError {
    /// The reason in words.
    pub const fn why(self) -> &'static str {
        match self {
            FormatError::NotAnAnnotation => "no frame begins here",
            FormatError::UnsupportedVersion => "a frame of an unknown version begins here",
            FormatError::Field(why) | FormatError::Command(why) => why,
        }
    }
}

impl fmt::Display for FormatError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.why())
    }
}

impl std::error::Error for FormatError {}

/// An encoded annotation line, held in place.
#[derive(Clone, Debug)]
pub struct Annotation {
    bytes: [u8; ENCODED_BYTES_MAX],
    length: usize,
}

impl Annotation {
    /// The line with its line end.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn push(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        self.bytes[self.length..end].copy_from_slice(bytes);
        self.length = end;
    }

    fn push_hex(&mut self, value: u64, digits_min: usize) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let significant = (u64::BITS - value.leading_zeros()).div_ceil(4) as usize;
        for index in (0..significant.max(digits_min)).rev() {
            self.push(&[DIGITS[(value >> (4 * index)) as usize & 15]]);
        }
    }
}

/// The CRC-32C of a header and its payload.
pub fn checksum(header: &FrameHeader, payload: &[u8]) -> u32 {
    crc32c::crc32c_append(header_checksum(header), payload)
}

/// The CRC-32C of a header alone, to be continued over the payload.
pub(crate) fn header_checksum(header: &FrameHeader) -> u32 {
    let crc = crc32c::crc32c(&header.lsn.get().to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &header.length.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &[header.boundary.letter()]);
    crc32c::crc32c_append(crc, &header.unix_ms.to_le_bytes())
}

/// Encodes the annotation of a frame.
///
/// # Panics
///
/// When the header's length is not the payload's.
pub fn encode_annotation(header: &FrameHeader, payload: &[u8]) -> Annotation {
    assert_eq!(header.length, payload.len() as u64, "a header must name its payload's length");
    let mut line = Annotation { bytes: [0; ENCODED_BYTES_MAX], length: 0 };
    line.push(ANNOTATION_PREFIX);
    line.push_hex(header.lsn.get(), 1);
    line.push(b" ");
    line.push_hex(header.length, 1);
    line.push(&[b' ', header.boundary.letter(), b' ']);
    line.push_hex(header.unix_ms, 1);
    line.push(b" ");
    line.push_hex(u64::from(checksum(header, payload)), CRC_DIGITS);
    line.push(b"\r\n");
    line
}

/// Parses one annotation line, with its line end. The checksum is returned, not verified.
pub fn parse_annotation(line: &[u8]) -> Result<(FrameHeader, u32), FormatError> {
    let Some(body) = line.strip_prefix(ANNOTATION_PREFIX) else {
        return Err(foreign_line(line));
    };
    if line.len() > ANNOTATION_BYTES_MAX {
        return Err(FormatError::Field("the annotation is too long"));
    }
    let body = body.strip_suffix(b"\r\n").ok_or(FormatError::Field("the annotation has no line end"))?;
    let mut fields = body.split(|byte| *byte == b' ');
    let lsn = Lsn::new(number(fields.next(), "the annotation's position is no number")?);
    let length = number(fields.next(), "the annotation's length is no number")?;
    let boundary = match fields.next() {
        Some(b"u") => Boundary::Unit,
        Some(b"c") => Boundary::Continued,
        _ => return Err(FormatError::Field("the annotation's boundary is unknown")),
    };
    let unix_ms = number(fields.next(), "the annotation's time is no number")?;
    let crc = fields.next().filter(|digits| digits.len() == CRC_DIGITS).and_then(hexadecimal);
    let crc = crc.and_then(|value| u32::try_from(value).ok());
    let crc = crc.ok_or(FormatError::Field("the annotation's checksum is no number"))?;
    if fields.next().is_some() {
        return Err(FormatError::Field("the annotation has too many fields"));
    }
    if lsn.checked_advance(length).is_none() {
        return Err(FormatError::Field("the annotation's length is out of range"));
    }
    Ok((FrameHeader { lsn, length, boundary, unix_ms }, crc))
}

/// The annotation line at the start of `bytes`, with its line end, if there is one of permitted length.
pub(crate) fn leading_line(bytes: &[u8]) -> Option<&[u8]> {
    let window = bytes.get(..ANNOTATION_BYTES_MAX).unwrap_or(bytes);
    let end = window.iter().position(|byte| *byte == b'\n')?;
    window.get(..=end)
}

fn foreign_line(line: &[u8]) -> FormatError {
    let Some(rest) = line.strip_prefix(FAMILY) else {
        return FormatError::NotAnAnnotation;
    };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    match rest.get(digits) {
        Some(b' ') if digits > 0 => FormatError::UnsupportedVersion,
        _ => FormatError::NotAnAnnotation,
    }
}

fn number(field: Option<&[u8]>, why: &'static str) -> Result<u64, FormatError> {
    let digits = field.ok_or(FormatError::Field(why))?;
    let padded = digits.len() > 1 && digits.first() == Some(&b'0');
    match hexadecimal(digits) {
        Some(value) if !padded => Ok(value),
        _ => Err(FormatError::Field(why)),
    }
}

fn hexadecimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > HEX_DIGITS_MAX {
        return None;
    }
    digits.iter().try_fold(0u64, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn header(lsn: u64, length: u64) -> FrameHeader {
        FrameHeader { lsn: Lsn::new(lsn), length, boundary: Boundary::Unit, unix_ms: 1_700_000_000_000 }
    }

    #[test]
    fn the_bytes_of_an_annotation_are_fixed() {
        let line = encode_annotation(&header(0x1f, 3), b"abc");
        let text = std::str::from_utf8(line.as_bytes()).unwrap();
        assert_eq!(text, "#WBL1 1f 3 u 18bcfe56800 8c0cc252\r\n");
    }

    #[test]
    fn an_annotation_comes_back_as_it_went() {
        for (lsn, unix_ms, boundary) in
            [(0, 0, Boundary::Unit), (9, 17, Boundary::Continued), (u64::MAX - 5, u64::MAX, Boundary::Unit)]
        {
            let header = FrameHeader { lsn: Lsn::new(lsn), length: 5, boundary, unix_ms };
            let line = encode_annotation(&header, b"hello");
            assert_eq!(parse_annotation(line.as_bytes()), Ok((header, checksum(&header, b"hello"))));
        }
    }

    #[test]
    fn every_single_bit_flip_is_noticed() {
        let payload = b"*1\r\n$4\r\nPING\r\n";
        let header = header(77, payload.len() as u64);
        let line = encode_annotation(&header, payload);
        for bit in 0..line.as_bytes().len() * 8 {
            let mut flipped = line.as_bytes().to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok((other, crc)) = parse_annotation(&flipped) {
                assert!(other.length != header.length || crc != checksum(&other, payload), "bit {bit}");
            }
        }
    }

    #[test]
    fn other_spellings_of_a_header_are_refused() {
        for line in [
            "#WBL1 01 3 u 1 00000000\r\n",
            "#WBL1 1F 3 u 1 00000000\r\n",
            "#WBL1 1 3 x 1 00000000\r\n",
            "#WBL1 1 3 u 1 000000\r\n",
            "#WBL1 1 3 u 1 00000000 1\r\n",
            "#WBL1 1  u 1 00000000\r\n",
            "#WBL1 1 3 u 1 00000000\n",
            "#WBL1 ffffffffffffffff 1 u 1 00000000\r\n",
            "#WBL1 11111111111111111 1 u 1 00000000\r\n",
        ] {
            assert!(matches!(parse_annotation(line.as_bytes()), Err(FormatError::Field(_))), "{line}");
        }
    }

    #[test]
    fn another_version_is_told_from_another_format() {
        assert_eq!(parse_annotation(b"#WBL2 1\r\n"), Err(FormatError::UnsupportedVersion));
        assert_eq!(parse_annotation(b"#WBL10 1\r\n"), Err(FormatError::UnsupportedVersion));
        assert_eq!(parse_annotation(b"#WBLx 1\r\n"), Err(FormatError::NotAnAnnotation));
        assert_eq!(parse_annotation(b"*1\r\n"), Err(FormatError::NotAnAnnotation));
        assert_eq!(parse_annotation(b""), Err(FormatError::NotAnAnnotation));
    }

    #[test]
    fn the_leading_line_ends_within_its_limit() {
        assert_eq!(leading_line(b"ab\r\ncd"), Some(&b"ab\r\n"[..]));
        assert_eq!(leading_line(b"ab"), None);
        let mut long = vec![b'a'; ANNOTATION_BYTES_MAX];
        long.push(b'\n');
        assert_eq!(leading_line(&long), None);
    }
}
