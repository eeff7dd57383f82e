//! Backups of a log that is written: a folder with hard links to the base and to the closed segments, and a manifest of
//! just these.
//!
//! The log is cut first, so that everything up to the present position is in files that are no longer written. These
//! are linked, not copied. From then on they also belong to the backup: the log removes its own names for them as
//! always, and never cuts them to nothing while they have another name.
//!
//! What if it crashes here, step by step:
//! 1. The log is cut: see `writer.rs`.
//! 2. A folder with a temporary name is created, files are linked into it, and a segment without frames and the
//!    manifest are made there, all of it durably: the next start of the log removes it.
//! 3. The folder gets its name: the backup is whole.
//!
//! To remove a backup, it first gets the temporary name back, so that what has the name of a backup is always whole.
//! Only the cut touches the log.
//!
//! Another process that is to make a base from the log also reads such a copy, which has a temporary name as long as it
//! exists.

use crate::log::error::LogError;
use crate::log::format::manifest::Manifest;
use crate::log::format::names::{
    MANIFEST_NAME, TEMPORARY_BACKUP_NAME, base_name, is_temporary_folder, segment_name, shared_name, stamp_of,
    stamped_name,
};
use crate::log::lsn::Lsn;
use crate::log::storage::{Storage, StorageFile, failed};
use std::io;

const PREFIX: &str = "backup-";

/// A backup, finished or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// The name of its folder within the log's.
    pub name: String,
    /// When it was begun.
    pub unix_ms: u64,
    /// The position up to which it goes.
    pub end: Lsn,
    /// Whether it is whole: nothing of it is missing. Earlier versions left unfinished ones.
    pub is_whole: bool,
}

/// The name of the folder of a backup that is begun at this time, and goes up to this position.
pub fn backup_name(unix_ms: u64, end: Lsn) -> String {
    stamped_name(PREFIX, unix_ms, end)
}

/// What the name of a backup's folder says; `None` for other names.
fn said_by(name: &str) -> Option<(u64, Lsn)> {
    stamp_of(PREFIX, name)
}

/// The backups in a folder of a log, in their order.
pub(crate) fn backups<S: Storage>(storage: &S) -> io::Result<Vec<Backup>> {
    let mut found = Vec::new();
    for name in storage.list_folders()? {
        if let Some((unix_ms, end)) = said_by(&name) {
            let is_whole = storage.folder(&name)?.open_read(MANIFEST_NAME).is_ok();
            found.push(Backup { name, unix_ms, end, is_whole });
        }
    }
    found.sort_by_key(|backup| backup.unix_ms);
    Ok(found)
}

/// Removes a backup, unless it contains something that no backup has.
pub(crate) fn remove_backup<S: Storage>(storage: &S, name: &str) -> Result<(), LogError> {
    if said_by(name).is_none() {
        return Err(LogError::Refused { why: "that is not the name of a backup" });
    }
    remove_copy(storage, name, TEMPORARY_BACKUP_NAME)
}

/// Removes a copy, unless somebody uses it ([`LogError::Locked`]), or it contains what no copy has
/// ([`LogError::Occupied`]). It first gets a temporary name, so that what has the name of one is always whole.
pub(super) fn remove_copy<S: Storage>(storage: &S, name: &str, temporary: &str) -> Result<(), LogError> {
    let unused = Unused::lock(storage, name)?;
    remove_folder(storage, temporary)?;
    let renamed = storage.rename_folder(name, temporary).and_then(|()| storage.sync_dir());
    renamed.map_err(failed(storage, "remove", name))?;
    unused.remove(storage, temporary)
}

