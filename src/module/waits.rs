//! What the main thread waits for, and for how long.

use crate::core::leaf::ClientId;
use crate::ffi::{Ctx, client_info};
use crate::log::Lsn;
use crate::machine::{self, unix_ms};
use crate::module::release::Release;
use crate::module::server::BUSY_THRESHOLD;
use crate::module::{Module, broken, disk, life, server, with};
use std::time::Duration;

/// How often a paused wait lets the server look for a RESUME.
const PAUSED_POLL: Duration = Duration::from_millis(10);

/// How the main thread waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// For the writer threads.
    Wait,
    /// It does their work.
    Commit,
    /// For the end of WBL.DEBUG PAUSE.
    UntilResumed,
}

/// Who goes on with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The writer threads.
    Threads,
    /// Who has handed it over.
    Caller,
}

/// Waits for every reply that waits in the loop: what runs next may make the server send replies before the end of the
/// iteration. A script that runs long does, at whatever depth, and so do loading and other modules' commands
/// (`processEventsWhileBlocked`).
///
/// Everything that may do so is preceded by this: the filter calls it for commands, the end of the iteration for the
/// scripts that wait there. While a client's own script runs the server protects that client, whose earlier replies
/// stay where they are: if no others wait, `protected` need not wait either.
pub(super) fn wait_before_yield(ctx: Ctx<'_>, protected: Option<ClientId>) {
    if let Some(lsn) = what_to_wait_for(ctx, protected) {
        wait_now(ctx, lsn);
    }
}

/// The same in the command filter; `false` where that can't wait, so that the command must not run: while WBL.DEBUG
/// PAUSE is on. The wait for its end lets other clients in, and the server, which does not know then that it is about
/// to execute a command, mistakes the end of theirs for the end of its own busy state, and crashes.
pub(super) fn wait_in_filter(ctx: Ctx<'_>, protected: Option<ClientId>) -> bool {
    let Some(lsn) = what_to_wait_for(ctx, protected) else { return true };
    let is_refused = with(|module| {
        let is_refused = module.how_to_wait() == How::UntilResumed && module.undurable(Some(lsn)).is_some();
        if is_refused {
            module.iteration.waits.add(None, lsn);
        }
        is_refused
    });
    if is_refused == Some(true) {
        return false;
    }
    wait_now(ctx, lsn);
    true
}

fn what_to_wait_for(ctx: Ctx<'_>, protected: Option<ClientId>) -> Option<Lsn> {
    with(|module| {
        module.wait_for_timed_out(ctx);
        module.wait_for_modules_answers(ctx);
        module.wait_for_resumed(ctx, false);
        // Clients that are written to meanwhile may have output left afterwards.
        module.server_sends_to_others(protected);
        module.iteration.may_yield_since_us.get_or_insert_with(machine::monotonic_us);
        let waits = &mut module.iteration.waits;
        let with_others = protected.map_or(waits.newest(), |client| waits.newest_with_others(client));
        with_others.and_then(|_| waits.take())
    })
    .flatten()
}

/// What a unit's end leads to before anything else runs.
pub(super) enum AtOnce {
    Wait(Lsn),
    /// Something in it can't be logged. Nothing ever waits for such a unit: its log is left here.
    BeginAnew,
}

pub(super) fn do_at_once(ctx: Ctx<'_>, at_once: Option<AtOnce>) {
    match at_once {
        Some(AtOnce::Wait(lsn)) => wait_now(ctx, lsn),
        Some(AtOnce::BeginAnew) => life::begin_anew_now(ctx),
        None => {}
    }
}

/// Waits on the main thread until the position is durable.
pub(super) fn wait_now(ctx: Ctx<'_>, lsn: Lsn) {
    let Some(Some((log, how))) = with(|module| {
        let how = module.how_to_wait();
        module.hand_over_to(if how == How::Commit { Next::Caller } else { Next::Threads });
        Some((module.log().cloned()?, how))
    }) else {
        return;
    };
    if log.log().limit().is_some_and(|limit| lsn > limit) {
        return life::begin_anew_now(ctx);
    }
    let is_put_off = || how == How::UntilResumed && with(|module| module.puts_wait_off(lsn)) == Some(true);
    if log.log().durable() >= lsn || is_put_off() {
        return;
    }
    with(|module| {
        module.counters.inline_waits += 1;
        module.counters.inline_commits += u64::from(how == How::Commit);
    });
    let began_us = machine::monotonic_us();
    let outcome = match how {
        How::UntilResumed => return wait_for_resume(ctx, &log, lsn),
        How::Commit => log.commit(lsn),
        How::Wait => log.log().wait_durable(lsn, None).map(drop),
    };
    with(|module| module.note_waited(machine::monotonic_us().saturating_sub(began_us)));
    if outcome.is_err() {
        cannot_be_durable(ctx, &log);
    }
}

