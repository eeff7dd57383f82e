//! The handle of the log's threads, for all other threads.

mod bases;
mod held;

use super::answer::{Answer, OnDone};
use super::files::{Files, Task};
use super::published::Published;
use super::queue::{Message, Queue};
use super::statistics::Statistics;
use super::steps::{Stepped, Steps};
use super::worker::{OnDurable, OnError, Worker};
use crate::lock::lock;
use crate::log::error::LogError;
use crate::log::format::Generation;
use crate::log::format::names::{base_name, segment_name, temporary_base_name};
use crate::log::format::standing::Standing;
use crate::log::lsn::Lsn;
use crate::log::storage::Storage;
use crate::log::write::{AheadSlot, Backup, Expendable, Folder, LogWriter};
use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Payload buffers kept for the producer.
const SPARE_BUFFERS_MAX: usize = 64;

/// A log with its running threads. Dropping it closes the log.
pub struct Flusher<S: Storage> {
    storage: Arc<S>,
    expendable: Arc<Expendable<S>>,
    ahead_slot: Arc<AheadSlot<S::File>>,
    generation: Generation,
    published: Arc<Published>,
    statistics: Arc<Statistics>,
    queue: Arc<Queue>,
    worker: Arc<Worker<S>>,
    spare_buffers: Receiver<Vec<u8>>,
    first_base: u64,
    next_base: AtomicU64,
    is_closing: Arc<AtomicBool>,
    threads: Mutex<Option<Threads<S>>>,
}

struct Threads<S: Storage> {
    work: Work<S>,
    tasks: Sender<Task<S::File>>,
}

/// What does the work.
enum Work<S: Storage> {
    Threads {
        worker: Arc<Worker<S>>,
        files: JoinHandle<()>,
    },
    /// The caller of [`Flusher::steps`].
    Stepped(Arc<Stepped<S>>),
}

impl<S: Storage> Flusher<S> {
    /// Starts the threads.
    ///
    /// Both callbacks run on writer threads, and where [`Flusher::commit`] is called, one at a time. `on_durable` gets
    /// strictly rising positions up to which everything may be acknowledged; `on_error` gets the first failure, and
    /// nothing is published after it.
    pub fn start(writer: LogWriter<S>, on_durable: OnDurable, on_error: OnError) -> Result<Flusher<S>, LogError> {
        Flusher::with(writer, (on_durable, on_error), |worker, files| {
            let failed = |source| LogError::io("start", "a thread of the log", source);
            let files = std::thread::Builder::new().name("wbl-files".into()).spawn(move || files.main());
            let files = files.map_err(failed)?;
            worker.spawn().map_err(failed)?;
            Ok(Work::Threads { worker, files })
        })
    }

    /// The same without threads: their steps are taken with [`Flusher::steps`], and by those who wait.
    pub fn start_stepped(
        writer: LogWriter<S>,
        on_durable: OnDurable,
        on_error: OnError,
    ) -> Result<Flusher<S>, LogError> {
        let stepped = |worker, files| Ok(Work::Stepped(Arc::new(Stepped::new(worker, files))));
        Flusher::with(writer, (on_durable, on_error), stepped)
    }

    /// The steps of a log without threads.
    pub fn steps(&self) -> Option<Arc<dyn Steps>> {
        match &lock(&self.threads).as_ref()?.work {
            Work::Threads { .. } => None,
            Work::Stepped(stepped) => Some(Arc::clone(stepped) as Arc<dyn Steps>),
        }
    }

    fn with(
        mut writer: LogWriter<S>,
        callbacks: (OnDurable, OnError),
        start_work: impl FnOnce(Arc<Worker<S>>, Files<S>) -> Result<Work<S>, LogError>,
    ) -> Result<Flusher<S>, LogError> {
        let (storage, statistics, generation) = (writer.storage(), writer.statistics(), writer.generation());
        let (first_base, expendable, ahead_slot) = (writer.next_base(), writer.expendable(), writer.ahead_slot());
        let is_closing = Arc::new(AtomicBool::new(false));
        let queue = Arc::new(Queue::new(writer.appended(), writer.in_flight_max().unwrap_or(1)));
        let (spares, spare_buffers) = bounded(SPARE_BUFFERS_MAX);
        let (tasks, task_receiver) = unbounded();
        // The thread exists to take it.
        let _ = tasks.send(Task::Remove(writer.take_leftovers(), None));
        let files = Files {
            storage: Arc::clone(&storage),
            expendable: Arc::clone(&expendable),
            ahead_slot: Arc::clone(&ahead_slot),
            ahead: None,
            tasks: task_receiver,
            queue: Arc::clone(&queue),
            check_base: writer.check_base(),
            is_closing: Arc::clone(&is_closing),
        };
        let worker = Arc::new(Worker::new(writer, Arc::clone(&queue), spares, tasks.clone(), callbacks));
        let published = Arc::clone(&worker.published);
        let threads = Mutex::new(Some(Threads { work: start_work(Arc::clone(&worker), files)?, tasks }));
        Ok(Flusher {
            storage,
            expendable,
            ahead_slot,
            generation,
            published,
            statistics,
            queue,
            worker,
            spare_buffers,
            first_base,
            next_base: AtomicU64::new(first_base),
            is_closing,
            threads,
        })
    }

