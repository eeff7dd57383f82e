//! The writer threads.
//!
//! Everything that waits when a thread has the turn becomes one frame and one flush (group commit): the slower the
//! disk, the more commands share a flush. How many flushes are under way at a time follows from how long they take.

use super::answer::Answer;
use super::files::Task;
use super::kept::{Failure, Log, Written};
use super::published::Published;
use super::queue::{By, Handed, Message, Queue, Turn};
use super::statistics::Statistics;
use crate::lock::lock;
use crate::log::error::LogError;
use crate::log::format::standing::Standing;
use crate::log::lsn::Lsn;
use crate::log::storage::Storage;
use crate::log::write::{Folder, LogWriter, PreparedBase};
use crossbeam::channel::Sender;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A flush that takes this many times as long as `OVERLAP_EVERY_US` is worth that many more.
const OVERLAP_EVERY_US: u64 = 100;
/// The most flushes that are ever under way.
pub(super) const IN_FLIGHT_MAX: usize = 16;

/// How long the next try waits after one that has failed; twice as long after each further one.
const BACK_OFF_MIN: Duration = Duration::from_millis(100);
const BACK_OFF_MAX: Duration = Duration::from_secs(5);

fn back_off(tries: u32) -> Duration {
    BACK_OFF_MIN.saturating_mul(1 << tries.min(10)).min(BACK_OFF_MAX)
}

pub(super) type OnDurable = Box<dyn FnMut(Lsn) + Send>;
pub(super) type OnError = Box<dyn FnMut(&LogError) + Send>;

/// What the writer threads share.
pub(super) struct Worker<S: Storage> {
    pub queue: Arc<Queue>,
    pub published: Arc<Published>,
    storage: Arc<S>,
    statistics: Arc<Statistics>,
    /// Fixed by the settings; `None` where it follows from the duration of flushes.
    in_flight_max: Option<usize>,
    /// For the one that has the turn, and the one that ends a flush. Gone when the log is closed.
    log: Mutex<Option<Log<S>>>,
    /// After an error that may pass the log goes on elsewhere.
    pub goes_on: AtomicBool,
    callbacks: Mutex<Callbacks>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    outcome: Mutex<Option<Result<Folder<S>, LogError>>>,
}

struct Callbacks {
    on_durable: OnDurable,
    on_error: OnError,
}

