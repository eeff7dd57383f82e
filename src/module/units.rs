//! Units at their end: images are read, the unit gets its position, and its replies begin to wait.

use crate::core::ack::{Hold, Moment, Reason, Why, decide};
use crate::core::blocked::Look;
use crate::core::execution::{IfRun, Reply, UnitEnd, Way, What};
use crate::core::leaf::ClientId;
use crate::core::script_db::ScriptDb;
use crate::core::silent::PostponedKind;
use crate::core::unit::Unit;
use crate::ffi::{Ctx, Level, log};
use crate::log::Lsn;
use crate::module::disk::disconnect;
use crate::module::facts::Asked;
use crate::module::holding::begin_to_wait;
use crate::module::images::{add_functions, add_image, add_images_everywhere};
use crate::module::listed::{info_in, is_blocked_in};
use crate::module::questions::keeps_expired;
use crate::module::release::{Waiting, release};
use crate::module::waited::{count_wait, count_write};
use crate::module::waits::{AtOnce, do_at_once};
use crate::module::{Module, server, with};

/// A batch of this size is handed to the writer thread before the iteration ends.
pub(super) const EARLY_HAND_OVER_BYTES: usize = 256 * 1024;

/// Asks for a report of the running unit's end.
pub(super) fn ask_for_unit_end(ctx: Ctx<'_>) {
    let asks = with(|module| {
        let asks = module.unit_end == UnitEnd::NotAsked;
        if asks {
            module.unit_end = UnitEnd::Asked;
        }
        asks
    });
    if asks == Some(true) && !ctx.ask_for_unit_end() {
        with(|module| module.unit_end = UnitEnd::NotAsked);
    }
}

/// Ends the open unit, if there is one. What runs inside a transaction or a script ends nothing.
pub(super) fn finish_unit(ctx: Ctx<'_>) {
    let flags = ctx.flags();
    if flags.in_exec() || flags.in_script() {
        return;
    }
    if let Some(Some(unit)) = with(|module| module.take_unit(ctx)) {
        complete(ctx, unit);
    }
}

/// The server has made room: ends that unit, which is not the announced command's: that has not begun. What the command
/// shows of it, and of what was not durable before, is waited for: the end of the unit that was asked for has been used
/// up. Returns whether it was so.
pub(super) fn finish_evictions(ctx: Ctx<'_>) -> bool {
    let flags = ctx.flags();
    if flags.in_exec() || flags.in_script() {
        return false;
    }
    let evictions = with(|module| {
        let unit = if module.running.is_wrapped() { None } else { module.capture.take_evictions() }?;
        module.unit_end = UnitEnd::NotAsked;
        Some(unit)
    });
    let Some(Some(unit)) = evictions else { return false };
    let at_once = with(|module| {
        module.close_unseen(ctx);
        let lsn = module.log_unit(&unit)?;
        module.note_evicted(ctx);
        module.begin_waits(ctx, lsn)
    });
    do_at_once(ctx, at_once.flatten());
    true
}

/// Ends the unit of a command that is seen only by its events, like most. Returns whether it was one.
pub(super) fn finish_plain(ctx: Ctx<'_>) -> bool {
    let flags = ctx.flags();
    if flags.in_exec() || flags.in_script() {
        return false;
    }
    let ended = with(|module| {
        if module.server.other_modules || !module.running.is_plain() || !module.capture.ends_plainly() {
            return None;
        }
        module.unit_end = UnitEnd::NotAsked;
        let unit = match module.take_unit(ctx) {
            Some(unit) if unit.has_images() || unit.functions => return Some(Err(unit)),
            Some(unit) => unit,
            None => return Some(Ok(None)),
        };
        let at_once = module.log_unit(&unit).and_then(|lsn| module.begin_waits(ctx, lsn));
        module.capture.reuse(unit);
        Some(Ok(at_once))
    });
    match ended {
        Some(Some(Ok(at_once))) => do_at_once(ctx, at_once),
        Some(Some(Err(unit))) => complete(ctx, unit),
        _ => return false,
    }
    true
}

