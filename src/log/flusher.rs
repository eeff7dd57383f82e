//! The handle of the writer thread, for all other threads.

use super::error::LogError;
use super::lsn::Lsn;
use super::published::Published;
use super::statistics::Statistics;
use super::storage::Storage;
use super::worker::{Handed, Message, OnDurable, OnError, Reply, Worker};
use super::writer::LogWriter;
use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Payload buffers kept for the producer.
const SPARE_BUFFERS_MAX: usize = 64;

/// A running writer thread. Dropping it closes the log.
pub struct Flusher {
    published: Arc<Published>,
    statistics: Arc<Statistics>,
    /// Held while a batch is sent, so that batches are sent in the order of their positions.
    appended: Mutex<Lsn>,
    sender: Sender<Message>,
    spare_buffers: Receiver<Vec<u8>>,
    thread: Mutex<Option<JoinHandle<Result<(), LogError>>>>,
}

impl Flusher {
    /// Starts the writer thread.
    ///
    /// Both callbacks run on the writer thread only. `on_durable` gets strictly rising positions up to which all may be
    /// acknowledged; `on_error` gets the first failure, and nothing is published after it.
    pub fn start<S: Storage>(
        writer: LogWriter<S>,
        on_durable: OnDurable,
        on_error: OnError,
    ) -> Result<Flusher, LogError> {
        let start = writer.appended();
        let published = Arc::new(Published::new(start));
        let statistics = writer.statistics();
        let (sender, receiver) = unbounded();
        let (spares, spare_buffers) = bounded(SPARE_BUFFERS_MAX);
        let mut worker = Worker::new(writer, receiver, spares, Arc::clone(&published), on_durable, on_error);
        let thread = std::thread::Builder::new().name("wbl-writer".into()).spawn(move || worker.main());
        let thread = thread.map_err(|source| LogError::io("start", "the writer thread", source))?;
        let (appended, thread) = (Mutex::new(start), Mutex::new(Some(thread)));
        Ok(Flusher { published, statistics, appended, sender, spare_buffers, thread })
    }

    /// Hands over whole units; returns the position behind them. Never blocks, also not after a failure or the close,
    /// when the position is never published.
    pub fn append(&self, payload: Vec<u8>, unix_ms: u64) -> Lsn {
        let mut appended = lock(&self.appended);
        let start = *appended;
        if !payload.is_empty() {
            *appended = start.advance(payload.len() as u64);
            self.published.add_pending(payload.len() as u64);
            // The receiver is gone only after a failure or the close, which `wait_durable` reports.
            let _ = self.sender.send(Message::Batch(Handed { start, payload, unix_ms }));
        }
        *appended
    }

    /// An empty buffer for the next payload, used before if there is one.
    pub fn take_buffer(&self) -> Vec<u8> {
        self.spare_buffers.try_recv().unwrap_or_default()
    }

    /// The position behind all that was handed over.
    pub fn appended(&self) -> Lsn {
        *lock(&self.appended)
    }

    /// Bytes handed over that are not on the disk.
    pub fn pending_bytes(&self) -> u64 {
        self.published.pending_bytes()
    }

    /// The position up to which all may be acknowledged.
    pub fn durable(&self) -> Lsn {
        self.published.durable()
    }

    /// The position up to which all is on the disk, also while paused.
    pub fn flushed(&self) -> Lsn {
        self.published.flushed()
    }

    /// Waits until `lsn` is published; `Ok(false)` when the time is over before. An error when that can never be.
    ///
    /// Without a timeout this waits for a [`Flusher::resume`], if paused.
    pub fn wait_durable(&self, lsn: Lsn, timeout: Option<Duration>) -> Result<bool, LogError> {
        self.published.wait_durable(lsn, timeout)
    }

    /// Freezes the published position; the log goes on being written. No position is published after this returns.
    pub fn pause(&self) {
        self.published.pause();
    }

    /// Frees the published position; the writer thread publishes what is flushed at once.
    pub fn resume(&self) {
        self.published.resume();
        let _ = self.sender.send(Message::Publish);
    }

    /// Makes all handed over durable and returns the number of a segment that holds none of it. Waits for the disk.
    pub fn rotate(&self) -> Result<u64, LogError> {
        self.ask(Message::Rotate)
    }

    /// The name under which the next base is to be written. Waits for the writer thread.
    pub fn temp_base_name(&self) -> Result<String, LogError> {
        self.ask(Message::TemporaryBaseName)
    }

    /// Makes a file the base, see [`LogWriter::install_base`]; the answer comes through the channel, which is
    /// disconnected when the thread ends before.
    pub fn install_base(&self, temporary: &str, first_segment_seq: u64) -> Receiver<Result<(), LogError>> {
        let (reply, answer) = bounded(1);
        let temporary = temporary.to_string();
        let _ = self.sender.send(Message::InstallBase { temporary, first_segment_seq, reply });
        answer
    }

    /// The first failure.
    pub fn error(&self) -> Option<String> {
        self.published.failure()
    }

    /// Counters of the log.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Writes and syncs all that was handed over, publishes it unless paused, closes the log and ends the thread.
    /// Later calls do nothing.
    pub fn close(&self) -> Result<(), LogError> {
        let Some(thread) = lock(&self.thread).take() else {
            return Ok(());
        };
        let _ = self.sender.send(Message::Close);
        match thread.join() {
            Ok(outcome) => outcome,
            Err(_) => Err(self.published.end_error()),
        }
    }

    fn ask<T>(&self, message: impl FnOnce(Reply<T>) -> Message) -> Result<T, LogError> {
        let (reply, answer) = bounded(1);
        let _ = self.sender.send(message(reply));
        answer.recv().unwrap_or_else(|_| Err(self.published.end_error()))
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        // A failure was reported to `on_error`.
        let _ = self.close();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
