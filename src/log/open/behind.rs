//! A mark beside the log: the server's own files are known to lack what the log holds.
//!
//! It is a file of its own, not a part of the manifest: it changes when the server's files do, not when the log does,
//! and it is true of any log that the folder holds by then. Only people read its content.

use crate::log::error::LogError;
use crate::log::format::names::BEHIND_NAME;
use crate::log::storage::{Storage, StorageFile, failed};
use std::io::ErrorKind;

const TEXT: &[u8] = b"The server's own append-only file lacks changes that are in this log.\n";

/// Makes the mark, durably, whether it is there or not.
///
/// # Errors
/// It may not be durable.
pub fn mark_behind<S: Storage>(storage: &S) -> Result<(), LogError> {
    match storage.create(BEHIND_NAME) {
        Ok(mut file) => {
            file.write_all_at(0, TEXT).map_err(failed(storage, "write", BEHIND_NAME))?;
            file.sync_data().map_err(failed(storage, "sync", BEHIND_NAME))?;
        }
        // A process may have ended before it was durable.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(storage, "create", BEHIND_NAME)(error)),
    }
    storage.sync_dir().map_err(failed(storage, "sync the folder of", BEHIND_NAME))
}

/// Removes the mark, if it is there. A loss of power may bring it back.
///
/// # Errors
/// It is still there.
pub fn unmark_behind<S: Storage>(storage: &S) -> Result<(), LogError> {
    match storage.remove(BEHIND_NAME) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(storage, "remove", BEHIND_NAME)(error)),
        _ => Ok(()),
    }
}

/// Whether the mark is there.
///
/// # Errors
/// The folder can't be read.
pub fn is_marked_behind<S: Storage>(storage: &S) -> Result<bool, LogError> {
    let names = storage.list().map_err(failed(storage, "list", ""))?;
    Ok(names.iter().any(|name| name == BEHIND_NAME.as_bytes()))
}