/// Logs what blocked commands may have changed unseen, where no unit is open. `all`: the server has served whom it can.
pub(super) fn finish_suspects(ctx: Ctx<'_>, all: bool) {
    let suspects = with(|module| {
        if !module.capture.has_suspects() {
            return None;
        }
        // A pause also makes a reader wait that is to be served.
        module.sees_pause(ctx);
        let keeps = !module.delayed.is_empty();
        let (clients, delayed) = (&module.clients, &module.delayed);
        let is_blocked = |client| is_blocked_in(clients, delayed, ctx, client);
        let look = if all { Look::All { keeps } } else { Look::Blocked(is_blocked) };
        let (unit, readers) = module.capture.suspect_unit(ctx.unit_time_us() / 1000, look)?;
        module.wait_for_served(ctx, &readers);
        Some(unit)
    });
    if let Some(Some(unit)) = suspects {
        complete(ctx, unit);
    }
}

/// Logs a unit, with the images that it is to have.
pub(super) fn complete(ctx: Ctx<'_>, mut unit: Unit) {
    let images = unit.take_images();
    let everywhere = unit.take_images_everywhere();
    let count = (images.len() + everywhere.len()) as u64;
    images.iter().for_each(|key| add_image(ctx, &mut unit, key));
    add_images_everywhere(ctx, &mut unit, &everywhere, &images);
    if unit.functions {
        add_functions(ctx, &mut unit);
    }
    let at_once = with(|module| {
        module.counters.state_images += count;
        everywhere.iter().for_each(|key| module.versions.forget_anywhere(key));
        let at_once = module.log_unit(&unit).and_then(|lsn| module.begin_waits(ctx, lsn));
        module.capture.reuse(unit);
        at_once
    });
    do_at_once(ctx, at_once.flatten());
}

impl Module {
    /// Takes the unit out that ends now; nothing while the module runs a command: the server ends a context of its own
    /// inside it; its end is asked for when it has run.
    fn take_unit(&mut self, ctx: Ctx<'_>) -> Option<Unit> {
        if self.unit_end == UnitEnd::Asked {
            self.unit_end = UnitEnd::NotAsked;
        }
        if self.running.is_wrapped() {
            return None;
        }
        self.settle_inside(ctx);
        self.running.db = ScriptDb::default();
        if self.running.is_opaque() {
            // A script that a pause has made wait is also blocked, by the server.
            let is_modules = matches!(self.running.what, What::OtherModule);
            self.running.end();
            if is_modules && self.is_blocked(ctx, self.running.client) {
                self.note_blocked_by_module(ctx, self.running.client);
            }
        }
        if self.replies.any_to_complete() {
            let mut replies = std::mem::take(&mut self.replies);
            let found = replies.drop_needless(|client| self.is_blocked(ctx, client));
            self.replies = replies;
            self.wait_for_found(ctx, found);
        }
        let waits = self.replies.any_to_complete();
        // Within what changes a key other modules may change it again, which an EXEC's events show only where each of
        // its commands raises its own.
        let errors = || if self.server.other_modules { None } else { server::error_replies(ctx) };
        let imports = self.server.imports;
        let keeps = || keeps_expired(ctx, imports);
        self.capture.end_unit(errors, keeps).or_else(|| waits.then(|| Unit::new(0)))
    }

    /// A command has changed this key, and its event says so. If the command does nothing else, and its reply waits for
    /// the end of the iteration in any case, it is logged here: its unit needs no report of its end. Returns whether it
    /// is.
    pub(super) fn log_complete(&mut self, ctx: Ctx<'_>, event: &[u8], key: &[u8]) -> bool {
        let client = self.running.client;
        let is_command = matches!(self.running.what, What::Command(IfRun::Nothing | IfRun::WaitsAnyway));
        let is_alone = is_command && self.replies.is_empty() && self.unit_end == UnitEnd::NotAsked;
        if !is_alone || !self.commits_inline() || !self.versions.is_empty() || ctx.client_id() != client {
            return false;
        }
        let mut facts = Asked::new(self, ctx, client).without_commands();
        let waits = Hold::AtIterationEnd(Reason::Inline);
        if decide(Moment::Changed, &mut facts) != waits
            || decide(Moment::UnitEnded(Reason::Inline), &mut facts) != waits
        {
            return false;
        }
        let db = ctx.selected_db();
        let Some(leaf) = self.capture.take_complete(client, event, db, key) else { return false };
        let lsn = self.batch.push_command(db, &leaf.args);
        self.capture.recycle(leaf);
        self.running.is_seen(client);
        self.end_notices(lsn);
        self.counters.units += 1;
        self.dirty.mark_briefly(key, lsn);
        count_write(&mut self.iteration, &mut self.clients, client, false);
        count_wait(&mut self.counters, &mut self.iteration, Reason::Inline);
        self.iteration.waits.add(Some(client), lsn);
        self.hand_over_early();
        true
    }

