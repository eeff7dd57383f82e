//! Making frames durable, several flushes at a time.
//!
//! A flush vouches for what was written before it began. Whether that is durable follows from its own success and that
//! of all flushes before it: a disk may finish a later one first, and a failed one may have lost what an earlier one
//! relies on.

use super::direct::Blocks;
use crate::log::error::LogError;
use crate::log::format::names::segment_name;
use crate::log::lsn::Lsn;
use crate::log::storage::{Storage, StorageFile};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A flush that was begun by [`super::LogWriter::begin_flush`]. Any thread may run it, while frames are written and
/// other flushes run; its outcome goes to [`super::LogWriter::end_flush`].
///
/// It has an opening of the file to itself: the system reports an error of writing back once per opening, so of two
/// flushes with one opening the later could get the error for what the earlier lost.
#[derive(Debug)]
#[must_use = "nothing is durable before the flush was run and ended"]
pub struct Flush<F> {
    pub(super) number: u64,
    pub(super) segment: u64,
    pub(super) file: F,
    pub(super) shown: Arc<str>,
    pub(super) bytes: u64,
    /// Of the file, with what was written ahead.
    pub(super) extent: Extent,
    pub(super) end: Lsn,
    /// What it writes itself, past the page cache.
    pub(super) blocks: Option<Blocks>,
}

impl<F: StorageFile> Flush<F> {
    /// Syncs the file, or writes its blocks durably, and checks whether it is still the one that a start will find.
    pub fn run<S: Storage<File = F>>(&mut self, storage: &S) -> Result<(), LogError> {
        if self.blocks.as_ref().is_some_and(|blocks| self.extent.is_reached_by(blocks.end())) {
            look(&self.file, &self.shown, &self.extent)?;
        }
        match &self.blocks {
            None => self.file.sync_data().map_err(|source| LogError::io("sync", &*self.shown, source))?,
            Some(blocks) => {
                blocks.write(&mut self.file).map_err(|source| LogError::io("write", &*self.shown, source))?;
            }
        }
        check_place(storage, (&segment_name(self.segment), &self.shown), &self.file, &self.extent)
    }
}

/// How many bytes the file of a segment must have. All who look at the file share what was found: where somebody has
/// cut it, the next write may give it its length back, with zeros in the place of frames.
#[derive(Clone, Debug)]
pub(super) struct Extent {
    pub bytes: u64,
    seen: Arc<Seen>,
}

/// What is known of a file since its extent was stated.
#[derive(Debug)]
struct Seen {
    /// Somebody has cut it.
    was_cut: AtomicBool,
    /// The log itself has cut it to this many bytes.
    own_bytes: AtomicU64,
}

impl Extent {
    pub fn new(bytes: u64) -> Extent {
        Extent::after(bytes, false)
    }

    fn after(bytes: u64, was_cut: bool) -> Extent {
        let (was_cut, own_bytes) = (AtomicBool::new(was_cut), AtomicU64::new(u64::MAX));
        Extent { bytes, seen: Arc::new(Seen { was_cut, own_bytes }) }
    }

    /// The log is about to cut the file to so many bytes: flushes under way don't miss what goes. Returns what the file
    /// must have from here on.
    pub fn cut(&self, bytes: u64) -> Extent {
        self.seen.own_bytes.fetch_min(bytes, Ordering::AcqRel);
        Extent::after(bytes, self.seen.was_cut.load(Ordering::Acquire))
    }

    /// The same file's, where it must have only so many.
    pub fn with(&self, bytes: u64) -> Extent {
        Extent { bytes, ..self.clone() }
    }

    /// Whether a write up to this offset would hide that the file was cut.
    pub fn is_reached_by(&self, end: u64) -> bool {
        end >= self.bytes
    }

    /// Whether nobody has cut the file, which has this many bytes now.
    fn is_whole(&self, found_bytes: u64) -> bool {
        if found_bytes < self.bytes.min(self.seen.own_bytes.load(Ordering::Acquire)) {
            self.seen.was_cut.store(true, Ordering::Release);
        }
        !self.seen.was_cut.load(Ordering::Acquire)
    }
}

