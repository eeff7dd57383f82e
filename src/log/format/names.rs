//! The names of our files.

use crate::log::error::LogError;
use crate::log::lsn::Lsn;

/// The file that names the base and the segments, replaced as a whole by a rename.
pub const MANIFEST_NAME: &str = "appendonly.aof.manifest";
/// The next manifest, until it gets its name.
pub(crate) const NEXT_MANIFEST_NAME: &str = "temp-manifest";

/// Holds the room of the next base.
pub(crate) const RESERVE_NAME: &str = "temp-reserve";

/// The folder of a backup that is not whole yet, or no longer.
pub(crate) const TEMPORARY_BACKUP_NAME: &str = "temp-backup";

/// The folder of a copy that another process makes a base of; the number is the base's.
const SHARED_PREFIX: &str = "temp-shared-";

/// The folder of what a base replaces, until that is whole.
pub(crate) const NEW_HISTORY_NAME: &str = "temp-history-new";
/// The same, being given up.
pub(crate) const OLD_HISTORY_NAME: &str = "temp-history-old";

/// A mark beside the log, which no manifest names.
pub(crate) const BEHIND_NAME: &str = "own-aof-behind";

/// What is cut off a segment, until all of it is kept aside.
pub(crate) const NEXT_CUT_NAME: &str = "temp-cut";

const NAME_PREFIX: &str = "appendonly.aof.";
const SEGMENT_SUFFIX: &str = ".incr.aof";
const BASE_SUFFIX: &str = ".base.rdb";
/// The prefixes of what other parts of the module leave in the folder.
const TEMPORARY_PREFIXES: [&str; 2] = ["temp-fold.", "temp-expiries-"];
const TEMPORARY_BASE_PREFIX: &str = "temp-base-";
const TEMPORARY_BASE_SUFFIX: &str = ".rdb";
const CUT_PREFIX: &str = "cut-";
const CUT_SUFFIX: &str = ".bin";
/// Temporaries of format 1.
const FORMAT_1_MANIFEST_TEMPORARY: &str = "appendonly.aof.manifest.tmp";
const FORMAT_1_BASE_TEMPORARY_SUFFIX: &str = ".base.rdb.tmp";

/// The name of a segment.
pub fn segment_name(seq: u64) -> String {
    format!("{NAME_PREFIX}{seq}{SEGMENT_SUFFIX}")
}

/// The name of a base.
pub fn base_name(seq: u64) -> String {
    format!("{NAME_PREFIX}{seq}{BASE_SUFFIX}")
}

/// The name of a base until it is whole.
pub(crate) fn temporary_base_name(seq: u64) -> String {
    format!("{TEMPORARY_BASE_PREFIX}{seq}{TEMPORARY_BASE_SUFFIX}")
}

/// The name of the folder with the copy of the log from which this base is made.
pub(crate) fn shared_name(base: &str) -> Option<String> {
    Some(format!("{SHARED_PREFIX}{}", temporary_base_seq(base)?))
}

/// Whether a folder of this name is one that a crash has left.
pub(crate) fn is_temporary_folder(name: &str) -> bool {
    [TEMPORARY_BACKUP_NAME, NEW_HISTORY_NAME, OLD_HISTORY_NAME].contains(&name)
        || name.strip_prefix(SHARED_PREFIX).and_then(number).is_some()
}

/// The number in the name of a base that is not whole yet.
pub(crate) fn temporary_base_seq(name: &str) -> Option<u64> {
    number(name.strip_prefix(TEMPORARY_BASE_PREFIX)?.strip_suffix(TEMPORARY_BASE_SUFFIX)?)
}

/// The name under which the end of a segment is kept that was cut from an offset on.
pub(crate) fn cut_name(seq: u64, offset: u64) -> String {
    format!("{CUT_PREFIX}{seq}-{offset}{CUT_SUFFIX}")
}

/// The name of a folder that holds what there was at a time, up to a position.
pub(crate) fn stamped_name(prefix: &str, unix_ms: u64, end: Lsn) -> String {
    format!("{prefix}{unix_ms}-{end}")
}

/// What such a name says; `None` for other names.
pub(crate) fn stamp_of(prefix: &str, name: &str) -> Option<(u64, Lsn)> {
    let (unix_ms, end) = name.strip_prefix(prefix)?.split_once('-')?;
    let (unix_ms, end) = (unix_ms.parse().ok()?, Lsn::new(end.parse().ok()?));
    (stamped_name(prefix, unix_ms, end) == name).then_some((unix_ms, end))
}

