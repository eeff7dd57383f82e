//! The one way out for replies: the open log with those who wait for it.

use crate::core::waiters::Waiters;
use crate::ffi::{Held, wake_event_loop};
use crate::log::{Flusher, LogError, LogWriter, Lsn};
use crate::module::gate::GatedStorage;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A client whose reply waits.
pub(super) struct Waiting {
    pub(super) client: u64,
    pub(super) held: Held,
}

/// Clients whose replies were let go, in this iteration and in the one before. The server takes that up at the end of
/// an iteration; until then the client is blocked in its eyes.
#[derive(Default)]
struct Leaving([Vec<u64>; 2]);

/// The open log and its waiters. Replies leave through [`release_up_to`] only, which takes a durable position.
pub(super) struct Release {
    flusher: Flusher<GatedStorage>,
    waiters: Arc<Mutex<Waiters<Waiting>>>,
    leaving: Arc<Mutex<Leaving>>,
    /// The event loop waits for the durable position to move.
    wake: Arc<AtomicBool>,
    has_failed: Arc<AtomicBool>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Releases everyone whose position is durable. Any thread.
fn release_up_to(waiters: &Mutex<Waiters<Waiting>>, leaving: &Mutex<Leaving>, durable: Lsn) {
    let released = {
        let mut waiters = lock(waiters);
        let released = waiters.take_up_to(durable);
        // Under the same lock: each client is found in one of the two.
        lock(leaving).0[0].extend(released.iter().map(|waiting| waiting.client));
        released
    };
    released.into_iter().for_each(|waiting| waiting.held.release());
}

impl Release {
    /// Starts the writer thread. On the first error of the disk it wakes the event loop, which decides what that means.
    pub(super) fn start(writer: LogWriter<GatedStorage>) -> Result<Release, LogError> {
        let waiters = Arc::new(Mutex::new(Waiters::default()));
        let leaving = Arc::new(Mutex::new(Leaving::default()));
        let (released, left) = (Arc::clone(&waiters), Arc::clone(&leaving));
        let wake = Arc::new(AtomicBool::new(false));
        let waits = Arc::clone(&wake);
        let on_durable = Box::new(move |durable| {
            release_up_to(&released, &left, durable);
            if waits.swap(false, Ordering::AcqRel) {
                wake_event_loop();
            }
        });
        let has_failed = Arc::new(AtomicBool::new(false));
        let fails = Arc::clone(&has_failed);
        let on_error = Box::new(move |_: &LogError| {
            fails.store(true, Ordering::Release);
            wake_event_loop();
        });
        Ok(Release { flusher: Flusher::start(writer, on_durable, on_error)?, waiters, leaving, wake, has_failed })
    }

    /// Whether the log has failed, so that nothing more becomes durable.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }

    /// The log itself.
    pub(super) fn log(&self) -> &Flusher<GatedStorage> {
        &self.flusher
    }

    /// Has this client's reply wait for the position.
    pub(super) fn wait(&self, lsn: Lsn, waiting: Waiting) {
        lock(&self.waiters).push(lsn, waiting);
        // The position may have become durable before the waiter stood in the queue; the writer thread does not look
        // again then.
        let durable = self.flusher.durable();
        if durable >= lsn {
            release_up_to(&self.waiters, &self.leaving, durable);
        }
    }

    /// Takes a client that waits out, with the position that it waits for.
    pub(super) fn withdraw(&self, client: u64) -> Option<(Lsn, Waiting)> {
        lock(&self.waiters).take_first(|waiting| waiting.client == client)
    }

    /// The event loop is at the end of an iteration: the server has taken up what was let go before.
    pub(super) fn iteration_ended(&self) {
        let mut leaving = lock(&self.leaving);
        leaving.0.swap(0, 1);
        leaving.0[0].clear();
    }

    /// Takes the clients whose replies were let go and may not have left.
    pub(super) fn take_leaving(&self) -> Vec<u64> {
        std::mem::take(&mut *lock(&self.leaving)).0.concat()
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
