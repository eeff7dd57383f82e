//! The writer threads.
//!
//! All that waits when a thread has the turn becomes one frame and one flush (group commit): the slower the disk, the
//! more commands share a flush. How many flushes are under way at a time follows from how long they take.

use super::files::{Answer, Task};
use super::published::Published;
use super::queue::{By, FRAME_BYTES_MAX, Handed, Message, Queue, Room, Turn};
use super::statistics::Statistics;
use crate::log::error::LogError;
use crate::log::format::standing::Standing;
use crate::log::lsn::Lsn;
use crate::log::storage::Storage;
use crate::log::write::{Batch, Flush, Folder, LogWriter, PreparedBase};
use crossbeam::channel::Sender;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

/// Larger buffers are given back to the allocator.
const SPARE_BUFFER_BYTES_MAX: usize = 1 << 20;

/// A flush that takes this many times as long as `OVERLAP_EVERY_US` is worth that many more.
const OVERLAP_EVERY_US: u64 = 100;
/// The most flushes that are ever under way.
pub(super) const IN_FLIGHT_MAX: usize = 16;

pub(super) type OnDurable = Box<dyn FnMut(Lsn) + Send>;
pub(super) type OnError = Box<dyn FnMut(&LogError) + Send>;

/// What the writer threads share.
pub(super) struct Worker<S: Storage> {
    pub queue: Arc<Queue>,
    pub published: Arc<Published>,
    storage: Arc<S>,
    statistics: Arc<Statistics>,
    spares: Sender<Vec<u8>>,
    /// Fixed by the settings; `None` where it follows from the duration of flushes.
    in_flight_max: Option<usize>,
    /// Whoever has the turn, and whoever ends a flush. Gone when the log is closed.
    log: Mutex<Option<Log<S>>>,
    callbacks: Mutex<Callbacks>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    outcome: Mutex<Option<Result<Folder<S>, LogError>>>,
}

/// A frame that is to be flushed, or why it was not written.
pub(super) type Written<S> = Result<Flush<<S as Storage>::File>, LogError>;

struct Log<S: Storage> {
    writer: LogWriter<S>,
    /// Where waiting batches become one payload.
    joined: Vec<u8>,
    files: Sender<Task>,
}

struct Callbacks {
    on_durable: OnDurable,
    on_error: OnError,
}