impl<S: Storage> Worker<S> {
    pub fn new(
        writer: LogWriter<S>,
        queue: Arc<Queue>,
        spares: Sender<Vec<u8>>,
        files: Sender<Task<S::File>>,
        (on_durable, on_error): (OnDurable, OnError),
    ) -> Worker<S> {
        Worker {
            queue,
            published: Arc::new(Published::new(writer.appended(), !writer.waits_for_base())),
            storage: writer.storage(),
            statistics: writer.statistics(),
            in_flight_max: writer.in_flight_max(),
            log: Mutex::new(Some(Log::new(writer, spares, files))),
            goes_on: AtomicBool::new(false),
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
        // A thread adds another before it ends.
        while let Some(thread) = { lock(&self.threads).pop() } {
            // It catches its own panics.
            let _ = thread.join();
        }
        // If a failure has left it, its lock is given up.
        drop(lock(&self.log).take());
        lock(&self.outcome).take().unwrap_or_else(|| Err(self.published.end_error()))
    }

    /// A thread. A panic (a broken invariant) must not end it silently while others wait for positions.
    fn main(self: Arc<Worker<S>>) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.run())) {
            let error = Arc::new(LogError::panicked(&*panic));
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
        self.storage.thread_begins();
        let mut group = Vec::new();
        while let Some(turn) = self.queue.take_turn(&mut group) {
            match turn {
                Turn::Write { is_more_wanted, overlaps } => self.commit(&mut group, is_more_wanted, overlaps),
                Turn::Handle(Message::Close(standing)) => return self.close(standing),
                Turn::Handle(message) => self.handle_in_turn(message),
                Turn::TryAgain => self.try_again(),
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

    /// Writes a group as one frame, and gives the turn away; also returns whether nobody would take the next one.
    fn begin_commit(&self, group: &mut Vec<Handed>, is_more_wanted: bool, overlaps: bool) -> (Written<S>, bool) {
        let (written, room) = self.with_log(|log| {
            let began = Instant::now();
            let written = log.write(group, overlaps);
            self.statistics.time_write(began.elapsed().as_micros() as u64);
            (written, log.room(is_more_wanted))
        });
        let wants_thread = self.queue.give_turn(room);
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
                log.end_flush(flush, outcome)
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
            Turn::Handle(message) => self.handle_in_turn(message),
            Turn::TryAgain => self.try_again(),
        }
        Some(None)
    }

    /// Writes and flushes what waits, on the calling thread; `false` if there is nothing to take, or another thread
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

    fn handle_in_turn(&self, message: Message) {
        self.handle(message);
        self.queue.give_turn(self.with_log(|log| log.room(false)));
    }

    /// Handles a message that is neither a batch nor a close.
    fn handle(&self, message: Message) {
        match message {
            Message::Cut => self.cut(),
            Message::NameBase(base, answer) => self.name_base(base, answer),
            Message::BackUp(unix_ms, answer) => self.copy(answer, |writer| writer.back_up(unix_ms)),
            Message::Share(base, answer) => self.copy(answer, |writer| writer.share(&base)),
            Message::Publish => self.publish(self.published.flushed()),
            Message::Panicked(error) => self.report(&Arc::new(error)),
            Message::Batch(_) | Message::Close(_) => unreachable!("they are taken otherwise"),
        }
    }

    fn cut(&self) {
        let outcome = self.with_log(|log| {
            let outcome = log.cut();
            log.remove_leftovers(None);
            outcome
        });
        match outcome {
            Ok(flushed) => self.publish(flushed),
            Err(error) => self.report_failure(error),
        }
    }

    fn name_base(&self, base: PreparedBase, answer: Answer) {
        let (flushed, failure) = self.with_log(|log| {
            let outcome = log.writer.name_base(base);
            // Before anybody can ask what has come of it.
            self.published.end_naming(outcome.is_ok());
            log.remove_leftovers(Some((answer, outcome)));
            (log.writer.durable(), log.writer.failure().cloned())
        });
        self.publish(flushed);
        failure.into_iter().for_each(|first| self.report_failure(LogError::Failed(first)));
    }

    fn copy<T>(&self, answer: Answer<T>, copy: impl FnOnce(&mut LogWriter<S>) -> Result<T, LogError>) {
        let (flushed, outcome, failure) = self.with_log(|log| {
            let (flushed, outcome) = log.copy(copy);
            (flushed, outcome, log.writer.failure().cloned())
        });
        self.publish(flushed);
        answer.give(outcome);
        failure.into_iter().for_each(|first| self.report_failure(LogError::Failed(first)));
    }

    fn close(&self, standing: Standing) {
        let taken = lock(&self.log).take();
        let Some(mut log) = taken else { return };
        if log.has_failed() && self.goes_on() {
            // The last try.
            let (flushed, _) = log.try_again();
            self.publish(flushed);
        }
        let mut writer = log.writer;
        let outcome = writer.finish(standing).map(|()| writer.into_folder());
        if let Err(LogError::Failed(first)) = &outcome {
            self.report(first);
        }
        self.end(outcome);
    }

    fn publish(&self, flushed: Lsn) {
        // Positions are reported one after the other.
        let mut callbacks = lock(&self.callbacks);
        self.published.set_flushed(flushed);
        if let Some(durable) = self.published.publish() {
            (callbacks.on_durable)(durable);
        }
    }

    fn goes_on(&self) -> bool {
        self.goes_on.load(Ordering::Relaxed)
    }

    /// The log has failed. If that may pass it is tried again at once: nobody needs to know if it has passed by then.
    fn report_failure(&self, error: LogError) {
        let begins = self.goes_on().then(|| self.with_log(Log::begins_to_fail)).flatten();
        match begins {
            Some(true) => {
                self.statistics.count_disk_error();
                self.queue.try_again_at(Some(Instant::now()));
            }
            Some(false) => {}
            None => self.report_final(error),
        }
    }

    /// Goes on elsewhere, if the disk lets it.
    fn try_again(&self) {
        let (flushed, outcome) = self.with_log(|log| {
            let outcome = log.try_again();
            log.remove_leftovers(None);
            outcome
        });
        if outcome.is_ok() {
            self.queue.try_again_at(None);
            // Before the clients go on whose replies leave now.
            self.published.set_trouble(None);
        }
        self.publish(flushed);
        match outcome {
            Ok(()) => {}
            Err(Failure { error, is_final, .. }) if is_final || !self.goes_on() => {
                self.queue.try_again_at(None);
                self.report_final(error);
            }
            Err(Failure { error, tries, .. }) => {
                self.statistics.count_disk_error();
                self.queue.try_again_at(Instant::now().checked_add(back_off(tries)));
                self.published.set_trouble(Some(Arc::new(error)));
            }
        }
        self.queue.give_turn(self.with_log(|log| log.room(false)));
    }

    fn report_final(&self, error: LogError) {
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
}
