//! A folder of the file system.
//!
//! The folder is held by a descriptor: whatever happens to its path, all operations go to the folder that was opened.
//! Only regular files are opened, without following links and without waiting (a fifo would make the opener wait for
//! another).

use super::parents::create_durably;
use super::seen::Seen;
use super::{FileStatus, Storage};
use crate::log::error::LogError;
use rustix::fs::{AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::rand::GetRandomFlags;
use std::any::Any;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

/// What earlier versions locked; they never remove it. It is also locked, to keep them out.
const LOCK_NAME: &str = "LOCK";

const FILE_MODE: Mode = Mode::from_raw_mode(0o600);
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o700);

/// Closes a descriptor in every forked child, until the returned guard is dropped.
type CloseInChildren = fn(RawFd) -> Box<dyn Any + Send + Sync>;

/// A folder of the file system.
#[derive(Debug)]
pub struct FolderStorage {
    directory: OwnedFd,
    path: PathBuf,
    close_in_children: Option<CloseInChildren>,
}

/// Keeps a [`FolderStorage`] locked.
///
/// The lock belongs to the open descriptors, which a forked child inherits: it would keep the folder locked beyond the
/// end of this process.
#[derive(Debug)]
pub struct FolderLock {
    // Dropped before the descriptors are closed, because their numbers may then be reused.
    _guards: Vec<Box<dyn Any + Send + Sync>>,
    directory: OwnedFd,
    lock_file: Option<OwnedFd>,
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // A child that is forked after the guards have gone has the descriptors, but no lock.
        for descriptor in std::iter::once(&self.directory).chain(&self.lock_file) {
            // If that fails, the lock lasts until such a child has ended.
            let _ = rustix::fs::flock(descriptor, FlockOperation::Unlock);
        }
    }
}

impl FolderStorage {
    /// Uses a folder; if it is missing, it is created (for this user only), see `create_durably`.
    pub fn new(folder: impl Into<PathBuf>) -> Result<FolderStorage, LogError> {
        let path = folder.into();
        create_durably(&path)?;
        FolderStorage::there(path.clone()).map_err(|source| cannot_open(&path, source))
    }

    /// Uses a folder if it is there.
    pub fn existing(folder: impl Into<PathBuf>) -> Result<Option<FolderStorage>, LogError> {
        let path = folder.into();
        match FolderStorage::there(path.clone()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(cannot_open(&path, error)),
            Ok(storage) => Ok(Some(storage)),
        }
    }

