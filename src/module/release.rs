//! The one way out for replies: the open log with those who wait for it.

use crate::core::waiters::Waiters;
use crate::ffi::{Held, Level, exit_now, log, wake_event_loop};
use crate::log::{Flusher, LogError, LogWriter, Lsn};
use crate::module::gate::GatedStorage;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A client whose reply waits.
pub(super) struct Waiting {
    pub(super) client: u64,
    pub(super) held: Held,
}

/// The open log and its waiters. Replies leave through [`release_up_to`] only, which takes a durable position.
pub(super) struct Release {
    flusher: Flusher<GatedStorage>,
    waiters: Arc<Mutex<Waiters<Waiting>>>,
    /// The event loop waits for the durable position to move.
    wake: Arc<AtomicBool>,
}

fn lock(waiters: &Mutex<Waiters<Waiting>>) -> MutexGuard<'_, Waiters<Waiting>> {
    waiters.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Releases everyone whose position is durable. Any thread.
fn release_up_to(waiters: &Mutex<Waiters<Waiting>>, durable: Lsn) {
    lock(waiters).take_up_to(durable).into_iter().for_each(|waiting| waiting.held.release());
}

impl Release {
    /// Starts the writer thread. On the first error of the disk the process ends, as with the server's `appendfsync always`.
    pub(super) fn start(writer: LogWriter<GatedStorage>) -> Result<Release, LogError> {
        let waiters = Arc::new(Mutex::new(Waiters::default()));
        let released = Arc::clone(&waiters);
        let wake = Arc::new(AtomicBool::new(false));
        let waits = Arc::clone(&wake);
        let on_durable = Box::new(move |durable| {
            release_up_to(&released, durable);
            if waits.swap(false, Ordering::AcqRel) {
                wake_event_loop();
            }
        });
        let on_error = Box::new(|error: &LogError| {
            log(
                Level::Warning,
                &format!("the log can't be written: {error}. Exiting, as nothing can be acknowledged any more."),
            );
            exit_now(1)
        });
        Ok(Release { flusher: Flusher::start(writer, on_durable, on_error)?, waiters, wake })
    }

    /// The log itself.
    pub(super) fn log(&self) -> &Flusher<GatedStorage> {
        &self.flusher
    }

    /// Has this client's reply wait for the position.
    pub(super) fn wait(&self, lsn: Lsn, waiting: Waiting) {
        lock(&self.waiters).push(lsn, waiting);
        // The position may have become durable before the waiter stood in the queue; the writer thread does not look again then.
        let durable = self.flusher.durable();
        if durable >= lsn {
            release_up_to(&self.waiters, durable);
        }
    }

    /// Takes a client that waits out, with the position that it waits for.
    pub(super) fn withdraw(&self, client: u64) -> Option<(Lsn, Waiting)> {
        lock(&self.waiters).take_first(|waiting| waiting.client == client)
    }

    /// Has the event loop woken when the durable position moves next. Read the position afterwards.
    pub(super) fn wake_when_durable(&self) {
        self.wake.store(true, Ordering::Release);
    }

    /// The number of clients that wait.
    pub(super) fn waiting(&self) -> usize {
        lock(&self.waiters).len()
    }

    /// Takes out everyone who waits: for those who get no acknowledgement (the server became a replica).
    pub(super) fn take_waiting(&self) -> Vec<Waiting> {
        lock(&self.waiters).take_all()
    }
}
