//! Replies that can be made from any values of strings.

/// What a read's reply is made of, where it shows strings only: it can then be made from older values, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It shows other things.
    Other,
    /// The value of a key.
    Value,
    /// The values of all keys.
    Values,
    /// The length of a value.
    Length,
    /// A part of a value.
    Range,
    /// How many of the keys are there.
    Count,
}

impl Answer {
    /// Where the keys are among `len` arguments, which include the command's name.
    pub fn keys(self, len: usize) -> std::ops::Range<usize> {
        match self {
            Answer::Other => 0..0,
            Answer::Value | Answer::Length | Answer::Range => 1..len.min(2),
            Answer::Values | Answer::Count => 1..len,
        }
    }
}

/// The part of a value that GETRANGE shows: from `start` to `end`, which count from the value's end when negative.
pub fn range(value: &[u8], start: i64, end: i64) -> &[u8] {
    let len = i64::try_from(value.len()).unwrap_or(i64::MAX);
    let from_front = |index: i64| if index < 0 { len.saturating_add(index).max(0) } else { index };
    if start < 0 && end < 0 && start > end {
        return &[];
    }
    let (start, end) = (from_front(start), from_front(end).saturating_add(1).min(len));
    let index = |index: i64| usize::try_from(index).unwrap_or(usize::MAX);
    value.get(index(start)..index(end)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stand_where_the_commands_have_them() {
        assert_eq!(Answer::Value.keys(2), 1..2);
        assert_eq!(Answer::Values.keys(4), 1..4);
        assert_eq!(Answer::Range.keys(4), 1..2);
        assert_eq!(Answer::Value.keys(1), 1..1);
    }

    #[test]
    fn ranges_are_those_of_the_server() {
        let of = |start, end| range(b"hello", start, end);
        assert_eq!(
            (of(0, -1), of(1, 2), of(-3, -1), of(0, 99)),
            (&b"hello"[..], &b"el"[..], &b"llo"[..], &b"hello"[..])
        );
        assert_eq!((of(-99, 0), of(4, 4), of(0, -99)), (&b"h"[..], &b"o"[..], &b"h"[..]));
        for (start, end) in [(3, 2), (5, 9), (-1, -2), (i64::MAX, i64::MAX), (9, -1)] {
            assert_eq!(of(start, end), b"", "{start} {end}");
        }
        assert_eq!((of(i64::MIN, i64::MAX), range(b"", 0, -1)), (&b"hello"[..], &b""[..]));
    }
}
