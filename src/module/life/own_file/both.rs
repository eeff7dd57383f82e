//! Both kinds of the server's own files.

use super::file::{Newer, OwnFile};
use super::note::{AOF, Note, RDB};
use crate::log::Left;

/// The server's RDB file and its AOF.
#[derive(Clone, Copy, Debug)]
pub(in crate::module::life) struct OwnFiles {
    pub(super) rdb: OwnFile,
    pub(super) aof: OwnFile,
    /// The AOF is the one that it loads.
    pub(super) loads_aof: bool,
}

impl OwnFiles {
    pub(super) fn all(self) -> [OwnFile; 2] {
        [self.rdb, self.aof]
    }

    /// Whether one of them, loaded or not, is newer than the log that was left.
    pub(in crate::module::life) fn one_is_newer(self, left: &Left) -> bool {
        self.all().iter().any(|file| file.or_log(left) == Newer::OwnFile)
    }

    /// Whether it is certain that nothing of the server's own is newer than the log that was left: what it loads is a
    /// file that was noted, as it was then, and there is no other that may be newer. Where it loads another file, or
    /// none, other settings may have been used meanwhile, and other files saved.
    pub(in crate::module::life) fn none_is_newer(self, left: &Left) -> bool {
        let note = Note::parse(left.note());
        let is_older = |(kind, file, is_loaded): (&str, OwnFile, bool)| {
            let is_another = !is_loaded && note.files.iter().all(|noted| noted.kind != kind);
            match file {
                OwnFile::None => is_another,
                OwnFile::Unreadable => false,
                OwnFile::Rdb { .. } | OwnFile::Aof { .. } => {
                    !note.is_cut && file.is_known(&note, left) || is_another && file.or_log(left) == Newer::Log
                }
            }
        };
        [(RDB, self.rdb, !self.loads_aof), (AOF, self.aof, self.loads_aof)].into_iter().all(is_older)
    }
}
