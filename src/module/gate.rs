//! The log's storage with a gate before each sync, which tests close to see what a slow disk does.
//!
//! Unlike a frozen durable position (WBL.DEBUG PAUSE) a closed gate is unknown to the module: it takes the ways that it
//! takes while a disk does not answer. Only the log's own threads stop there, as nobody could open the gate for a main
//! thread that waits.

use crate::ffi::close_in_children;
use crate::log::{FileStatus, FolderLock, FolderStorage, LogError, MANIFEST_NAME, Storage, StorageFile};
use crate::module::points::{self, Point};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How often a closed gate is looked at.
const POLL: Duration = Duration::from_millis(1);

/// The names of the threads that the gate stops.
const LOG_THREADS: [&str; 2] = ["wbl-writer", "wbl-files"];

static CLOSED: AtomicBool = AtomicBool::new(false);

/// The gate is open again once this file has gone.
static WHILE_EXISTS: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Closes the gate: syncs of the log's threads wait until it is opened, or until the file, if one is named, has gone.
pub(super) fn close(while_exists: Option<PathBuf>) {
    *WHILE_EXISTS.lock().unwrap_or_else(PoisonError::into_inner) = while_exists;
    CLOSED.store(true, Ordering::Release);
}

/// Opens the gate.
pub(super) fn open() {
    CLOSED.store(false, Ordering::Release);
}

/// Waits while the gate is closed.
fn pass() {
    if !CLOSED.load(Ordering::Relaxed) || !std::thread::current().name().is_some_and(|name| LOG_THREADS.contains(&name))
    {
        return;
    }
    while CLOSED.load(Ordering::Acquire) {
        let file_has_gone = {
            let file = WHILE_EXISTS.lock().unwrap_or_else(PoisonError::into_inner);
            file.as_ref().is_some_and(|path| !path.exists())
        };
        if file_has_gone {
            return open();
        }
        std::thread::sleep(POLL);
    }
}

/// The folder of the log.
#[derive(Debug)]
pub(crate) struct GatedStorage(FolderStorage);

impl GatedStorage {
    /// Uses a folder, see [`FolderStorage::new`].
    ///
    /// # Errors
    /// Of creating it.
    pub(crate) fn new(folder: &Path) -> Result<GatedStorage, LogError> {
        FolderStorage::new(folder).map(|storage| GatedStorage(storage.close_in_children(close_in_children)))
    }

    /// The path of a file in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }
}

impl Storage for GatedStorage {
    type File = GatedFile;
    type Lock = FolderLock;

    fn lock(&self) -> io::Result<Option<FolderLock>> {
        self.0.lock()
    }

    fn list(&self) -> io::Result<Vec<Vec<u8>>> {
        self.0.list()
    }

    fn create(&self, name: &str) -> io::Result<GatedFile> {
        self.0.create(name).map(GatedFile)
    }

    fn open_write(&self, name: &str) -> io::Result<GatedFile> {
        self.0.open_write(name).map(GatedFile)
    }

    fn open_read(&self, name: &str) -> io::Result<GatedFile> {
        self.0.open_read(name).map(GatedFile)
    }

    fn reopen(&self, name: &str, file: &GatedFile) -> io::Result<GatedFile> {
        self.0.reopen(name, &file.0).map(GatedFile)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        if to != MANIFEST_NAME {
            return self.0.rename(from, to);
        }
        points::reach(Point::Rename);
        self.0.rename(from, to)?;
        points::reach(Point::Renamed);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        points::reach(Point::Remove);
        self.0.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        pass();
        self.0.sync_dir()
    }

    fn random(&self) -> io::Result<u64> {
        self.0.random()
    }

    fn locate(&self, name: &str) -> String {
        self.0.locate(name)
    }
}

/// A file of the log.
#[derive(Debug)]
pub(crate) struct GatedFile(File);

impl AsRawFd for GatedFile {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl StorageFile for GatedFile {
    fn write_all_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        StorageFile::write_all_at(&mut self.0, offset, bytes)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        StorageFile::read_at(&self.0, offset, buffer)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        pass();
        StorageFile::sync_data(&mut self.0)
    }

    fn set_len(&mut self, bytes: u64) -> io::Result<()> {
        StorageFile::set_len(&mut self.0, bytes)
    }

    fn status(&self) -> io::Result<FileStatus> {
        self.0.status()
    }
}
