//! What the commands of a log name, for readers of logs.

use super::stream_reads::StreamRead;
use super::table::{CommandSpec, Kept, KeysInLog, Quirk, Rule, Shows, find};

/// The longest name of the table's, with its subcommand.
const NAME_BYTES_MAX: usize = 64;

/// The row of a command of the log; `None` where the table has none.
pub fn spec_of(args: &[&[u8]]) -> Option<&'static CommandSpec> {
    let mut buffer = [0; NAME_BYTES_MAX];
    let name = args.first()?;
    let alone = joined(&mut buffer, name, None).and_then(find);
    alone.or_else(|| joined(&mut buffer, name, args.get(1).copied()).and_then(find))
}

/// Name and subcommand as the table has them.
fn joined<'b>(buffer: &'b mut [u8; NAME_BYTES_MAX], name: &[u8], subcommand: Option<&[u8]>) -> Option<&'b str> {
    let mut length = 0;
    let separator: Option<&[u8]> = subcommand.map(|_| &b"|"[..]);
    for part in [Some(name), separator, subcommand].into_iter().flatten() {
        buffer.get_mut(length..length + part.len())?.copy_from_slice(part);
        length += part.len();
    }
    let text = buffer.get_mut(..length)?;
    text.make_ascii_lowercase();
    std::str::from_utf8(text).ok()
}

/// Where the keys of a command of the log are among its arguments, the name counted. A command that the table does not
/// have is assumed to have its first argument as its only key.
pub fn keys(args: &[&[u8]]) -> Vec<usize> {
    let placed = spec_of(args).map_or(KeysInLog::First, |spec| spec.keys_in_log);
    let count = args.len();
    let number = |index: usize| -> usize {
        let digits = args.get(index).and_then(|arg| std::str::from_utf8(arg).ok());
        digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
    };
    let up_to = |first: usize, keys: usize| first..first.saturating_add(keys).min(count);
    match placed {
        KeysInLog::None => Vec::new(),
        KeysInLog::First => up_to(1, 1).collect(),
        KeysInLog::FirstTwo => up_to(1, 2).collect(),
        KeysInLog::Second => up_to(2, 1).collect(),
        KeysInLog::All => (1..count).collect(),
        KeysInLog::AfterFirst => (2..count).collect(),
        KeysInLog::Pairs => (1..count).step_by(2).collect(),
        KeysInLog::CountedPairs => up_to(2, number(1).saturating_mul(2)).step_by(2).collect(),
        KeysInLog::Counted => up_to(2, number(1)).collect(),
        KeysInLog::FirstAndCounted => up_to(1, 1).chain(up_to(3, number(2))).collect(),
        KeysInLog::FirstAndStore => {
            let is_store = |arg: &[u8]| [&b"STORE"[..], b"STOREDIST"].iter().any(|word| arg.eq_ignore_ascii_case(word));
            let stored = args.iter().skip(2).position(|arg| is_store(arg)).map(|skipped| skipped + 3);
            up_to(1, 1).chain(stored.filter(|index| *index < count)).collect()
        }
        KeysInLog::AfterStreams => {
            StreamRead::parse(args.iter().copied()).map_or(Vec::new(), |read| read.keys.collect())
        }
    }
}

/// What a base keeps of the bytes of a command of the log.
pub fn kept(args: &[&[u8]]) -> Kept {
    spec_of(args).map_or(Kept::All, |spec| spec.kept)
}

/// The other database that a command of the log changes a key in (MOVE).
pub fn moves_to(args: &[&[u8]]) -> Option<u32> {
    let is_move = spec_of(args).is_some_and(|spec| spec.shows == Shows::TwoDatabases && spec.rule != Rule::Copy);
    std::str::from_utf8(args.get(2).filter(|_| is_move)?).ok()?.parse().ok()
}

/// Which databases a command of the log empties or exchanges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Databases {
    /// None.
    Untouched,
    /// FLUSHALL.
    AllEmptied,
    /// FLUSHDB: the one that it runs in.
    OneEmptied,
    /// SWAPDB.
    Swapped(u32, u32),
}

/// What a command of the log does to whole databases.
pub fn databases(args: &[&[u8]]) -> Databases {
    let number = |index: usize| std::str::from_utf8(args.get(index)?).ok()?.parse().ok();
    match spec_of(args).map(|spec| spec.quirk) {
        Some(Quirk::EmptiesAll) => Databases::AllEmptied,
        Some(Quirk::EmptiesOne) => Databases::OneEmptied,
        Some(Quirk::SwapsDatabases) => match (number(1), number(2)) {
            (Some(first), Some(second)) => Databases::Swapped(first, second),
            _ => Databases::Untouched,
        },
        _ => Databases::Untouched,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Vec<&str> {
        let words: Vec<&str> = text.split(' ').collect();
        let args: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        keys(&args).into_iter().map(|index| words[index]).collect()
    }

    #[test]
    fn keys_are_found_where_the_table_says() {
        for (text, expected) in [
            ("SET k v PXAT 5", &["k"][..]),
            ("del a b", &["a", "b"]),
            ("FLUSHALL", &[]),
            ("FUNCTION RESTORE x FLUSH", &[]),
            ("SWAPDB 0 1", &[]),
            ("MSET a 1 b 2", &["a", "b"]),
            ("MSETEX 2 a 1 b 2 PXAT 5", &["a", "b"]),
            ("RENAME a b", &["a", "b"]),
            ("XGROUP CREATE s g 0", &["s"]),
            ("XCLAIM s g c 0 1-1", &["s"]),
            ("XREADGROUP GROUP STREAMS c COUNT 2 NOACK STREAMS s >", &["s"]),
            ("LMPOP 2 a b LEFT", &["a", "b"]),
            ("ZUNIONSTORE d 2 a b WEIGHTS 1 2", &["d", "a", "b"]),
            ("BITOP AND d a b", &["d", "a", "b"]),
            ("GEORADIUS k 13 38 100 km STORE l", &["k", "l"]),
            ("GEORADIUS k 13 38 100 km", &["k"]),
            ("BF.ADD filter item", &["filter"]),
            ("LMPOP 99999999999999999999 a LEFT", &[]),
            ("LMPOP 9 a", &["a"]),
            ("DEL", &[]),
        ] {
            assert_eq!(named(text), expected, "{text}");
        }
    }

    #[test]
    fn whole_databases_are_told() {
        assert_eq!(databases(&[b"flushdb"]), Databases::OneEmptied);
        assert_eq!(databases(&[b"FLUSHALL"]), Databases::AllEmptied);
        assert_eq!(databases(&[b"SWAPDB", b"1", b"12"]), Databases::Swapped(1, 12));
        assert_eq!(databases(&[b"SET", b"1", b"12"]), Databases::Untouched);
        assert_eq!([moves_to(&[b"MOVE", b"k", b"3"]), moves_to(&[b"SET", b"k", b"3"])], [Some(3), None]);
        assert_eq!([kept(&[b"SET", b"k", b"v"]), kept(&[b"BF.ADD", b"k", b"v"])], [Kept::Instead, Kept::All]);
    }
}
