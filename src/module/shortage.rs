//! Too little room for more writes: the log has filled the disk, or base and log take all that they may
//! (`wbl.max-log-bytes`). Writes are then refused, like those on a disk that fails and has too much to write
//! (`disk.rs`), and a checkpoint begins automatically. Reads are served, and when there is room again everything goes
//! on.
//!
//! For that, room is reserved on the disk for the next base (`log/write/reserve.rs`); this file takes care of it.

use crate::ffi::{Ctx, Filter, Level, log};
use crate::log::{Flusher, WantedReserve};
use crate::machine;
use crate::machine::unix_ms;
use crate::module::disk::{Spell, Told};
use crate::module::gate::GatedStorage;
use crate::module::known::Known;
use crate::module::{Module, config, server, with};

/// No room is held for smaller logs.
const LOG_BYTES_MIN: u64 = 64 << 10;

/// What a rotation and two manifests take beside a base.
const MARGIN_BYTES: u64 = 64 << 10;

/// What a frame takes beside its commands, filled up to the end of its block, and what an argument takes beside its
/// bytes, at most.
const FRAME_BYTES: u64 = 4096 + 64;
const ARGUMENT_BYTES: u64 = 16;

/// By this part writes that free memory may exceed the bound, and by this many bytes in any case.
const FREEING_PART: u64 = 16;
const FREEING_BYTES_MIN: u64 = 64 << 10;

/// How often room that was missing is looked for, or less is kept.
const CHANGE_EVERY_US: u64 = 1_000_000;

/// Since when writes are refused, and when the room that is held may be changed.
#[derive(Debug, Default)]
pub(super) struct Shortage {
    spell: Spell,
    /// What was to be held when that was looked at last.
    wanted: u64,
    change_us: u64,
}

impl Shortage {
    /// Wall-clock milliseconds; 0 while writes are taken.
    pub(super) fn since_ms(&self) -> u64 {
        self.spell.since_ms()
    }

    /// Notes why writes are refused; returns a line for the server's log.
    fn note(&mut self, reason: Option<&str>, now_ms: u64) -> Option<(Level, String)> {
        let reason_text = reason.unwrap_or_default();
        Some(match self.spell.note(reason.is_some(), now_ms)? {
            Told::Begins => (Level::Warning, format!("writes are refused until there is room: {reason_text}")),
            Told::GoesOn { seconds } => {
                (Level::Warning, format!("writes are refused for {seconds} seconds now: {reason_text}"))
            }
            Told::Ends { ms } => (Level::Notice, format!("there is room again: writes are taken, after {ms} ms")),
        })
    }
}

/// Why writes are refused. `waiting`: the bytes that the log does not have yet. `refused`: those of a write that there
/// was no room for.
fn reason(log: &Flusher<GatedStorage>, waiting: u64, refused: u64) -> Option<String> {
    if let Some(shortage) = log.shortage() {
        return Some(shortage);
    }
    let bound = config::max_log_bytes()?;
    passes(log, bound, waiting.saturating_add(refused)).then(|| bound_text(log, bound, refused))
}

fn bound_text(log: &Flusher<GatedStorage>, bound: u64, refused: u64) -> String {
    let statistics = log.statistics();
    let (base, since) = (statistics.base_bytes(), statistics.bytes_since_base());
    let mut text = format!("wbl.max-log-bytes is {bound}, the base takes {base} and the log after it {since}");
    if refused > 0 {
        text += &format!(", and a write of {refused} bytes was refused");
    }
    if base.saturating_add(refused).saturating_add(FRAME_BYTES) > bound {
        text += ": what the dataset takes is more than the bound; delete keys, or raise wbl.max-log-bytes";
    }
    text
}

/// What base and log take, with all that waits to be written.
pub(super) fn taken(log: &Flusher<GatedStorage>) -> u64 {
    let statistics = log.statistics();
    let written = statistics.base_bytes().saturating_add(statistics.bytes_since_base());
    written.saturating_add(log.pending_bytes())
}

fn passes(log: &Flusher<GatedStorage>, bound: u64, more: u64) -> bool {
    taken(log).saturating_add(more).saturating_add(FRAME_BYTES) > bound
}

/// Whether this many bytes may not be added.
pub(super) fn is_out_of_room(log: &Flusher<GatedStorage>, more: u64) -> bool {
    log.is_short_of_room() || config::max_log_bytes().is_some_and(|bound| passes(log, bound, more))
}

/// The same for a write that the server accepts even without memory left, such as a deletion: these may exceed the
/// bound, or a larger base, by a part.
fn is_out_of_room_to_free(log: &Flusher<GatedStorage>, more: u64) -> bool {
    let passes_by_far = |bound: u64| {
        let may_take = bound.max(log.statistics().base_bytes());
        passes(log, may_take.saturating_add((bound / FREEING_PART).max(FREEING_BYTES_MIN)), more)
    };
    log.is_short_of_room() || config::max_log_bytes().is_some_and(passes_by_far)
}

/// Whether there would be room for this many bytes if base and log took nothing.
pub(super) fn may_ever_fit(bytes: u64) -> bool {
    config::max_log_bytes().is_none_or(|bound| bytes.saturating_add(FRAME_BYTES) <= bound)
}

