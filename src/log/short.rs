//! The short annotation line, for frames that say nothing new but their bytes.
//!
//! ```text
//! #<crc32c><length>\r\n          six digits and one to three digits of base 64, without leading zeros of the length
//! ```
//!
//! A client that waits for each of its writes has a frame to each; the whole line (`format.rs`) would be longer than many commands are.
//! The position follows from the frame before, the boundary is a unit's end, and the time is that of the whole line before it.
//!
//! The checksum covers where the line stands (the segment's first position, the offset in the file), so that a frame can be told from bytes
//! that only look like one without knowing anything of the frames before it.

use super::format::FormatError;
use super::lsn::Lsn;

/// Digits of a length, at most.
const LENGTH_DIGITS_MAX: usize = 3;
const CRC_DIGITS: usize = 6;
/// The longest payload that a short annotation can tell.
pub(crate) const SHORT_LENGTH_MAX: u64 = (1 << (6 * LENGTH_DIGITS_MAX)) - 1;
/// The longest line: `#`, checksum, length, CR LF.
const ENCODED_BYTES_MAX: usize = 1 + CRC_DIGITS + LENGTH_DIGITS_MAX + 2;

/// Where a short annotation stands, which its checksum covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The position the segment begins with.
    pub first: Lsn,
    /// The line's offset in the file.
    pub offset: u64,
}

/// The checksum of a place and a length, to be continued over the payload.
pub(crate) fn short_checksum(place: Place, length: u64) -> u32 {
    let crc = crc32c::crc32c(&place.first.get().to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &place.offset.to_le_bytes());
    crc32c::crc32c_append(crc, &length.to_le_bytes())
}

/// Encodes the short annotation of a payload, with its line end, behind `out`.
///
/// # Panics
///
/// When the payload is empty or longer than [`SHORT_LENGTH_MAX`].
pub(crate) fn push_short_annotation(out: &mut Vec<u8>, place: Place, payload: &[u8]) {
    let length = payload.len() as u64;
    assert!(length > 0 && length <= SHORT_LENGTH_MAX, "the payload of a short frame has a length of its own");
    let crc = crc32c::crc32c_append(short_checksum(place, length), payload);
    out.push(b'#');
    digits_of_base_64(out, u64::from(crc), CRC_DIGITS);
    digits_of_base_64(out, length, 1);
    out.extend_from_slice(b"\r\n");
}

/// Parses a short annotation line, with its line end: length and checksum, which is not verified. `None` when it is no such line.
pub(crate) fn parse_short_annotation(line: &[u8]) -> Option<Result<(u64, u32), FormatError>> {
    let digits = line.strip_prefix(b"#")?.strip_suffix(b"\r\n")?;
    if line.len() > ENCODED_BYTES_MAX || digits.iter().any(|digit| value_of_base_64(&[*digit]).is_none()) {
        return None;
    }
    let (crc, length) = digits.split_at_checked(CRC_DIGITS)?;
    let crc = value_of_base_64(crc).and_then(|crc| u32::try_from(crc).ok());
    let padded = value_of_base_64(length.get(..1)?) == Some(0);
    Some(match (crc, value_of_base_64(length)) {
        (Some(crc), Some(length)) if !padded => Ok((length, crc)),
        _ => Err(FormatError::Field("the short annotation's numbers are out of range")),
    })
}

/// Appends a number in digits of base 64 (`A-Za-z0-9-_`), the most significant first.
fn digits_of_base_64(out: &mut Vec<u8>, value: u64, digits_min: usize) {
    let significant = (u64::BITS - value.leading_zeros()).div_ceil(6) as usize;
    for index in (0..significant.max(digits_min)).rev() {
        out.push(DIGITS_OF_BASE_64[(value >> (6 * index)) as usize & 63]);
    }
}

const DIGITS_OF_BASE_64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The number of up to ten such digits.
fn value_of_base_64(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 10 {
        return None;
    }
    digits.iter().try_fold(0, |value, digit| {
        let digit = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        Some(value << 6 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PLACE: Place = Place { first: Lsn::new(0x1f), offset: 77 };

    fn encoded(place: Place, payload: &[u8]) -> Vec<u8> {
        let mut line = Vec::new();
        push_short_annotation(&mut line, place, payload);
        line
    }

    fn is_good(line: &[u8], place: Place, payload: &[u8]) -> bool {
        let Some(Ok((length, crc))) = parse_short_annotation(line) else { return false };
        length == payload.len() as u64 && crc == crc32c::crc32c_append(short_checksum(place, length), payload)
    }

    #[test]
    fn the_bytes_of_a_short_annotation_are_fixed() {
        assert_eq!(String::from_utf8(encoded(PLACE, b"abc")).unwrap(), "#DV5maUD\r\n");
    }

    #[test]
    fn a_short_annotation_comes_back_as_it_went() {
        for length in [1, 63, 64, 4095, 4096, SHORT_LENGTH_MAX as usize] {
            let payload = vec![b'x'; length];
            let line = encoded(PLACE, &payload);
            assert!(is_good(&line, PLACE, &payload), "{length}");
            assert!(line.len() <= ENCODED_BYTES_MAX);
        }
    }

    #[test]
    fn every_single_bit_flip_is_noticed() {
        let payload = b"*1\r\n$4\r\nPING\r\n";
        let line = encoded(PLACE, payload);
        for bit in 0..line.len() * 8 {
            let mut flipped = line.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_good(&flipped, PLACE, payload), "bit {bit}");
        }
    }

    #[test]
    fn it_is_good_in_its_place_only() {
        let line = encoded(PLACE, b"abc");
        assert!(!is_good(&line, Place { offset: PLACE.offset + 1, ..PLACE }, b"abc"));
        assert!(!is_good(&line, Place { first: Lsn::new(0x20), ..PLACE }, b"abc"));
    }

    #[test]
    fn other_lines_are_no_short_annotations() {
        for line in
            ["#WBL1 1f 3 u 1 00000000\r\n", "#TS:1700000000\r\n", "#123456A\n", "#12345A", "*1\r\n", "", "#\r\n"]
        {
            assert_eq!(parse_short_annotation(line.as_bytes()), None, "{line}");
        }
        // A length with a leading zero, and a checksum of more than 32 bits.
        for line in ["#AAAAAAAB\r\n", "#______B\r\n"] {
            assert!(matches!(parse_short_annotation(line.as_bytes()), Some(Err(_))), "{line}");
        }
    }
}
