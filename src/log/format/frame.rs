//! The annotation that begins a frame.
//!
//! ```text
//! [#TS:<unix seconds>\r\n]#<check><crc><length>[.<durable back>[.<unix ms>]][+<block>]\n
//! ```
//!
//! Numbers are in digits of base 64 (`A-Za-z0-9-_`), the most significant first, without leading zeros; the check has
//! four digits, the checksum six, the block one. Readers of append-only files skip lines that begin with `#`, and know
//! the first as the server's own.
//!
//! - `check`: 24 bits of a CRC-32C over the salt of the segment, the offset of the line in the file, and the fields
//!   after it. So a length can be trusted before the payload is read, nobody who does not know the salt can write a
//!   frame, and a frame is valid in its place only.
//! - `crc`: CRC-32C over salt, offset, payload and padding.
//! - `durable back`: how many bytes before the frame's start the file was durable up to when the frame was written.
//! - `unix ms`: stated by the first frame of each second, and where the log was cut. Then, and only then, a line in the
//!   server's own form precedes it.
//! - `block`: the frame ends where a block of 2 to the power of that many bytes does, with lines after the payload that
//!   say nothing. They are its padding.

use super::{FormatError, base_64, push_base_64};

/// Digits of the check, the checksum, the length, the distance and the time.
const CHECK_DIGITS: usize = 4;
const CRC_DIGITS: usize = 6;
const LENGTH_DIGITS_MAX: usize = 6;
const BACK_DIGITS_MAX: usize = 7;
const TIME_DIGITS_MAX: usize = 8;
/// The longest annotation line, with its line end.
pub(crate) const LINE_BYTES_MAX: usize =
    1 + CHECK_DIGITS + CRC_DIGITS + LENGTH_DIGITS_MAX + 1 + BACK_DIGITS_MAX + 1 + TIME_DIGITS_MAX + 2 + 1;
/// The longest time line: `#TS:`, the seconds of the longest time, CR LF.
pub(crate) const TIME_LINE_BYTES_MAX: usize = 4 + 12 + 2;
/// Both lines.
pub(crate) const HEAD_BYTES_MAX: usize = TIME_LINE_BYTES_MAX + LINE_BYTES_MAX;
/// What begins a time line.
pub(crate) const TIME_PREFIX: &[u8] = b"#TS:";

/// The longest payload of one frame.
pub const PAYLOAD_BYTES_MAX: u64 = (1 << (6 * LENGTH_DIGITS_MAX)) - 1;
/// The largest distance back.
pub(crate) const BACK_BYTES_MAX: u64 = (1 << (6 * BACK_DIGITS_MAX)) - 1;
/// The blocks that frames are padded to.
const BLOCK_BYTES: std::ops::RangeInclusive<u64> = 512..=4096;
/// The longest line of padding, which may have one byte more at its end: the server reads lines of up to 1,023 bytes.
const PADDING_LINE_BYTES: u64 = 512;
/// The latest time that a frame can state.
pub(crate) const UNIX_MS_MAX: u64 = (1 << (6 * TIME_DIGITS_MAX)) - 1;

const CUT_SHORT: FormatError = FormatError::Field("the annotation is cut short");
const RANGE: FormatError = FormatError::Field("the annotation's numbers are out of range");

/// Where an annotation line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The salt of the segment.
    pub salt: u64,
    /// The line's offset in the file.
    pub offset: u64,
}

impl Place {
    /// The checksum of the place, to be continued over header or payload.
    pub fn seed(self) -> u32 {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.salt.to_le_bytes());
        bytes[8..].copy_from_slice(&self.offset.to_le_bytes());
        crc32c::crc32c(&bytes)
    }
}

/// What an annotation says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// Bytes of payload.
    pub length: u64,
    /// CRC-32C of place, payload and padding.
    pub crc: u32,
    /// Bytes before the frame that were not durable when it was written.
    pub durable_back: u64,
    /// The time of the frame, where it states one.
    pub unix_ms: Option<u64>,
    /// The blocks, a power of two, at the end of one of which the frame ends.
    pub block_bytes: Option<u64>,
}

