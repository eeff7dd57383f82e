//! What the writer thread reports to the other threads: how far the log is durable, and that it failed.

use crate::lock::{lock, wait};
use crate::log::error::LogError;
use crate::log::lsn::Lsn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Debug, Default)]
struct State {
    is_paused: bool,
    /// The log's first base is about to be named.
    is_naming: bool,
    /// Nothing after it is published.
    limit: Option<Lsn>,
    is_closed: bool,
    /// Threads in [`Published::wait_durable`].
    waiting: u32,
    failure: Option<Arc<LogError>>,
    /// The disk fails now, which may pass.
    trouble: Option<Arc<LogError>>,
}

/// The ladder: `durable` <= `flushed` <= what was appended.
#[derive(Debug)]
pub(super) struct Published {
    /// What may be acknowledged. Does not move while paused and after a failure.
    durable: AtomicU64,
    /// What is on the disk.
    flushed: AtomicU64,
    /// Bytes handed over and not flushed.
    pending_bytes: AtomicU64,
    /// There is trouble. Changes under the lock of it.
    in_trouble: AtomicBool,
    /// A start would find the log.
    is_visible: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

impl Published {
    pub fn new(start: Lsn, is_visible: bool) -> Published {
        Published {
            durable: AtomicU64::new(start.get()),
            flushed: AtomicU64::new(start.get()),
            pending_bytes: AtomicU64::new(0),
            in_trouble: AtomicBool::new(false),
            is_visible: AtomicBool::new(is_visible),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub fn durable(&self) -> Lsn {
        Lsn::new(self.durable.load(Ordering::Acquire))
    }

    pub fn flushed(&self) -> Lsn {
        Lsn::new(self.flushed.load(Ordering::Acquire))
    }

    pub fn pending_bytes(&self) -> u64 {
        self.pending_bytes.load(Ordering::Relaxed)
    }

    pub fn add_pending(&self, bytes: u64) {
        self.pending_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Notes that all up to `flushed` is on the disk; others may have noted more. One thread at a time.
    pub fn set_flushed(&self, flushed: Lsn) {
        if flushed <= self.flushed() {
            return;
        }
        let bytes = flushed.bytes_since(self.flushed());
        self.flushed.store(flushed.get(), Ordering::Release);
        let before = self.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
        assert!(before >= bytes, "more was flushed than was handed over");
    }

    /// Makes what is flushed acknowledgeable, and returns it if that is news. One thread at a time.
    pub fn publish(&self) -> Option<Lsn> {
        let state = self.state();
        let flushed = self.flushed();
        let until = state.limit.map_or(flushed, |limit| limit.min(flushed));
        if state.is_paused || state.is_naming || state.failure.is_some() || until <= self.durable() {
            return None;
        }
        self.durable.store(until.get(), Ordering::Release);
        if state.waiting > 0 {
            self.changed.notify_all();
        }
        Some(until)
    }

    /// Publishes nothing after this position, nor after an earlier one that was set before.
    pub fn set_limit(&self, lsn: Lsn) {
        let limit = &mut self.state().limit;
        *limit = Some(limit.map_or(lsn, |before| before.min(lsn)));
    }

    pub fn lift_limit(&self) {
        self.state().limit = None;
    }

    pub fn limit(&self) -> Option<Lsn> {
        self.state().limit
    }

    pub fn pause(&self) {
        self.state().is_paused = true;
    }

    pub fn resume(&self) {
        self.state().is_paused = false;
    }

    /// The log's first base is about to be named: nothing is published until that has ended.
    pub fn begin_naming(&self) {
        self.state().is_naming = true;
    }

    /// That has ended; `is_visible`: a start finds the log.
    pub fn end_naming(&self, is_visible: bool) {
        self.state().is_naming = false;
        self.is_visible.fetch_or(is_visible, Ordering::AcqRel);
    }

    pub fn is_visible(&self) -> bool {
        self.is_visible.load(Ordering::Acquire)
    }

    /// Latches the first failure; `false` when there was one.
    pub fn fail(&self, error: Arc<LogError>) -> bool {
        let mut state = self.state();
        let is_first = state.failure.is_none();
        if is_first {
            state.failure = Some(error);
        }
        self.changed.notify_all();
        is_first
    }

    /// The disk fails, or does not any more.
    pub fn set_trouble(&self, trouble: Option<Arc<LogError>>) {
        let mut state = self.state();
        self.in_trouble.store(trouble.is_some(), Ordering::Release);
        state.trouble = trouble;
        self.changed.notify_all();
    }

    /// Whether the disk fails now.
    pub fn is_in_trouble(&self) -> bool {
        self.in_trouble.load(Ordering::Acquire)
    }

    pub fn trouble(&self) -> Option<Arc<LogError>> {
        self.state().trouble.clone()
    }

    pub fn set_closed(&self) {
        self.state().is_closed = true;
        self.changed.notify_all();
    }

    pub fn is_closed(&self) -> bool {
        self.state().is_closed
    }

    pub fn failure(&self) -> Option<Arc<LogError>> {
        self.state().failure.clone()
    }

    /// Why the log takes no more work: it failed, or it was closed.
    pub fn end_error(&self) -> LogError {
        match self.failure() {
            Some(first) => LogError::Failed(first),
            None => LogError::Closed,
        }
    }

    /// Waits until `lsn` is published; `false` on time-out. An error also while the disk fails.
    pub fn wait_durable(&self, lsn: Lsn, timeout: Option<Duration>) -> Result<bool, LogError> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut state = self.state();
        loop {
            if self.durable() >= lsn {
                return Ok(true);
            }
            if let Some(first) = &state.failure {
                return Err(LogError::Failed(Arc::clone(first)));
            }
            if state.is_closed {
                return Err(LogError::Closed);
            }
            if let Some(last) = &state.trouble {
                return Err(LogError::Failing(Arc::clone(last)));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(false);
            }
            state.waiting += 1;
            state = match left {
                Some(left) => self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                None => wait(&self.changed, state),
            };
            state.waiting -= 1;
        }
    }
}