    fn there(path: PathBuf) -> io::Result<FolderStorage> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(&path, flags, Mode::empty())?;
        Ok(FolderStorage { directory, path, close_in_children: None })
    }

    /// Keeps forked children from inheriting the lock.
    #[must_use]
    pub fn close_in_children(mut self, close: CloseInChildren) -> FolderStorage {
        self.close_in_children = Some(close);
        self
    }

    pub(super) fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    /// The path of a file in the folder, as it was when the folder was opened.
    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Whether the folder's path still leads to it.
    pub fn has_its_path(&self) -> bool {
        let (open, found) = (Seen::open(&self.directory), Seen::named(CWD, &self.path, AtFlags::empty()));
        open.is_ok_and(|open| found.is_ok_and(|found| open.identity == found.identity))
    }

    fn open(&self, name: &str, access: OFlags) -> io::Result<File> {
        let flags = access | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = rustix::fs::openat(&self.directory, name, flags, FILE_MODE)?;
        if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        Ok(File::from(file))
    }

    /// The lock file of earlier versions, where there is one.
    fn lock_file(&self) -> io::Result<Option<OwnedFd>> {
        match self.open(LOCK_NAME, OFlags::RDWR) {
            Ok(file) => Ok(Some(file.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn cannot_open(path: &Path, source: io::Error) -> LogError {
    LogError::io("open the folder", path.display().to_string(), source)
}

impl Storage for FolderStorage {
    type File = File;
    type Lock = FolderLock;

    fn lock(&self) -> io::Result<Option<FolderLock>> {
        // A lock belongs to an open description, so this is not the one that is used for the files.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(&self.directory, ".", flags, Mode::empty())?;
        let lock_file = self.lock_file()?;
        for descriptor in std::iter::once(&directory).chain(&lock_file) {
            match rustix::fs::flock(descriptor, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => return Ok(None),
                outcome => outcome?,
            }
        }
        let descriptors = std::iter::once(&directory).chain(&lock_file);
        let guards = self.close_in_children.map(|close| descriptors.map(|fd| close(fd.as_raw_fd())).collect());
        Ok(Some(FolderLock { _guards: guards.unwrap_or_default(), directory, lock_file }))
    }

    fn list(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.directory)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<File> {
        self.open(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)
    }

    fn open_write(&self, name: &str) -> io::Result<File> {
        self.open(name, OFlags::RDWR)
    }

    fn open_read(&self, name: &str) -> io::Result<File> {
        self.open(name, OFlags::RDONLY)
    }

    fn reopen(&self, name: &str, file: &File) -> io::Result<File> {
        let again = self.open(name, OFlags::RDWR)?;
        if Seen::open(&again)?.identity != Seen::open(file)?.identity {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name is another file's"));
        }
        Ok(again)
    }

    fn reopen_direct(&self, name: &str, file: &File) -> io::Result<File> {
        let again = self.reopen(name, file)?;
        rustix::fs::fcntl_setfl(&again, rustix::fs::fcntl_getfl(&again)? | OFlags::DIRECT)?;
        Ok(again)
    }

    fn status_of(&self, name: &str, file: &File) -> io::Result<Option<FileStatus>> {
        let found = match Seen::named(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(None),
            found => found?,
        };
        let open = Seen::open(file)?;
        Ok((found.identity == open.identity).then_some(FileStatus { bytes: open.bytes }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.directory, from, &self.directory, to)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.directory, name, AtFlags::empty())?)
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.directory)?)
    }

    fn create_folder(&self, name: &str) -> io::Result<FolderStorage> {
        rustix::fs::mkdirat(&self.directory, name, FOLDER_MODE)?;
        self.sync_dir()?;
        self.folder(name)
    }

    fn folder(&self, name: &str) -> io::Result<FolderStorage> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(&self.directory, name, flags, Mode::empty())?;
        Ok(FolderStorage { directory, path: self.path.join(name), close_in_children: self.close_in_children })
    }

    fn list_folders(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.directory)? {
            if let Ok(name) = entry?.file_name().to_str()
                && !matches!(name, "." | "..")
                && let Ok(status) = rustix::fs::statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW)
                && FileType::from_raw_mode(status.st_mode) == FileType::Directory
            {
                names.push(name.to_string());
            }
        }
        Ok(names)
    }

    fn rename_folder(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.directory, from, &self.directory, to)?)
    }

    fn remove_folder(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.directory, name, AtFlags::REMOVEDIR)?)
    }

    fn link(&self, name: &str, into: &FolderStorage) -> io::Result<()> {
        Ok(rustix::fs::linkat(&self.directory, name, &into.directory, name, AtFlags::empty())?)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let status = rustix::fs::fstatvfs(&self.directory)?;
        Ok(status.f_bavail.saturating_mul(status.f_frsize))
    }

    fn random(&self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match rustix::rand::getrandom(rest, GetRandomFlags::empty()) {
                Err(Errno::INTR) => {}
                count => filled += count?,
            }
        }
        Ok(u64::from_le_bytes(bytes))
    }

    fn locate(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::log::storage::StorageFile;
    use std::os::unix::ffi::OsStrExt;

    fn scratch(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("wbl-storage-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        folder
    }

    #[test]
    fn a_missing_folder_is_created_and_locked_once() {
        let root = scratch("lock");
        let storage = FolderStorage::new(&root).unwrap();
        let lock = storage.lock().unwrap();
        assert!(lock.is_some());
        assert!(storage.lock().unwrap().is_none());
        let second = FolderStorage::new(&root).unwrap();
        assert!(second.lock().unwrap().is_none());
        drop(lock);
        assert!(second.lock().unwrap().is_some());
        assert!(storage.list().unwrap().is_empty(), "a lock leaves no file");
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn the_lock_file_of_earlier_versions_locks_too() {
        let root = scratch("lock-file");
        let storage = FolderStorage::new(&root).unwrap();
        let file = File::create(storage.path(LOCK_NAME)).unwrap();
        rustix::fs::flock(&file, FlockOperation::LockExclusive).unwrap();
        assert!(storage.lock().unwrap().is_none());
        drop(file);
        assert!(storage.lock().unwrap().is_some());
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn files_keep_what_was_written() {
        let root = scratch("files");
        let storage = FolderStorage::new(&root).unwrap();
        let mut file = storage.create("a").unwrap();
        assert!(storage.create("a").is_err(), "a taken name is refused");
        StorageFile::write_all_at(&mut file, 2, b"xyz").unwrap();
        StorageFile::sync_data(&mut file).unwrap();
        StorageFile::set_len(&mut file, 4).unwrap();
        assert!(storage.reopen("a", &file).is_ok());
        storage.rename("a", "b").unwrap();
        drop(storage.create("a").unwrap());
        assert!(storage.reopen("a", &file).is_err(), "another file has the name");
        storage.sync_dir().unwrap();
        let file = storage.open_read("b").unwrap();
        let mut buffer = [9; 8];
        assert_eq!(StorageFile::read_at(&file, 0, &mut buffer).unwrap(), 4);
        assert_eq!(&buffer[..4], b"\0\0xy");
        assert_eq!(storage.status_of("b", &file).unwrap(), Some(FileStatus { bytes: 4 }));
        std::fs::hard_link(storage.path("b"), storage.path("c")).unwrap();
        storage.remove("b").unwrap();
        assert_eq!(storage.status_of("b", &file).unwrap(), None, "it has another name only");
        assert!(storage.open_write("b").is_err());
        drop(storage.create("b").unwrap());
        assert_eq!(storage.status_of("b", &file).unwrap(), None, "another file has the name");
        assert_eq!(file.status().unwrap(), FileStatus { bytes: 4 });
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_folder_stays_the_same_when_its_path_changes() {
        let root = scratch("moved");
        std::fs::create_dir(&root).unwrap();
        let storage = FolderStorage::new(root.join("a")).unwrap();
        std::fs::rename(root.join("a"), root.join("b")).unwrap();
        std::fs::create_dir(root.join("a")).unwrap();
        drop(storage.create("x").unwrap());
        assert!(root.join("b/x").exists() && !root.join("a/x").exists());
        assert!(!storage.has_its_path() && FolderStorage::new(root.join("a")).unwrap().has_its_path());
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn only_regular_files_are_opened_and_without_waiting() {
        let root = scratch("kinds");
        let storage = FolderStorage::new(&root).unwrap();
        rustix::fs::mknodat(&storage.directory, "fifo", FileType::Fifo, FILE_MODE, 0).unwrap();
        std::os::unix::fs::symlink(root.join("target"), root.join("link")).unwrap();
        std::fs::create_dir(root.join("folder")).unwrap();
        for name in ["fifo", "link", "folder"] {
            assert!(storage.open_read(name).is_err() && storage.open_write(name).is_err(), "{name}");
        }
        std::os::unix::fs::symlink(root.join("target"), root.join(LOCK_NAME)).unwrap();
        assert!(storage.lock().is_err());
        assert!(!root.join("target").exists(), "a link creates no target");
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn names_are_bytes() {
        let root = scratch("names");
        std::fs::create_dir(&root).unwrap();
        let storage = FolderStorage::new(root.join(std::ffi::OsStr::from_bytes(b"\xff"))).unwrap();
        File::create(root.join(std::ffi::OsStr::from_bytes(b"\xff/\xfe"))).unwrap();
        assert_eq!(storage.list().unwrap(), [b"\xfe"]);
        std::fs::remove_dir_all(root).unwrap();
    }
}
