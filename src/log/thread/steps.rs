//! The work of the log's threads in steps, for a simulation that decides when each is taken.

use super::files::Files;
use super::kept::Written;
use super::queue::By;
use super::worker::Worker;
use crate::lock::lock;
use crate::log::error::LogError;
use crate::log::storage::Storage;
use crate::log::write::Folder;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// What the log's threads would do next.
pub trait Steps: Send + Sync {
    /// A writer thread takes the next turn, up to the flush of what it writes; `false` when there is none.
    fn write(&self) -> bool;
    /// One of the flushes that are under way, in their order, ends, and what is durable is reported; `false` when there
    /// is none.
    fn flush(&self, which: usize) -> bool;
    /// The thread for other files does its next task; `false` when there is none.
    fn tidy(&self) -> bool;
}

/// The threads' work; only the caller of the steps does it.
pub(super) struct Stepped<S: Storage> {
    worker: Arc<Worker<S>>,
    files: Mutex<Option<Files<S>>>,
    flushes: Mutex<VecDeque<Written<S>>>,
}

impl<S: Storage> Stepped<S> {
    pub fn new(worker: Arc<Worker<S>>, files: Files<S>) -> Stepped<S> {
        Stepped { worker, files: Mutex::new(Some(files)), flushes: Mutex::default() }
    }

    /// Takes all steps up to the close, which was asked for.
    pub fn close(&self) -> Result<Folder<S>, LogError> {
        while self.write() | self.flush(0) | self.tidy() {}
        drop(lock(&self.files).take());
        self.worker.join()
    }
}

impl<S: Storage> Steps for Stepped<S> {
    fn write(&self) -> bool {
        let Some(step) = self.worker.step() else { return false };
        lock(&self.flushes).extend(step);
        true
    }

    fn flush(&self, which: usize) -> bool {
        let written = {
            let mut flushes = lock(&self.flushes);
            let which = which % flushes.len().max(1);
            flushes.remove(which)
        };
        written.is_some_and(|written| {
            self.worker.end_commit(written, By::Log);
            true
        })
    }

    fn tidy(&self) -> bool {
        lock(&self.files).as_mut().is_some_and(Files::try_step)
    }
}
