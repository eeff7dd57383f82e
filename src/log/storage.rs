//! The few file operations the log needs, and the real folder behind them.

use super::error::LogError;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};

/// The name of the file whose lock tells that a server uses the folder.
pub const LOCK_NAME: &str = "LOCK";

/// One flat folder of files.
///
/// Content becomes durable with [`StorageFile::sync_data`]; that a file exists under a name becomes durable with
/// [`Storage::sync_dir`] only.
pub trait Storage: Send + Sync + 'static {
    /// An open file.
    type File: StorageFile;
    /// Keeps the folder locked until it is dropped.
    type Lock: Send + 'static;

    /// Locks the folder; `None` when another has it.
    fn lock(&self) -> io::Result<Option<Self::Lock>>;
    /// The names of all entries, ours or not, in any order.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Whether an entry of this name exists.
    fn exists(&self, name: &str) -> io::Result<bool>;
    /// Creates an empty file; an error when the name is taken.
    fn create(&self, name: &str) -> io::Result<Self::File>;
    /// Opens an existing file for reading and writing.
    fn open_write(&self, name: &str) -> io::Result<Self::File>;
    /// Opens an existing file for reading.
    fn open_read(&self, name: &str) -> io::Result<Self::File>;
    /// Renames a file, replacing what has the new name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes all creations, renames and removals durable.
    fn sync_dir(&self) -> io::Result<()>;
    /// The name to show to people.
    fn locate(&self, name: &str) -> String {
        name.to_string()
    }
}

/// An open file of a [`Storage`].
pub trait StorageFile: Send + 'static {
    /// Writes all bytes at an offset.
    fn write_all_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Reads into the buffer from an offset; fewer bytes than asked for only at the end of the file.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Makes the content and the length durable.
    fn sync_data(&mut self) -> io::Result<()>;
    /// Cuts the file, or extends it with zero bytes.
    fn set_len(&mut self, bytes: u64) -> io::Result<()>;
    /// Bytes in the file.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// A folder of the file system.
#[derive(Clone, Debug)]
pub struct FolderStorage {
    folder: PathBuf,
}

impl FolderStorage {
    /// Uses a folder, which is created (for this user only) when it is missing.
    pub fn new(folder: impl Into<PathBuf>) -> Result<FolderStorage, LogError> {
        let folder = folder.into();
        if !folder.is_dir() {
            let shown = folder.display().to_string();
            let created = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
            created.map_err(|source| LogError::io("create the folder", &shown, source))?;
            // Without this a crash could take the new folder away again, with all that was acknowledged.
            let parent = match folder.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
            let synced = File::open(parent).and_then(|parent| parent.sync_all());
            synced.map_err(|source| LogError::io("sync the folder above", &shown, source))?;
        }
        Ok(FolderStorage { folder })
    }

    /// The path of a file in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl Storage for FolderStorage {
    type File = File;
    type Lock = File;

    fn lock(&self) -> io::Result<Option<File>> {
        let path = self.path(LOCK_NAME);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        match try_lock(&file) {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let entries = std::fs::read_dir(&self.folder)?;
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn exists(&self, name: &str) -> io::Result<bool> {
        self.path(name).try_exists()
    }

    fn create(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).open(self.path(name))
    }

    fn open_write(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(self.path(name))
    }

    fn open_read(&self, name: &str) -> io::Result<File> {
        File::open(self.path(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }

    fn locate(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
}

// The standard library's lock is younger than the crate's rust-version, which the toolchain in use is not.
fn try_lock(file: &File) -> Result<(), TryLockError> {
    file.try_lock()
}

impl StorageFile for File {
    fn write_all_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match FileExt::read_at(self, rest, offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        File::sync_data(self)
    }

    fn set_len(&mut self, bytes: u64) -> io::Result<()> {
        File::set_len(self, bytes)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("wbl-storage-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        folder
    }

    #[test]
    fn a_missing_folder_is_created_and_locked_once() {
        let root = scratch("lock");
        let storage = FolderStorage::new(root.join("a/b")).unwrap();
        let lock = storage.lock().unwrap();
        assert!(lock.is_some());
        assert!(storage.lock().unwrap().is_none());
        drop(lock);
        assert!(storage.lock().unwrap().is_some());
        assert_eq!(storage.list().unwrap(), [LOCK_NAME]);
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn files_keep_what_was_written() {
        let root = scratch("files");
        let storage = FolderStorage::new(&root).unwrap();
        let mut file = storage.create("a").unwrap();
        assert!(storage.create("a").is_err(), "a taken name is refused");
        StorageFile::write_all_at(&mut file, 2, b"xyz").unwrap();
        file.sync_data().unwrap();
        file.set_len(4).unwrap();
        storage.rename("a", "b").unwrap();
        storage.sync_dir().unwrap();
        let file = storage.open_read("b").unwrap();
        let mut buffer = [9; 8];
        assert_eq!(StorageFile::read_at(&file, 0, &mut buffer).unwrap(), 4);
        assert_eq!(&buffer[..4], b"\0\0xy");
        assert!(!storage.exists("a").unwrap());
        storage.remove("b").unwrap();
        assert!(storage.open_write("b").is_err());
        std::fs::remove_dir_all(root).unwrap();
    }
}
