//! The log as its threads share it, with all batches that are not durable: after an error they are written again.

use super::answer::Answer;
use super::files::Task;
use super::queue::{FRAME_BYTES_MAX, Handed, Room};
use crate::log::error::LogError;
use crate::log::lsn::Lsn;
use crate::log::storage::Storage;
use crate::log::write::{Batch, Flush, LogWriter};
use crossbeam::channel::Sender;
use std::collections::VecDeque;
use std::ops::Range;

/// Larger buffers are given back to the allocator.
const SPARE_BUFFER_BYTES_MAX: usize = 1 << 20;

/// A frame that is to be flushed, or why it was not written.
pub(super) type Written<S> = Result<Flush<<S as Storage>::File>, LogError>;

pub(super) struct Log<S: Storage> {
    pub writer: LogWriter<S>,
    /// What was handed over and is not durable, in order.
    kept: VecDeque<Handed>,
    /// The disk fails; how many tries have failed since it began to.
    failing: Option<u32>,
    /// Where waiting batches become one payload.
    joined: Vec<u8>,
    spares: Sender<Vec<u8>>,
    files: Sender<Task<S::File>>,
}

/// A try that has failed.
pub(super) struct Failure {
    pub error: LogError,
    /// Tries before it that have failed since the log has.
    pub tries: u32,
    /// No other try can succeed.
    pub is_final: bool,
}

impl<S: Storage> Log<S> {
    pub fn new(writer: LogWriter<S>, spares: Sender<Vec<u8>>, files: Sender<Task<S::File>>) -> Log<S> {
        Log { writer, kept: VecDeque::new(), failing: None, joined: Vec::new(), spares, files }
    }

    pub fn room(&mut self, is_more_wanted: bool) -> Room {
        if let Some(wanted) = self.writer.want_ahead() {
            // The thread is there as long as these.
            let _ = self.files.send(Task::WriteAhead(wanted));
        }
        Room { flushes: self.writer.openings(is_more_wanted), is_full: self.writer.is_full() }
    }

    /// Has the other thread remove what is no longer part of the log, and then report what became of a base.
    pub fn remove_leftovers(&mut self, told: Option<(Answer, Result<(), LogError>)>) {
        let names = self.writer.take_leftovers();
        if !names.is_empty() || told.is_some() {
            // The thread is there as long as these.
            let _ = self.files.send(Task::Remove(names, told));
        }
    }

    /// Writes a group as one frame; returns the flush of it.
    pub fn write(&mut self, group: &mut Vec<Handed>, overlaps: bool) -> Written<S> {
        let from = self.kept.len();
        self.kept.extend(group.drain(..));
        self.write_kept(from..self.kept.len(), overlaps)
    }

    fn write_kept(&mut self, range: Range<usize>, overlaps: bool) -> Written<S> {
        let Log { writer, kept, joined, .. } = self;
        let mut write = |batch: Batch<'_>| {
            writer.append_before(batch, overlaps)?;
            let flush = writer.begin_flush()?;
            flush.map_or_else(|| unreachable!("a turn is taken when a flush can begin"), Ok)
        };
        let mut group = kept.range(range);
        let (Some(first), last) = (group.next(), group.next_back()) else { unreachable!("a turn has a batch") };
        let Some(last) = last else {
            return write(Batch { start: first.start, payload: &first.payload, unix_ms: first.unix_ms });
        };
        // The time of the frame is the time of its last batch: all of it had happened by then.
        let (start, unix_ms) = (first.start, last.unix_ms);
        let mut payload = std::mem::take(joined);
        for handed in [first].into_iter().chain(group).chain([last]) {
            assert_eq!(handed.start, start.advance(payload.len() as u64), "batches must be contiguous");
            payload.extend_from_slice(&handed.payload);
        }
        let written = write(Batch { start, payload: &payload, unix_ms });
        if payload.capacity() <= 2 * FRAME_BYTES_MAX {
            payload.clear();
            *joined = payload;
        }
        written
    }

    /// Takes the outcome of a flush; returns the position up to which all is durable.
    pub fn end_flush(&mut self, flush: Flush<S::File>, outcome: Result<(), LogError>) -> Result<Lsn, LogError> {
        let flushed = self.writer.end_flush(flush, outcome)?;
        self.forget_durable();
        Ok(flushed)
    }

    /// Begins a segment after all that was handed over before; returns the position up to which all is durable. A base
    /// that relies on it gets the error if that fails.
    pub fn cut(&mut self) -> Result<Lsn, LogError> {
        let end = self.kept.back().map_or(self.writer.appended(), Handed::end);
        let outcome = self.writer.cut();
        if let (Err(_), Some(first)) = (&outcome, self.writer.failure().cloned()) {
            self.writer.missing_boundary = Some((end, LogError::Failing(first)));
        }
        outcome?;
        self.forget_durable();
        Ok(self.writer.durable())
    }

    /// Makes a copy of the log; also returns the position up to which all is durable.
    pub fn copy<T>(&mut self, copy: impl FnOnce(&mut LogWriter<S>) -> T) -> (Lsn, T) {
        let outcome = copy(&mut self.writer);
        self.forget_durable();
        (self.writer.durable(), outcome)
    }

    pub fn has_failed(&self) -> bool {
        self.writer.failure().is_some()
    }

    /// The log has failed: whether that begins now; `None` where it is final.
    pub fn begins_to_fail(&mut self) -> Option<bool> {
        if !self.writer.can_go_on() {
            return None;
        }
        let begins = self.failing.is_none();
        self.failing.get_or_insert(0);
        Some(begins)
    }

    /// Goes on elsewhere: all that is kept is written again, and flushed. Returns the position up to which all is
    /// durable, even if that fails.
    pub fn try_again(&mut self) -> (Lsn, Result<(), Failure>) {
        let outcome = self.write_again();
        self.forget_durable();
        let flushed = self.writer.durable();
        let Err(error) = outcome else {
            self.failing = None;
            return (flushed, Ok(()));
        };
        let is_final = self.has_failed() && !self.writer.can_go_on();
        let tries = self.failing.unwrap_or(0);
        self.failing = Some(tries.saturating_add(1));
        (flushed, Err(Failure { error, tries, is_final }))
    }

    fn write_again(&mut self) -> Result<(), LogError> {
        let storage = self.writer.storage();
        self.writer.go_on()?;
        let mut from = 0;
        while from < self.kept.len() {
            let (mut end, mut bytes) = (from, 0);
            while let Some(next) = self.kept.get(end).filter(|_| end == from || bytes < FRAME_BYTES_MAX) {
                bytes += next.payload.len();
                end += 1;
            }
            let mut flush = self.write_kept(from..end, false)?;
            let outcome = flush.run(&*storage);
            self.writer.end_flush(flush, outcome)?;
            from = end;
        }
        Ok(())
    }

    /// Gives the buffers of what is durable back to the producer.
    fn forget_durable(&mut self) {
        let durable = self.writer.durable();
        while self.kept.front().is_some_and(|first| first.end() <= durable)
            && let Some(Handed { mut payload, .. }) = self.kept.pop_front()
        {
            if payload.capacity() <= SPARE_BUFFER_BYTES_MAX {
                payload.clear();
                // If there is no room, enough buffers wait already.
                let _ = self.spares.try_send(payload);
            }
        }
    }
}