/// Reports when writes are refused and when no longer, and has room held for the next base.
pub(super) fn watch(ctx: Ctx<'_>) {
    let line = with(|module| {
        let reason = module.no_room();
        if reason.is_none() && module.shortage.since_ms() == 0 {
            None
        } else {
            module.shortage.note(reason.as_deref(), unix_ms())
        }
    });
    if let Some(Some((level, text))) = line {
        log(level, &text);
    }
    let looks = with(|module| module.bases.relief.looks());
    if looks == Some(true) {
        let memory = server::dataset_bytes(ctx);
        with(|module| module.bases.relief.look(memory));
    }
    with(|module| module.keep_reserve(ctx));
}

impl Module {
    /// Why writes are refused: there is no room for any, or not for one as large as one that was refused.
    pub(super) fn no_room(&self) -> Option<String> {
        let log = self.log().filter(|_| self.life.is_active())?;
        reason(log.log(), self.batch.len() as u64, self.bases.relief.refused_bytes())
    }

    /// Why the last write was refused, if it was for lack of room: it may have been larger than the bound.
    pub(super) fn no_room_for_last(&self) -> Option<String> {
        let log = self.log().filter(|_| self.life.is_active())?;
        self.no_room().or_else(|| config::max_log_bytes().map(|bound| bound_text(log.log(), bound, 0)))
    }

    /// Whether there is no room for a write. Not even the last write may exceed a bound, as far as its arguments show.
    pub(super) fn has_no_room_for(&mut self, filter: &Filter, known: Known) -> bool {
        let has_bound = config::max_log_bytes().is_some();
        let arguments =
            |filter: &Filter| (0..filter.len()).map(|index| filter.arg(index).len() as u64 + ARGUMENT_BYTES).sum();
        let bytes: u64 = if has_bound { arguments(filter) } else { 0 };
        let is_refused = self.lacks_room(bytes, if known.frees { is_out_of_room_to_free } else { is_out_of_room });
        if is_refused {
            self.bases.relief.refused(bytes);
        }
        is_refused
    }

    /// Whether there is no room for this many bytes.
    pub(super) fn has_no_room(&self, more: u64) -> bool {
        self.lacks_room(more, is_out_of_room)
    }

    fn lacks_room(&self, more: u64, is_out_of_room: impl Fn(&Flusher<GatedStorage>, u64) -> bool) -> bool {
        let log = self.log().filter(|_| self.life.is_active());
        log.is_some_and(|log| is_out_of_room(log.log(), more.saturating_add(self.batch.len() as u64)))
    }

    /// Reserves the room that the next base may take: no more than base and log, because what is logged takes less in a
    /// base, and no more than the dataset in memory.
    fn keep_reserve(&mut self, ctx: Ctx<'_>) {
        if !self.life.is_visible() || self.writes_base() {
            return;
        }
        let Some(log) = self.log().map(|log| log.log()).filter(|log| !log.is_failing()) else { return };
        let statistics = log.statistics();
        let (has, is_short) = (log.reserve_bytes(), log.is_short_of_room());
        let most = statistics.base_bytes().saturating_add(statistics.bytes_since_base());
        let is_wanted = config::keeps_reserve() && (most >= LOG_BYTES_MIN || is_short);
        let wanted = if is_wanted { most.saturating_add(MARGIN_BYTES) } else { 0 };
        if !is_short && is_enough(has, wanted) {
            return;
        }
        let now_us = machine::monotonic_us();
        let has_grown = wanted > with_growth(self.shortage.wanted);
        if !has_grown && now_us < self.shortage.change_us {
            return;
        }
        self.shortage.wanted = wanted;
        self.shortage.change_us = now_us.saturating_add(CHANGE_EVERY_US);
        let in_memory = server::dataset_bytes(ctx).map_or(u64::MAX, |bytes| bytes.saturating_add(MARGIN_BYTES));
        let wanted = wanted.min(in_memory);
        if let Some(log) = self.log().filter(|_| is_short || !is_enough(has, wanted)) {
            log.log().keep_reserve(WantedReserve { least: wanted, most: with_growth(wanted) });
        }
    }
}

/// Whether so much is held as is wanted, and not twice as much.
fn is_enough(has: u64, wanted: u64) -> bool {
    if wanted == 0 { has == 0 } else { has >= wanted && has / 2 <= with_growth(wanted) }
}

/// A log that grows outgrows what is held only now and then.
fn with_growth(wanted: u64) -> u64 {
    wanted.saturating_add(wanted / 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_follows_what_is_wanted() {
        assert!(is_enough(0, 0) && !is_enough(0, 1) && !is_enough(1, 0));
        assert!(is_enough(800, 800) && !is_enough(800, 801));
        assert!(is_enough(1800, 800) && !is_enough(1810, 800));
    }

    #[test]
    fn a_shortage_is_told() {
        let mut shortage = Shortage::default();
        assert!(shortage.note(None, 5).is_none());
        assert!(shortage.note(Some("full"), 1000).is_some_and(|(_, text)| text.ends_with("full")));
        assert_eq!(shortage.since_ms(), 1000);
        assert!(shortage.note(Some("full"), 1001).is_none());
        assert!(shortage.note(None, 1200).is_some_and(|(_, text)| text.contains("200 ms")));
        assert_eq!(shortage.since_ms(), 0);
    }
}
