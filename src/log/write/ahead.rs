//! Segments written ahead.
//!
//! A flush of bytes that overwrite others is quicker than one of bytes that make a file longer, because the file system
//! has nothing to note. So the next segment is filled with zeros before it is needed, off the path of the frames.
//!
//! It never takes room that the log and others need more: as much again as it takes stays free, besides what a base
//! that is being written may need; and it takes none during a shortage.
//!
//! What if it crashes here: a file of zeros that no manifest names is a segment without frames, which the next start
//! removes. Once it has its header it is like any new segment, and the zeros after its frames are unused space.

use super::expendable::Expendable;
use crate::lock::lock;
use crate::log::error::LogError;
use crate::log::format::names::segment_name;
use crate::log::storage::{Storage, StorageFile, failed};
use std::io::{self, ErrorKind};
use std::sync::{Mutex, MutexGuard};

/// Small enough that a flush of frames does not wait long for it.
const PIECE_BYTES: u64 = 256 << 10;

/// A file of zeros ends at a page's end, so that no part of a page is overwritten past the cache while the cache writes
/// another.
pub(super) const PAGE_BYTES: u64 = 4096;

/// A file of zeros, durable, that becomes the next segment.
#[derive(Debug)]
pub(crate) struct Ahead<F> {
    pub seq: u64,
    pub file: F,
    /// An opening for flushes.
    pub again: F,
    pub bytes: u64,
    /// The blocks in which it is written past the page cache.
    pub direct_block_bytes: Option<u64>,
}

/// What is to be written ahead.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WantedAhead {
    pub seq: u64,
    pub bytes: u64,
    /// See [`Ahead`].
    pub direct_block_bytes: Option<u64>,
}

/// Hands a segment from the thread that writes it ahead to the log.
#[derive(Debug)]
pub(crate) struct AheadSlot<F>(Mutex<Slot<F>>);

#[derive(Debug)]
enum Slot<F> {
    Empty,
    /// One is being written.
    Wanted,
    Ready(Ahead<F>),
}

impl<F> AheadSlot<F> {
    pub fn new() -> AheadSlot<F> {
        AheadSlot(Mutex::new(Slot::Empty))
    }

    fn slot(&self) -> MutexGuard<'_, Slot<F>> {
        lock(&self.0)
    }

    /// What became of the segment that was wanted.
    pub fn give(&self, ahead: Option<Ahead<F>>) {
        *self.slot() = ahead.map_or(Slot::Empty, Slot::Ready);
    }

    /// Takes the segment, if it is ready.
    pub fn take(&self) -> Option<Ahead<F>> {
        let mut slot = self.slot();
        match std::mem::replace(&mut *slot, Slot::Empty) {
            Slot::Ready(ahead) => Some(ahead),
            other => {
                *slot = other;
                None
            }
        }
    }

    /// Notes that a segment is wanted; `false` when one is already.
    pub fn want(&self) -> bool {
        let mut slot = self.slot();
        let is_empty = matches!(*slot, Slot::Empty);
        if is_empty {
            *slot = Slot::Wanted;
        }
        is_empty
    }
}

/// A segment that is being written ahead, by any thread, which can do more urgent work between its pieces.
#[derive(Debug)]
pub(crate) struct AheadJob<F> {
    wanted: WantedAhead,
    name: String,
    file: F,
    at: u64,
}

/// What came of a piece.
pub(crate) enum AheadStep<F> {
    /// There are more to write.
    More(AheadJob<F>),
    /// The segment is ready.
    Done(Ahead<F>),
}

impl<F: StorageFile> AheadJob<F> {
    /// Creates the file. The log may take its room before it is used.
    pub fn begin<S: Storage<File = F>>(
        storage: &S,
        expendable: &Expendable<S>,
        wanted: WantedAhead,
    ) -> Result<AheadJob<F>, LogError> {
        let name = segment_name(wanted.seq);
        let file = storage.create(&name).map_err(failed(storage, "create", &name))?;
        expendable.add_ahead(&name);
        Ok(AheadJob { wanted, name, file, at: 0 })
    }

    /// Writes the next piece, while there is room for the rest and a segment more. Where that fails the file is
    /// removed.
    pub fn step<S: Storage<File = F>>(
        mut self,
        storage: &S,
        expendable: &Expendable<S>,
    ) -> Result<AheadStep<F>, LogError> {
        let WantedAhead { seq, bytes, .. } = self.wanted;
        let mut done = || {
            if expendable.is_void(&self.name) {
                return Err(LogError::Closed);
            }
            if expendable.is_short_of_room() {
                return Err(failed(storage, "write ahead", &self.name)(ErrorKind::StorageFull.into()));
            }
            self.write_piece(storage, expendable.owed_to_base())?;
            if self.at < bytes {
                return Ok(None);
            }
            storage.sync_dir().map_err(failed(storage, "sync the folder of", &self.name))?;
            self.open_again(storage).map(Some).map_err(failed(storage, "open", &self.name))
        };
        match done() {
            Ok(None) => Ok(AheadStep::More(self)),
            Ok(Some((again, direct_block_bytes))) => {
                Ok(AheadStep::Done(Ahead { seq, file: self.file, again, bytes, direct_block_bytes }))
            }
            Err(error) => {
                self.give_up(expendable);
                Err(error)
            }
        }
    }

    /// An opening for flushes, and the blocks that they write past the page cache, where the file system can.
    fn open_again<S: Storage<File = F>>(&self, storage: &S) -> io::Result<(F, Option<u64>)> {
        if let Some(block_bytes) = self.wanted.direct_block_bytes
            && let Ok(again) = storage.reopen_direct(&self.name, &self.file)
        {
            return Ok((again, Some(block_bytes)));
        }
        Ok((storage.reopen(&self.name, &self.file)?, None))
    }

    fn write_piece<S: Storage<File = F>>(&mut self, storage: &S, owed: u64) -> Result<(), LogError> {
        let (name, rest) = (&self.name, self.wanted.bytes - self.at);
        let free_bytes = storage.free_bytes().map_err(failed(storage, "look for room for", name))?;
        if free_bytes < rest.saturating_add(self.wanted.bytes).saturating_add(owed) {
            return Err(failed(storage, "write ahead", name)(ErrorKind::StorageFull.into()));
        }
        let zeros = vec![0; rest.min(PIECE_BYTES) as usize];
        self.file.write_all_at(self.at, &zeros).map_err(failed(storage, "write", name))?;
        self.file.sync_data().map_err(failed(storage, "sync", name))?;
        self.at += zeros.len() as u64;
        Ok(())
    }

    /// Removes what is there.
    pub fn give_up<S: Storage<File = F>>(self, expendable: &Expendable<S>) {
        drop(self.file);
        expendable.remove(&[self.name]);
    }
}
