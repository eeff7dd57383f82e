//! The end of an iteration of the event loop: what its commands did is captured, what waits for that runs, and replies
//! wait for the disk.

use crate::core::hash;
use crate::core::leaf::ClientId;
use crate::core::script_db::ScriptDb;
use crate::ffi::{Ctx, follow_events};
use crate::log::Lsn;
use crate::module::listed::{going_on, is_blocked_in};
use crate::module::settle::{finish_deferred, settle};
use crate::module::units::{finish_suspects, finish_unit};
use crate::module::waits::wait_now;
use crate::module::{
    Module, blocking, broken, durable_reads, following, life, listening, notify, scripts, waitaof, with,
};

/// The event loop is about to send replies and to sleep.
pub fn before_sleep(ctx: Ctx<'_>) {
    // Everything that the server had of its client has run.
    with(|module| module.break_off(ctx));
    // The first one comes when the server has loaded its own files and has served nobody yet.
    if !follow_events(ctx) {
        broken("the server refuses to report changes");
    }
    // What the iteration's commands did is seen before anything else runs.
    let is_quiet = with(|module| {
        module.running.db = ScriptDb::default();
        module.is_quiet()
    });
    if is_quiet == Some(false) {
        with(Module::drop_refused);
        finish_commands(ctx);
        with(|module| {
            // An EXEC that has not been seen to run waits, or was refused.
            module.stop_stepping(ctx);
            module.close_postponed(ctx);
        });
        finish_resumed(ctx);
    }
    let has_run = blocking::run_put_off(ctx) | scripts::run_waiting(ctx);
    if has_run {
        // Readers of what they have changed are served in the next iteration.
        finish_deferred(ctx);
        settle(ctx);
        finish_unit(ctx);
    }
    durable_reads::keep(ctx);
    following::settle(ctx);
    life::before_sleep(ctx);
    let wait = with(|module| module.end_iteration(ctx));
    if let Some(Some(lsn)) = wait {
        wait_now(ctx, lsn);
    }
    with(|module| {
        module.server.io_threads = module.server.io_threads.iteration_ended();
        module.choose_mode();
        module.note_latency();
    });
    waitaof::poll(ctx);
    notify::publish_durable(ctx);
    listening::tell_durable(ctx);
}

impl Module {
    /// Nothing of the iteration runs any more: hands over what was logged. Returns what its replies wait for.
    fn end_iteration(&mut self, ctx: Ctx<'_>) -> Option<Lsn> {
        self.wait_for_timed_out(ctx);
        self.wait_for_modules_answers(ctx);
        self.wait_for_soon_shown();
        let may_delay = !self.delayed.is_empty() || !self.capture.blocked.is_empty();
        let is_paused = may_delay && self.sees_pause(ctx);
        self.wait_for_resumed(ctx, is_paused);
        self.delayed.iteration_ended(is_paused, |clients| going_on(ctx, clients));
        let waits_for = self.iteration.waits.end_iteration();
        let waits_for = if self.commits_inline() {
            // Nothing is dirty past the iteration.
            Some(self.appended())
        } else {
            self.hand_over();
            waits_for
        };
        self.moving.iteration_ended();
        if let Some(log) = self.log() {
            log.iteration_ended();
            let durable = log.log().durable();
            self.dirty.clean_up_to(durable);
            self.clients.iteration_ended(durable);
        }
        self.iteration.may_yield_since_us = None;
        hash::empty(&mut self.iteration.closed);
        self.server_sends();
        waits_for
    }
}

/// Ends the unit of the last command, and logs what blocked readers may have changed.
fn finish_commands(ctx: Ctx<'_>) {
    finish_deferred(ctx);
    settle(ctx);
    finish_unit(ctx);
    finish_suspects(ctx, true);
}

/// Logs what commands that a pause had made wait may have changed. Once in an iteration.
fn finish_resumed(ctx: Ctx<'_>) {
    with(|module| {
        let now_ms = ctx.unit_time_us() / 1000;
        let (clients, delayed) = (&module.clients, &module.delayed);
        let is_blocked = |client| is_blocked_in(clients, delayed, ctx, client);
        module.capture.resumed(now_ms, is_blocked);
        if module.capture.has_unit() {
            module.wait_for_run_after_pause(ctx);
        }
    });
    finish_unit(ctx);
}

/// The same of this client's, which has sent another command.
pub(super) fn finish_run_before(ctx: Ctx<'_>, client: ClientId) {
    let has_run = with(|module| {
        let has_run = module.capture.has_sent_another(client, ctx.unit_time_us() / 1000);
        if has_run {
            module.wait_for_run_after_pause(ctx);
        }
        has_run
    });
    if has_run == Some(true) {
        finish_unit(ctx);
    }
}
