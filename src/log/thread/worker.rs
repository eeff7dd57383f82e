//! The writer thread.
//!
//! All that waits when the thread is free becomes one frame and one sync (group commit): the slower the disk, the more
//! commands share a sync.

use super::files::{Answer, Task};
use super::published::Published;
use super::statistics::Statistics;
use crate::log::error::LogError;
use crate::log::format::standing::Standing;
use crate::log::lsn::Lsn;
use crate::log::storage::Storage;
use crate::log::write::{Batch, Folder, LogWriter, PreparedBase};
use crossbeam::channel::{Receiver, Sender};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

/// Waiting batches are joined to frames of about this size; a single batch may be larger.
const FRAME_BYTES_MAX: usize = 8 << 20;
/// Larger buffers are given back to the allocator.
const SPARE_BUFFER_BYTES_MAX: usize = 1 << 20;

pub(super) type OnDurable = Box<dyn FnMut(Lsn) + Send>;
pub(super) type OnError = Box<dyn FnMut(&LogError) + Send>;

pub(super) enum Message {
    Batch(Handed),
    /// Begin a segment here.
    Cut,
    NameBase(PreparedBase, Answer),
    Publish,
    /// The other thread did.
    Panicked(LogError),
    Close(Standing),
}

/// A batch on its way to the writer thread: whole units.
pub(super) struct Handed {
    pub start: Lsn,
    pub payload: Vec<u8>,
    pub unix_ms: u64,
}

pub(super) struct Worker<S: Storage> {
    writer: LogWriter<S>,
    receiver: Receiver<Message>,
    spares: Sender<Vec<u8>>,
    /// Where waiting batches become one payload.
    joined: Vec<u8>,
    published: Arc<Published>,
    statistics: Arc<Statistics>,
    files: Sender<Task>,
    on_durable: OnDurable,
    on_error: OnError,
}

/// What a caught panic said.
pub(super) fn panic_error(panic: &(dyn Any + Send)) -> LogError {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    LogError::Panicked { what: text.unwrap_or("(no text)").to_string() }
}

impl<S: Storage> Worker<S> {
    pub fn new(
        writer: LogWriter<S>,
        receiver: Receiver<Message>,
        spares: Sender<Vec<u8>>,
        published: Arc<Published>,
        files: Sender<Task>,
        on_durable: OnDurable,
        on_error: OnError,
    ) -> Worker<S> {
        let (joined, statistics) = (Vec::new(), writer.statistics());
        Worker { writer, receiver, spares, joined, published, statistics, files, on_durable, on_error }
    }

    /// The thread. A panic (a broken invariant) must not end it in silence while others wait for positions.
    pub fn main(mut self) -> Result<Folder<S>, LogError> {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.run()));
        let outcome = outcome.unwrap_or_else(|panic| Err(panic_error(&*panic)));
        let published = Arc::clone(&self.published);
        let outcome = match outcome {
            Ok(()) => Ok(self.writer.into_folder()),
            Err(LogError::Failed(first)) => {
                // Contained, because the closed flag must be set in any case.
                let _ = catch_unwind(AssertUnwindSafe(|| self.report(&first)));
                Err(LogError::Failed(first))
            }
            Err(error) => {
                let error = Arc::new(error);
                let _ = catch_unwind(AssertUnwindSafe(|| self.report(&error)));
                Err(LogError::Failed(error))
            }
        };
        published.set_closed();
        outcome
    }

    /// Handles messages until the close. After a failure it goes on answering.
    fn run(&mut self) -> Result<(), LogError> {
        let (mut carried, mut standing) = (None, Standing::Current);
        let mut group = Vec::new();
        while let Some(message) = carried.take().or_else(|| self.receiver.recv().ok()) {
            match message {
                Message::Batch(first) => {
                    carried = self.gather(first, &mut group);
                    // Whoever waits for the position learns of a failure from what is published.
                    let _ = self.flush(&mut group);
                }
                Message::Cut => {
                    drop(self.writer.cut());
                    let _ = self.files.send(Task::Remove(self.writer.take_leftovers(), None));
                }
                Message::NameBase(base, answer) => {
                    let outcome = self.writer.name_base(base);
                    // The thread is there as long as this one.
                    let _ = self.files.send(Task::Remove(self.writer.take_leftovers(), Some((answer, outcome))));
                }
                Message::Publish => {}
                Message::Panicked(error) => self.report(&Arc::new(error)),
                Message::Close(as_what) => {
                    standing = as_what;
                    break;
                }
            }
            if let Some(first) = self.writer.failure().cloned() {
                self.report(&first);
            }
            if let Some(durable) = self.published.publish() {
                (self.on_durable)(durable);
            }
        }
        self.writer.finish(standing)
    }

    /// Takes what waits behind a batch, up to a size; returns a message that is no batch.
    fn gather(&self, first: Handed, group: &mut Vec<Handed>) -> Option<Message> {
        let mut bytes = first.payload.len();
        group.push(first);
        while bytes < FRAME_BYTES_MAX {
            match self.receiver.try_recv() {
                Ok(Message::Batch(next)) => {
                    bytes += next.payload.len();
                    group.push(next);
                }
                Ok(other) => return Some(other),
                Err(_) => return None,
            }
        }
        None
    }

    /// Writes and syncs a group as one frame.
    fn flush(&mut self, group: &mut Vec<Handed>) -> Result<(), LogError> {
        let (Some(first), Some(last)) = (group.first(), group.last()) else {
            return Ok(());
        };
        // The time of the frame is the time of its last batch: all of it had happened by then.
        let (start, unix_ms) = (first.start, last.unix_ms);
        let payload = if group.len() == 1 {
            &first.payload
        } else {
            self.joined.clear();
            for handed in group.iter() {
                assert_eq!(handed.start, start.advance(self.joined.len() as u64), "batches must be contiguous");
                self.joined.extend_from_slice(&handed.payload);
            }
            &self.joined
        };
        let appended = self.writer.append(Batch { start, payload, unix_ms });
        self.recycle(group);
        let appended = appended?;
        let began = Instant::now();
        let flushed = self.writer.sync()?;
        self.statistics.time_sync(began.elapsed().as_micros() as u64);
        assert_eq!(flushed, appended, "a sync covers all that was written");
        self.published.set_flushed(flushed);
        Ok(())
    }

    fn recycle(&mut self, group: &mut Vec<Handed>) {
        for Handed { mut payload, .. } in group.drain(..) {
            if payload.capacity() <= SPARE_BUFFER_BYTES_MAX {
                payload.clear();
                // Enough buffers wait already where there is no room.
                let _ = self.spares.try_send(payload);
            }
        }
        if self.joined.capacity() > 2 * FRAME_BYTES_MAX {
            self.joined = Vec::new();
        }
    }

    fn report(&mut self, error: &Arc<LogError>) {
        if self.published.fail(Arc::clone(error)) {
            (self.on_error)(error);
        }
    }
}
