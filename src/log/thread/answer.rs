//! How the log's threads answer a request.

use crate::log::error::LogError;

/// Gets the outcome of a request, exactly once.
pub(super) struct Answer<T = ()> {
    on_done: Option<OnDone<T>>,
}

pub(super) type OnDone<T = ()> = Box<dyn FnOnce(Result<T, LogError>) + Send>;

impl<T> Answer<T> {
    pub fn new(on_done: OnDone<T>) -> Answer<T> {
        Answer { on_done: Some(on_done) }
    }

    pub fn give(mut self, outcome: Result<T, LogError>) {
        if let Some(on_done) = self.on_done.take() {
            on_done(outcome);
        }
    }
}

impl<T> Drop for Answer<T> {
    /// What was to answer has ended.
    fn drop(&mut self) {
        if let Some(on_done) = self.on_done.take() {
            on_done(Err(LogError::Closed));
        }
    }
}
