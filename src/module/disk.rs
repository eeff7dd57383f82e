//! A disk that fails while the log is written (`wbl.on-error retry`). The log tries to go on in another file until that
//! succeeds, and nothing is acknowledged meanwhile:
//!
//! - Replies that are held stay so, and leave when what they show is durable. Reads of durable data are served.
//! - Writes whose replies can be held run, and are held, until `wbl.max-pending-bytes` wait for the disk; then they are
//!   refused. Whatever the event loop would have to wait for is refused from the beginning.
//! - Replies that were already written when the disk began to fail never leave: the sockets of their clients are shut.
//!
//! A disk that does not answer counts as failing, too, while more than that waits for it: the event loop waits for room
//! only as long as there comes some.

use crate::core::ack::{Hold, Kind, Moment, Wrapper, decide};
use crate::core::capture::Class;
use crate::core::leaf::ClientId;
use crate::core::table::Quirk;
use crate::ffi::{Ctx, Level, log, shut_socket};
use crate::log::Lsn;
use crate::machine;
use crate::machine::unix_ms;
use crate::module::config;
use crate::module::facts::Asked;
use crate::module::known::Known;
use crate::module::release::Release;
use crate::module::{Module, broken, listed, with};
use std::time::Duration;

/// How often the event loop looks whether there is room.
const ROOM_POLL: Duration = Duration::from_millis(1);

/// How often the server's log says that the disk still fails, and how many clients are disconnected because of it.
const TELL_EVERY_MS: u64 = 60_000;

/// A disk that has made nothing durable for so long, while too much waits for it, does not answer. It gets more time
/// for what waits, which may be one large value, at so many bytes a second.
const HANGS_AFTER_US: u64 = 500_000;
const SLOWEST_BYTES_PER_S: u64 = 32 << 20;

/// Since when the disk fails.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// The event loop has waited for room in vain.
    hangs: bool,
    failing: Spell,
    cut_off: CutOff,
}

/// The clients that were disconnected.
#[derive(Debug, Default)]
struct CutOff {
    /// When the server's log said so last.
    told_ms: Option<u64>,
    /// How many were since then.
    untold: usize,
}

impl CutOff {
    /// These are disconnected now; returns how many the server's log is to report.
    fn note(&mut self, count: usize, now_ms: u64) -> Option<usize> {
        self.untold += count;
        if self.told_ms.is_some_and(|told_ms| now_ms.saturating_sub(told_ms) < TELL_EVERY_MS) {
            return None;
        }
        self.told_ms = Some(now_ms);
        Some(std::mem::take(&mut self.untold))
    }
}

/// A time of trouble, and when the server's log said so last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spell(Option<Failing>);

#[derive(Clone, Copy, Debug)]
struct Failing {
    since_ms: u64,
    told_ms: u64,
}

/// What the server's log is to say.
#[derive(Clone, Copy, Debug)]
pub(super) enum Told {
    Begins,
    GoesOn { seconds: u64 },
    Ends { ms: u64 },
}

impl Spell {
    /// Wall-clock milliseconds; 0 when there is none.
    pub(super) fn since_ms(self) -> u64 {
        self.0.map_or(0, |failing| failing.since_ms)
    }

    /// Notes whether there is trouble.
    pub(super) fn note(&mut self, is_there: bool, now_ms: u64) -> Option<Told> {
        match (&mut self.0, is_there) {
            (None, false) => None,
            (None, true) => {
                self.0 = Some(Failing { since_ms: now_ms, told_ms: now_ms });
                Some(Told::Begins)
            }
            (Some(failing), true) => {
                if now_ms.saturating_sub(failing.told_ms) < TELL_EVERY_MS {
                    return None;
                }
                failing.told_ms = now_ms;
                Some(Told::GoesOn { seconds: now_ms.saturating_sub(failing.since_ms) / 1000 })
            }
            (Some(failing), false) => {
                let ms = now_ms.saturating_sub(failing.since_ms);
                self.0 = None;
                Some(Told::Ends { ms })
            }
        }
    }
}

impl Disk {
    /// Wall-clock milliseconds; 0 when it does not fail.
    pub(super) fn failing_since_ms(&self) -> u64 {
        self.failing.since_ms()
    }

    /// Notes what the log says; returns a line for the server's log.
    fn note(&mut self, trouble: Option<&str>, now_ms: u64) -> Option<(Level, String)> {
        let what = trouble.unwrap_or_default();
        Some(match self.failing.note(trouble.is_some(), now_ms)? {
            Told::Begins => {
                let text = format!(
                    "the log can't be written: {what}. It is tried again; until that succeeds nothing is acknowledged, and commands that can't wait for it are refused"
                );
                (Level::Warning, text)
            }
            Told::GoesOn { seconds } => {
                (Level::Warning, format!("the log can't be written for {seconds} seconds now: {what}"))
            }
            Told::Ends { ms } => {
                (Level::Notice, format!("the log is written again, after {ms} ms: all that was held is durable"))
            }
        })
    }
}