    /// Which log this is.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Hands over whole units; returns the position after them. Never blocks, even after a failure or the close, when
    /// the position is never published.
    pub fn append(&self, payload: Vec<u8>, unix_ms: u64) -> Lsn {
        self.queue.append(payload, unix_ms, true, |bytes| self.published.add_pending(bytes))
    }

    /// The same without waking a thread: for callers that call [`Flusher::commit`] next.
    pub fn append_to_commit(&self, payload: Vec<u8>, unix_ms: u64) -> Lsn {
        self.queue.append(payload, unix_ms, false, |bytes| self.published.add_pending(bytes))
    }

    /// Makes everything up to `lsn` durable on the calling thread, or waits for the writer threads if they are doing
    /// it. An error when that is no longer possible, and [`LogError::Failing`] while the disk fails.
    pub fn commit(&self, lsn: Lsn) -> Result<(), LogError> {
        while self.durable() < lsn {
            if !self.worker.commit_here() {
                // They do something else, or must do it first.
                self.queue.leave_to_threads();
                self.wait_durable(lsn, None)?;
            }
        }
        Ok(())
    }

    /// An empty buffer for the next payload, used before if there is one.
    pub fn take_buffer(&self) -> Vec<u8> {
        self.spare_buffers.try_recv().unwrap_or_default()
    }

    /// The position after all that was handed over.
    pub fn appended(&self) -> Lsn {
        self.queue.appended()
    }

    /// Bytes handed over that are not on the disk.
    pub fn pending_bytes(&self) -> u64 {
        self.published.pending_bytes()
    }

    /// The position up to which all may be acknowledged.
    pub fn durable(&self) -> Lsn {
        self.published.durable()
    }

    /// The position up to which all is on the disk, even while paused.
    pub fn flushed(&self) -> Lsn {
        self.published.flushed()
    }

