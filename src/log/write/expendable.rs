//! Files that hold room which the log may need more than they do: bases that are being written, segments written ahead
//! that are not used yet, and files that wait to be removed.
//!
//! Where the disk is full the log takes their room by cutting them to nothing, which works also while a child still
//! writes one: what it writes later is cut the next time. A base is looked at once more before it gets its name, so
//! that none is ever named that was cut.

use crate::log::storage::{Storage, StorageFile};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the log takes room from, shared by all of its threads.
#[derive(Debug)]
pub(crate) struct Expendable<S> {
    storage: Arc<S>,
    files: Mutex<Files>,
}

#[derive(Debug, Default)]
struct Files {
    /// Bases that are being written, and segments written ahead.
    bases: BTreeSet<String>,
    /// Of no use any more, though somebody may still write to them.
    void: BTreeSet<String>,
    /// How many files were removed.
    removed: u64,
}

impl<S: Storage> Expendable<S> {
    pub fn new(storage: Arc<S>) -> Expendable<S> {
        Expendable { storage, files: Mutex::default() }
    }

    /// A base is being written.
    pub fn add_base(&self, name: &str) {
        self.files().bases.insert(name.into());
    }

    /// The log is going to rely on a base: it is not cut from now on. `false` when it may have been.
    pub fn keep_base(&self, name: &str) -> bool {
        let mut files = self.files();
        files.bases.remove(name);
        !files.void.contains(name)
    }

    /// Nobody needs these files any more.
    pub fn give_up(&self, names: &[String]) {
        let mut files = self.files();
        for name in names {
            files.bases.remove(name);
            files.void.insert(name.clone());
        }
    }

    /// Whether nobody needs this file any more.
    pub fn is_void(&self, name: &str) -> bool {
        self.files().void.contains(name)
    }

    /// Removes files, as far as that is possible; what stays is removed by a later start.
    pub fn remove(&self, names: &[String]) {
        for name in names {
            let removed = self.storage.remove(name);
            let mut files = self.files();
            files.bases.remove(name);
            files.void.remove(name);
            files.removed += u64::from(removed.is_ok());
        }
    }

    /// How many files were removed so far.
    pub fn removed(&self) -> u64 {
        self.files().removed
    }

    /// Gives up all bases that are being written, and takes the room of all void files. `true` when there is more room
    /// than when `removed` files had been removed.
    pub fn make_room(&self, removed: &mut u64) -> bool {
        let mut files = self.files();
        let bases = std::mem::take(&mut files.bases);
        files.void.extend(bases);
        let mut made = files.removed > *removed;
        *removed = files.removed;
        for name in &files.void {
            let Ok(mut file) = self.storage.open_write(name) else { continue };
            made |= file.status().is_ok_and(|status| status.bytes > 0) && file.set_len(0).is_ok();
        }
        made
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
