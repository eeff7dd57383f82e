//! The bytes of the log: frames, segment headers, the manifest, RESP. Format 2; `format1` reads what came before.

pub(crate) mod frame;
pub(crate) mod header;
pub(crate) mod manifest;
pub(crate) mod names;
pub mod resp;
pub(crate) mod standing;

use std::fmt;

/// Why bytes are not what the format says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FormatError {
    /// The bytes begin neither a frame nor a segment.
    NotAnAnnotation,
    /// They are of a format this program does not know.
    UnknownFormat(u64),
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
            FormatError::UnknownFormat(_) => "a frame of an unknown format begins here",
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

/// Distinguishes a line of a later version from one that is not ours; `versions` are those that the caller knows.
pub(crate) fn foreign_line(line: &[u8], versions: &[&[u8]]) -> FormatError {
    let Some(rest) = line.strip_prefix(b"#WBL") else {
        return FormatError::NotAnAnnotation;
    };
    let (version, behind) = rest.split_at(rest.iter().take_while(|byte| byte.is_ascii_digit()).count());
    match behind.first() {
        Some(b' ') if !version.is_empty() && !versions.contains(&version) => {
            let number = std::str::from_utf8(version).ok().and_then(|digits| digits.parse().ok());
            FormatError::UnknownFormat(number.unwrap_or(u64::MAX))
        }
        _ => FormatError::NotAnAnnotation,
    }
}

/// Identity of one log among those that a folder has held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Generation {
    /// Rises with each new log in the folder.
    pub counter: u64,
    /// Picked anew for each, so that logs of different folders differ.
    pub random: u64,
}

impl fmt::Display for Generation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:x} {:016x}", self.counter, self.random)
    }
}

/// The line at the start of `bytes`, with its line end, if it has at most `bytes_max`.
pub(crate) fn leading_line(bytes: &[u8], bytes_max: usize) -> Option<&[u8]> {
    let window = bytes.get(..bytes_max).unwrap_or(bytes);
    let end = window.iter().position(|byte| *byte == b'\n')?;
    window.get(..=end)
}

/// The number that hexadecimal digits (lower case) write.
pub(crate) fn hexadecimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 16 {
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

/// Appends a number in digits of base 64 (`A-Za-z0-9-_`), the most significant first.
pub(crate) fn push_base_64(out: &mut Vec<u8>, value: u64, digits_min: usize) {
    let significant = (u64::BITS - value.leading_zeros()).div_ceil(6) as usize;
    for index in (0..significant.max(digits_min)).rev() {
        out.push(BASE_64_DIGITS[(value >> (6 * index)) as usize & 63]);
    }
}

const BASE_64_DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The number of up to ten such digits.
pub(crate) fn base_64(digits: &[u8]) -> Option<u64> {
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