    /// Gives the unit its position, after which what it changed is dirty.
    fn log_unit(&mut self, unit: &Unit) -> Option<Lsn> {
        if self.log().is_none() {
            self.drop_replies();
            return None;
        }
        let lsn = if self.needs_base_now() || self.is_dataset_replaced() {
            // It can't be logged, or has not ended and may have begun by emptying all, and the log is about to be left:
            // a start that finds this log must bring back nothing of it.
            self.batch.push(&Unit::without_effect())
        } else {
            self.batch.push(unit)
        };
        self.end_notices(lsn);
        self.counters.units += u64::from(!unit.is_empty());
        if self.life.withholds() {
            unit.emptied.iter().for_each(|db| self.dirty.mark_all(*db, lsn));
            if unit.functions_changed {
                self.dirty.mark_functions(lsn);
            }
            if self.commits_inline() {
                unit.touched_names().for_each(|key| self.dirty.mark_briefly(key, lsn));
            } else {
                unit.touched().for_each(|key| self.dirty.mark(key, lsn));
            }
            if !self.versions.is_empty() {
                self.note_changed_versions(unit, lsn);
            }
        }
        Some(lsn)
    }

    /// Those who wait for the unit, which has this position, begin to wait. Returns what must be waited for at once,
    /// because replies that show it could leave before the end of the iteration.
    fn begin_waits(&mut self, ctx: Ctx<'_>, lsn: Lsn) -> Option<AtOnce> {
        let mut unheld = std::mem::take(&mut self.unheld);
        let newest = self.keep_replies(lsn, &mut unheld);
        self.close_readers(ctx, &unheld);
        let leaves_early = newest.is_some() && self.leaves_early(ctx, &unheld);
        if let (Some(newest), false) = (newest, leaves_early) {
            // They wait with the others at the end of the iteration.
            unheld.iter().for_each(|(client, _)| self.iteration.waits.add(Some(*client), newest));
        }
        if let Some(newest) = newest {
            // What a pause had made wait, and what other modules run, may belong to another client than the one
            // announced last.
            let is_known = self.runner().is_some() && !self.server.other_modules;
            let whose = |client: ClientId| is_known.then_some(client);
            unheld.iter().for_each(|(client, _)| self.iteration.waits.is_written(whose(*client), newest));
        }
        unheld.clear();
        self.unheld = unheld;
        if self.needs_base_now() {
            return Some(AtOnce::BeginAnew);
        }
        newest.filter(|_| leaves_early).max(self.shown_by_modules(ctx, lsn)).map(AtOnce::Wait)
    }

    /// The unit's position, if another module may show what it did in an answer that leaves before that is seen.
    fn shown_by_modules(&mut self, ctx: Ctx<'_>, lsn: Lsn) -> Option<Lsn> {
        let client = self.clients.any_blocked_by_module()?;
        match decide(Moment::MayBeAnswered, &mut Asked::new(self, ctx, client)) {
            Hold::AtUnitEnd(reason) => {
                count_wait(&mut self.counters, &mut self.iteration, reason);
                self.undurable(Some(lsn))
            }
            _ => None,
        }
    }