/// What a caught panic said.
pub(super) fn panic_error(panic: &(dyn Any + Send)) -> LogError {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    LogError::Panicked { what: text.unwrap_or("(no text)").to_string() }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: Storage> Worker<S> {
    pub fn new(
        writer: LogWriter<S>,
        queue: Arc<Queue>,
        spares: Sender<Vec<u8>>,
        files: Sender<Task>,
        (on_durable, on_error): (OnDurable, OnError),
    ) -> Worker<S> {
        Worker {
            queue,
            published: Arc::new(Published::new(writer.appended())),
            storage: writer.storage(),
            statistics: writer.statistics(),
            spares,
            in_flight_max: writer.in_flight_max(),
            log: Mutex::new(Some(Log { writer, joined: Vec::new(), files })),
            callbacks: Mutex::new(Callbacks { on_durable, on_error }),
            threads: Mutex::default(),
            outcome: Mutex::default(),
        }
    }

    /// Starts a thread.
    pub fn spawn(self: &Arc<Worker<S>>) -> std::io::Result<()> {
        let worker = Arc::clone(self);
        let mut threads = lock(&self.threads);
        threads.push(std::thread::Builder::new().name("wbl-writer".into()).spawn(move || worker.main())?);
        Ok(())
    }

    /// Waits for the end of all threads, which a close or a panic brings about.
    pub fn join(&self) -> Result<Folder<S>, LogError> {
        // A thread adds another one before it ends itself.
        while let Some(thread) = { lock(&self.threads).pop() } {
            // It catches its own panics.
            let _ = thread.join();
        }
        // What a failure has left gives up its lock.
        drop(lock(&self.log).take());
        lock(&self.outcome).take().unwrap_or_else(|| Err(self.published.end_error()))
    }

    /// A thread. A panic (a broken invariant) must not end it in silence while others wait for positions.
    fn main(self: Arc<Worker<S>>) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.run())) {
            let error = Arc::new(panic_error(&*panic));
            // Contained, because all must end in any case.
            let _ = catch_unwind(AssertUnwindSafe(|| self.report(&error)));
            self.end(Err(LogError::Failed(error)));
        }
    }

    fn end(&self, outcome: Result<Folder<S>, LogError>) {
        lock(&self.outcome).get_or_insert(outcome);
        self.queue.end();
        self.published.set_closed();
    }

    /// Takes turns until the end. After a failure it goes on answering.
    fn run(self: &Arc<Worker<S>>) {
        let mut group = Vec::new();
        while let Some(turn) = self.queue.take_turn(&mut group) {
            match turn {
                Turn::Write { is_more_wanted, overlaps } => self.commit(&mut group, is_more_wanted, overlaps),
                Turn::Handle(Message::Close(standing)) => return self.close(standing),
                Turn::Handle(message) => {
                    self.handle(message);
                    self.queue.give_turn(self.with_log(|log| log.room(false)));
                }
            }
        }
    }

    fn with_log<T>(&self, step: impl FnOnce(&mut Log<S>) -> T) -> T {
        match &mut *lock(&self.log) {
            Some(log) => step(log),
            None => unreachable!("the log is there until all threads have ended"),
        }
    }

    /// Writes a group as one frame, gives the turn away, flushes and publishes.
    fn commit(self: &Arc<Worker<S>>, group: &mut Vec<Handed>, is_more_wanted: bool, overlaps: bool) {
        let (written, wants_thread) = self.begin_commit(group, is_more_wanted, overlaps);
        if wants_thread {
            // With fewer threads fewer flushes overlap.
            let _ = self.spawn();
        }
        self.end_commit(written, By::Log);
    }

    /// Writes a group as one frame, and gives the turn away; returns whether nobody would take the next one, too.
    fn begin_commit(&self, group: &mut Vec<Handed>, is_more_wanted: bool, overlaps: bool) -> (Written<S>, bool) {
        let (written, room) = self.with_log(|log| {
            let written = log.write(group, overlaps);
            (written, log.room(is_more_wanted))
        });
        let wants_thread = self.queue.give_turn(room);
        self.recycle(group);
        (written, wants_thread)
    }

    /// Flushes and publishes.
    pub fn end_commit(&self, written: Written<S>, by: By) {
        let flushed = written.and_then(|mut flush| {
            let began = Instant::now();
            let outcome = flush.run(&*self.storage);
            let duration_us = began.elapsed().as_micros() as u64;
            self.with_log(|log| {
                if outcome.is_ok() {
                    self.statistics.time_sync(duration_us);
                }
                log.writer.end_flush(flush, outcome)
            })
        });
        match flushed {
            Ok(flushed) => self.publish(flushed),
            Err(error) => self.report_failure(error),
        }
        self.queue.flushed(self.in_flight_max(), by);
    }

    /// Takes the next turn without a thread, up to the flush; `None` when there is nothing to do now.
    pub fn step(&self) -> Option<Option<Written<S>>> {
        let mut group = Vec::new();
        match self.queue.try_turn(&mut group)? {
            Turn::Write { is_more_wanted, overlaps } => {
                return Some(Some(self.begin_commit(&mut group, is_more_wanted, overlaps).0));
            }
            Turn::Handle(Message::Close(standing)) => self.close(standing),
            Turn::Handle(message) => {
                self.handle(message);
                self.queue.give_turn(self.with_log(|log| log.room(false)));
            }
        }
        Some(None)
    }

    /// Writes and flushes what waits, on the calling thread; `false` where there is nothing to take, or somebody else
    /// takes it.
    pub fn commit_here(&self) -> bool {
        let mut group = Vec::new();
        let turn = self.queue.try_write_turn(&mut group);
        let Some(Turn::Write { is_more_wanted, overlaps }) = turn else { return false };
        let (written, _) = self.begin_commit(&mut group, is_more_wanted, overlaps);
        self.end_commit(written, By::Another);
        true
    }

    fn in_flight_max(&self) -> usize {
        let worth = (self.statistics.sync_ewma_us() / OVERLAP_EVERY_US) as usize;
        self.in_flight_max.unwrap_or(worth).clamp(1, IN_FLIGHT_MAX)
    }

    /// Handles a message that is no batch and no close.
    fn handle(&self, message: Message) {
        match message {
            Message::Cut => self.cut(),
            Message::NameBase(base, answer) => self.name_base(base, answer),
            Message::Publish => self.publish(self.published.flushed()),
            Message::Panicked(error) => self.report(&Arc::new(error)),
            Message::Batch(_) | Message::Close(_) => unreachable!("they are taken otherwise"),
        }
    }

    fn cut(&self) {
        let outcome = self.with_log(|log| {
            let outcome = log.writer.cut();
            // The thread is there as long as these.
            let _ = log.files.send(Task::Remove(log.writer.take_leftovers(), None));
            outcome.map(|_| log.writer.durable())
        });
        match outcome {
            Ok(flushed) => self.publish(flushed),
            Err(error) => self.report_failure(error),
        }
    }

    fn name_base(&self, base: PreparedBase, answer: Answer) {
        let failure = self.with_log(|log| {
            let outcome = log.writer.name_base(base);
            let _ = log.files.send(Task::Remove(log.writer.take_leftovers(), Some((answer, outcome))));
            log.writer.failure().cloned()
        });
        failure.iter().for_each(|first| self.report(first));
    }

    fn close(&self, standing: Standing) {
        let mut log = lock(&self.log);
        let Some(Log { mut writer, .. }) = log.take() else { return };
        drop(log);
        let outcome = writer.finish(standing).map(|()| writer.into_folder());
        if let Err(LogError::Failed(first)) = &outcome {
            self.report(first);
        }
        self.end(outcome);
    }

    fn publish(&self, flushed: Lsn) {
        // Positions are told one after the other.
        let mut callbacks = lock(&self.callbacks);
        self.published.set_flushed(flushed);
        if let Some(durable) = self.published.publish() {
            (callbacks.on_durable)(durable);
        }
    }

    fn report_failure(&self, error: LogError) {
        match error {
            LogError::Failed(first) => self.report(&first),
            error => self.report(&Arc::new(error)),
        }
    }

    fn report(&self, error: &Arc<LogError>) {
        let mut callbacks = lock(&self.callbacks);
        if self.published.fail(Arc::clone(error)) {
            (callbacks.on_error)(error);
        }
    }

    fn recycle(&self, group: &mut Vec<Handed>) {
        for Handed { mut payload, .. } in group.drain(..) {
            if payload.capacity() <= SPARE_BUFFER_BYTES_MAX {
                payload.clear();
                // Enough buffers wait already where there is no room.
                let _ = self.spares.try_send(payload);
            }
        }
    }
}

