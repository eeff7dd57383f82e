//! How the first base of a log gets its name, and the log becomes visible.
//!
//! Replies begin to wait before that, and all that was executed until then is handed over before the base's name: the
//! log's thread makes it durable, and only then names the base. So there is no moment in which a start would find a log
//! that lacks what anybody was shown. No position is published before the base has its name. If that fails, the log is
//! where it was, and what was held leaves as its position is published: nothing was promised.

use super::base::Base;
use super::installed::{ended, installed};
use super::visible::Visible;
use crate::ffi::{Level, log};
use crate::log::{LogError, PreparedBase};
use crate::module::holding::begin_to_wait;
use crate::module::release::Release;
use crate::module::{Module, with};
use crossbeam::channel::Receiver;
use std::sync::Arc;

/// From here on replies wait; has the base named.
pub(super) fn begin(base: PreparedBase) {
    let (on_done, named) = installed();
    with(|module| {
        module.hand_over();
        let Some(logging) = module.life.logging_mut() else { return };
        logging.visible.begin_naming(named);
        logging.base = Base::Naming;
        logging.log.log().name_base(base, Box::new(on_done));
    });
}

/// Waits for the base that is being named, if one is: what comes next needs to know what becomes of it.
pub(super) fn settle() {
    if let Some(outcome) = outcome() {
        ended(outcome.map_err(|error| error.to_string()));
    }
}

/// Waits for the same; `None` where none is being named.
pub(super) fn outcome() -> Option<Result<(), LogError>> {
    let naming = with(|module| {
        let logging = module.life.logging()?;
        Some((Arc::clone(&logging.log), logging.visible.named()?.clone()))
    });
    let (release, named) = naming.flatten()?;
    Some(wait_for(&release, &named))
}

/// Waits for an answer of the log's threads.
pub(super) fn wait_for<T>(release: &Release, answer: &Receiver<Result<T, LogError>>) -> Result<T, LogError> {
    if let Some(steps) = release.log().steps() {
        while answer.is_empty() && (steps.write() | steps.flush(0) | steps.tidy()) {}
    }
    answer.recv().unwrap_or(Err(LogError::Closed))
}

impl Module {
    /// What has come of the base that was being named, if one was.
    pub(super) fn end_naming(&mut self, is_named: bool) {
        let Some(logging) = self.life.logging_mut() else { return };
        if !matches!(logging.visible, Visible::Soon { .. }) {
            return;
        }
        let waiting = logging.visible.end_naming(is_named);
        if !is_named {
            return self.forget_undurable();
        }
        self.hand_over();
        let appended = self.appended();
        let Some(logging) = self.life.logging() else { return };
        waiting.into_iter().for_each(|waiting| begin_to_wait(&self.clients, &logging.log, appended, waiting));
        if logging.following.is_none() {
            tell_active();
        }
    }

    /// The log of a server that is a primary from now on is active.
    pub(super) fn became_visible(&mut self) {
        self.begin_to_withhold();
        tell_active();
    }

    /// Replies wait from now on: what changed until now was not noted as it changed, and may not be durable yet.
    pub(super) fn begin_to_withhold(&mut self) {
        self.hand_over();
        let appended = self.appended();
        self.dirty.mark_all(None, appended);
        self.dirty.mark_functions(appended);
    }
}

fn tell_active() {
    log(Level::Notice, "the log is active: replies wait for the disk");
}
