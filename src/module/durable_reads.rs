//! Reads of hot keys: where the newest value of a key is not durable yet, its readers get the newest one that is, and
//! do not wait (`core/versions.rs`). `docs/design.md` says why that is right ("Reads of hot keys").

use crate::core::answer::{self, Answer};
use crate::core::dirty::DbKey;
use crate::core::leaf::ClientId;
use crate::core::table::CommandSpec;
use crate::core::unit::Unit;
use crate::core::versions::{State, VALUE_BYTES_MAX};
use crate::ffi::{Ctx, KeyKind, Reply, ReplyKind};
use crate::log::Lsn;
use crate::module::{Module, with};
use std::sync::Arc;

/// What a reader is shown of one of its keys.
enum Shown {
    /// What it holds now, which is durable.
    Present,
    /// What it held after everything that is durable: a string, or nothing.
    Durable(Option<Arc<[u8]>>),
}

impl Module {
    /// A read was announced that shows changes which are not durable: whether the newest durable values answer it.
    /// Unknown ones that are to be kept from now on are noted.
    pub(super) fn is_answered_by_durable<'a>(
        &mut self,
        client: ClientId,
        row: &CommandSpec,
        (db, now_ms): (u32, i64),
        args: impl ExactSizeIterator<Item = &'a [u8]>,
    ) -> bool {
        if row.answer == Answer::Other || self.tells_early() || self.commits_inline() {
            return false;
        }
        let durable = self.shows_durable_to(client);
        let log = self.log().cloned();
        let now = durable.or_else(|| log.map(|log| log.log().durable()));
        let Some(now) = now else { return false };
        let places = row.answer.keys(args.len());
        let mut all = durable.is_some();
        for key in args.take(places.end).skip(places.start) {
            let is_dirty = self.dirty.key(db, key).is_some_and(|change| change > now);
            if is_dirty && self.versions.at(db, key, now, now_ms).is_none() {
                self.versions.want(db, key);
                all = false;
            }
        }
        all
    }

    /// The durable position, if the client may be shown the state at it: nobody knows of anything newer, and the client
    /// has neither done nor seen anything since. Only while no other command runs.
    fn shows_durable_to(&self, client: ClientId) -> Option<Lsn> {
        if self.versions.is_empty() || self.tells_early() {
            return None;
        }
        let durable = self.log().filter(|_| self.life.is_active())?.log().durable();
        // The loop waits for what a client has done or seen without being held for it; all replies leave after that.
        let is_seen = self.iteration.waits.newest().is_some_and(|lsn| lsn > durable) || !self.replies.is_empty();
        let is_free = !self.capture.has_unit() && self.delayed.is_empty() && !self.server.imports;
        // A client that watches keys relies on what they hold now.
        let is_bound = self.clients.get(client).is_none_or(|client| client.transaction.may_watch());
        (!is_seen && is_free && !is_bound && self.versions.may_be_shown(durable)).then_some(durable)
    }

    /// Whether anybody learns of changes when they are made, and may then expect to read them: from the server's own
    /// keyspace notifications, invalidation messages, or another module.
    fn tells_early(&self) -> bool {
        self.server.notifies || self.server.other_modules || self.clients.any_may_track()
    }

    /// A unit has its position.
    pub(super) fn note_changed_versions(&mut self, unit: &Unit, lsn: Lsn) {
        // Where the iteration ends with a commit, nothing stays dirty after it.
        if !unit.emptied.is_empty() || self.commits_inline() {
            return self.versions.clear();
        }
        if self.tells_early() {
            self.versions.tell();
        }
        unit.touched().for_each(|key| self.versions.change(key, lsn));
    }

    /// What a reader is shown of each of its keys; `None` where it has to wait.
    fn shown_of(&mut self, ctx: Ctx<'_>, keys: &[&[u8]]) -> Option<Vec<Shown>> {
        let durable = self.shows_durable_to(ctx.client_id())?;
        let (db, now_ms) = (ctx.selected_db(), ctx.unit_time_us() / 1000);
        let shown = keys.iter().map(|key| {
            if self.dirty.key(db, key).is_none_or(|change| change <= durable) {
                return Some(Shown::Present);
            }
            let state = self.versions.at(db, key, durable, now_ms)?;
            Some(Shown::Durable(state.value().cloned()))
        });
        shown.collect()
    }
}

