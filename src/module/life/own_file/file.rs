//! One of the server's own files, and whether it is newer than a log that was left.

use super::note::{AOF, Note, Noted, Prefixes, RDB};
use crate::log::Left;
use crate::machine::unix_ms;

/// The clock that files get their times from is some milliseconds late.
const CLOCK_LAG_MS: u64 = 50;

/// A file's own time is in whole seconds.
pub(super) const SECOND_S: u64 = 1;

/// The file that the server itself would load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnFile {
    /// There is none.
    None,
    /// There may be one, but it can't be read or understood, or its name is unknown.
    Unreadable,
    /// An RDB file.
    Rdb {
        bytes: u64,
        crc32c: u32,
        /// When it was begun, which is the time of its dataset; Unix seconds.
        begun_s: Option<u64>,
        /// Its inode, which it has had since it was begun under another name.
        inode: u64,
        /// When it was last written, renamed or put there; Unix milliseconds.
        touched_ms: u64,
        /// It is the file of an empty dataset.
        is_empty: bool,
    },
    /// An AOF: the files that its manifest names, the last of which grows.
    Aof {
        /// Of the manifest and of what the base begins with.
        crc32c: u32,
        /// What the last of them begins with.
        prefixes: Prefixes,
        bytes: u64,
        /// When the last of those that hold anything was last written; Unix milliseconds.
        changed_ms: u64,
        /// What it was saved as, where nothing has been appended to that.
        saved: Option<Saved>,
    },
}

/// The base of an AOF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Saved {
    /// When it was begun, where it says so; Unix seconds.
    pub(super) begun_s: Option<u64>,
    /// It has had this inode since it was begun under another name.
    pub(super) inode: u64,
    pub(super) bytes: u64,
    /// What it begins with.
    pub(super) prefixes: Prefixes,
    /// It is the file of an empty dataset.
    pub(super) is_empty: bool,
}

impl Saved {
    /// Whether it was all of the AOF that was noted. A start gives it another manifest, and a file to append to.
    fn was_alone(self, noted: &Noted) -> bool {
        noted.bytes == self.bytes && noted.prefix.is_some_and(|prefix| self.prefixes.has(prefix))
    }
}

/// Which of log and own file has newer data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::module::life) enum Newer {
    Log,
    OwnFile,
    /// The file was put there since, but its own time is older; or it can't be read.
    Unknown,
}

impl OwnFile {
    /// Whether a start may find data in it.
    pub(in crate::module::life) fn may_hold_data(self) -> bool {
        match self {
            OwnFile::None => false,
            OwnFile::Unreadable => true,
            OwnFile::Rdb { is_empty, .. } => !is_empty,
            OwnFile::Aof { saved, .. } => saved.is_none_or(|saved| !saved.is_empty),
        }
    }

    /// How the file is noted.
    pub(super) fn noted(self) -> Option<Noted> {
        match self {
            OwnFile::None | OwnFile::Unreadable => None,
            OwnFile::Rdb { bytes, crc32c, .. } => Some(Noted { kind: RDB, bytes, crc32c, prefix: None }),
            OwnFile::Aof { crc32c, bytes, prefixes, .. } => {
                Some(Noted { kind: AOF, bytes, crc32c, prefix: prefixes.longest() })
            }
        }
    }

    /// Whether it is what was noted. An AOF may lack what was not on the disk yet, and what a server that has less than
    /// its log appends counts for nothing.
    fn is_noted(self, note: &Note) -> bool {
        let is_same = |noted: &Noted| match self {
            OwnFile::None | OwnFile::Unreadable => false,
            OwnFile::Rdb { bytes, crc32c, .. } => (noted.kind, noted.bytes, noted.crc32c) == (RDB, bytes, crc32c),
            OwnFile::Aof { bytes, crc32c, prefixes, saved, .. } => {
                let begins_so = noted.prefix.is_none_or(|prefix| prefixes.has(prefix));
                let is_it = noted.crc32c == crc32c && (bytes <= noted.bytes || note.is_lacking) && begins_so;
                noted.kind == AOF && (is_it || saved.is_some_and(|saved| saved.was_alone(noted)))
            }
        };
        match self {
            OwnFile::None => true,
            OwnFile::Unreadable => note.is_unreadable,
            OwnFile::Rdb { .. } | OwnFile::Aof { .. } => note.files.iter().any(is_same),
        }
    }

    /// When it was begun, and its inode, where it says both, and nothing has been added since.
    fn begun(self) -> Option<(u64, u64)> {
        match self {
            OwnFile::Rdb { begun_s: Some(begun_s), inode, .. }
            | OwnFile::Aof { saved: Some(Saved { begun_s: Some(begun_s), inode, .. }), .. } => Some((begun_s, inode)),
            _ => None,
        }
    }

    /// Whether it is what was noted, or was being saved then.
    pub(super) fn is_known(self, note: &Note, left: &Left) -> bool {
        let left_s = left.unix_ms() / 1000;
        let was_unfinished = |(begun_s, inode)| note.was_unfinished(begun_s, inode, left_s);
        self.is_noted(note)
            || self.begun().is_some_and(was_unfinished)
            || !note.is_unwatched && self.may_have_come(note, left)
    }

    /// Whether it may be what a child without a file was saving then.
    fn may_have_come(self, note: &Note, left: &Left) -> bool {
        self.begun().is_some_and(|(begun_s, _)| note.may_have_come(begun_s, left.unix_ms() / 1000))
    }

    /// Whether the file or the log that was left has newer data.
    pub(in crate::module::life) fn or_log(self, left: &Left) -> Newer {
        let note = Note::parse(left.note());
        if note.is_cut {
            return if self == OwnFile::None { Newer::Log } else { Newer::Unknown };
        }
        if self.is_known(&note, left) {
            return Newer::Log;
        }
        if self.may_have_come(&note, left) {
            return Newer::Unknown;
        }
        let (left_ms, left_s) = (left.unix_ms(), left.unix_ms() / 1000);
        let is_from_before = |ms: u64| ms.saturating_add(CLOCK_LAG_MS) < left_ms;
        let newer = match self {
            OwnFile::None => Newer::Log,
            // The clock has been set back since, so its time says nothing.
            _ if unix_ms() < left_ms => Newer::Unknown,
            // It was there already, for other settings than those of then, or has not been written to since.
            OwnFile::Rdb { touched_ms: ms, .. } | OwnFile::Aof { changed_ms: ms, .. } if is_from_before(ms) => {
                Newer::Log
            }
            OwnFile::Rdb { begun_s: Some(time_s), .. }
            | OwnFile::Aof { saved: Some(Saved { begun_s: Some(time_s), .. }), .. }
                if time_s.saturating_add(SECOND_S) >= left_s =>
            {
                Newer::OwnFile
            }
            OwnFile::Aof { saved: Some(saved), .. } if saved.begun_s.is_some() || note.has_unfinished(saved.inode) => {
                Newer::Unknown
            }
            OwnFile::Aof { .. } => Newer::OwnFile,
            OwnFile::Rdb { .. } | OwnFile::Unreadable => Newer::Unknown,
        };
        if note.is_lacking && newer == Newer::OwnFile { Newer::Unknown } else { newer }
    }
}
