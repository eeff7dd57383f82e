//! The few file operations the log needs.

mod file;
mod folder;
mod holder;
mod parents;
mod probe;
mod seen;

pub use folder::{FolderLock, FolderStorage};
pub use probe::DirectWrites;

use super::error::LogError;
use std::io;

/// One flat folder of regular files.
///
/// Content becomes durable with [`StorageFile::sync_data`]; that a file exists under a name becomes durable with
/// [`Storage::sync_dir`] only. Clones of the storage are handles of the same folder, whatever its path becomes.
pub trait Storage: Send + Sync + 'static {
    /// An open file.
    type File: StorageFile;
    /// Keeps the folder locked until it is dropped.
    type Lock: Send + 'static;

    /// Called first by each thread of the log that writes to the folder.
    fn thread_begins(&self) {}
    /// Locks the folder; `None` when another has it.
    fn lock(&self) -> io::Result<Option<Self::Lock>>;
    /// The names of all entries, ours or not, in any order.
    fn list(&self) -> io::Result<Vec<Vec<u8>>>;
    /// Creates an empty file; an error when the name is taken.
    fn create(&self, name: &str) -> io::Result<Self::File>;
    /// Opens an existing file for reading and writing.
    fn open_write(&self, name: &str) -> io::Result<Self::File>;
    /// Opens an existing file for reading.
    fn open_read(&self, name: &str) -> io::Result<Self::File>;
    /// Opens an open file once more, for another flush: an error of writing back is reported to each opening, but only
    /// once for two flushes of one opening. An error when `name` is another file by now.
    fn reopen(&self, name: &str, file: &Self::File) -> io::Result<Self::File>;
    /// The same for [`StorageFile::write_durably_at`], past the page cache. An error where the file system has no such
    /// writes.
    fn reopen_direct(&self, name: &str, file: &Self::File) -> io::Result<Self::File>;
    /// What the file system says of an open file, if it is the one that has this name.
    fn status_of(&self, name: &str, file: &Self::File) -> io::Result<Option<FileStatus>>;
    /// Renames a file, replacing what has the new name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes an entry that is not a folder.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes all creations, renames and removals durable.
    fn sync_dir(&self) -> io::Result<()>;
    /// Creates a folder in this one, durably; an error when the name is taken.
    fn create_folder(&self, _name: &str) -> io::Result<Self>
    where
        Self: Sized,
    {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// A folder in this one.
    fn folder(&self, _name: &str) -> io::Result<Self>
    where
        Self: Sized,
    {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// The names of the folders in this one.
    fn list_folders(&self) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }
    /// Renames a folder in this one, in one step; an error when a folder with files has the new name.
    fn rename_folder(&self, _from: &str, _to: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Removes a folder without files.
    fn remove_folder(&self, _name: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Gives a file its name in another folder, too; an error where the file system has no hard links.
    fn link(&self, _name: &str, _into: &Self) -> io::Result<()>
    where
        Self: Sized,
    {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Bytes that can still be written to the file system, by anybody.
    fn free_bytes(&self) -> io::Result<u64>;
    /// A number that nobody can guess.
    fn random(&self) -> io::Result<u64>;
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
    /// Writes whole blocks, where the file has bytes already, from memory that begins where the disk wants it to. They
    /// are durable when this returns; if it fails, or the power goes before, it is unknown which of their sectors are.
    fn write_durably_at(&mut self, offset: u64, blocks: &[u8]) -> io::Result<()>;
    /// Cuts the file, or extends it with zero bytes.
    fn set_len(&mut self, bytes: u64) -> io::Result<()>;
    /// Makes the file this long, with room for all of it. Nothing of it need be durable. An error where there is no
    /// room, or the file system cannot reserve any, which may leave the file longer than it was.
    fn take_room(&mut self, bytes: u64) -> io::Result<()>;
    /// Whether the file has more than one name.
    fn is_linked(&self) -> io::Result<bool>;
    /// What the file system says of the file now.
    fn status(&self) -> io::Result<FileStatus>;
}

/// What a file system says of an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStatus {
    /// Bytes in the file.
    pub bytes: u64,
}

/// Names operation and file in an error of the operating system.
pub(crate) fn failed<S: Storage>(
    storage: &S,
    operation: &'static str,
    name: &str,
) -> impl FnOnce(io::Error) -> LogError + use<S> {
    let shown = storage.locate(name);
    move |source| LogError::io(operation, shown, source)
}
