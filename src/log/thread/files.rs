//! The thread for work on files that no reply waits for: bases are made durable and read again, old files are removed.

use super::queue::{Message, Queue};
use crate::log::error::LogError;
use crate::log::storage::Storage;
use crate::log::write::{AheadJob, AheadSlot, BaseJob, Expendable, NewBase, WantedAhead};
use crossbeam::channel::Receiver;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Gets what became of a base, exactly once.
pub(super) struct Answer {
    on_done: Option<OnDone>,
}

pub(super) type OnDone = Box<dyn FnOnce(Result<(), LogError>) + Send>;

impl Answer {
    pub fn new(on_done: OnDone) -> Answer {
        Answer { on_done: Some(on_done) }
    }

    pub fn give(mut self, outcome: Result<(), LogError>) {
        if let Some(on_done) = self.on_done.take() {
            on_done(outcome);
        }
    }
}

impl Drop for Answer {
    /// Whoever was to answer has ended.
    fn drop(&mut self) {
        if let Some(on_done) = self.on_done.take() {
            on_done(Err(LogError::Closed));
        }
    }
}

pub(super) enum Task {
    PrepareBase(NewBase, Answer),
    WriteAhead(WantedAhead),
    /// Removes files, and then reports what became of the base that took their place.
    Remove(Vec<String>, Option<(Answer, Result<(), LogError>)>),
}

pub(super) struct Files<S: Storage> {
    pub storage: Arc<S>,
    pub expendable: Arc<Expendable<S>>,
    pub ahead_slot: Arc<AheadSlot<S::File>>,
    pub tasks: Receiver<Task>,
    pub queue: Arc<Queue>,
    /// The log is being closed: nobody wants a base any more.
    pub is_closing: Arc<AtomicBool>,
}

impl<S: Storage> Files<S> {
    /// The thread; ends when nobody can send tasks.
    pub fn main(self) {
        while let Ok(task) = self.tasks.recv() {
            self.contain(task);
        }
    }

    /// Does the next task, if there is one.
    pub fn try_step(&self) -> bool {
        self.tasks.try_recv().is_ok_and(|task| {
            self.contain(task);
            true
        })
    }

    fn contain(&self, task: Task) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.work(task))) {
            self.queue.push(Message::Panicked(super::worker::panic_error(&*panic)));
        }
    }

    fn work(&self, task: Task) {
        let (storage, expendable) = (&*self.storage, &*self.expendable);
        match task {
            Task::Remove(names, told) => {
                expendable.remove(&names);
                if let Some((answer, outcome)) = told {
                    answer.give(outcome);
                }
            }
            Task::WriteAhead(wanted) => {
                let is_cancelled = || self.is_closing.load(Ordering::Acquire);
                // Without one the log creates its segments when it needs them.
                self.ahead_slot.give((AheadJob { storage, expendable, is_cancelled: &is_cancelled }).run(wanted).ok());
            }
            Task::PrepareBase(base, answer) => {
                let is_cancelled = || self.is_closing.load(Ordering::Acquire);
                match (BaseJob { storage, expendable, is_cancelled: &is_cancelled }).run(&base) {
                    // After the end the answer is dropped, which says so.
                    Ok(prepared) => drop(self.queue.push(Message::NameBase(prepared, answer))),
                    Err(error) => answer.give(Err(error)),
                }
            }
        }
    }
}