impl FrameHeader {
    /// Bytes of padding after a payload that ends at this offset.
    pub fn padding(&self, payload_end: u64) -> u64 {
        match self.block_bytes.map(|bytes| (bytes, bytes - 1 - payload_end.wrapping_sub(1) % bytes)) {
            None => 0,
            // No line is that short.
            Some((bytes, 1)) => 1 + bytes,
            Some((_, padding)) => padding,
        }
    }

    /// Bytes of the time line before the annotation line.
    pub fn time_line_bytes(&self) -> u64 {
        self.unix_ms.map_or(0, |unix_ms| {
            let digits = (unix_ms / 1000).checked_ilog10().unwrap_or(0) + 1;
            TIME_PREFIX.len() as u64 + u64::from(digits) + 2
        })
    }

    /// 24 bits of a checksum of place and fields; `seed` is the place's.
    pub fn check(&self, seed: u32) -> u64 {
        let mut bytes = [0; 37];
        bytes[..4].copy_from_slice(&self.crc.to_le_bytes());
        bytes[4..12].copy_from_slice(&self.length.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.durable_back.to_le_bytes());
        bytes[20] = u8::from(self.unix_ms.is_some());
        bytes[21..29].copy_from_slice(&self.unix_ms.unwrap_or(0).to_le_bytes());
        bytes[29..].copy_from_slice(&self.block_bytes.unwrap_or(0).to_le_bytes());
        let used = if self.block_bytes.is_some() { &bytes[..] } else { &bytes[..29] };
        u64::from(crc32c::crc32c_append(seed, used) & 0x00ff_ffff)
    }

    /// Bytes of the annotation line.
    pub fn line_bytes(&self) -> usize {
        let mut line = Vec::with_capacity(LINE_BYTES_MAX);
        self.push_line(&mut line, 0);
        line.len()
    }

    /// Appends the annotation line, without the time line; `seed` is the place's.
    ///
    /// # Panics
    ///
    /// When a number is larger than the format permits.
    pub fn push_line(&self, out: &mut Vec<u8>, seed: u32) {
        assert!((1..=PAYLOAD_BYTES_MAX).contains(&self.length), "a payload has a length of its own");
        assert!(self.block_bytes.is_none_or(|bytes| bytes.is_power_of_two() && BLOCK_BYTES.contains(&bytes)));
        assert!(self.durable_back <= BACK_BYTES_MAX && self.unix_ms.is_none_or(|unix_ms| unix_ms <= UNIX_MS_MAX));
        out.push(b'#');
        push_base_64(out, self.check(seed), CHECK_DIGITS);
        push_base_64(out, u64::from(self.crc), CRC_DIGITS);
        push_base_64(out, self.length, 1);
        if self.durable_back > 0 || self.unix_ms.is_some() {
            out.push(b'.');
            push_base_64(out, self.durable_back, 1);
        }
        if let Some(unix_ms) = self.unix_ms {
            out.push(b'.');
            push_base_64(out, unix_ms, 1);
        }
        if let Some(bytes) = self.block_bytes {
            out.push(b'+');
            push_base_64(out, u64::from(bytes.ilog2()), 1);
        }
        out.push(b'\n');
    }

    /// Parses an annotation line, with its line end, and verifies its check; `seed` is the place's.
    pub fn parse(line: &[u8], seed: u32) -> Result<FrameHeader, FormatError> {
        match FrameHeader::parse_unchecked(line)? {
            (header, check) if header.check(seed) == check => Ok(header),
            _ => Err(FormatError::Field("the annotation's check is wrong")),
        }
    }

