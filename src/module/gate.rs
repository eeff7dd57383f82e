//! The log's storage with a gate before each sync, which tests close to see what a slow disk does.
//!
//! Unlike a frozen durable position (WBL.DEBUG PAUSE) a closed gate is unknown to the module: it does what it does
//! while a disk does not answer. The log's own threads stop there, and so does the main thread where it commits inline,
//! which it does not do while only a command could open the gate.

use crate::ffi::{ask_for_short_slices, close_in_children};
use crate::lock::lock;
use crate::log::sim::{SimDisk, SimFile, SimLock};
use crate::log::{DirectWrites, FileStatus, FolderLock, FolderStorage, LogError, MANIFEST_NAME, Storage, StorageFile};
use crate::machine;
use crate::module::points::{self, Point};
use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often a closed gate is checked.
const POLL: Duration = Duration::from_millis(1);

/// The names of the threads that the gate stops.
const LOG_THREADS: [&str; 2] = ["wbl-writer", "wbl-files"];

thread_local! {
    /// This thread does what the log's threads do.
    static COMMITS: Cell<bool> = const { Cell::new(false) };
}

static CLOSED: AtomicBool = AtomicBool::new(false);

/// The gate opens again once this file is gone. Who holds this may open or close the gate.
static WHILE_EXISTS: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Closes the gate: syncs of the log's threads wait until it is opened, or until the file, if one is named, is gone.
pub(super) fn close(while_exists: Option<PathBuf>) {
    let mut file = lock(&WHILE_EXISTS);
    *file = while_exists;
    CLOSED.store(true, Ordering::Release);
}

/// Whether the gate is closed, and only a command opens it.
pub(super) fn waits_for_command() -> bool {
    CLOSED.load(Ordering::Relaxed) && lock(&WHILE_EXISTS).is_none()
}

/// Does on this thread what the log's threads do.
pub(super) fn as_log_thread<T>(work: impl FnOnce() -> T) -> T {
    COMMITS.set(true);
    let outcome = work();
    COMMITS.set(false);
    outcome
}

/// Opens the gate.
pub(super) fn open() {
    let _file = lock(&WHILE_EXISTS);
    CLOSED.store(false, Ordering::Release);
}

/// Waits while the gate is closed.
fn pass() {
    let is_of_log = || std::thread::current().name().is_some_and(|name| LOG_THREADS.contains(&name));
    if !CLOSED.load(Ordering::Relaxed) || !COMMITS.get() && !is_of_log() {
        return;
    }
    while CLOSED.load(Ordering::Acquire) {
        {
            // Nobody closes it for another file meanwhile.
            let file = lock(&WHILE_EXISTS);
            if file.as_ref().is_some_and(|path| !path.exists()) {
                CLOSED.store(false, Ordering::Release);
            }
        }
        std::thread::sleep(POLL);
    }
}

/// The folder of the log.
#[derive(Debug)]
pub(crate) struct GatedStorage(Folder);

/// Where it is.
#[derive(Debug)]
enum Folder {
    Real(FolderStorage),
    Simulated(SimDisk),
}

/// Calls a method of the folder or file, whichever it is.
macro_rules! either {
    ($kind:ident, $value:expr, $inner:ident => $call:expr) => {
        match $value {
            $kind::Real($inner) => $call,
            $kind::Simulated($inner) => $call,
        }
    };
}

impl GatedStorage {
    /// Uses a folder, see [`FolderStorage::new`].
    ///
    /// # Errors
    /// Of creating it.
    pub(crate) fn new(folder: &Path) -> Result<GatedStorage, LogError> {
        if let Some(disk) = machine::disk() {
            return Ok(GatedStorage(Folder::Simulated(disk)));
        }
        let real = FolderStorage::new(folder)?;
        Ok(GatedStorage(Folder::Real(real.close_in_children(close_in_children))))
    }

    /// Uses a folder if it is there.
    ///
    /// # Errors
    /// Of opening it.
    pub(crate) fn existing(folder: &Path) -> Result<Option<GatedStorage>, LogError> {
        if let Some(disk) = machine::disk() {
            return Ok(Some(GatedStorage(Folder::Simulated(disk))));
        }
        let real = FolderStorage::existing(folder)?;
        Ok(real.map(|real| GatedStorage(Folder::Real(real.close_in_children(close_in_children)))))
    }

