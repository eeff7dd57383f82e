//! Reading the base.

use super::opened::{Base, Opened};
use crate::log::error::LogError;
use crate::log::storage::{Storage, StorageFile, failed};
use std::io::{self, Read};

/// Reads a base from its start to its end; an error at the end when it is not the file that the manifest means.
pub struct BaseReader<F> {
    file: F,
    /// The file's name, as shown to people.
    shown: String,
    base: Base,
    at: u64,
    crc32c: u32,
}

impl<S: Storage> Opened<S> {
    /// Opens the base, where there is one. Only what was read to the end without an error is verified.
    pub fn read_base(&self) -> Result<Option<BaseReader<S::File>>, LogError> {
        self.base().map(|base| BaseReader::open(self.storage(), base)).transpose()
    }

    /// Reads the whole base and verifies its checksum, where that is known.
    pub fn verify_base(&self) -> Result<(), LogError> {
        let Some(mut reader) = self.read_base()? else { return Ok(()) };
        let name = reader.base.name.clone();
        let mut buffer = vec![0; 1 << 20];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return Err(LogError::damaged(self.storage().locate(&name), 0, error.to_string()));
                }
                Err(error) => return Err(failed(self.storage(), "read", &name)(error)),
            }
        }
    }
}

impl<F: StorageFile> BaseReader<F> {
    pub(super) fn open<S: Storage<File = F>>(storage: &S, base: Base) -> Result<BaseReader<F>, LogError> {
        let file = storage.open_read(&base.name).map_err(failed(storage, "open", &base.name))?;
        let shown = storage.locate(&base.name);
        Ok(BaseReader { file, shown, base, at: 0, crc32c: 0 })
    }

    /// The file, as shown to people.
    pub fn path(&self) -> &str {
        &self.shown
    }

    /// Whether the manifest states its checksum.
    pub fn has_checksum(&self) -> bool {
        self.base.crc32c.is_some()
    }
}

impl<F: StorageFile> Read for BaseReader<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = self.file.read_at(self.at, buffer)?;
        self.crc32c = crc32c::crc32c_append(self.crc32c, buffer.get(..count).unwrap_or(&[]));
        self.at += count as u64;
        let is_changed = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidData, why));
        if self.at > self.base.bytes || count == 0 && self.at < self.base.bytes {
            return is_changed("the base has another length than the manifest says");
        }
        if count == 0 && self.base.crc32c.is_some_and(|crc32c| crc32c != self.crc32c) {
            return is_changed("the base has another checksum than the manifest says");
        }
        Ok(count)
    }
}
