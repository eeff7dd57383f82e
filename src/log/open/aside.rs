//! The torn end of a log is kept aside before it is cut: nobody was told of it, but it may be all that there is of
//! somebody's data.
//!
//! It is copied as long as there is room for all of it. Where there is not, as it may be as large as what waits for the
//! disk at a time, it is moved in parts, the last one first: each is in a file of its own before the segment becomes
//! shorter by it, so that a crash leaves every byte in the one or the other. What is left of the segment's end is torn
//! as before, at the same place, and the next start goes on with it.

use super::prepare::{COPY_BYTES, shorter};
use super::scan::Scan;
use super::{Opened, Segment};
use crate::log::error::LogError;
use crate::log::format::manifest::create_anew;
use crate::log::format::names::{NEXT_CUT_NAME, OwnName, cut_name};
use crate::log::storage::{Storage, StorageFile, failed};
use std::collections::BTreeSet;
use std::ops::Range;

/// Segments whose cut ends are kept aside, besides the newest.
const OLDER_CUTS_KEPT: usize = 3;

/// With less room the end is not moved.
const PART_BYTES_MIN: u64 = 4096;

impl<S: Storage> Opened<S> {
    /// Returns the name of the copy; `None` where the end has been moved instead.
    pub(super) fn keep_aside(&self, last: &Segment, scan: &Scan) -> Result<Option<String>, LogError> {
        let cut_segments: BTreeSet<u64> = self.cuts().map(|(seq, _)| seq).filter(|seq| *seq != last.seq).collect();
        let kept: Vec<u64> = cut_segments.iter().rev().take(OLDER_CUTS_KEPT).copied().collect();
        self.remove_cuts(|seq| seq != last.seq && !kept.contains(&seq))?;
        let name = cut_name(last.seq, scan.bytes);
        match self.copy_aside(last, scan.bytes..scan.used_bytes) {
            Ok(()) => Ok(Some(name)),
            Err(error) if error.is_no_room() => {
                self.remove_cuts(|seq| kept.contains(&seq))?;
                self.move_aside(last, scan)?;
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

    fn move_aside(&self, last: &Segment, scan: &Scan) -> Result<(), LogError> {
        let (storage, name) = (self.storage(), &last.name);
        let mut file = storage.open_write(name).map_err(failed(storage, "open", name))?;
        let mut end = scan.used_bytes;
        while end > scan.bytes {
            let free_bytes = storage.free_bytes().map_err(failed(storage, "find the room beside", name))?;
            let begin = end.saturating_sub((free_bytes / 2).max(PART_BYTES_MIN)).max(scan.bytes);
            self.copy_aside(last, begin..end)?;
            storage.sync_dir().map_err(failed(storage, "sync the folder of", name))?;
            file.set_len(begin).map_err(failed(storage, "cut", name))?;
            file.sync_data().map_err(failed(storage, "sync", name))?;
            end = begin;
        }
        Ok(())
    }

    /// Copies bytes of a segment to a file that is named by the first of them, when it is whole. The name becomes
    /// durable with the next that does.
    fn copy_aside(&self, segment: &Segment, range: Range<u64>) -> Result<(), LogError> {
        let (storage, name) = (self.storage(), cut_name(segment.seq, range.start));
        let from = storage.open_read(&segment.name).map_err(failed(storage, "open", &segment.name))?;
        let mut to = create_anew(storage, NEXT_CUT_NAME)?;
        let mut copy = || {
            let mut buffer = vec![0; COPY_BYTES];
            let mut at = range.start;
            while at < range.end {
                let count = from.read_at(at, &mut buffer).map_err(failed(storage, "read", &segment.name))?;
                let count = count.min((range.end - at) as usize);
                let bytes = buffer.get(..count).filter(|bytes| !bytes.is_empty());
                let bytes = bytes.ok_or_else(|| shorter(storage, &segment.name, at))?;
                to.write_all_at(at - range.start, bytes).map_err(failed(storage, "write", &name))?;
                at += bytes.len() as u64;
            }
            to.sync_data().map_err(failed(storage, "sync", &name))?;
            storage.rename(NEXT_CUT_NAME, &name).map_err(failed(storage, "name", &name))
        };
        copy().inspect_err(|_| drop(storage.remove(NEXT_CUT_NAME)))
    }
}