    /// Hands over the replies that the server defers. Returns the newest position shown by those that could not be
    /// held, and whose they are.
    fn keep_replies(&mut self, lsn: Lsn, unheld: &mut Vec<(ClientId, Reason)>) -> Option<Lsn> {
        let log = self.life.log()?;
        let (is_active, mut newest) = (self.life.withholds(), None);
        for Reply { client, way, shows } in self.replies.drain() {
            if shows.is_none() {
                let is_unheld = match way {
                    Way::Held(_) => false,
                    Way::Loop(Reason::Inline) => matches!(self.running.what, What::Exec(_)),
                    Way::Loop(_) => true,
                };
                count_write(&mut self.iteration, &mut self.clients, client, is_unheld);
            }
            match way {
                Way::Held(held) => {
                    self.counters.writes_blocked += 1;
                    self.clients.held(client, lsn);
                    begin_to_wait(&self.clients, log, lsn, Waiting { client, held });
                }
                Way::Loop(reason) if is_active => {
                    count_wait(&mut self.counters, &mut self.iteration, reason);
                    newest = newest.max(Some(shows.unwrap_or(lsn)));
                    unheld.push((client, reason));
                }
                Way::Loop(_) => {}
            }
        }
        self.hand_over_early();
        newest
    }

    fn hand_over_early(&mut self) {
        if self.batch.len() >= EARLY_HAND_OVER_BYTES {
            self.hand_over();
        }
    }

    /// Whether any of these replies could leave before the end of the iteration.
    fn leaves_early(&mut self, ctx: Ctx<'_>, replies: &[(ClientId, Reason)]) -> bool {
        replies.iter().any(|(client, reason)| {
            let hold = decide(Moment::UnitEnded(*reason), &mut Asked::new(self, ctx, *client));
            if let Hold::AtUnitEnd(reason) = hold {
                count_wait(&mut self.counters, &mut self.iteration, reason);
            }
            matches!(hold, Hold::AtUnitEnd(_))
        })
    }

    /// The server has removed keys before it runs the announced command, whose reply may show that.
    fn note_evicted(&mut self, ctx: Ctx<'_>) {
        let Some(shows) = &self.running.shows else { return };
        let change = self.info_of(ctx, self.running.client).and_then(|info| shows.newest_change(info.db, &self.dirty));
        self.note_read(change, self.running.as_sent.unwrap_or(Reason::Eviction));
    }

    /// The end of the unit that was asked for has come before the command has run. If no event shows what it does, and
    /// its reply could leave before anything else shows it, it must not leave at all.
    pub(super) fn close_unseen(&mut self, ctx: Ctx<'_>) {
        let client = self.running.client;
        if self.running.is_unseen() && self.leaves_early(ctx, &[(client, Reason::Eviction)]) {
            self.close(ctx, client);
        }
    }

    /// The server may serve these clients when the unit has ended, which it changes: of those whose own changes no
    /// event shows, none whose reply could leave before they are logged may get it.
    fn close_readers(&mut self, ctx: Ctx<'_>, waiting: &[(ClientId, Reason)]) {
        for (client, _) in waiting {
            if self.capture.blocked.may_change(*client)
                && decide(Moment::MayChange, &mut Asked::new(self, ctx, *client)) == Hold::Disconnect
            {
                self.close(ctx, *client);
            }
        }
    }

    /// The same for commands that a pause delays.
    pub(super) fn close_postponed(&mut self, ctx: Ctx<'_>) {
        for (client, delayed) in self.capture.delayed() {
            // One that was refused is none.
            let may_run = || {
                delayed == PostponedKind::Command
                    || info_in(&self.clients, ctx, client).is_some_and(|info| info.in_multi)
            };
            if may_run() && decide(Moment::Postponed, &mut Asked::new(self, ctx, client)) == Hold::Disconnect {
                self.close(ctx, client);
            }
        }
    }

    fn close(&mut self, ctx: Ctx<'_>, client: ClientId) {
        if self.clients.contains(client) && self.iteration.closed.insert(client) {
            let text = "is disconnected: nothing shows what its write does before its reply could leave";
            log(Level::Notice, &format!("client {client} {text} (docs/limits.md)"));
            disconnect(ctx, &[client]);
        }
    }

    /// Lets the running unit's replies go without waiting: there is no log (any more) to wait for.
    pub(super) fn drop_replies(&mut self) {
        for reply in self.replies.drain() {
            if let Way::Held(held) = reply.way {
                release(held, Why::NotActive);
            }
        }
    }

    /// Everything executed so far, in the log's words.
    pub(super) fn appended(&self) -> Lsn {
        self.batch.appended()
    }
}
