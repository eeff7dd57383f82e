//! Bases, from the creation of their file to their place in the manifest.

use super::Flusher;
use crate::log::error::LogError;
use crate::log::format::names::{new_number, temporary_base_name};
use crate::log::storage::Storage;
use crate::log::thread::answer::{Answer, OnDone};
use crate::log::thread::files::Task;
use crate::log::thread::queue::Message;
use crate::log::write::{NewBase, PreparedBase, create_base};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl<S: Storage> Flusher<S> {
    /// Has the file of a new base created, which gets the room that is held for it; returns its name. Waits for
    /// nothing; `on_done` gets the file, from one of the log's threads. A base that is given up, whether its file is
    /// there already or not, must be removed by [`Flusher::remove_base_file`].
    pub fn create_base_file(&self, on_done: OnDone<S::File>) -> Result<String, LogError> {
        let name = self.new_base_name()?;
        self.send(Task::CreateBase(name.clone(), Answer::new(on_done)));
        Ok(name)
    }

    /// The same at once, as soon as the disk answers.
    pub fn new_base_file(&self) -> Result<(String, S::File), LogError> {
        let name = self.new_base_name()?;
        let file = create_base(&*self.storage, &self.expendable, &name)?;
        Ok((name, file))
    }

    fn new_base_name(&self) -> Result<String, LogError> {
        Ok(temporary_base_name(new_number(self.next_base.fetch_add(1, Ordering::Relaxed))?))
    }

    /// Whether the log has taken the room of a base that is being written: nothing will come of it.
    pub fn has_given_up(&self, name: &str) -> bool {
        self.expendable.is_void(name)
    }

    /// Has the file of a base that is given up removed later.
    pub fn remove_base_file(&self, name: String) {
        self.expendable.give_up(std::slice::from_ref(&name));
        self.send(Task::Remove(vec![name], None));
    }

    /// Makes a file the base of the log: synced, read again and checked, renamed, and then named by the manifest in
    /// place of everything before its position. For a log that waited for its base this is the moment in which it
    /// appears. Waits for nothing; `on_done` is called by one of the log's threads.
    ///
    /// If this fails the file is gone and the log goes on as before; only a failure of the last step is a failure of
    /// the log.
    pub fn install_base(&self, base: NewBase, on_done: OnDone) {
        let (queue, answer) = (Arc::clone(&self.queue), Answer::new(on_done));
        let on_prepared = move |prepared| match prepared {
            // After the end the answer is dropped, which says so.
            Ok(prepared) => drop(queue.push(Message::NameBase(prepared, answer))),
            Err(error) => answer.give(Err(error)),
        };
        self.prepare_base(base, Box::new(on_prepared));
    }

    /// All of this but the last step: for the first base of a log, which [`Flusher::name_base`] names.
    pub fn prepare_base(&self, base: NewBase, on_done: OnDone<PreparedBase>) {
        // A thread that has ended drops the answer, which says so.
        self.send(Task::PrepareBase(base, Answer::new(on_done)));
    }

    /// The last step, after which a start finds the log. All that was handed over before is durable before that, and
    /// no position is published meanwhile. The answer comes when positions are published again.
    pub fn name_base(&self, base: PreparedBase, on_done: OnDone) {
        self.published.begin_naming();
        self.queue.push(Message::NameBase(base, Answer::new(on_done)));
    }

    /// Whether a start would find the log.
    pub fn is_visible(&self) -> bool {
        self.published.is_visible()
    }
}