/// Answers a read with the newest durable values. `present` is its present reply, which may not leave yet. Returns
/// whether it has been answered.
pub(super) fn serve(ctx: Ctx<'_>, row: &CommandSpec, command: &[&[u8]], present: &Reply<'_>) -> bool {
    if row.answer == Answer::Other || present.kind() == ReplyKind::Error || !ctx.flags().can_block() {
        return false;
    }
    let Some(keys) = command.get(row.answer.keys(command.len())) else { return false };
    let Some(Some(shown)) = with(|module| module.shown_of(ctx, keys)) else { return false };
    let single = match shown.as_slice() {
        [Shown::Durable(value)] => Some(value.as_deref()),
        _ => None,
    };
    let is_answered = match (row.answer, single) {
        (Answer::Values, _) => {
            reply_values(ctx, &shown, present);
            true
        }
        (Answer::Count, _) => {
            let is_there = |(shown, key): (&Shown, &&[u8])| match shown {
                Shown::Present => ctx.key_kind(key) != KeyKind::None,
                Shown::Durable(value) => value.is_some(),
            };
            let count = shown.iter().zip(keys).filter(|pair| is_there(*pair)).count();
            ctx.reply_integer(i64::try_from(count).unwrap_or(i64::MAX));
            true
        }
        (Answer::Value, Some(value)) => {
            reply_value(ctx, value);
            true
        }
        (Answer::Length, Some(value)) => {
            ctx.reply_integer(value.map_or(0, |value| i64::try_from(value.len()).unwrap_or(i64::MAX)));
            true
        }
        (Answer::Range, Some(value)) => {
            let number = |index: usize| std::str::from_utf8(command.get(index)?).ok()?.parse().ok();
            match (number(2), number(3)) {
                (Some(start), Some(end)) => {
                    ctx.reply_bulk(answer::range(value.unwrap_or_default(), start, end));
                    true
                }
                _ => false,
            }
        }
        _ => false,
    };
    if is_answered {
        with(|module| module.counters.reads_from_durable += 1);
    }
    is_answered
}

fn reply_value(ctx: Ctx<'_>, value: Option<&[u8]>) {
    match value {
        Some(value) => ctx.reply_bulk(value),
        None => ctx.reply_null(),
    }
}

fn reply_values(ctx: Ctx<'_>, shown: &[Shown], present: &Reply<'_>) {
    ctx.reply_array(shown.len());
    for (index, shown) in shown.iter().enumerate() {
        match shown {
            Shown::Durable(value) => reply_value(ctx, value.as_deref()),
            Shown::Present => {
                let element = present.element(index).filter(|element| element.kind() == ReplyKind::String);
                reply_value(ctx, element.as_ref().map(Reply::bytes));
            }
        }
    }
}

/// The iteration is at its end, and its last unit is logged: reads what hot keys hold now, to be shown when that is
/// durable.
pub(super) fn keep(ctx: Ctx<'_>) {
    let due = with(|module| {
        // Whatever has happened by now is logged.
        let is_whole = module.log().is_some() && !module.capture.has_unit();
        if is_whole { module.versions.due(module.appended()) } else { Vec::new() }
    });
    for key in due.unwrap_or_default() {
        let state = state_of(ctx, &key);
        with(|module| {
            let Some(durable) = module.log().map(|log| log.log().durable()) else { return };
            let appended = module.appended();
            module.versions.keep(key, state, &module.dirty, appended, durable);
        });
    }
}

/// What a key holds; `None` where that is not a string, or a long one.
fn state_of(ctx: Ctx<'_>, (db, key): &DbKey) -> Option<State> {
    let own = ctx.own();
    if !own.select_db(*db) {
        return None;
    }
    match own.key_kind(key) {
        KeyKind::None => Some(State::Missing),
        KeyKind::String if own.key_length(key, KeyKind::String)? <= VALUE_BYTES_MAX => {
            let expires_ms = own.key_expiry_ms(key);
            // Opening it (`StringDMA`) would change how the server keeps short values and numbers.
            let value = own.ask("GET", [&key[..]]).filter(|value| value.kind() == ReplyKind::String)?;
            Some(State::Value { bytes: value.bytes().into(), expires_ms })
        }
        _ => None,
    }
}
