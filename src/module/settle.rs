//! Announced is not executed: the filter sees commands before the server has accepted them, and what it refuses (no
//! password, no rights, wrong arguments, no memory, another node's slot) must have no effect here.
//!
//! Most effects follow from events, which only commands that run raise. The others wait in what runs ([`IfRun`]) and
//! are applied when the command has been seen to run: at the end of its unit, before the next command, or at the end of
//! the iteration, whichever comes first. Of a command that was refused nothing is left by then.

use crate::core::ack::{Hold, Moment, Reason, decide};
use crate::core::dirty::DbKey;
use crate::core::execution::{Exec, IfRun, UnitEnd, What};
use crate::core::leaf::ClientId;
use crate::core::pops::Wanted;
use crate::core::quirk::Quirks;
use crate::core::silent::Waits;
use crate::core::table::{self, Quirk, Rule};
use crate::ffi::Ctx;
use crate::machine::now_ms;
use crate::module::arguments::keys_in;
use crate::module::facts::Asked;
use crate::module::listed::{is_blocked_in, waits};
use crate::module::units::{ask_for_unit_end, finish_unit};
use crate::module::{Module, commands, server, with};

/// Whether what comes through the filter under this client's id belongs to something that runs: the script or module's
/// command that was announced last, or the work of another module at the end of a unit.
///
/// The id says little, as the server gives the ids of connected clients to those of modules' threads. But where nothing
/// runs, the server ends the unit after any call of a command. A module's call may be the first that is seen of what
/// runs: a module that was loaded before this one is told of events earlier.
pub(super) fn belongs_to_running(ctx: Ctx<'_>, client: ClientId) -> bool {
    let may = with(|module| module.running.is_opaque() || module.clients.shares_id(client));
    if may != Some(true) {
        return false;
    }
    ask_for_unit_end(ctx);
    commands::call_for_nothing(ctx);
    with(|module| module.unit_end != UnitEnd::NotAsked) == Some(true)
}

/// The command announced last has run by now, or never will: applies what it did.
pub(super) fn settle(ctx: Ctx<'_>) {
    if with(|module| module.settle_inside(ctx)) == Some(true) {
        finish_unit(ctx);
    }
    if with(|module| module.running.is_settled()) != Some(false) {
        return;
    }
    if settle_unseen(ctx) {
        finish_unit(ctx);
    }
    with(|module| {
        let client = module.running.client;
        match module.running.settle() {
            // A module's command that has blocked its client, whose id the server gives to others from then on.
            What::OtherModule if module.is_blocked(ctx, client) => module.note_blocked_by_module(ctx, client),
            What::Command(IfRun::Unseen { .. }) => module.capture.not_blocked(client),
            // It has raised no event: it has changed nothing, and may show anything; or the server has refused it.
            What::Command(IfRun::WaitsAnyway) => module.wait_for_all(client, Reason::Inline),
            What::Exec(Exec { unseen: Some(_), .. }) if !module.is_blocked(ctx, client) => {
                module.capture.stop_stepping();
            }
            What::Command(IfRun::Blocking { deadline_ms, streams }) => {
                module.settle_blocking(ctx, deadline_ms, streams);
            }
            What::Command(IfRun::Quirk { quirk, name, runs_before }) => {
                let is_same = |before| server::successes_of(ctx, name) == Some(before);
                module.settle_quirk(ctx, quirk, !runs_before.is_some_and(is_same));
            }
            What::Command(IfRun::Transaction { may_unwatch }) => {
                module.settle_transaction(ctx, client, may_unwatch);
            }
            _ => {}
        }
    });
}

/// Takes up a deferred end of a unit, once it has ended.
pub(super) fn finish_deferred(ctx: Ctx<'_>) {
    if with(|module| module.running.ends_late()) == Some(true) && !ctx.flags().in_exec() {
        with(|module| module.running.end_late());
        settle_unseen(ctx);
        finish_unit(ctx);
    }
}

