//! Marking a log that nobody opens, by its manifest alone: no segment is read, and nothing is repaired.

use crate::log::error::LogError;
use crate::log::format::manifest::{MANIFEST_PREFIX, Manifest};
use crate::log::format::names::MANIFEST_NAME;
use crate::log::format::standing::Standing;
use crate::log::storage::{Storage, failed};

/// A log as a folder's manifest describes it. Going on with the log changes that: each start begins a segment.
#[derive(Clone, Debug)]
pub struct SeenLog {
    manifest: Manifest,
    /// What a failed mark would have made of it. It is unknown which of the two the folder has.
    tried: Option<Standing>,
}

impl SeenLog {
    /// Reads the manifest; `None` where there is no log. The folder need not be locked, because a manifest is replaced
    /// at once.
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
        let manifest = Manifest::parse(&text).map_err(damaged)?;
        Ok(Some(SeenLog { manifest, tried: None }))
    }

    /// What it counts for.
    pub fn standing(&self) -> &Standing {
        &self.manifest.standing
    }

    /// Notes durably what the log counts for at the next start, see [`crate::log::Folder::mark`]; nothing is written
    /// where it counts for that already. `false` where it is no longer the log that was seen. The folder is locked
    /// meanwhile.
    ///
    /// # Errors
    /// Another server has the folder, or writing fails; it can be tried again.
    pub fn mark<S: Storage>(&mut self, storage: &S, standing: Standing) -> Result<bool, LogError> {
        if self.tried.is_none() && self.manifest.standing.followed_by(standing.clone()) == self.manifest.standing {
            return Ok(true);
        }
        let lock = storage.lock().map_err(failed(storage, "lock", ""))?;
        let _lock = lock.ok_or_else(|| LogError::Locked { file: storage.locate("") })?;
        let Some(now) = SeenLog::look(storage)?.filter(|now| self.is_same(&now.manifest)) else { return Ok(false) };
        let standing = now.manifest.standing.followed_by(standing);
        let marked = Manifest { standing, ..now.manifest.clone() };
        (self.manifest, self.tried) = (now.manifest, Some(marked.standing.clone()));
        marked.write_next(storage)?;
        Manifest::name_next(storage)?;
        (self.manifest, self.tried) = (marked, None);
        Ok(true)
    }

    fn is_same(&self, now: &Manifest) -> bool {
        let is_known =
            |standing: &Standing| *standing == self.manifest.standing || self.tried.as_ref() == Some(standing);
        is_known(&now.standing) && Manifest { standing: now.standing.clone(), ..self.manifest.clone() } == *now
    }
}
