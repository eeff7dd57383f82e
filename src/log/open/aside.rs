//! The torn end of a log is kept aside before it is cut: it was never acknowledged, but it may be all that is left of
//! somebody's data.
//!
//! It is copied if there is room for all of it. If not, because it may be as large as what waits for the disk at a
//! time, it is moved in parts, the last one first: each is in a file of its own before the segment becomes shorter by
//! it, so that a crash leaves every byte in one or the other. What is left of the segment's end is torn as before, at
//! the same place, and the next start goes on with it. A part for which there is no room is given up, because it was
//! never acknowledged, and the next one gets its room: a start never fails for lack of room that such bytes hold. There
//! are few parts, because each takes three syncs.

use super::opened::{Opened, Segment};
use super::prepare::{COPY_BYTES, shorter};
use super::scan::Scan;
use crate::log::error::LogError;
use crate::log::format::manifest::create_anew;
use crate::log::format::names::{NEXT_CUT_NAME, OwnName, cut_name};
use crate::log::storage::{Storage, StorageFile, failed};
use crate::log::write::remove_oldest_kept;
use std::collections::BTreeSet;
use std::ops::Range;

/// Segments whose cut ends are kept aside, besides the newest.
const OLDER_CUTS_KEPT: usize = 3;

/// With less room nothing is moved.
const PART_BYTES_MIN: u64 = 4096;

/// An end is moved in about this many parts at most, however little room there is.
const PARTS_MAX: u64 = 64;

/// At most this many parts give way to the next segment and manifest, which take far less.
const PARTS_FOR_NEXT: u64 = 2;

/// What a crash left after the last frame of a segment.
pub(super) struct TornEnd {
    seq: u64,
    name: String,
    /// What of it is in the segment.
    range: Range<u64>,
    /// No part but the last is smaller.
    part_bytes_min: u64,
    /// Segments whose ends earlier starts have kept.
    older: Vec<u64>,
    /// Bytes for which there was no room.
    pub given_up_bytes: u64,
}

impl TornEnd {
    fn of(segment: &Segment, scan: &Scan) -> TornEnd {
        let range = scan.bytes..scan.used_bytes;
        let part_bytes_min = ((range.end - range.start) / PARTS_MAX).max(PART_BYTES_MIN);
        let (seq, name) = (segment.seq, segment.name.clone());
        TornEnd { seq, name, range, part_bytes_min, older: Vec::new(), given_up_bytes: 0 }
    }

    fn last_part(&self, bytes: u64) -> Range<u64> {
        self.range.end.saturating_sub(bytes).max(self.range.start)..self.range.end
    }
}

impl<S: Storage> Opened<S> {
    /// The end that is to be cut, if there is one. Of those that earlier starts have kept, all but the newest are
    /// removed.
    pub(super) fn torn_end(&self) -> Result<Option<TornEnd>, LogError> {
        let Some((segment, scan)) = self.unsealed().find(|(_, scan)| scan.is_torn) else { return Ok(None) };
        let mut torn = TornEnd::of(segment, scan);
        let older: BTreeSet<u64> = self.cuts().map(|(seq, _)| seq).filter(|seq| *seq != torn.seq).collect();
        torn.older = older.iter().rev().take(OLDER_CUTS_KEPT).copied().collect();
        self.remove_cuts(|seq| seq != torn.seq && !torn.older.contains(&seq))?;
        Ok(Some(torn))
    }

    /// Makes room for what the log needs more than the torn end; `false` where the end has none to give.
    pub(super) fn make_room(&self, torn: Option<&mut TornEnd>) -> Result<bool, LogError> {
        let Some(torn) = torn else { return Ok(false) };
        let older = std::mem::take(&mut torn.older);
        if !older.is_empty() {
            self.remove_cuts(|seq| older.contains(&seq))?;
            return Ok(true);
        }
        if torn.range.is_empty() || torn.given_up_bytes >= PARTS_FOR_NEXT * torn.part_bytes_min {
            return Ok(false);
        }
        self.give_up(torn, torn.last_part(torn.part_bytes_min))?;
        Ok(true)
    }

