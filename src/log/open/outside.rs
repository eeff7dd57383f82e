//! The mark of a log in another folder than its own, see [`OutsideMark`].

use crate::log::error::LogError;
use crate::log::format::Generation;
use crate::log::format::manifest::create_anew;
use crate::log::format::outside::{OUTSIDE_MARK_BYTES_MAX, OutsideMark};
use crate::log::storage::{Storage, StorageFile, failed};
use std::io::ErrorKind;

/// The file, and what it is until it is whole.
pub const OUTSIDE_MARK_NAME: &str = "wbl.mark";
const NEXT_NAME: &str = "wbl.mark.next";

impl OutsideMark {
    /// Writes the mark, durably, in place of the one before.
    ///
    /// # Errors
    /// The mark before may still be there.
    pub fn write<S: Storage>(&self, storage: &S) -> Result<(), LogError> {
        let mut file = create_anew(storage, NEXT_NAME)?;
        file.write_all_at(0, self.to_string().as_bytes()).map_err(failed(storage, "write", NEXT_NAME))?;
        file.sync_data().map_err(failed(storage, "sync", NEXT_NAME))?;
        storage.rename(NEXT_NAME, OUTSIDE_MARK_NAME).map_err(failed(storage, "rename", NEXT_NAME))?;
        storage.sync_dir().map_err(failed(storage, "sync the folder of", OUTSIDE_MARK_NAME))
    }

    /// Removes whatever mark there is, durably.
    ///
    /// # Errors
    /// It may still be there.
    pub fn remove<S: Storage>(storage: &S) -> Result<(), LogError> {
        match storage.remove(OUTSIDE_MARK_NAME) {
            Ok(()) => storage.sync_dir().map_err(failed(storage, "sync the folder of", OUTSIDE_MARK_NAME)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed(storage, "remove", OUTSIDE_MARK_NAME)(error)),
        }
    }

    /// The mark of this log; `None` where there is none, or another log's.
    ///
    /// # Errors
    /// The file is there, and can't be read, or is damaged.
    pub fn read<S: Storage>(storage: &S, generation: Generation) -> Result<Option<OutsideMark>, LogError> {
        let file = match storage.open_read(OUTSIDE_MARK_NAME) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(storage, "open", OUTSIDE_MARK_NAME)(error)),
        };
        let mut bytes = vec![0; OUTSIDE_MARK_BYTES_MAX];
        let read = file.read_at(0, &mut bytes).map_err(failed(storage, "read", OUTSIDE_MARK_NAME))?;
        bytes.truncate(read);
        let mark = std::str::from_utf8(&bytes).ok().and_then(OutsideMark::parse);
        let why = "it is no mark of a log";
        let mark = mark.ok_or_else(|| LogError::damaged(storage.locate(OUTSIDE_MARK_NAME), 0, why))?;
        Ok(Some(mark).filter(|mark| mark.generation == generation))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::log::Standing;
    use crate::log::sim::SimDisk;

    #[test]
    fn a_mark_takes_the_place_of_the_one_before_and_is_read_by_its_own_log_only() {
        let disk = SimDisk::new();
        let generation = Generation { counter: 3, random: 7 };
        let mark = OutsideMark { generation, before: None, standing: Standing::Superseded(None) };
        assert_eq!(OutsideMark::read(&disk, generation).unwrap(), None);
        OutsideMark::remove(&disk).unwrap();
        let another = Generation { counter: 4, ..generation };
        OutsideMark { generation: another, ..mark.clone() }.write(&disk).unwrap();
        assert_eq!(OutsideMark::read(&disk, generation).unwrap(), None);
        mark.write(&disk).unwrap();
        assert_eq!(OutsideMark::read(&disk, generation).unwrap(), Some(mark));
        assert_eq!(OutsideMark::read(&disk, another).unwrap(), None);
        OutsideMark::remove(&disk).unwrap();
        assert_eq!(OutsideMark::read(&disk, generation).unwrap(), None);
    }
}