    /// See [`FolderStorage::has_its_path`].
    pub(crate) fn has_its_path(&self) -> bool {
        match &self.0 {
            Folder::Real(folder) => folder.has_its_path(),
            Folder::Simulated(_) => true,
        }
    }

    /// See [`FolderStorage::probe_direct_writes`].
    pub(crate) fn probe_direct_writes(&self) -> DirectWrites {
        match &self.0 {
            Folder::Real(folder) => folder.probe_direct_writes(),
            Folder::Simulated(_) => DirectWrites::Good(512),
        }
    }

    /// The path of a file in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        match &self.0 {
            Folder::Real(folder) => folder.path(name),
            Folder::Simulated(_) => std::env::temp_dir().join(name),
        }
    }
}

/// Keeps the folder locked until it is dropped.
#[derive(Debug)]
pub(crate) enum GatedLock {
    /// Of a real folder.
    Real(#[allow(dead_code, reason = "held only")] FolderLock),
    /// Of a simulated one.
    Simulated(#[allow(dead_code, reason = "held only")] SimLock),
}

impl Storage for GatedStorage {
    type File = GatedFile;
    type Lock = GatedLock;

    fn thread_begins(&self) {
        ask_for_short_slices();
    }

    fn lock(&self) -> io::Result<Option<GatedLock>> {
        Ok(match &self.0 {
            Folder::Real(folder) => folder.lock()?.map(GatedLock::Real),
            Folder::Simulated(disk) => disk.lock()?.map(GatedLock::Simulated),
        })
    }

    fn list(&self) -> io::Result<Vec<Vec<u8>>> {
        either!(Folder, &self.0, folder => folder.list())
    }

    fn create(&self, name: &str) -> io::Result<GatedFile> {
        self.open(|folder| folder.create(name), |disk| disk.create(name))
    }

    fn open_write(&self, name: &str) -> io::Result<GatedFile> {
        self.open(|folder| folder.open_write(name), |disk| disk.open_write(name))
    }

    fn open_read(&self, name: &str) -> io::Result<GatedFile> {
        self.open(|folder| folder.open_read(name), |disk| disk.open_read(name))
    }

    fn reopen(&self, name: &str, file: &GatedFile) -> io::Result<GatedFile> {
        self.open_again(file, |folder, file| folder.reopen(name, file), |disk, file| disk.reopen(name, file))
    }

    fn reopen_direct(&self, name: &str, file: &GatedFile) -> io::Result<GatedFile> {
        self.open_again(
            file,
            |folder, file| folder.reopen_direct(name, file),
            |disk, file| disk.reopen_direct(name, file),
        )
    }

    fn status_of(&self, name: &str, file: &GatedFile) -> io::Result<Option<FileStatus>> {
        match (&self.0, &file.0) {
            (Folder::Real(folder), Opened::Real(file)) => folder.status_of(name, file),
            (Folder::Simulated(disk), Opened::Simulated(file)) => disk.status_of(name, file),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let rename = || either!(Folder, &self.0, folder => folder.rename(from, to));
        if to != MANIFEST_NAME {
            return rename();
        }
        points::reach(Point::Rename);
        rename()?;
        points::reach(Point::Renamed);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        points::reach(Point::Remove);
        either!(Folder, &self.0, folder => folder.remove(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        pass();
        either!(Folder, &self.0, folder => folder.sync_dir())
    }

    fn create_folder(&self, name: &str) -> io::Result<GatedStorage> {
        points::reach(Point::BackupBegins);
        Ok(GatedStorage(match &self.0 {
            Folder::Real(folder) => Folder::Real(folder.create_folder(name)?),
            Folder::Simulated(disk) => Folder::Simulated(disk.create_folder(name)?),
        }))
    }

    fn folder(&self, name: &str) -> io::Result<GatedStorage> {
        Ok(GatedStorage(match &self.0 {
            Folder::Real(folder) => Folder::Real(folder.folder(name)?),
            Folder::Simulated(disk) => Folder::Simulated(disk.folder(name)?),
        }))
    }

    fn list_folders(&self) -> io::Result<Vec<String>> {
        either!(Folder, &self.0, folder => folder.list_folders())
    }

    fn rename_folder(&self, from: &str, to: &str) -> io::Result<()> {
        points::reach(Point::BackupRename);
        either!(Folder, &self.0, folder => folder.rename_folder(from, to))
    }

    fn remove_folder(&self, name: &str) -> io::Result<()> {
        either!(Folder, &self.0, folder => folder.remove_folder(name))
    }

    fn link(&self, name: &str, into: &GatedStorage) -> io::Result<()> {
        points::reach(Point::BackupLink);
        match (&self.0, &into.0) {
            (Folder::Real(folder), Folder::Real(into)) => folder.link(name, into),
            (Folder::Simulated(disk), Folder::Simulated(into)) => disk.link(name, into),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn free_bytes(&self) -> io::Result<u64> {
        either!(Folder, &self.0, folder => folder.free_bytes())
    }

    fn random(&self) -> io::Result<u64> {
        either!(Folder, &self.0, folder => folder.random())
    }

    fn locate(&self, name: &str) -> String {
        either!(Folder, &self.0, folder => folder.locate(name))
    }
}

impl GatedStorage {
    fn open(
        &self,
        real: impl FnOnce(&FolderStorage) -> io::Result<File>,
        simulated: impl FnOnce(&SimDisk) -> io::Result<SimFile>,
    ) -> io::Result<GatedFile> {
        Ok(match &self.0 {
            Folder::Real(folder) => GatedFile(Opened::Real(real(folder)?)),
            Folder::Simulated(disk) => GatedFile(Opened::Simulated(simulated(disk)?)),
        })
    }

    fn open_again(
        &self,
        file: &GatedFile,
        real: impl FnOnce(&FolderStorage, &File) -> io::Result<File>,
        simulated: impl FnOnce(&SimDisk, &SimFile) -> io::Result<SimFile>,
    ) -> io::Result<GatedFile> {
        Ok(GatedFile(match (&self.0, &file.0) {
            (Folder::Real(folder), Opened::Real(file)) => Opened::Real(real(folder, file)?),
            (Folder::Simulated(disk), Opened::Simulated(file)) => Opened::Simulated(simulated(disk, file)?),
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        }))
    }
}

/// A file of the log.
#[derive(Debug)]
pub(crate) struct GatedFile(Opened);

#[derive(Debug)]
enum Opened {
    Real(File),
    Simulated(SimFile),
}

impl AsRawFd for GatedFile {
    /// A simulated file has none.
    fn as_raw_fd(&self) -> RawFd {
        match &self.0 {
            Opened::Real(file) => file.as_raw_fd(),
            Opened::Simulated(_) => -1,
        }
    }
}

impl StorageFile for GatedFile {
    fn write_all_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        either!(Opened, &mut self.0, file => StorageFile::write_all_at(file, offset, bytes))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        either!(Opened, &self.0, file => StorageFile::read_at(file, offset, buffer))
    }

    fn sync_data(&mut self) -> io::Result<()> {
        pass();
        either!(Opened, &mut self.0, file => StorageFile::sync_data(file))
    }

    fn write_durably_at(&mut self, offset: u64, blocks: &[u8]) -> io::Result<()> {
        pass();
        either!(Opened, &mut self.0, file => StorageFile::write_durably_at(file, offset, blocks))
    }

    fn set_len(&mut self, bytes: u64) -> io::Result<()> {
        either!(Opened, &mut self.0, file => StorageFile::set_len(file, bytes))
    }

    fn take_room(&mut self, bytes: u64) -> io::Result<()> {
        either!(Opened, &mut self.0, file => StorageFile::take_room(file, bytes))
    }

    fn is_linked(&self) -> io::Result<bool> {
        either!(Opened, &self.0, file => file.is_linked())
    }

    fn status(&self) -> io::Result<FileStatus> {
        either!(Opened, &self.0, file => StorageFile::status(file))
    }
}