    /// Parses an annotation line, with its line end; also returns its check, which is not verified.
    pub fn parse_unchecked(line: &[u8]) -> Result<(FrameHeader, u64), FormatError> {
        let body = line.strip_prefix(b"#").ok_or(FormatError::NotAnAnnotation)?;
        if line.starts_with(b"#WBL") && line.get(4).is_some_and(u8::is_ascii_digit) && line.contains(&b' ') {
            return Err(super::foreign_line(line, &[b"1", b"2"]));
        }
        let body = body.strip_suffix(b"\n").ok_or(CUT_SHORT)?;
        if line.len() > LINE_BYTES_MAX {
            return Err(FormatError::NotAnAnnotation);
        }
        let block_at = body.iter().position(|byte| *byte == b'+').unwrap_or(body.len());
        let (body, block) = body.split_at_checked(block_at).ok_or(RANGE)?;
        let mut fields = body.split(|byte| *byte == b'.');
        let first = fields.next().unwrap_or(&[]);
        let (check, rest) = first.split_at_checked(CHECK_DIGITS).ok_or(FormatError::NotAnAnnotation)?;
        let (crc, length) = rest.split_at_checked(CRC_DIGITS).ok_or(FormatError::NotAnAnnotation)?;
        let check = base_64(check).ok_or(FormatError::NotAnAnnotation)?;
        let crc = base_64(crc).ok_or(FormatError::NotAnAnnotation)?;
        let header = FrameHeader {
            length: number(length, LENGTH_DIGITS_MAX).filter(|length| *length > 0).ok_or(RANGE)?,
            crc: u32::try_from(crc).map_err(|_| RANGE)?,
            durable_back: fields.next().map_or(Some(0), |digits| number(digits, BACK_DIGITS_MAX)).ok_or(RANGE)?,
            unix_ms: fields.next().map(|digits| number(digits, TIME_DIGITS_MAX).ok_or(RANGE)).transpose()?,
            block_bytes: block_of(block)?,
        };
        let is_short = header.durable_back > 0 || header.unix_ms.is_some() || !body.contains(&b'.');
        if fields.next().is_some() || !is_short {
            return Err(RANGE);
        }
        Ok((header, check))
    }
}

/// The size of the blocks that a field states, with the `+` before it; none where there is no field.
fn block_of(field: &[u8]) -> Result<Option<u64>, FormatError> {
    if field.is_empty() {
        return Ok(None);
    }
    let digit = field.strip_prefix(b"+").filter(|digits| digits.len() == 1).and_then(base_64).ok_or(RANGE)?;
    Some(1 << digit).filter(|bytes| BLOCK_BYTES.contains(bytes)).map(Some).ok_or(RANGE)
}

/// Appends lines that say nothing, of this many bytes in all: none, or at least two.
pub(crate) fn push_padding(out: &mut Vec<u8>, bytes: u64) {
    let mut left = bytes;
    while left > 0 {
        let line = if left <= PADDING_LINE_BYTES + 1 { left } else { PADDING_LINE_BYTES };
        out.push(b'#');
        out.resize(out.len() + line.saturating_sub(2) as usize, b' ');
        out.push(b'\n');
        left -= line;
    }
}

/// A number without leading zeros.
fn number(digits: &[u8], digits_max: usize) -> Option<u64> {
    let padded = digits.len() > 1 && digits.first() == Some(&b'A');
    if padded || digits.len() > digits_max { None } else { base_64(digits) }
}