/// A folder within that of a log, which nobody uses: it is locked, as a server locks the one of its log.
struct Unused<S: Storage>(#[allow(dead_code, reason = "held only")] S::Lock);

impl<S: Storage> Unused<S> {
    fn lock(storage: &S, name: &str) -> Result<Unused<S>, LogError> {
        let folder = storage.folder(name).map_err(failed(storage, "remove", name))?;
        let lock = folder.lock().map_err(failed(storage, "lock", name))?;
        let lock = lock.ok_or_else(|| LogError::Locked { file: storage.locate(name) })?;
        if !folder.list_folders().map_err(failed(storage, "remove", name))?.is_empty() {
            return Err(LogError::Occupied { file: storage.locate(name) });
        }
        Ok(Unused(lock))
    }

    /// Removes it, by the name that it has now.
    fn remove(self, storage: &S, name: &str) -> Result<(), LogError> {
        let remove = || {
            let folder = storage.folder(name)?;
            for file in folder.list()? {
                folder.remove(&String::from_utf8_lossy(&file))?;
            }
            storage.remove_folder(name)?;
            storage.sync_dir()
        };
        remove().map_err(failed(storage, "remove", name))
    }
}

/// Removes what a crash, or an error, has left of copies that were being made, read or removed.
pub(super) fn remove_temporary_folders<S: Storage>(storage: &S) -> io::Result<()> {
    let names = storage.list_folders()?.into_iter().filter(|name| is_temporary_folder(name));
    names.for_each(|name| {
        // One that stays keeps no other.
        let _ = remove_folder(storage, &name);
    });
    Ok(())
}

/// Removes a folder of files that nobody uses, where there is one.
pub(super) fn remove_folder<S: Storage>(storage: &S, name: &str) -> Result<(), LogError> {
    let folders = storage.list_folders().map_err(failed(storage, "list", ""))?;
    if folders.iter().any(|found| found == name) { Unused::lock(storage, name)?.remove(storage, name) } else { Ok(()) }
}

/// Removes the copy from which a base was to be made; if that fails, the next start does.
pub(crate) fn remove_shared<S: Storage>(storage: &S, base: &str) {
    if let Some(name) = shared_name(base) {
        let _ = remove_folder(storage, &name);
    }
}

/// The name of a backup that is begun at this time, or a little later if that is taken.
fn free_name<S: Storage>(storage: &S, unix_ms: u64, end: Lsn) -> io::Result<(u64, String)> {
    let taken = storage.list_folders()?;
    let mut times = (unix_ms..).map(|unix_ms| (unix_ms, backup_name(unix_ms, end)));
    times.find(|(_, name)| !taken.contains(name)).ok_or_else(|| io::ErrorKind::AlreadyExists.into())
}

/// Makes a backup of a log that goes up to this position, in a new folder that is named for this time.
pub(super) fn make_backup<S: Storage>(
    storage: &S,
    log: &Manifest,
    (unix_ms, end): (u64, Lsn),
) -> Result<Backup, LogError> {
    let temporary = TEMPORARY_BACKUP_NAME;
    let (unix_ms, name) = free_name(storage, unix_ms, end).map_err(failed(storage, "find a name for", temporary))?;
    make_copy(storage, log, temporary, |storage| name_copy(storage, temporary, &name))?;
    Ok(Backup { name, unix_ms, end, is_whole: true })
}

/// Makes a copy of a log in a folder of this temporary name.
pub(super) fn make_copy<S: Storage>(
    storage: &S,
    log: &Manifest,
    temporary: &str,
    finish: impl FnOnce(&S) -> Result<(), LogError>,
) -> Result<(), LogError> {
    remove_folder(storage, temporary)?;
    let copy = || {
        let folder = storage.create_folder(temporary).map_err(failed(storage, "create", temporary))?;
        fill_copy(storage, &folder, log)?;
        finish(storage)
    };
    copy().inspect_err(|_| {
        // What stays does not have the name of a copy, and is removed by the next one, or by a start.
        let _ = remove_folder(storage, temporary);
    })
}

/// Gives a copy its name, durably.
pub(super) fn name_copy<S: Storage>(storage: &S, temporary: &str, name: &str) -> Result<(), LogError> {
    storage.rename_folder(temporary, name).map_err(failed(storage, "rename", temporary))?;
    storage.sync_dir().map_err(failed(storage, "sync the folder of", name)).inspect_err(|_| {
        // It is not reported, so nobody uses it.
        let _ = storage.rename_folder(name, temporary);
    })
}

/// Makes a folder a copy of a log, durably: with hard links, except for the last segment, which has only a header
/// there.
fn fill_copy<S: Storage>(storage: &S, folder: &S, log: &Manifest) -> Result<(), LogError> {
    let last = log.segments.last();
    let linked = log.segments.iter().filter(|segment| Some(*segment) != last).map(|segment| segment_name(segment.seq));
    for name in log.base().map(|base| base_name(base.seq)).into_iter().chain(linked) {
        storage.link(&name, folder).map_err(failed(storage, "link", &name))?;
    }
    if let Some((name, sealed)) = last.and_then(|last| Some((segment_name(last.seq), last.sealed?))) {
        copy_head(storage, folder, &name, sealed.bytes)?;
    }
    folder.sync_dir().map_err(failed(folder, "sync the folder of", MANIFEST_NAME))?;
    log.write_next(folder)?;
    Manifest::name_next(folder)
}

/// Writes the first bytes of a file to one of its name in another folder.
fn copy_head<S: Storage>(storage: &S, folder: &S, name: &str, bytes: u64) -> Result<(), LogError> {
    let mut head = vec![0; bytes as usize];
    let from = storage.open_read(name).map_err(failed(storage, "open", name))?;
    let count = from.read_at(0, &mut head).map_err(failed(storage, "read", name))?;
    head.truncate(count);
    let mut file = folder.create(name).map_err(failed(folder, "create", name))?;
    file.write_all_at(0, &head).map_err(failed(folder, "write", name))?;
    file.sync_data().map_err(failed(folder, "sync", name))
}