/// What a file name of ours means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum OwnName {
    Segment(u64),
    Base(u64),
    Temporary,
    /// A cut end: the segment's number and the offset.
    Cut(u64, u64),
}

/// Distinguishes our names from all others.
pub(crate) fn own_name(name: &[u8]) -> Option<OwnName> {
    let name = std::str::from_utf8(name).ok()?;
    let is_temporary = name == FORMAT_1_MANIFEST_TEMPORARY
        || name == NEXT_MANIFEST_NAME
        || name == NEXT_CUT_NAME
        || name == RESERVE_NAME
        || temporary_base_seq(name).is_some()
        || TEMPORARY_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    if is_temporary {
        return Some(OwnName::Temporary);
    }
    if let Some(rest) = name.strip_prefix(CUT_PREFIX) {
        let (seq, offset) = rest.strip_suffix(CUT_SUFFIX)?.split_once('-')?;
        return Some(OwnName::Cut(number(seq)?, number(offset)?));
    }
    let rest = name.strip_prefix(NAME_PREFIX)?;
    if let Some(digits) = rest.strip_suffix(SEGMENT_SUFFIX) {
        return number(digits).map(OwnName::Segment);
    }
    if let Some(digits) = rest.strip_suffix(BASE_SUFFIX) {
        return number(digits).map(OwnName::Base);
    }
    number(rest.strip_suffix(FORMAT_1_BASE_TEMPORARY_SUFFIX)?).map(|_| OwnName::Temporary)
}

/// The largest number in a name of ours.
pub(crate) const NUMBER_MAX: u64 = 1 << 62;

/// A decimal number without leading zeros or sign, at least 1, at most [`NUMBER_MAX`].
pub(crate) fn number(digits: &str) -> Option<u64> {
    let plain = !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().ok().filter(|value| *value <= NUMBER_MAX) } else { None }
}

/// A number for a new file.
///
/// # Errors
/// There is none left: a file in the folder has the largest.
pub(crate) fn new_number(next: u64) -> Result<u64, LogError> {
    if next <= NUMBER_MAX {
        return Ok(next);
    }
    Err(LogError::Refused { why: "a file in the log's folder has the largest number that there may be" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_names_are_told_from_others() {
        let own = |name: &str| own_name(name.as_bytes());
        assert_eq!(own("appendonly.aof.12.incr.aof"), Some(OwnName::Segment(12)));
        assert_eq!(own("appendonly.aof.1.base.rdb"), Some(OwnName::Base(1)));
        assert_eq!(own(&cut_name(3, 70)), Some(OwnName::Cut(3, 70)));
        let temporaries = [NEXT_MANIFEST_NAME, RESERVE_NAME, "temp-fold.0.socket", "temp-expiries-7"];
        for name in temporaries.into_iter().chain([&*temporary_base_name(4)]) {
            assert_eq!(own(name), Some(OwnName::Temporary), "{name}");
        }
        for name in [FORMAT_1_MANIFEST_TEMPORARY, "appendonly.aof.4.base.rdb.tmp"] {
            assert_eq!(own(name), Some(OwnName::Temporary), "{name}");
        }
        for name in [
            "appendonly.aof.012.incr.aof",
            "appendonly.aof.+1.incr.aof",
            "appendonly.aof..incr.aof",
            "appendonly.aof.0.incr.aof",
            "appendonly.aof.18446744073709551615.incr.aof",
            "appendonly.aof.18446744073709551614.incr.aof",
            "appendonly.aof.4611686018427387905.incr.aof",
            "appendonly.aof.1.base.aof",
            "appendonly.aof.x.base.rdb.tmp",
            "cut-1.bin",
            "notes.tmp",
            // The server's own, where its folder is this one.
            "temp-77.rdb",
            "temp-rewriteaof-77.aof",
            "temp-base-x.rdb",
            MANIFEST_NAME,
        ] {
            assert_eq!(own(name), None, "{name}");
        }
        let shared = shared_name(&temporary_base_name(4)).unwrap();
        for (name, expected) in [
            (&*shared, true),
            (TEMPORARY_BACKUP_NAME, true),
            (OLD_HISTORY_NAME, true),
            ("temp-shared-", false),
            ("wbl", false),
        ] {
            assert_eq!((is_temporary_folder(name), own(name)), (expected, None), "{name}");
        }
        assert_eq!(own_name(b"temp-\xff"), None);
        assert_eq!(temporary_base_seq(&temporary_base_name(4)), Some(4));
        assert_eq!(temporary_base_seq("temp-base-x.rdb"), None);
    }
}