/// Appends the server's own line for a time.
pub(crate) fn push_time_line(out: &mut Vec<u8>, unix_ms: u64) {
    out.extend_from_slice(TIME_PREFIX);
    out.extend_from_slice((unix_ms / 1000).to_string().as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PLACE: Place = Place { salt: 0x1234_5678_9abc_def0, offset: 77 };

    fn header(length: u64, durable_back: u64, unix_ms: Option<u64>) -> FrameHeader {
        FrameHeader { length, crc: 0xdead_beef, durable_back, unix_ms, block_bytes: None }
    }

    fn line(header: FrameHeader, place: Place) -> Vec<u8> {
        let mut line = Vec::new();
        header.push_line(&mut line, place.seed());
        line
    }

    #[test]
    fn the_bytes_of_an_annotation_are_fixed() {
        let text = |header| String::from_utf8(line(header, PLACE)).unwrap();
        assert_eq!(text(header(3, 0, None)), "#5UZTDerb7vD\n");
        assert_eq!(text(header(3, 0, Some(1_700_000_000_000))), "#QkToDerb7vD.A.YvP5WgA\n");
        assert_eq!(text(header(65, 64, None)), "#nCK1Derb7vBB.BA\n");
    }

    #[test]
    fn an_annotation_comes_back_as_it_went() {
        for length in [1, 63, 64, PAYLOAD_BYTES_MAX] {
            for back in [0, 1, BACK_BYTES_MAX] {
                for unix_ms in [None, Some(0), Some(999), Some(1_700_000_000_000), Some(UNIX_MS_MAX)] {
                    let header = header(length, back, unix_ms);
                    let line = line(header, PLACE);
                    assert!(line.len() <= LINE_BYTES_MAX);
                    assert_eq!(FrameHeader::parse(&line, PLACE.seed()), Ok(header));
                    let mut time = Vec::new();
                    unix_ms.iter().for_each(|unix_ms| push_time_line(&mut time, *unix_ms));
                    assert!(time.len() as u64 == header.time_line_bytes() && time.len() <= TIME_LINE_BYTES_MAX);
                }
            }
        }
    }

    #[test]
    fn padding_ends_a_frame_at_the_end_of_a_block() {
        for (block_bytes, length) in
            [512, 4096].into_iter().flat_map(|block| (1..2 * block).map(move |length| (block, length)))
        {
            let padded = FrameHeader { block_bytes: Some(block_bytes), ..header(length, 0, None) };
            let line = line(padded, PLACE);
            assert_eq!(FrameHeader::parse(&line, PLACE.seed()), Ok(padded));
            let payload_end = PLACE.offset + line.len() as u64 + length;
            let padding = padded.padding(payload_end);
            assert!((payload_end + padding).is_multiple_of(block_bytes) && padding <= block_bytes + 1);
            let mut lines = Vec::new();
            push_padding(&mut lines, padding);
            assert_eq!(lines.len() as u64, padding);
            let is_skipped = |line: &[u8]| line.starts_with(b"#") && line.ends_with(b"\n") && line.len() < 1000;
            assert!(lines.split_inclusive(|byte| *byte == b'\n').all(is_skipped), "{length} {block_bytes}");
        }
    }

    #[test]
    fn every_other_byte_is_noticed() {
        let padded = FrameHeader { block_bytes: Some(512), ..header(7, 0, None) };
        for header in [header(3, 0, None), header(5000, 17, Some(1_700_000_000_123)), padded] {
            let whole = line(header, PLACE);
            for at in 0..whole.len() {
                for byte in (0..=255).filter(|byte| *byte != whole[at]) {
                    let mut other = whole.clone();
                    other[at] = byte;
                    assert!(FrameHeader::parse(&other, PLACE.seed()).is_err(), "byte {byte} at {at}");
                }
            }
        }
    }

    #[test]
    fn it_is_good_in_its_place_only() {
        let line = line(header(3, 0, None), PLACE);
        for other in [Place { offset: 78, ..PLACE }, Place { salt: PLACE.salt ^ 1, ..PLACE }] {
            assert!(FrameHeader::parse(&line, other.seed()).is_err());
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        // Each with a right check, so that only the spelling is wrong.
        let check = |header: FrameHeader| String::from_utf8(line(header, PLACE)[1..5].to_vec()).unwrap();
        let plain = check(header(3, 0, None));
        let timed = check(header(3, 0, Some(0)));
        for text in [
            format!("#{plain}Derb7vAD\n"),
            format!("#{plain}Derb7vD.A\n"),
            format!("#{plain}Derb7vD.\n"),
            format!("#{plain}Derb7vD\r\n"),
            format!("#{plain}Derb7vD"),
            format!("#{timed}Derb7vD..A\n"),
            format!("#{timed}Derb7vD.A.AA\n"),
            format!("#{timed}Derb7vD.A.A.A\n"),
            format!("#{plain}Derb7vD+\n"),
            format!("#{plain}Derb7vD+I\n"),
            format!("#{plain}Derb7vD+AJ\n"),
        ] {
            assert!(FrameHeader::parse(text.as_bytes(), PLACE.seed()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn another_version_is_told_from_no_annotation() {
        let parse = |line: &[u8]| FrameHeader::parse(line, PLACE.seed());
        assert_eq!(parse(b"#WBL3 1\r\n"), Err(FormatError::UnknownFormat(3)));
        assert_eq!(parse(b"#WBL10 1\r\n"), Err(FormatError::UnknownFormat(10)));
        assert_eq!(parse(b"#WBL1 1f 3 u 1 00000000\r\n"), Err(FormatError::NotAnAnnotation));
        assert_eq!(parse(b"#TS:1700000000\r\n"), Err(FormatError::NotAnAnnotation));
        assert_eq!(parse(b"*1\r\n"), Err(FormatError::NotAnAnnotation));
    }
}
