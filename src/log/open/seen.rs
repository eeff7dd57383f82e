//! Marking a log that nobody opens, by its manifest alone: no segment is read, and nothing is repaired.

use crate::log::error::LogError;
use crate::log::format::manifest::{MANIFEST_PREFIX, Manifest};
use crate::log::format::names::MANIFEST_NAME;
use crate::log::format::standing::Standing;
use crate::log::storage::{Storage, failed};

/// A log as a folder's manifest describes it. Whoever goes on with the log changes that: each start begins a segment.
#[derive(Debug)]
pub struct SeenLog(Manifest);

impl SeenLog {
    /// Reads the manifest; `None` where there is no log. The folder need not be locked, as a manifest is replaced at
    /// once.
    ///
    /// # Errors
    /// It can't be read, or not be marked.
    pub fn look<S: Storage>(storage: &S) -> Result<Option<SeenLog>, LogError> {
        let names = storage.list().map_err(failed(storage, "list", ""))?;
        if !names.iter().any(|name| name == MANIFEST_NAME.as_bytes()) {
            return Ok(None);
        }
        let text = Manifest::read_text(storage)?;
        if !text.starts_with(MANIFEST_PREFIX.as_bytes()) {
            let why = "a log of another format is not marked before it has been brought back";
            return Err(LogError::foreign(storage.locate(MANIFEST_NAME), why));
        }
        let damaged = |why| LogError::damaged(storage.locate(MANIFEST_NAME), 0, why);
        Manifest::parse(&text).map(SeenLog).map(Some).map_err(damaged)
    }

    /// What it counts for.
    pub fn standing(&self) -> &Standing {
        &self.0.standing
    }

    /// Notes durably what the log counts for at the next start, see [`crate::log::Folder::mark`]; returns the log as it
    /// is then. `None` where it is not the log any more that was seen. The folder is locked meanwhile.
    ///
    /// # Errors
    /// Another server has the folder, or writing fails.
    pub fn mark<S: Storage>(&self, storage: &S, standing: Standing) -> Result<Option<SeenLog>, LogError> {
        let lock = storage.lock().map_err(failed(storage, "lock", ""))?;
        let _lock = lock.ok_or_else(|| LogError::Locked { file: storage.locate("") })?;
        if SeenLog::look(storage)?.is_none_or(|now| now.0 != self.0) {
            return Ok(None);
        }
        let marked = Manifest { standing: self.0.standing.followed_by(standing), ..self.0.clone() };
        if marked != self.0 {
            marked.write_next(storage)?;
            Manifest::name_next(storage)?;
        }
        Ok(Some(SeenLog(marked)))
    }
}
