//! The one way out for replies, and the open log with those who wait for it.

use crate::core::ack::Why;
use crate::core::leaving::Leaving;
use crate::core::waiters::Waiters;
use crate::ffi::{Held, wake_event_loop};
use crate::lock::lock;
use crate::log::{Flusher, LogError, LogWriter, Lsn};
use crate::machine;
use crate::module::gate::{self, GatedStorage};
use crate::module::{broken, config};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// A client whose reply waits.
pub(super) struct Waiting {
    pub(super) client: u64,
    pub(super) held: Held,
}

/// Lets a held reply go. Any thread.
///
/// There is no other place that does: the caller must say why, and an impossible reason ends the process.
pub(super) fn release(held: Held, why: Why) {
    if !why.is_possible() {
        broken(&format!("a reply was to leave too early ({why:?})"));
    }
    held.release();
}

/// The open log and its waiters.
pub(super) struct Release {
    flusher: Flusher<GatedStorage>,
    queue: Arc<Queue>,
    /// The event loop waits for the durable position to move.
    wake: Arc<AtomicBool>,
    has_failed: Arc<AtomicBool>,
}

/// Those who wait, and those who have left.
#[derive(Default)]
struct Queue {
    waiters: Mutex<Waiters<Waiting>>,
    leaving: Mutex<Leaving>,
    /// Some are leaving. Changes under their lock.
    any_leaving: AtomicBool,
}

impl Queue {
    /// Releases everyone whose position is durable. Any thread.
    fn release_up_to(&self, durable: Lsn) {
        let (released, turn) = {
            let mut waiters = lock(&self.waiters);
            let released = waiters.take_up_to(durable);
            if released.is_empty() {
                return;
            }
            // Under the same lock: each client is found in one of the two.
            let turn = lock(&self.leaving).begin(released.iter().map(|(_, waiting)| waiting.client).collect());
            self.any_leaving.store(true, Ordering::Release);
            (released, turn)
        };
        for (waits_for, waiting) in released {
            release(waiting.held, Why::Durable { waits_for, durable });
        }
        lock(&self.leaving).finish(turn);
    }
}

impl Release {
    /// Starts the writer threads. On an error of the disk that is final it wakes the event loop, which decides what
    /// that means.
    pub(super) fn start(writer: LogWriter<GatedStorage>) -> Result<Release, LogError> {
        let queue = Arc::new(Queue::default());
        let released = Arc::clone(&queue);
        let wake = Arc::new(AtomicBool::new(false));
        let waits = Arc::clone(&wake);
        let on_durable = Box::new(move |durable| {
            released.release_up_to(durable);
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
        let flusher = match machine::log_begins() {
            None => Flusher::start(writer, on_durable, on_error)?,
            Some(log_begins) => {
                let flusher = Flusher::start_stepped(writer, on_durable, on_error)?;
                flusher.steps().into_iter().for_each(log_begins);
                flusher
            }
        };
        flusher.go_on_after_errors(config::goes_on_after_errors());
        Ok(Release { flusher, queue, wake, has_failed })
    }

    /// Whether the log has failed, so that nothing more becomes durable.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }

    /// The log itself.
    pub(super) fn log(&self) -> &Flusher<GatedStorage> {
        &self.flusher
    }

    /// Makes all up to the position durable on the main thread.
    ///
    /// # Errors
    /// The log has failed.
    pub(super) fn commit(&self, lsn: Lsn) -> Result<(), LogError> {
        gate::as_log_thread(|| self.flusher.commit(lsn))
    }

    /// Has this client's reply wait for the position.
    pub(super) fn wait(&self, lsn: Lsn, waiting: Waiting) {
        lock(&self.queue.waiters).push(lsn, waiting);
        // The position may have become durable before the waiter was in the queue; the writer thread does not look
        // again then.
        let durable = self.flusher.durable();
        if durable >= lsn {
            self.queue.release_up_to(durable);
        }
    }

    /// Takes out a waiting client, with the position that it waits for.
    pub(super) fn withdraw(&self, client: u64) -> Option<(Lsn, Waiting)> {
        lock(&self.queue.waiters).take_first(|waiting| waiting.client == client)
    }

    /// The event loop is at the end of an iteration: the server has taken up what was let go before.
    pub(super) fn iteration_ended(&self) {
        if !self.queue.any_leaving.load(Ordering::Acquire) {
            return;
        }
        let mut leaving = lock(&self.queue.leaving);
        leaving.iteration_ended();
        self.queue.any_leaving.store(!leaving.is_empty(), Ordering::Release);
    }

    /// Takes the clients whose replies were let go and may not have left.
    pub(super) fn take_leaving(&self) -> Vec<u64> {
        lock(&self.queue.leaving).take_all()
    }

    /// Has the event loop woken when the durable position next moves. Read the position after this call.
    pub(super) fn wake_when_durable(&self) {
        self.wake.store(true, Ordering::Release);
    }

    /// The number of clients that wait.
    pub(super) fn waiting(&self) -> usize {
        lock(&self.queue.waiters).len()
    }

    /// The bytes of their replies that are known.
    pub(super) fn held_bytes(&self) -> usize {
        lock(&self.queue.waiters).iter().map(|waiting| waiting.held.reply_bytes()).sum()
    }

    /// The log is closed: lets everyone go that still waits.
    pub(super) fn release_closed(&self) {
        if !self.flusher.is_visible() {
            // Nothing was promised.
            return self.take_waiting().into_iter().for_each(|waiting| release(waiting.held, Why::NotActive));
        }
        let durable = self.flusher.durable();
        for (waits_for, waiting) in lock(&self.queue.waiters).take_all() {
            release(waiting.held, Why::LogClosed { waits_for, durable });
        }
    }

    /// Takes out those who wait for more than this, with their positions.
    pub(super) fn take_waiting_after(&self, lsn: Lsn) -> Vec<(Lsn, Waiting)> {
        lock(&self.queue.waiters).take_after(lsn)
    }

    /// Takes out everyone who waits: for those who get no acknowledgement (the server became a replica).
    pub(super) fn take_waiting(&self) -> Vec<Waiting> {
        lock(&self.queue.waiters).take_all().into_iter().map(|(_, waiting)| waiting).collect()
    }
}