impl<S: Storage> Log<S> {
    fn room(&mut self, is_more_wanted: bool) -> Room {
        if let Some(wanted) = self.writer.want_ahead() {
            // The thread is there as long as these.
            let _ = self.files.send(Task::WriteAhead(wanted));
        }
        Room { flushes: self.writer.openings(is_more_wanted), is_full: self.writer.is_full() }
    }

    /// Writes a group as one frame; returns the flush of it.
    fn write(&mut self, group: &[Handed], overlaps: bool) -> Result<Flush<S::File>, LogError> {
        let [first, .., last] = group else {
            let [only] = group else { unreachable!("a turn has a batch") };
            let batch = Batch { start: only.start, payload: &only.payload, unix_ms: only.unix_ms };
            return self.write_frame(batch, overlaps);
        };
        // The time of the frame is the time of its last batch: all of it had happened by then.
        let (start, unix_ms) = (first.start, last.unix_ms);
        let mut payload = std::mem::take(&mut self.joined);
        for handed in group {
            assert_eq!(handed.start, start.advance(payload.len() as u64), "batches must be contiguous");
            payload.extend_from_slice(&handed.payload);
        }
        let written = self.write_frame(Batch { start, payload: &payload, unix_ms }, overlaps);
        if payload.capacity() <= 2 * FRAME_BYTES_MAX {
            payload.clear();
            self.joined = payload;
        }
        written
    }

    fn write_frame(&mut self, batch: Batch<'_>, overlaps: bool) -> Result<Flush<S::File>, LogError> {
        self.writer.append_before(batch, overlaps)?;
        let flush = self.writer.begin_flush()?;
        flush.map_or_else(|| unreachable!("a turn is taken when a flush can begin"), Ok)
    }
}