/// Looks whether a file still has all its bytes, before a write that reaches its end. The write is done all the same,
/// as it proves to a start that frames before it were there; the check after its flush says what was found here.
pub(super) fn look<F: StorageFile>(file: &F, shown: &str, extent: &Extent) -> Result<(), LogError> {
    let status = file.status().map_err(|source| LogError::io("measure", shown, source))?;
    extent.is_whole(status.bytes);
    Ok(())
}

/// Checks whether the file that a start will find by this name, which people see as `shown`, is this one, with all its
/// bytes.
pub(super) fn check_place<S: Storage>(
    storage: &S,
    (name, shown): (&str, &str),
    file: &S::File,
    extent: &Extent,
) -> Result<(), LogError> {
    let taken_away = |why| Err(LogError::TakenAway { file: shown.to_string(), why });
    match storage.status_of(name, file).map_err(|source| LogError::io("measure", shown, source))? {
        None => taken_away("the file was removed, moved away or replaced"),
        Some(status) if !extent.is_whole(status.bytes) => taken_away("the file was cut"),
        Some(_) => Ok(()),
    }
}

/// The flushes that have begun, in their order.
#[derive(Debug, Default)]
pub(super) struct Flights {
    flights: VecDeque<Flight>,
    begun: u64,
}

#[derive(Debug)]
struct Flight {
    number: u64,
    reach: Reach,
    has_succeeded: bool,
}

/// How far a flush vouches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reach {
    /// The number of the segment.
    pub segment: u64,
    /// Bytes of its file.
    pub bytes: u64,
    /// The position.
    pub end: Lsn,
}

impl Flights {
    pub fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }

    /// The number of the next flush.
    pub fn next_number(&self) -> u64 {
        self.begun
    }

    /// Forgets the flushes under way: none of them counts.
    pub fn give_up(&mut self) {
        self.flights.clear();
    }

    /// The end of what the flushes under way vouch for, if there are any.
    pub fn end(&self) -> Option<Lsn> {
        self.flights.back().map(|flight| flight.reach.end)
    }

    pub fn begin<F>(&mut self, flush: &Flush<F>) {
        assert_eq!(flush.number, self.begun, "flushes begin one after the other");
        self.begun += 1;
        let reach = Reach { segment: flush.segment, bytes: flush.bytes, end: flush.end };
        self.flights.push_back(Flight { number: flush.number, reach, has_succeeded: false });
    }

    /// Notes a success; returns how far everything is durable now, if that has moved.
    pub fn succeed(&mut self, number: u64) -> Option<Reach> {
        let flight = self.flights.iter_mut().find(|flight| flight.number == number);
        match flight {
            Some(flight) => flight.has_succeeded = true,
            None => unreachable!("a flush ends once"),
        }
        let mut reached = None;
        while let Some(first) = self.flights.front().filter(|first| first.has_succeeded) {
            reached = Some(first.reach);
            self.flights.pop_front();
        }
        reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flights(count: u64) -> Flights {
        let mut flights = Flights::default();
        for number in 0..count {
            let (bytes, end) = (100 + 10 * number, Lsn::new(10 * number));
            let (extent, shown) = (Extent::new(bytes), "x".into());
            flights.begin(&Flush { number, segment: 1, file: (), shown, bytes, extent, end, blocks: None });
        }
        flights
    }

    #[test]
    fn what_is_durable_moves_in_order_only() {
        let mut flights = flights(4);
        let reach = |number: u64| Some(Reach { segment: 1, bytes: 100 + 10 * number, end: Lsn::new(10 * number) });
        assert_eq!(flights.end(), Some(Lsn::new(30)));
        assert_eq!(flights.succeed(2), None);
        assert_eq!(flights.succeed(1), None);
        assert_eq!(flights.succeed(0), reach(2));
        assert!(!flights.is_empty());
        assert_eq!(flights.succeed(3), reach(3));
        assert!(flights.is_empty());
    }
}
