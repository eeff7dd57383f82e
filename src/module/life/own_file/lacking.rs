//! Marks of logs that hold more than the server which goes on beside them.

use super::both::OwnFiles;
use super::file::Newer;
use super::note::Note;
use crate::log::{Left, Standing};

/// The same mark for a server that has less: what is saved from then on, and not noted later, may be older than the
/// log.
pub(in crate::module::life) fn lacking(standing: &Standing) -> Standing {
    with_lack(standing, true)
}

/// The same mark for a server whose dataset counts again.
pub(in crate::module::life) fn not_lacking(standing: &Standing) -> Standing {
    with_lack(standing, false)
}

/// Whether a mark says that the server has less.
pub(in crate::module::life) fn is_lacking(left: &Left) -> bool {
    Note::parse(left.note()).is_lacking
}

fn with_lack(standing: &Standing, is_lacking: bool) -> Standing {
    match standing {
        Standing::Left(left) => {
            let note = Note { is_lacking, ..Note::parse(left.note()) };
            Left::new(left.unix_ms(), &note.text()).map_or_else(|| standing.clone(), Standing::Left)
        }
        Standing::Current | Standing::Superseded(_) => standing.clone(),
    }
}

impl OwnFiles {
    /// Whether each of them, loaded or not, is older than the log that was left, for certain.
    pub(in crate::module::life) fn all_are_older(self, left: &Left) -> bool {
        self.all().iter().all(|file| file.or_log(left) == Newer::Log)
    }
}
