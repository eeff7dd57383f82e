//! Looking at a folder that a server may be writing to.

use crate::failure::Failure;
use std::path::Path;
use valkey_wbl::log::{FolderStorage, LogView};

/// How often a manifest may be replaced while its log is looked at.
const TRIES: usize = 100;

/// The log of a folder, to be looked at.
pub type View = LogView<FolderStorage>;

/// Opens a folder that is there.
pub fn storage(path: &Path) -> Result<FolderStorage, Failure> {
    let found = FolderStorage::existing(path)?;
    found.ok_or_else(|| Failure::text(format!("there is no folder {}", path.display())))
}

/// Looks at the log of a folder.
pub fn view(path: &Path) -> Result<View, Failure> {
    let mut last = None;
    for _ in 0..TRIES {
        match LogView::of(storage(path)?) {
            Ok(Some(view)) => return Ok(view),
            Ok(None) => return Err(Failure::text(format!("there is no log in {}", path.display()))),
            // A checkpoint may have removed what the manifest named when it was read.
            Err(error) if storage(path)?.lock_holder().is_some() => last = Some(error.into()),
            Err(error) => return Err(error.into()),
        }
    }
    Err(last.unwrap_or(Failure::NobodyReads))
}

/// Does something with a log that a server may be writing to: if that fails because a checkpoint has replaced the log's
/// files meanwhile, it is done again with the new ones.
pub fn with_view<T>(path: &Path, mut act: impl FnMut(&View) -> Result<T, Failure>) -> Result<T, Failure> {
    for _ in 1..TRIES {
        let view = view(path)?;
        match act(&view) {
            Err(Failure::Log(_)) if view.has_changed()? => {}
            outcome => return outcome,
        }
    }
    act(&view(path)?)
}

/// The same for what can't be done again.
pub fn with_view_once<T>(path: &Path, act: impl FnOnce(&View) -> Result<T, Failure>) -> Result<T, Failure> {
    let view = view(path)?;
    match act(&view) {
        Err(Failure::Log(error)) if view.has_changed()? => Err(Failure::text(format!(
            "a checkpoint has replaced the log while it was read; try again, or read a backup (WBL.BACKUP START): {error}"
        ))),
        outcome => outcome,
    }
}