/// Looks whether the disk fails, or no longer does, and says so.
pub(super) fn watch() {
    let line = with(|module| {
        let log = module.life.log()?.log();
        log.go_on_after_errors(config::goes_on_after_errors());
        if !module.disk_fails() && module.disk.failing_since_ms() == 0 {
            return None;
        }
        let trouble = module.disk_trouble();
        module.disk.note(trouble.as_deref(), unix_ms())
    });
    if let Some(Some((level, text))) = line {
        log(level, &text);
    }
}

/// Whether the log may end now.
///
/// # Errors
/// Its disk fails: what is not durable would be lost.
pub(super) fn check() -> Result<(), String> {
    let trouble = with(|module| module.log().and_then(|log| log.log().trouble())).flatten();
    trouble.map_or(Ok(()), |trouble| Err(format!("the log can't be written: {trouble}")))
}

/// The same of all that was handed over, which is waited for as long as the disk makes some of that durable.
///
/// # Errors
/// The disk fails, or does not answer.
pub(super) fn settle() -> Result<(), String> {
    check()?;
    let Some(release) = with(|module| module.log().cloned()).flatten() else { return Ok(()) };
    // A user's pause ends with the log.
    if with(|module| module.paused) == Some(true) || wait_if_it_answers(&release, release.log().appended()) {
        return Ok(());
    }
    check()?;
    Err("the log's disk does not answer; try again".into())
}

/// No reply leaves that is written and shows what is not durable.
pub(super) fn cut_off(ctx: Ctx<'_>, release: &Release) {
    cut_off_after(ctx, release.log().durable());
}

/// No reply leaves that is written and shows more than this.
pub(super) fn cut_off_after(ctx: Ctx<'_>, durable: Lsn) {
    let undurable = with(|module| {
        let written = module.iteration.waits.take_undurable(durable);
        let known: Option<Vec<ClientId>> = written.into_iter().collect();
        // Where it is unknown whose they are, they may be anybody's.
        known.unwrap_or_else(|| module.clients.ids().collect())
    });
    let clients = undurable.unwrap_or_default();
    if clients.is_empty() {
        return;
    }
    if let Some(Some(count)) = with(|module| module.disk.cut_off.note(clients.len(), unix_ms())) {
        let text = "clients are disconnected: their replies can't be held, and the log can't be written";
        log(Level::Warning, &format!("{count} {text}"));
    }
    disconnect(ctx, &clients);
}

/// Nothing that is written, or will be, reaches these clients any more. That takes more than to have the server close
/// them: it lets a client whose command runs have its reply before.
pub(super) fn disconnect(ctx: Ctx<'_>, clients: &[ClientId]) {
    if clients.is_empty() || clients.iter().filter(|client| machine::shut_client(**client)).count() > 0 {
        return;
    }
    for descriptor in listed::descriptors_of(ctx, clients) {
        match descriptor {
            Some(descriptor) => shut_socket(descriptor),
            None => broken("the server does not name a client's socket, by which a reply would leave too early"),
        }
    }
    for client in clients {
        ctx.close_client(*client);
    }
}

/// Waits on the main thread until the position is durable, as long as the disk makes some of that durable. Returns
/// whether it is.
pub(super) fn wait_if_it_answers(release: &Release, lsn: Lsn) -> bool {
    let began_us = machine::monotonic_us();
    let log = release.log();
    let next = |durable: Lsn| durable.advance(1).min(lsn);
    while log.durable() < lsn
        && matches!(log.wait_durable(next(log.durable()), Some(Duration::from_micros(HANGS_AFTER_US))), Ok(true))
    {}
    with(|module| module.note_waited(machine::monotonic_us().saturating_sub(began_us)));
    log.durable() >= lsn
}

impl Module {
    /// Whether the log's disk fails or does not answer, which may pass.
    pub(super) fn disk_fails(&self) -> bool {
        self.life.withholds() && (self.log().is_some_and(|log| log.log().is_failing()) || self.disk_hangs())
    }

    /// Whether the disk does not answer, and too much waits for it.
    fn disk_hangs(&self) -> bool {
        self.disk.hangs && self.has_too_much_pending()
    }

    /// What is wrong with the log's disk.
    pub(super) fn disk_trouble(&self) -> Option<String> {
        let trouble = self.log()?.log().trouble().map(|trouble| trouble.to_string());
        let hangs = || "the disk does not answer, and more than wbl.max-pending-bytes wait for it".into();
        trouble.or_else(|| self.disk_hangs().then(hangs))
    }

