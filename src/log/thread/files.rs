//! The thread for work on files that no reply waits for: bases are made durable and checked, old files are removed.

use super::answer::Answer;
use super::queue::{Message, Queue};
use crate::log::error::LogError;
use crate::log::open::CheckBase;
use crate::log::storage::{Storage, failed};
use crate::log::write::{
    AheadJob, AheadSlot, AheadStep, Backup, BaseJob, Expendable, NewBase, PreparedBase, WantedAhead, WantedReserve,
};
use crate::log::write::{backups, create_base, remove_backup, remove_shared};
use crossbeam::channel::{Receiver, TryRecvError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(super) enum Task<F> {
    /// Creates the file of a base that is about to be written, which gets the room that is held for it.
    CreateBase(String, Answer<F>),
    /// Makes a base durable, checks it and gives it its name.
    PrepareBase(NewBase, Answer<PreparedBase>),
    WriteAhead(WantedAhead),
    /// Reserves this much room for the next base.
    KeepReserve(WantedReserve),
    /// Lists the backups.
    ListBackups(Answer<Vec<Backup>>),
    RemoveBackup(String, Answer),
    /// Gives up kept history that is older than this time or takes more bytes.
    TrimHistory(u64, u64),
    /// Removes the copy that belongs to this base.
    RemoveShared(String),
    /// Removes files, and then reports what became of the base that took their place.
    Remove(Vec<String>, Option<(Answer, Result<(), LogError>)>),
}

pub(super) struct Files<S: Storage> {
    pub storage: Arc<S>,
    pub expendable: Arc<Expendable<S>>,
    pub ahead_slot: Arc<AheadSlot<S::File>>,
    /// The segment that is being written ahead, while there is nothing else to do.
    pub ahead: Option<AheadJob<S::File>>,
    pub tasks: Receiver<Task<S::File>>,
    pub queue: Arc<Queue>,
    pub check_base: CheckBase,
    /// The log is being closed: a base is no longer wanted.
    pub is_closing: Arc<AtomicBool>,
}

impl<S: Storage> Files<S> {
    /// The thread; ends when nobody can send tasks.
    pub fn main(mut self) {
        loop {
            // A task goes before the next piece of a segment, whose end nobody waits for.
            let task = match &self.ahead {
                Some(_) => self.tasks.try_recv(),
                None => self.tasks.recv().map_err(TryRecvError::from),
            };
            match task {
                Ok(task) => self.contain(|files| files.work(task)),
                Err(TryRecvError::Empty) => self.contain(Files::step_ahead),
                Err(TryRecvError::Disconnected) => break,
            }
        }
        self.contain(Files::give_up_ahead);
    }

    /// Does the next task or piece, if there is one.
    pub fn try_step(&mut self) -> bool {
        match self.tasks.try_recv() {
            Ok(task) => self.contain(|files| files.work(task)),
            Err(_) if self.ahead.is_some() => self.contain(Files::step_ahead),
            Err(_) => return false,
        }
        true
    }

    fn contain(&mut self, step: impl FnOnce(&mut Files<S>)) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| step(self))) {
            self.queue.push(Message::Panicked(LogError::panicked(&*panic)));
        }
    }

    /// Without a segment that was written ahead the log creates its segments when it needs them.
    fn step_ahead(&mut self) {
        if self.is_closing.load(Ordering::Acquire) {
            return self.give_up_ahead();
        }
        let Some(job) = self.ahead.take() else { return };
        match job.step(&*self.storage, &self.expendable) {
            Ok(AheadStep::More(job)) => self.ahead = Some(job),
            Ok(AheadStep::Done(ahead)) => self.ahead_slot.give(Some(ahead)),
            Err(_) => self.ahead_slot.give(None),
        }
    }

    fn give_up_ahead(&mut self) {
        if let Some(job) = self.ahead.take() {
            job.give_up(&self.expendable);
            self.ahead_slot.give(None);
        }
    }

    fn work(&mut self, task: Task<S::File>) {
        let (storage, expendable) = (&*self.storage, &*self.expendable);
        match task {
            Task::Remove(names, told) => {
                expendable.remove(&names);
                if let Some((answer, outcome)) = told {
                    answer.give(outcome);
                }
            }
            Task::WriteAhead(wanted) => match AheadJob::begin(storage, expendable, wanted) {
                Ok(job) => self.ahead = Some(job),
                Err(_) => self.ahead_slot.give(None),
            },
            Task::KeepReserve(wanted) => {
                // If that fails the log goes on without it, and it is tried again.
                let _ = expendable.keep_reserve(wanted);
                expendable.reserve.end_change();
            }
            Task::ListBackups(answer) => answer.give(backups(storage).map_err(failed(storage, "list", ""))),
            Task::RemoveBackup(name, answer) => answer.give(remove_backup(storage, &name)),
            Task::TrimHistory(since_unix_ms, bytes_max) => expendable.trim_history(since_unix_ms, bytes_max),
            Task::RemoveShared(base) => remove_shared(storage, &base),
            Task::CreateBase(name, answer) => answer.give(create_base(storage, expendable, &name)),
            Task::PrepareBase(base, answer) => {
                let is_cancelled = || self.is_closing.load(Ordering::Acquire);
                let job = BaseJob { storage, expendable, check: self.check_base, is_cancelled: &is_cancelled };
                answer.give(job.run(&base));
            }
        }
    }
}
