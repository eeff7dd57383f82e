//! How the log is made durable: what speaks against inline, and when it is chosen (`core/commit.rs`).

use crate::core::commit::{Flushes, Mode, Round};
use crate::core::hash;
use crate::core::leaf::ClientId;
use crate::ffi::Ctx;
use crate::machine;
use crate::module::waits::wait_now;
use crate::module::{Iteration, Module, config, gate, with};
use std::mem::take;

impl Module {
    /// Whether the main thread makes the log durable at the end of this iteration.
    pub(super) fn commits_inline(&self) -> bool {
        self.commits.mode() == Mode::Inline && self.life.withholds()
    }

    /// An iteration has ended, and all that it has written may leave: chooses for the next one.
    pub(super) fn choose_mode(&mut self) {
        self.iteration.waits.may_leave();
        let now_us = machine::monotonic_us();
        let Iteration { began_us, waiting, writes, unheld_writes, commands, .. } = &mut self.iteration;
        let began_us = if *commands > 0 { *began_us } else { now_us };
        let (waiting, writes, unheld, commands) = (take(waiting), take(writes), take(unheld_writes), take(commands));
        let Some(log) = self.log() else { return self.commits.turn_async() };
        let durable = log.log().durable();
        let statistics = log.log().statistics();
        let flushes =
            Flushes { count: statistics.syncs(), slow: statistics.slow_syncs(), average_us: statistics.sync_ewma_us() };
        // In async, those left by earlier iterations wait, too.
        let (waiting, has_failed) = (waiting.max(log.waiting() as u32), log.has_failed() || log.log().is_failing());
        let round = Round { began_us, waiting, writes, unheld, reads: commands.saturating_sub(writes) };
        if self.commits_inline() {
            self.dirty.clean_up_to(durable);
        }
        let is_possible = self.may_commit_inline(has_failed);
        self.commits.choose(config::commit_mode(), is_possible, flushes, round, now_us);
    }

    /// A command of a client is about to run. Before the first one of an iteration the server may turn async.
    pub(super) fn command_comes(&mut self) {
        if self.iteration.commands == 0 {
            let now_us = machine::monotonic_us();
            self.iteration.began_us = now_us;
            if self.commits.has_rested(config::commit_mode(), now_us) && self.undurable(Some(self.appended())).is_none()
            {
                self.commits.turn_async();
            }
        }
        self.iteration.commands += 1;
    }

    /// The server sends the replies that are written: at the end of an iteration, or as it yields.
    pub(super) fn server_sends(&mut self) {
        hash::empty(&mut self.iteration.without_output);
        self.iteration.askers.begin();
        self.clients.are_sent();
    }

    /// The same while a script of this client's runs, if there is one: the server protects that client, and sends it
    /// nothing.
    pub(super) fn server_sends_to_others(&mut self, protected: Option<ClientId>) {
        let kept = protected.filter(|client| self.iteration.without_output.contains(client));
        self.server_sends();
        self.iteration.without_output.extend(kept);
    }

    /// Whether nothing speaks against inline.
    fn may_commit_inline(&self, has_failed: bool) -> bool {
        self.life.withholds()
            && !has_failed
            && !self.paused
            // Replies are sent by other threads, at any time.
            && !self.server.io_threads.may_send()
            // Their timers run between the commands and the end of the iteration, and may let replies out (Yield).
            && !self.server.other_modules
            && !gate::waits_for_command()
    }
}

/// Makes everything durable that the iteration has done so far, and goes on async.
pub(super) fn leave_inline(ctx: Ctx<'_>) {
    let appended = with(|module| module.commits_inline().then(|| module.appended()));
    if let Some(Some(lsn)) = appended {
        wait_now(ctx, lsn);
        with(|module| module.iteration.waits.take());
    }
    with(|module| module.commits.turn_async());
}