    /// Returns the name of the copy; `None` where the end has been moved instead, or an earlier start has done either.
    pub(super) fn keep_aside(&self, torn: &mut TornEnd) -> Result<Option<String>, LogError> {
        if self.is_kept(torn, torn.range.clone())? {
            return Ok(None);
        }
        match self.copy_aside(torn, torn.range.clone()) {
            Ok(()) => Ok(Some(cut_name(torn.seq, torn.range.start))),
            Err(error) if error.is_no_room() && remove_oldest_kept(self.storage()) => self.keep_aside(torn),
            Err(error) if error.is_no_room() => {
                self.remove_cuts(|seq| torn.older.contains(&seq))?;
                self.move_aside(torn)?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn cuts(&self) -> impl Iterator<Item = (u64, u64)> {
        self.folder.present.iter().filter_map(|own| match own {
            OwnName::Cut(seq, offset) => Some((*seq, *offset)),
            _ => None,
        })
    }

    fn remove_cuts(&self, is_unwanted: impl Fn(u64) -> bool) -> Result<(), LogError> {
        self.cuts().filter(|(seq, _)| is_unwanted(*seq)).try_for_each(|(seq, offset)| {
            let (storage, old) = (self.storage(), cut_name(seq, offset));
            storage.remove(&old).map_err(failed(storage, "remove", &old))
        })
    }

    fn move_aside(&self, torn: &mut TornEnd) -> Result<(), LogError> {
        let storage = self.storage();
        while !torn.range.is_empty() {
            let free_bytes = storage.free_bytes().map_err(failed(storage, "find the room beside", &torn.name))?;
            let part = torn.last_part((free_bytes / 2).max(torn.part_bytes_min));
            let kept = if self.is_kept(torn, part.clone())? { Ok(()) } else { self.copy_aside(torn, part.clone()) };
            match kept {
                Ok(()) => {
                    storage.sync_dir().map_err(failed(storage, "sync the folder of", &torn.name))?;
                    self.cut_part(torn, &part)?;
                }
                Err(error) if error.is_no_room() => self.give_up(torn, part)?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The segment becomes shorter by its last part.
    fn cut_part(&self, torn: &mut TornEnd, part: &Range<u64>) -> Result<(), LogError> {
        let (storage, name) = (self.storage(), &torn.name);
        let mut file = storage.open_write(name).map_err(failed(storage, "open", name))?;
        file.set_len(part.start).map_err(failed(storage, "cut", name))?;
        file.sync_data().map_err(failed(storage, "sync", name))?;
        torn.range.end = part.start;
        Ok(())
    }

    fn give_up(&self, torn: &mut TornEnd, part: Range<u64>) -> Result<(), LogError> {
        self.cut_part(torn, &part)?;
        torn.given_up_bytes += part.end - part.start;
        Ok(())
    }

    /// Whether a file that would get the name of these bytes has all of them, and maybe more that are no longer in the
    /// segment.
    fn is_kept(&self, torn: &TornEnd, range: Range<u64>) -> Result<bool, LogError> {
        let (storage, name) = (self.storage(), cut_name(torn.seq, range.start));
        if !self.folder.present.contains(&OwnName::Cut(torn.seq, range.start)) {
            return Ok(false);
        }
        let segment = storage.open_read(&torn.name).map_err(failed(storage, "open", &torn.name))?;
        let kept = storage.open_read(&name).map_err(failed(storage, "open", &name))?;
        let mut buffers = [vec![0; COPY_BYTES], vec![0; COPY_BYTES]];
        let mut at = range.start;
        while at < range.end {
            let wanted = COPY_BYTES.min((range.end - at) as usize);
            let [ours, copied] = buffers.each_mut().map(|buffer| buffer.get_mut(..wanted).unwrap_or_default());
            let read = segment.read_at(at, ours).map_err(failed(storage, "read", &torn.name))?;
            let found = kept.read_at(at - range.start, copied).map_err(failed(storage, "read", &name))?;
            if read == 0 || found < read || ours.get(..read) != copied.get(..read) {
                return Ok(false);
            }
            at += read as u64;
        }
        Ok(true)
    }

    /// Copies bytes of a segment to a file that is named by the first of them, when it is whole. The name becomes
    /// durable with the next that does.
    fn copy_aside(&self, torn: &TornEnd, range: Range<u64>) -> Result<(), LogError> {
        let (storage, name) = (self.storage(), cut_name(torn.seq, range.start));
        let from = storage.open_read(&torn.name).map_err(failed(storage, "open", &torn.name))?;
        let mut to = create_anew(storage, NEXT_CUT_NAME)?;
        let mut copy = || {
            let mut buffer = vec![0; COPY_BYTES];
            let mut at = range.start;
            while at < range.end {
                let count = from.read_at(at, &mut buffer).map_err(failed(storage, "read", &torn.name))?;
                let count = count.min((range.end - at) as usize);
                let bytes = buffer.get(..count).filter(|bytes| !bytes.is_empty());
                let bytes = bytes.ok_or_else(|| shorter(storage, &torn.name, at))?;
                to.write_all_at(at - range.start, bytes).map_err(failed(storage, "write", &name))?;
                at += bytes.len() as u64;
            }
            to.sync_data().map_err(failed(storage, "sync", &name))?;
            storage.rename(NEXT_CUT_NAME, &name).map_err(failed(storage, "name", &name))
        };
        copy().inspect_err(|_| drop(storage.remove(NEXT_CUT_NAME)))
    }
}