/// What the main thread waits for does not become durable now. The process ends if that is final; while the disk fails
/// nobody gets a reply that is already written.
fn cannot_be_durable(ctx: Ctx<'_>, log: &Release) {
    life::end_if_failed();
    if log.log().is_closed() {
        broken("the log closed while a reply waited for it");
    }
    disk::cut_off(ctx, log);
}

/// The same while WBL.DEBUG PAUSE is on: the server goes on with commands that may run while it is busy, so that a
/// RESUME can end the wait.
///
/// The client whose unit waits is protected by the server meanwhile, and as long as the pause lasts every unheld unit
/// waits at its own end, so no other unheld reply is under way, except answers of other modules to clients that they
/// have blocked, which then leave.
fn wait_for_resume(ctx: Ctx<'_>, log: &Release, lsn: Lsn) {
    let own = ctx.own();
    // The server looks at other clients only after this time.
    server::with_setting(ctx, BUSY_THRESHOLD, b"1", || {
        let before_wait = with(|module| std::mem::replace(&mut module.iteration.lets_others_in, true));
        own.with_new_context(|busy| {
            loop {
                match log.log().wait_durable(lsn, Some(PAUSED_POLL)) {
                    Ok(true) => return,
                    Ok(false) => busy.yield_to_clients(),
                    Err(_) => return cannot_be_durable(ctx, log),
                }
            }
        });
        with(|module| {
            module.iteration.lets_others_in = before_wait == Some(true);
            module.server_sends();
        });
    });
}

impl Module {
    /// The time from which the server counts the relative expiry times of what runs, in milliseconds since the Unix
    /// epoch: when that began. The server reports the same time until it lets other clients in, which get a later one;
    /// `None` when it may have.
    pub(super) fn unit_time_ms(&self, ctx: Ctx<'_>) -> Option<i64> {
        let since_us = self.iteration.may_yield_since_us;
        let may_have_yielded =
            since_us.is_some_and(|since| machine::monotonic_us().saturating_sub(since) >= self.server.busy_after_us);
        (!may_have_yielded).then(|| ctx.unit_time_us() / 1000)
    }

    fn how_to_wait(&self) -> How {
        match () {
            () if self.paused => How::UntilResumed,
            () if self.commits_inline() => How::Commit,
            () => How::Wait,
        }
    }

    /// Whether a wait for a RESUME is put off to the end of an iteration, because the server could not let others in
    /// here:
    ///
    /// - It is freeing a client, and would then free all that have gone. Nothing executes, so the end of a unit that
    ///   has come is that of a command that the server has refused.
    /// - It has let others in already, for a wait that goes on: that of a unit's end, on the main thread or on a thread
    ///   of another module. A second wait inside it would let nobody in (`VM_Yield`), so no RESUME could come.
    fn puts_wait_off(&mut self, lsn: Lsn) -> bool {
        let frees = self.iteration.gone.is_some_and(|client| client_info(client).is_some());
        let is_put_off = frees || self.iteration.lets_others_in;
        if is_put_off {
            self.iteration.waits.add(None, lsn);
        }
        is_put_off
    }

    /// Hands the batch to the writer threads. Waits for room when too much is pending.
    pub(super) fn hand_over(&mut self) {
        self.hand_over_to(Next::Threads);
    }

    fn hand_over_to(&mut self, next: Next) {
        let Some(log) = self.log().cloned() else { return };
        if self.batch.is_empty() {
            return;
        }
        let (expected, durable) = (self.batch.appended(), log.log().durable());
        let begins = Lsn::new(expected.get().saturating_sub(self.batch.len() as u64));
        self.lag.note(begins, machine::monotonic_us(), durable);
        let units = self.counters.units - std::mem::replace(&mut self.units_handed_over, self.counters.units);
        log.log().statistics().count_units(units);
        let payload = self.batch.take(log.log().take_buffer());
        let appended = match next {
            Next::Threads => log.log().append(payload, unix_ms()),
            Next::Caller => log.log().append_to_commit(payload, unix_ms()),
        };
        if appended != expected {
            broken("the log's position is not the one that was promised to waiters");
        }
        if next == Next::Caller || self.life.follows() {
            return;
        }
        self.wait_for_room(&log);
    }
}
