//! Slots that move between nodes key by key (`CLUSTER SETSLOT ... MIGRATING`, `IMPORTING`).
//!
//! The server refuses a command that names a key of such a slot that is not here, and sends its client elsewhere
//! (`-ASK`, `-TRYAGAIN`, before anything of the module runs). Unlike other refusals that shows the dataset: the key has
//! gone. Where it has gone by a change that is not durable yet the loop waits, whatever becomes of the command.

use crate::core::ack::{Hold, Moment, decide};
use crate::core::capture::Class;
use crate::core::leaf::ClientId;
use crate::core::reads::Reads;
use crate::ffi::{Ctx, Filter, KeyKind};
use crate::log::Lsn;
use crate::machine::now_ms;
use crate::module::arguments::key_positions;
use crate::module::cluster::{MovingSlots, moving_slots};
use crate::module::facts::Asked;
use crate::module::known::Known;
use crate::module::units::ask_for_unit_end;
use crate::module::{Module, commands, with};

/// A CLUSTER SETSLOT may wait for replicas, or in a queue, before it takes effect. So long the server is asked again
/// in later iterations.
const TAKES_EFFECT_WITHIN_MS: i64 = 600_000;

/// What is known of slots that move.
#[derive(Debug, Default)]
pub(super) struct Moving {
    /// Some may move; the server is asked which.
    pub(super) may_move: bool,
    /// A CLUSTER SETSLOT was seen that may take effect until then, in milliseconds since the Unix epoch.
    until_ms: i64,
    /// What the server has answered in this iteration; `None` before it is asked.
    slots: Option<MovingSlots>,
}

impl Moving {
    /// Logging begins: in a cluster some may move since before that.
    pub(super) fn begin(in_cluster: bool) -> Moving {
        Moving { may_move: in_cluster, ..Moving::default() }
    }

    /// A CLUSTER SETSLOT has run, or is about to in an EXEC, or is called.
    pub(super) fn announced(&mut self) {
        *self = Moving { may_move: true, until_ms: now_ms().saturating_add(TAKES_EFFECT_WITHIN_MS), slots: None };
    }

    pub(super) fn iteration_ended(&mut self) {
        self.slots = None;
    }

    /// Which slots move.
    fn slots(&mut self, ctx: Ctx<'_>) -> &MovingSlots {
        let slots = self.slots.get_or_insert_with(|| moving_slots(ctx));
        if slots.is_empty() && self.until_ms <= now_ms() {
            self.may_move = false;
        }
        slots
    }
}

impl Module {
    /// The newest change that the server shows if it refuses the command for a key that has gone, and that is not
    /// durable.
    fn gone_key(&mut self, ctx: Ctx<'_>, filter: &Filter, client: ClientId, known: Known) -> Option<Lsn> {
        let positions = match known.reads {
            Reads::Range { .. } | Reads::Pairs => key_positions(ctx, filter, known.reads),
            _ => ctx.command_keys((0..filter.len()).map(|index| filter.arg(index))),
        };
        let keys = || positions.iter().map(|index| filter.arg(*index));
        self.undurable(keys().filter_map(|key| self.dirty.key_anywhere(key)).max())?;
        let (db, own) = (self.info_of(ctx, client)?.db, ctx.own());
        own.select_db(db);
        // As the server looks at them: an expired one has gone.
        let gone = keys().filter(|key| own.key_kind(key) == KeyKind::None);
        let changes: Vec<(&[u8], Lsn)> =
            gone.filter_map(|key| Some((key, self.undurable(self.dirty.key(db, key))?))).collect();
        if changes.is_empty() {
            return None;
        }
        let slots = self.moving.slots(ctx);
        let among_several = positions.len() > 1;
        let change = changes.into_iter().filter(|(key, _)| slots.have(key, among_several)).map(|(_, lsn)| lsn).max()?;
        filter.may_be_run_by(ctx, client, Some(db)).then_some(change)
    }

    /// The same for a transaction; its keys need not have gone.
    fn gone_keys_of_queue(&mut self, ctx: Ctx<'_>, client: ClientId) -> Option<Lsn> {
        let queued = &self.clients.get(client)?.transaction.queued;
        let db = self.info_of(ctx, client)?.db;
        let newest =
            if queued.names_all_keys() { queued.newest_change(db, &self.dirty) } else { self.dirty.any_change() };
        let newest = self.undurable(newest)?;
        (!self.moving.slots(ctx).is_empty()).then_some(newest)
    }

    /// The change that the server shows if it refuses what this client wants to have run now. Whether there is one to
    /// wait for.
    fn note_gone_keys(&mut self, ctx: Ctx<'_>, filter: &Filter) -> bool {
        if !self.moving.may_move || self.dirty.is_empty() {
            return false;
        }
        let client = filter.client_id();
        let known = self.server.commands.known(filter.arg(0), filter.arg(1));
        let change = match known.class {
            _ if known.refuses(filter.len()) => None,
            Class::Exec => self.gone_keys_of_queue(ctx, client),
            // Of a transaction only the EXEC is refused for its keys.
            _ if self.is_queueing(ctx, client) => None,
            _ => self.gone_key(ctx, filter, client, known),
        };
        let mut facts = Asked::new(self, ctx, client).about_gone_key(change.is_some());
        match (change, decide(Moment::MayBeRefused, &mut facts)) {
            (Some(change), Hold::AtIterationEnd(reason)) => {
                self.replies.wait_for(client, change, reason);
                true
            }
            _ => false,
        }
    }
}

/// A connected client wants a command to run now: the loop waits for what the server shows if it refuses that for a key
/// that has gone. Of a refused command no unit's end is told, so that this is a unit of its own, before the command.
pub(super) fn wait_for_gone_keys(ctx: Ctx<'_>, filter: &Filter) {
    if with(|module| module.note_gone_keys(ctx, filter)) == Some(true) {
        ask_for_unit_end(ctx);
        commands::call_for_nothing(ctx);
    }
}