    /// Waits in the event loop while more waits for the disk than may, and it makes some of that durable.
    pub(super) fn wait_for_room(&mut self, log: &Release) {
        let lacks_room = || log.log().pending_bytes() > config::max_pending_bytes() && log.log().error().is_none();
        if !lacks_room() {
            self.disk.hangs = false;
            return;
        }
        if self.disk.hangs {
            return;
        }
        let began_us = machine::monotonic_us();
        let (mut durable, mut since_us) = (log.log().durable(), began_us);
        while lacks_room() && !self.disk.hangs {
            // The poll is bounded by the writer thread: it makes room or ends the process.
            if log.log().wait_durable(durable.advance(1), Some(ROOM_POLL)).is_err() {
                break;
            }
            let now_us = machine::monotonic_us();
            if log.log().durable() > durable {
                (durable, since_us) = (log.log().durable(), now_us);
            }
            let may_take_us =
                HANGS_AFTER_US + log.log().pending_bytes().saturating_mul(1_000_000) / SLOWEST_BYTES_PER_S;
            self.disk.hangs = now_us.saturating_sub(since_us) >= may_take_us;
        }
        self.counters.inline_waits += 1;
        self.note_waited(machine::monotonic_us().saturating_sub(began_us));
    }

    /// Whether the command, whose reply would be kept back in this way, would have the event loop wait for the disk, or
    /// is one write too many.
    pub(super) fn would_need_disk(
        &mut self,
        ctx: Ctx<'_>,
        client: ClientId,
        known: Known,
        kind: Kind,
        hold: Hold,
    ) -> bool {
        match hold {
            _ if known.row.quirk == Quirk::NeedsNoKeys => !self.dirty.is_empty(),
            Hold::ThroughModule(Wrapper::Read | Wrapper::EvalRo) | Hold::Refused | Hold::Disconnect => false,
            Hold::ThroughModule(Wrapper::Eval) => self.has_too_much_pending(),
            Hold::ThroughModule(Wrapper::Call) => self.has_too_much_pending() || self.waits_for_change(ctx, client),
            Hold::AtIterationEnd(_) | Hold::AtUnitEnd(_) => true,
            Hold::Nothing | Hold::InEvent if !known.writes => false,
            Hold::Nothing | Hold::InEvent => {
                self.has_too_much_pending() || !is_held_in_event(known, kind) || self.waits_for_change(ctx, client)
            }
        }
    }

    /// Whether the event loop would wait with the client's reply to a change.
    fn waits_for_change(&mut self, ctx: Ctx<'_>, client: ClientId) -> bool {
        decide(Moment::Changed, &mut Asked::new(self, ctx, client)) != Hold::InEvent
    }

    /// The same for an EXEC, which is never held.
    pub(super) fn exec_would_need_disk(&mut self, ctx: Ctx<'_>, client: ClientId) -> bool {
        if self.capture.has_queued_writes(client) {
            return true;
        }
        let db = self.info_of(ctx, client).map_or(0, |info| info.db);
        let Some(record) = self.clients.get(client) else { return false };
        let shows = &record.transaction;
        shows.queued.runs_commands()
            || record.queued_quirks.have(Quirk::Unblocks)
            || record.queued_quirks.have(Quirk::NeedsNoKeys)
            || shows.newest_change(db, &self.dirty).is_some()
    }

    /// Whether no more writes are taken while the disk fails.
    pub(super) fn has_too_much_pending(&self) -> bool {
        let pending = self.log().map_or(0, |log| log.log().pending_bytes());
        pending.saturating_add(self.batch.len() as u64) > config::max_pending_bytes()
    }
}

/// Whether the command, if it changes anything, raises an event in which its reply can be held.
fn is_held_in_event(known: Known, kind: Kind) -> bool {
    let Class::Write(spec) = known.class else { return false };
    matches!(kind, Kind::Write { .. } | Kind::AsSent { blocks: true }) && !spec.is_silent()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_fails_is_told_when_it_begins_now_and_then_and_when_it_ends() {
        let mut disk = Disk::default();
        assert!(disk.note(None, 1).is_none());
        let (level, text) = disk.note(Some("EIO"), 1000).unwrap_or((Level::Debug, String::new()));
        assert!(level == Level::Warning && text.contains("EIO"), "{text}");
        assert_eq!(disk.failing_since_ms(), 1000);
        assert!(disk.note(Some("EIO"), 1000 + TELL_EVERY_MS - 1).is_none());
        assert!(disk.note(Some("EIO"), 1000 + TELL_EVERY_MS).is_some_and(|(_, text)| text.contains("60 seconds")));
        assert!(disk.note(Some("EIO"), 1001 + TELL_EVERY_MS).is_none());
        assert!(disk.note(None, 3000 + TELL_EVERY_MS).is_some_and(|(level, _)| level == Level::Notice));
        assert_eq!(disk.failing_since_ms(), 0);
    }

    #[test]
    fn disconnected_clients_are_told_of_now_and_then() {
        let mut cut_off = CutOff::default();
        assert_eq!(cut_off.note(2, 1000), Some(2));
        assert_eq!(cut_off.note(3, 1001), None);
        assert_eq!(cut_off.note(1, 999 + TELL_EVERY_MS), None);
        assert_eq!(cut_off.note(1, 1000 + TELL_EVERY_MS), Some(5));
    }
}
