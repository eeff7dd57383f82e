//! A file read through one big buffer.

use crate::log::error::LogError;
use crate::log::storage::{Storage, StorageFile, failed};

const BUFFER_BYTES: usize = 1 << 20;

/// A file and the part of it that was read last.
pub(crate) struct Window<F> {
    file: F,
    /// The file's name, as shown to people.
    shown: String,
    file_bytes: u64,
    buffer: Vec<u8>,
    /// Offset in the file of the buffer's first byte.
    start: u64,
    /// Bytes looked at so far; those looked at twice count twice.
    examined_bytes: u64,
}

impl<F: StorageFile> Window<F> {
    pub fn open<S: Storage<File = F>>(storage: &S, name: &str) -> Result<Window<F>, LogError> {
        let file = storage.open_read(name).map_err(failed(storage, "open", name))?;
        let file_bytes = file.status().map_err(failed(storage, "measure", name))?.bytes;
        let shown = storage.locate(name);
        Ok(Window { file, shown, file_bytes, buffer: Vec::new(), start: 0, examined_bytes: 0 })
    }

    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    pub fn shown(&self) -> &str {
        &self.shown
    }

    pub fn examined_bytes(&self) -> u64 {
        self.examined_bytes
    }

    pub fn count_examined(&mut self, bytes: u64) {
        self.examined_bytes += bytes;
    }

    pub fn damaged(&self, offset: u64, why: impl Into<String>) -> LogError {
        LogError::damaged(&self.shown, offset, why)
    }

    /// What the buffer has from `offset` on: at least `wanted` bytes, or all up to the end of the file.
    pub fn bytes_at(&mut self, offset: u64, wanted: usize) -> Result<&[u8], LogError> {
        assert!(wanted <= BUFFER_BYTES, "a look ahead must fit the buffer");
        let wanted = (self.file_bytes.saturating_sub(offset)).min(wanted as u64);
        let end = self.start + self.buffer.len() as u64;
        if offset < self.start || offset + wanted > end {
            let rest = self.file_bytes.saturating_sub(offset).min(BUFFER_BYTES as u64);
            self.buffer.resize(rest as usize, 0);
            let count = self.file.read_at(offset, &mut self.buffer);
            let count = count.map_err(|source| LogError::io("read", &self.shown, source))?;
            self.buffer.truncate(count);
            self.start = offset;
        }
        let skipped = offset.saturating_sub(self.start) as usize;
        Ok(self.buffer.get(skipped..).unwrap_or(&[]))
    }

    /// The next bytes from `offset` on, up to `end`; none when the file ends before.
    pub fn piece(&mut self, offset: u64, end: u64) -> Result<&[u8], LogError> {
        let length = self.bytes_at(offset, 1)?.len().min((end.saturating_sub(offset)) as usize);
        self.examined_bytes += length as u64;
        let bytes = self.bytes_at(offset, 1)?;
        Ok(bytes.get(..length).unwrap_or(bytes))
    }

    /// Reads a range piece by piece; `false` when the file ends before.
    pub fn each_piece(&mut self, offset: u64, end: u64, mut piece: impl FnMut(&[u8])) -> Result<bool, LogError> {
        let mut at = offset;
        while at < end {
            let bytes = self.piece(at, end)?;
            if bytes.is_empty() {
                return Ok(false);
            }
            piece(bytes);
            at += bytes.len() as u64;
        }
        Ok(true)
    }

    /// The offset after the last byte from `offset` on that is not zero; `offset` where all are.
    pub fn used_end(&mut self, offset: u64) -> Result<u64, LogError> {
        let (mut at, mut end) = (offset, offset);
        self.each_piece(offset, self.file_bytes, |piece| {
            if let Some(last) = piece.iter().rposition(|byte| *byte != 0) {
                end = at + last as u64 + 1;
            }
            at += piece.len() as u64;
        })?;
        Ok(end)
    }

    pub fn is_zero_from(&mut self, offset: u64) -> Result<bool, LogError> {
        let mut at = offset;
        while at < self.file_bytes {
            let bytes = self.piece(at, self.file_bytes)?;
            if bytes.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            if bytes.is_empty() {
                break;
            }
            at += bytes.len() as u64;
        }
        Ok(true)
    }
}