/// Applies what a write did whose effect no event reports, if it has run. Returns whether it has.
pub(super) fn settle_unseen(ctx: Ctx<'_>) -> bool {
    let settled = with(|module| {
        let (name, runs_before) = match &module.running.what {
            What::Command(IfRun::Unseen { name, runs_before, .. }) => (*name, *runs_before),
            What::Exec(Exec { unseen: Some(runs_before), .. }) => (table::EXEC, *runs_before),
            _ => return false,
        };
        let client = module.running.client;
        let blocked = module.is_blocked(ctx, client);
        let runs = runs_before.and_then(|_| server::runs_of(ctx, name));
        if !blocked && runs_before.is_some() && runs == runs_before {
            return false;
        }
        let settled = match &mut module.running.what {
            // It may be one that another module has called in its filter: this one is looked after until it is over.
            What::Command(IfRun::Unseen { changes, runs_before, deadline_ms, .. })
                if runs.is_some() && !blocked && module.server.other_modules =>
            {
                *runs_before = runs;
                Some((changes.clone(), *deadline_ms))
            }
            _ => match module.running.settle() {
                What::Command(IfRun::Unseen { changes, deadline_ms, .. }) => Some((changes, deadline_ms)),
                What::Exec(_) if blocked => {
                    module.capture.exec_waits(client);
                    None
                }
                _ => None,
            },
        };
        if let Some((changes, deadline_ms)) = settled {
            let may_be_postponed = !module.delayed.is_empty();
            let waits = if may_be_postponed { Waits::MayBePostponed } else { Waits::Blocked };
            module.capture.unseen(client, changes, blocked.then_some(waits), ctx.unit_time_us() / 1000);
            module.capture.blocked.set_deadline(client, deadline_ms);
        }
        if !blocked {
            module.wait_unheld(ctx);
        }
        !blocked
    });
    settled == Some(true)
}

impl Module {
    /// What has been called inside of what runs is over: applies what of it no event has reported. Returns whether it
    /// may have changed anything.
    pub(super) fn settle_inside(&mut self, ctx: Ctx<'_>) -> bool {
        let changed = self.capture.prove(ctx.unit_time_us() / 1000, |proof| server::count(ctx, proof));
        if changed {
            self.wait_for_running(ctx);
        }
        changed
    }

    /// What commands of such quirks change for others, which run now or will.
    pub(super) fn will_run(&mut self, ctx: Ctx<'_>, quirks: Quirks, client: ClientId) {
        if quirks.have(Quirk::MovesSlots) && ctx.flags().in_cluster() {
            self.moving.announced();
        }
        if quirks.have(Quirk::Tracks) {
            self.clients.may_track(client, true);
        }
        if quirks.have(Quirk::ChangesRights) {
            self.capture.blocked.pops.all_may_fail();
        }
        if quirks.have(Quirk::Pauses) {
            self.note_delayed_readers();
        }
        if quirks.have(Quirk::ChangesUnseen) {
            self.bases.log_lacks_changes();
        }
    }

    /// Such a command has run, or was refused, or waits for the end of a pause.
    fn settle_quirk(&mut self, ctx: Ctx<'_>, quirk: Quirk, has_run: bool) {
        let client = self.running.client;
        match (quirk, self.info_of(ctx, client)) {
            (_, Some(info)) if waits(info, &self.delayed, ctx, client) => self.will_run(ctx, quirk.into(), client),
            (Quirk::Tracks, Some(info)) => self.clients.may_track(client, info.tracking),
            _ if has_run => self.will_run(ctx, quirk.into(), client),
            _ => {}
        }
    }

    /// Whether a connected client waits in a command.
    pub(super) fn is_blocked(&self, ctx: Ctx<'_>, client: ClientId) -> bool {
        is_blocked_in(&self.clients, &self.delayed, ctx, client)
    }

    /// Another module has blocked the client, and will answer it.
    pub(super) fn note_blocked_by_module(&mut self, ctx: Ctx<'_>, client: ClientId) {
        if self.delayed.is_empty() {
            // Otherwise it may be the pause that makes it wait.
            self.clients.get_mut(client).into_iter().for_each(|client| client.shares_id = true);
        }
        self.clients.blocked_by_module(client);
        if let Hold::AtUnitEnd(_) = decide(Moment::MayBeAnswered, &mut Asked::new(self, ctx, client)) {
            self.wait_for_all(client, Reason::OtherModule);
        }
    }

    /// The client of a command that the server may have made wait.
    fn settle_blocking(&mut self, ctx: Ctx<'_>, deadline_ms: Option<i64>, streams: Vec<DbKey>) {
        let client = self.running.client;
        let info = self.info_of(ctx, client);
        // It may have waited for a moment, and its answer (nothing came) is on its way.
        let blocked = info.is_some_and(|info| waits(info, &self.delayed, ctx, client));
        if !blocked && deadline_ms.is_none_or(|deadline| deadline > now_ms()) {
            return self.capture.not_blocked(client);
        }
        self.capture.park_current(client);
        let blocked = &mut self.capture.blocked;
        if !streams.is_empty() {
            blocked.wait_unseen(client, streams);
            blocked.set_deadline(client, deadline_ms);
        } else if let Some(leaf) = blocked.leaf(client) {
            let keys = keys_in(ctx, &leaf.args.slices(), info.map_or(0, |info| info.db));
            let moves = leaf.spec.filter(|spec| spec.rule == Rule::BlockingMove);
            let destination = moves.map(|spec| (keys.clone(), Wanted::by(spec)));
            blocked.wait(client, keys, deadline_ms);
            if let Some((keys, wanted)) = destination {
                self.look_at_destination(ctx, client, &keys, wanted);
            }
        }
    }
}