    /// Waits until `lsn` is published; `Ok(false)` on time-out. An error when that is no longer possible, and
    /// [`LogError::Failing`] while the disk fails.
    ///
    /// Without a timeout this waits for a [`Flusher::resume`], if paused.
    pub fn wait_durable(&self, lsn: Lsn, timeout: Option<Duration>) -> Result<bool, LogError> {
        let Some(steps) = self.steps() else { return self.published.wait_durable(lsn, timeout) };
        while !self.published.wait_durable(lsn, Some(Duration::ZERO))? {
            if !steps.flush(0) && !steps.write() {
                assert!(timeout.is_some(), "waits for what nobody makes durable");
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Freezes the published position; the log goes on being written. No position is published after this returns.
    pub fn pause(&self) {
        self.published.pause();
    }

    /// Frees the published position; a writer thread publishes what is flushed at once.
    pub fn resume(&self) {
        self.published.resume();
        self.queue.push(Message::Publish);
    }

    /// Begins a segment after all that was handed over, and returns that position: a base of the present dataset can
    /// replace everything before it. Waits for nothing; if there is no room for a segment, [`Flusher::install_base`]
    /// reports it.
    pub fn cut(&self) -> Lsn {
        self.queue.push(Message::Cut)
    }

    /// Publishes nothing after this position, nor after an earlier one that was set before; the log goes on being
    /// written.
    pub fn set_limit(&self, lsn: Lsn) {
        self.published.set_limit(lsn);
    }

    /// There is no limit any more; a writer thread publishes what is flushed at once.
    pub fn lift_limit(&self) {
        self.published.lift_limit();
        self.queue.push(Message::Publish);
    }

    /// Where publishing stops.
    pub fn limit(&self) -> Option<Lsn> {
        self.published.limit()
    }

    /// Makes a backup of all that was handed over, in a new folder within the log's, named for this time; returns the
    /// position up to which it goes. Waits for nothing; `on_done` is called by one of the log's threads.
    pub fn back_up(&self, unix_ms: u64, on_done: OnDone<Backup>) -> Lsn {
        self.queue.push(Message::BackUp(unix_ms, Answer::new(on_done)))
    }

    /// Makes a copy of all that was handed over, in a folder that belongs to the file of a new base, for another
    /// process to make the base from; returns the position up to which it goes. Waits for nothing; `on_done` gets the
    /// folder's name, from one of the log's threads.
    pub fn share(&self, base: &str, on_done: OnDone<String>) -> Lsn {
        self.queue.push(Message::Share(base.into(), Answer::new(on_done)))
    }

    /// Has the copy that belongs to this base removed later.
    pub fn remove_shared(&self, base: String) {
        self.send(Task::RemoveShared(base));
    }

    /// Removes what there is of a backup.
    pub fn remove_backup(&self, name: String, on_done: OnDone) {
        self.send(Task::RemoveBackup(name, Answer::new(on_done)));
    }

    /// Lists the backups.
    pub fn list_backups(&self, on_listed: OnDone<Vec<Backup>>) {
        self.send(Task::ListBackups(Answer::new(on_listed)));
    }

    fn send(&self, task: Task<S::File>) {
        if let Some(threads) = &*lock(&self.threads) {
            // A thread that has ended drops the task.
            let _ = threads.tasks.send(task);
        }
    }

    /// Whether the log goes on in another file after an error of the disk that may pass, and tries that until it
    /// succeeds. Otherwise the first error is final. A log that waits for its base never goes on.
    pub fn go_on_after_errors(&self, goes_on: bool) {
        self.worker.goes_on.store(goes_on, Ordering::Relaxed);
    }

    /// Whether the disk fails, and the log waits for the next try. An error that has passed at the first try does not
    /// count.
    pub fn is_failing(&self) -> bool {
        self.published.is_in_trouble()
    }

    /// Whether the log has been closed, or its threads have ended.
    pub fn is_closed(&self) -> bool {
        self.published.is_closed()
    }

    /// The error of the last try, while the disk fails.
    pub fn trouble(&self) -> Option<Arc<LogError>> {
        self.published.trouble()
    }

    /// Groups of batches that are being written and flushed.
    pub fn in_flight(&self) -> usize {
        self.queue.in_flight()
    }

    /// The first failure.
    pub fn error(&self) -> Option<Arc<LogError>> {
        self.published.failure()
    }

    /// Counters of the log.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// The storage of the log.
    pub fn storage(&self) -> &S {
        &self.storage
    }

    /// Writes and syncs all that was handed over, publishes it unless paused, closes the log and ends the threads. A
    /// log that waits for its base is given up, even if it has failed: [`Folder::remove_leftovers`] removes its files.
    /// The folder stays locked until what is returned is dropped. Later calls return [`LogError::Closed`].
    pub fn close(&self) -> Result<Folder<S>, LogError> {
        self.close_as(Standing::Current)
    }

    /// The same; notes in the same step what the log counts for at the next start.
    pub fn close_as(&self, standing: Standing) -> Result<Folder<S>, LogError> {
        let Some(Threads { work, tasks }) = lock(&self.threads).take() else {
            return Err(LogError::Closed);
        };
        self.is_closing.store(true, Ordering::Release);
        self.queue.push(Message::Close(standing));
        drop(tasks);
        let outcome = match work {
            Work::Threads { worker, files } => {
                let outcome = worker.join();
                // It catches its own panics, and ends because nobody can send it tasks any more.
                let _ = files.join();
                outcome
            }
            Work::Stepped(stepped) => stepped.close(),
        };
        // It may have been made when the log was closed already.
        self.expendable.reserve.remove(&*self.storage);
        if let Some(ahead) = self.ahead_slot.take() {
            // It was written when the log was closed already.
            self.expendable.remove(&[segment_name(ahead.seq)]);
        }
        let mut folder = outcome?;
        let next_base = self.next_base.load(Ordering::Relaxed);
        if folder.generation() != Some(self.generation) {
            // The log was given up before it had a base; one may have got its name.
            folder
                .leftovers
                .extend((self.first_base..next_base).flat_map(|seq| [temporary_base_name(seq), base_name(seq)]));
        }
        folder.next_base = folder.next_base.max(next_base);
        Ok(folder)
    }
}

impl<S: Storage> Drop for Flusher<S> {
    fn drop(&mut self) {
        // A failure was reported to `on_error`.
        let _ = self.close();
    }
}
