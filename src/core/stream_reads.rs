//! The arguments of XREAD and XREADGROUP, read by position as the server reads them: any word may also name a group, a
//! consumer or a stream.

use std::ops::Range;

/// What an XREAD or XREADGROUP asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRead {
    /// It waits when there is nothing to read: the index of how many milliseconds at most, 0 for any number.
    pub timeout: Option<usize>,
    /// The index of the group's name, which the consumer's follows.
    pub group: Option<usize>,
    /// The indices of the streams' names.
    pub keys: Range<usize>,
}

/// Whether an id that a group's reader names asks for entries that are new to the group (`>`, or the highest id), not
/// for those that were delivered. `None` if it is not known how the server reads it.
pub fn asks_for_new(id: &[u8]) -> Option<bool> {
    let number = |digits: &str| digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse::<u64>().ok());
    if id == b">" {
        return Some(true);
    }
    let (ms, seq) = std::str::from_utf8(id).ok().map(|id| id.split_once('-').unwrap_or((id, "0")))?;
    Some((number(ms)??, number(seq)??) == (u64::MAX, u64::MAX))
}

impl StreamRead {
    /// Reads the arguments, the command's name among them. `None` for what the servers that the module knows refuse.
    pub fn parse<'a>(args: impl ExactSizeIterator<Item = &'a [u8]>) -> Option<StreamRead> {
        let len = args.len();
        let (mut timeout, mut group) = (None, None);
        let mut args = args.enumerate().skip(1);
        while let Some((index, arg)) = args.next() {
            let is = |word: &str| arg.eq_ignore_ascii_case(word.as_bytes());
            if is("STREAMS") {
                let names = len - index - 1;
                let keys = index + 1..index + 1 + names / 2;
                return (names > 0 && names.is_multiple_of(2)).then_some(StreamRead { timeout, group, keys });
            }
            // How many arguments follow the word.
            let operands = match () {
                () if is("BLOCK") => {
                    timeout = Some(index + 1);
                    1
                }
                () if is("COUNT") => 1,
                () if is("GROUP") => {
                    group = Some(index + 1);
                    2
                }
                () if is("NOACK") => 0,
                () => return None,
            };
            for _ in 0..operands {
                args.next()?;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<StreamRead> {
        StreamRead::parse(text.split(' ').map(str::as_bytes).collect::<Vec<_>>().into_iter())
    }

    #[test]
    fn words_are_known_by_their_place() {
        let read = |timeout, group, keys| Some(StreamRead { timeout, group, keys });
        assert_eq!(
            parse("XREAD STREAMS a b 0 0"),
            read(None, None, 3..4).map(|read| StreamRead { keys: 2..4, ..read })
        );
        assert_eq!(parse("XREAD block 0 streams block $"), read(Some(2), None, 4..5));
        assert_eq!(parse("XREADGROUP GROUP streams STREAMS STREAMS s >"), read(None, Some(2), 5..6));
        assert_eq!(parse("XREADGROUP COUNT 1 GROUP g block NOACK STREAMS streams >"), read(None, Some(4), 8..9));
    }

    #[test]
    fn new_entries_are_asked_for_in_two_ways() {
        let highest = format!("{}-{}", u64::MAX, u64::MAX);
        for (id, expected) in [
            (">", Some(true)),
            (highest.as_str(), Some(true)),
            ("018446744073709551615-18446744073709551615", Some(true)),
            ("18446744073709551615", Some(false)),
            ("0", Some(false)),
            ("5-18446744073709551615", Some(false)),
            ("+5-1", None),
            ("18446744073709551616", None),
            ("-", None),
            ("", None),
        ] {
            assert_eq!(asks_for_new(id.as_bytes()), expected, "{id}");
        }
    }

    #[test]
    fn what_the_server_refuses_is_not_guessed_at() {
        for refused in [
            "XREAD",
            "XREAD STREAMS",
            "XREAD STREAMS a",
            "XREAD COUNT",
            "XREAD NEW 1 STREAMS a 0",
            "XREADGROUP GROUP g",
        ] {
            assert_eq!(parse(refused), None, "{refused}");
        }
    }
}
