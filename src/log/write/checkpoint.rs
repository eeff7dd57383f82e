//! Replacing old segments with a base.
//!
//! What if it crashes here, step by step:
//! 1. The content of the new base is made durable, read again and checked, as a start would read it. It has a temporary
//!    name, and the next start removes it.
//! 2. The base gets its name, and the name is made durable: the manifest still names the old base and all segments, or
//!    there is none; the next start removes the new one.
//! 3. The manifest is replaced: it names the old set of files or the new one, and both are complete. A log that waited
//!    for its base appears at this moment.
//! 4. What only the old manifest named is removed: the next start removes the rest.
//!
//! Steps 1 and 2, which are here, need only the base, and any thread may do them; step 4 too. Step 3 is in
//! `writer/base.rs`.

use super::expendable::Expendable;
use crate::log::error::LogError;
use crate::log::format::manifest::BaseFacts;
use crate::log::format::names::{base_name, temporary_base_seq};
use crate::log::lsn::Lsn;
use crate::log::open::CheckBase;
use crate::log::storage::{Storage, StorageFile, failed};
use std::io::{self, Read};

/// What the check did not read is read in pieces of this size.
const REST_PIECE_BYTES: usize = 64 << 10;

/// A base that was written, under its temporary name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewBase {
    /// Its name.
    pub name: String,
    /// The position whose dataset it holds, as a `cut` returned it.
    pub lsn: Lsn,
}

impl NewBase {
    /// The name that it gets.
    pub fn final_name(&self) -> Option<String> {
        temporary_base_seq(&self.name).map(base_name)
    }
}

/// A base that has its name.
#[derive(Debug)]
pub struct PreparedBase(pub(super) BaseFacts);

/// Steps 1 and 2.
pub(crate) struct BaseJob<'a, S: Storage> {
    pub storage: &'a S,
    pub expendable: &'a Expendable<S>,
    /// Whether a start could recover the base.
    pub check: CheckBase,
    /// Asked between pieces: whether the base is no longer wanted.
    pub is_cancelled: &'a dyn Fn() -> bool,
}

impl<S: Storage> BaseJob<'_, S> {
    /// Makes the base durable, checks it and gives it its name. If that fails the file is removed: a second sync of the
    /// same file could succeed without the bytes that the first one lost.
    pub fn run(&self, base: &NewBase) -> Result<PreparedBase, LogError> {
        let Some(seq) = temporary_base_seq(&base.name) else {
            return Err(LogError::Refused { why: "the name is not one of a temporary base" });
        };
        self.prepare(base, seq).inspect_err(|_| {
            self.expendable.remove(std::slice::from_ref(&base.name));
        })
    }

    fn prepare(&self, base: &NewBase, seq: u64) -> Result<PreparedBase, LogError> {
        let (storage, name) = (self.storage, &base.name);
        let mut file = storage.open_write(name).map_err(failed(storage, "open", name))?;
        file.sync_data().map_err(failed(storage, "sync", name))?;
        let mut reader =
            NewBaseReader { file: &file, bytes: 0, crc32c: 0, error: None, is_cancelled: self.is_cancelled };
        let checked = (self.check)(&mut reader).and_then(|()| reader.read_rest().map_err(|error| error.to_string()));
        let NewBaseReader { bytes, crc32c, error, .. } = reader;
        if (self.is_cancelled)() {
            return Err(LogError::Closed);
        }
        if let Some(error) = error {
            return Err(failed(storage, "read", name)(error));
        }
        if !self.expendable.keep(name) {
            let no_room = failed(storage, "find room beside the log for", name);
            return Err(no_room(io::Error::from(rustix::io::Errno::NOSPC)));
        }
        checked.map_err(|why| LogError::BadBase { file: storage.locate(name), why })?;
        storage.rename(name, &base_name(seq)).map_err(failed(storage, "rename", name))?;
        storage.sync_dir().map_err(failed(storage, "sync the folder of", &base_name(seq)))?;
        Ok(PreparedBase(BaseFacts { seq, lsn: base.lsn, bytes, crc32c: Some(crc32c) }))
    }
}

/// Creates the file of a base that is about to be written, which gets the room that is held for it.
pub(crate) fn create_base<S: Storage>(
    storage: &S,
    expendable: &Expendable<S>,
    name: &str,
) -> Result<S::File, LogError> {
    expendable.reserve.lend();
    expendable.add_base(name);
    storage.create(name).map_err(failed(storage, "create", name)).inspect_err(|_| expendable.drop_base(name))
}

/// Reads a new base from its start, whatever was done with the file before, and adds up what the manifest will say of
/// it.
struct NewBaseReader<'a, F> {
    file: &'a F,
    bytes: u64,
    crc32c: u32,
    /// The file could not be read.
    error: Option<io::Error>,
    is_cancelled: &'a dyn Fn() -> bool,
}

impl<F: StorageFile> Read for NewBaseReader<'_, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if (self.is_cancelled)() {
            return Err(io::Error::other("the log is being closed"));
        }
        let count = self.file.read_at(self.bytes, buffer).map_err(|error| {
            let again = io::Error::new(error.kind(), error.to_string());
            self.error = Some(error);
            again
        })?;
        self.crc32c = crc32c::crc32c_append(self.crc32c, buffer.get(..count).unwrap_or(&[]));
        self.bytes += count as u64;
        Ok(count)
    }
}

impl<F: StorageFile> NewBaseReader<'_, F> {
    /// The checksum is that of the whole file.
    fn read_rest(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; REST_PIECE_BYTES];
        while self.read(&mut buffer)? > 0 {}
        Ok(())
    }
}
