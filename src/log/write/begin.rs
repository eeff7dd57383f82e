//! The beginning of a log.

use super::folder::Folder;
use super::history::remove_oldest;
use super::segment::{NewSegment, Segment};
use super::writer::LogWriter;
use crate::log::error::LogError;
use crate::log::format::Generation;
use crate::log::format::manifest::{Beginning, Manifest};
use crate::log::format::standing::Standing;
use crate::log::storage::Storage;
use std::fmt;

/// What a new log begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// An empty dataset: the log exists at once.
    Empty,
    /// The dataset of a base that does not exist yet. Until it is in place the log before it, or none, stays valid.
    WaitsForBase,
}

/// A folder in which a log could not be begun.
pub struct NotBegun<S: Storage> {
    /// The folder, with the log it held before.
    pub folder: Folder<S>,
    /// Why.
    pub error: LogError,
}

impl<S: Storage> Folder<S> {
    /// Begins a new log. The one before it stays valid until the new one is visible, and is then removed. What is not
    /// part of any log is removed first, because it may hold the room.
    ///
    /// # Errors
    /// The folder comes back: what it held is unchanged, unless the last step failed, after which a start finds the old
    /// log or the new, empty one.
    pub fn begin(mut self, begin: Begin, unix_ms: u64) -> Result<LogWriter<S>, Box<NotBegun<S>>> {
        let mut begun = self.try_begin(begin, unix_ms);
        while begun.as_ref().is_err_and(LogError::is_no_room) && remove_oldest(&*self.storage) {
            begun = self.try_begin(begin, unix_ms);
        }
        match begun {
            Ok((current, log)) => Ok(LogWriter::new(self, current, log, begin == Begin::WaitsForBase, unix_ms)),
            Err(error) => Err(Box::new(NotBegun { folder: self, error })),
        }
    }

    fn try_begin(&mut self, begin: Begin, unix_ms: u64) -> Result<(Segment<S::File>, Manifest), LogError> {
        let counter = self.generation().map_or(0, |generation| generation.counter);
        let counter = counter.checked_add(1).ok_or(LogError::Refused { why: "the folder has held too many logs" })?;
        let generation = Generation { counter, random: self.random()? };
        self.remove_leftovers();
        let (first, seq) = (self.end, self.take_segment_number()?);
        let is_pending = begin == Begin::WaitsForBase;
        let new = NewSegment { seq, generation, first, unix_ms, is_pending };
        let current = Segment::create(&*self.storage, new)?;
        let segments = vec![current.named(false)];
        let log = Manifest { generation, standing: Standing::Current, beginning: Beginning::Empty(first), segments };
        if begin == Begin::Empty {
            if let Err(error) = log.write_next(&*self.storage) {
                let _ = self.storage.remove(&current.name);
                return Err(error);
            }
            let old = self.name_next(log.clone())?;
            self.log_end = first;
            self.leftovers.extend(old.iter().flat_map(Manifest::names));
        }
        Ok((current, log))
    }
}

impl<S: Storage> fmt::Debug for NotBegun<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", self.error)
    }
}
