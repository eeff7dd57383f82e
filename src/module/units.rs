//! Units at their end: images are read, the unit gets its position, and its replies begin to wait.

use crate::core::ack::Why;
use crate::core::dirty::DbKey;
use crate::core::unit::Unit;
use crate::ffi::{CallMode, Ctx, KeyKind, ReplyKind, client_info};
use crate::log::Lsn;
use crate::module::config::{Setting, value};
use crate::module::release::{Release, Waiting, release};
use crate::module::settle::Announced;
use crate::module::{Module, broken, life, server, with};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A batch of this size is handed to the writer thread before the iteration ends.
const EARLY_HAND_OVER_BYTES: usize = 256 * 1024;

/// How often a writer that waits for room looks again.
const ROOM_POLL: Duration = Duration::from_millis(1);

/// How often a paused wait lets the server look for a RESUME.
const PAUSED_POLL: Duration = Duration::from_millis(10);

/// The server's setting of how long it is busy before it says so.
const BUSY_THRESHOLD: &[u8] = b"busy-reply-threshold";

/// Wall-clock time for frames.
pub(super) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// Wall-clock time, milliseconds since the Unix epoch, as the server counts time-outs.
pub(super) fn now_ms() -> i64 {
    i64::try_from(unix_ms()).unwrap_or(i64::MAX)
}

/// Has the running unit's end told.
pub(super) fn ask_for_unit_end(ctx: Ctx<'_>) {
    let asked = with(|module| std::mem::replace(&mut module.unit_end_asked, true));
    if asked == Some(false) && !ctx.ask_for_unit_end() {
        with(|module| module.unit_end_asked = false);
    }
}

/// Ends the open unit, if there is one. What runs inside a transaction or a script ends nothing.
pub(super) fn finish_unit(ctx: Ctx<'_>) {
    let flags = ctx.flags();
    if flags.in_exec() || flags.in_script() {
        return;
    }
    let unit = with(|module| {
        module.unit_end_asked = false;
        if module.frame.is_some() {
            // The server ends a context of its own inside the wrapped command; the end of that is asked for when it has
            // run.
            return None;
        }
        module.script_db = None;
        if matches!(module.announced, Announced::Opaque) {
            module.announced = Announced::Nothing;
            if module.is_blocked(ctx, module.top_client) {
                module.note_shared_id(module.top_client);
            }
        }
        if !module.unit_holds.is_empty() || module.unit_reads.is_some() && module.is_blocked(ctx, module.top_client) {
            // A held reply waits for a later position, a client that blocks gets none yet.
            module.unit_reads = None;
        }
        let waits = !module.unit_holds.is_empty() || module.unit_reads.is_some();
        module.capture.end_unit(|| server::error_replies(ctx)).or_else(|| waits.then(|| Unit::new(0)))
    });
    if let Some(Some(unit)) = unit {
        complete(ctx, unit);
    }
}

/// Takes a deferred end of a unit up, once it has ended.
pub(super) fn finish_deferred(ctx: Ctx<'_>) {
    if with(|module| module.unit_end_deferred) == Some(true) && !ctx.flags().in_exec() {
        with(|module| module.unit_end_deferred = false);
        finish_unit(ctx);
    }
}

/// Ends a unit whose end was put off, before the next client's command.
pub(super) fn finish_late(ctx: Ctx<'_>) {
    if with(|module| module.capture.has_late_end()) == Some(true) {
        finish_unit(ctx);
    }
}

/// Logs what blocked commands may have changed unseen.
pub(super) fn finish_suspects(ctx: Ctx<'_>) {
    let now_ms = ctx.unit_time_us() / 1000;
    let suspects = with(|module| {
        let mut readers = module.capture.suspect_readers();
        readers.extend(module.clients.unknown_readers());
        let unit = module.capture.suspect_unit(now_ms)?;
        if !module.paused {
            module.unit_waits = true;
            module.unit_waiters.extend(readers.drain(..));
        }
        Some((unit, readers))
    });
    let Some(Some((unit, readers))) = suspects else { return };
    // Their replies stand in buffers that nothing can hold back while WBL.DEBUG PAUSE keeps the loop from waiting.
    readers.into_iter().filter(|client| !client_info(*client).is_some_and(|info| info.blocked)).for_each(|client| {
        ctx.close_client(client);
    });
    complete(ctx, unit);
}

fn complete(ctx: Ctx<'_>, mut unit: Unit) {
    let images = unit.take_images();
    let everywhere = unit.take_images_everywhere();
    let count = (images.len() + everywhere.len()) as u64;
    images.iter().for_each(|key| add_image(ctx, &mut unit, key));
    everywhere.iter().for_each(|key| add_images_everywhere(ctx, &mut unit, key, &images));
    if unit.functions {
        add_functions(ctx, &mut unit);
    }
    let waits = with(|module| {
        module.counters.state_images += count;
        let lsn = module.commit(&unit)?;
        // Commands that a pause made wait run without passing the filter, and may run long.
        Some((lsn, module.paused || module.io_threads || module.postponed))
    });
    let mut waiters = with(|module| std::mem::take(&mut module.unit_waiters)).unwrap_or_default();
    // Replies that could not be held wait with the others at the end of the iteration, unless one could be sent before.
    if let Some(Some((lsn, now))) = waits {
        if now || waiters.iter().any(|client| may_be_sent_early(ctx, *client)) {
            wait_now(ctx, lsn);
        } else {
            with(|module| module.iteration_waits_for = module.iteration_waits_for.max(Some(lsn)));
        }
    }
    waiters.clear();
    with(|module| module.unit_waiters = waiters);
}

/// Whether output of the client still waits for its socket, so that more could follow before the end of the iteration.
/// That does not begin within an iteration: each client is asked about once.
fn may_be_sent_early(ctx: Ctx<'_>, client: u64) -> bool {
    if with(|module| module.without_output.contains(&client)) == Some(true) {
        return false;
    }
    if server::has_pending_output(ctx, client) {
        return true;
    }
    with(|module| module.without_output.insert(client));
    false
}

/// Waits for every reply that waits in the loop: what runs next may make the server send replies before the end of the
/// iteration. A script that runs long does, at whatever depth, and so do loading and other modules' commands
/// (`processEventsWhileBlocked`).
///
/// Everything that may do so is preceded by this: the filter calls it for commands, the end of the iteration for the
/// scripts that wait there.
pub(super) fn wait_before_yield(ctx: Ctx<'_>) {
    let waits_for = with(|module| {
        module.wait_for_timed_out(ctx);
        module.wait_for_resumed(ctx);
        module.iteration_waits_for.take()
    });
    if let Some(Some(lsn)) = waits_for {
        wait_now(ctx, lsn);
    }
}

/// Waits on the main thread until the position is durable.
pub(super) fn wait_now(ctx: Ctx<'_>, lsn: Lsn) {
    let Some(Some((log, paused))) = with(|module| {
        module.hand_over();
        Some((module.log().cloned()?, module.paused))
    }) else {
        return;
    };
    if log.log().durable() >= lsn {
        return;
    }
    with(|module| module.counters.inline_waits += 1);
    if paused {
        wait_for_resume(ctx, &log, lsn);
    } else if log.log().wait_durable(lsn, None).is_err() {
        life::end_if_failed();
        broken("the log closed while a reply waited for it");
    }
}

/// The same while WBL.DEBUG PAUSE is on: the server goes on with commands that may run while it is busy, so that a
/// RESUME can end the wait.
///
/// The client whose unit waits is protected by the server meanwhile, and as long as the pause lasts every unheld unit
/// waits at its own end, so that no other unheld reply is under way.
fn wait_for_resume(ctx: Ctx<'_>, log: &Release, lsn: Lsn) {
    let own = ctx.own();
    let threshold = own.ask("CONFIG", [&b"GET"[..], BUSY_THRESHOLD]);
    let before = threshold.as_ref().and_then(|reply| Some(reply.element(1)?.bytes().to_vec()));
    let set = |value: &[u8]| own.call(CallMode::Internal, "CONFIG", [&b"SET"[..], BUSY_THRESHOLD, value]);
    // The server looks at other clients only after this time.
    set(b"1");
    let before_wait = with(|module| std::mem::replace(&mut module.waits_for_resume, true));
    own.with_new_context(|busy| {
        loop {
            match log.log().wait_durable(lsn, Some(PAUSED_POLL)) {
                Ok(true) => return,
                Ok(false) => busy.yield_to_clients(),
                Err(_) => {
                    life::end_if_failed();
                    broken("the log closed while a reply waited for it")
                }
            }
        }
    });
    with(|module| module.waits_for_resume = before_wait == Some(true));
    if let Some(before) = before {
        set(&before);
    }
}

/// Adds the key's present state: RESTORE with its absolute expiry, or DEL.
fn add_image(ctx: Ctx<'_>, unit: &mut Unit, (db, key): &DbKey) {
    let own = ctx.own();
    if !own.select_db(*db) {
        broken("a key changed in a database that does not exist");
    }
    if !own.has_key(key) {
        // Its slot may belong to another node by now, of which the server would not tell more.
        return unit.command(*db, &[b"DEL", key]);
    }
    if own.key_length(key, KeyKind::Hash) == Some(0) {
        return add_empty_hash(own, unit, *db, key);
    }
    match own.ask("DUMP", [&key[..]]) {
        Some(payload) if payload.kind() == ReplyKind::String => {
            // A time of 0 stands for none.
            let at = own.key_expiry_ms(key).map_or(0, |at| at.max(1)).to_string();
            unit.command(*db, &[b"RESTORE", key, at.as_bytes(), payload.bytes(), b"REPLACE", b"ABSTTL"]);
        }
        Some(reply) if reply.kind() == ReplyKind::Null => unit.command(*db, &[b"DEL", key]),
        _ if ctx.flags().in_cluster() => {
            // The slot is on its way here, and the server tells nothing of its keys before it has arrived.
            with(Module::request_base_now);
        }
        _ => broken("the server refused to dump a key that changed"),
    }
}

/// Adds a hash without fields, which is what COPY makes of one whose fields have all expired: no payload stands for it.
/// Instead it has a field that has expired, so that the key is there.
fn add_empty_hash(own: Ctx<'_>, unit: &mut Unit, db: u32, key: &[u8]) {
    unit.command(db, &[b"DEL", key]);
    unit.command(db, &[b"HSETEX", key, b"PXAT", b"1", b"FIELDS", b"1", b"", b""]);
    if let Some(at) = own.key_expiry_ms(key) {
        unit.command(db, &[b"PEXPIREAT", key, at.max(1).to_string().as_bytes()]);
    }
}

/// Adds the key's present state in every database that has it, but for those that are logged already.
fn add_images_everywhere(ctx: Ctx<'_>, unit: &mut Unit, key: &Arc<[u8]>, but: &HashSet<DbKey>) {
    let own = ctx.own();
    for db in 0.. {
        if !own.select_db(db) {
            return;
        }
        let key = (db, key.clone());
        if !but.contains(&key) && own.has_key(&key.1) {
            add_image(ctx, unit, &key);
        }
    }
}

/// Adds the whole function library.
fn add_functions(ctx: Ctx<'_>, unit: &mut Unit) {
    match ctx.own().ask("FUNCTION", [&b"DUMP"[..]]) {
        Some(payload) if payload.kind() == ReplyKind::String => {
            unit.command(0, &[b"FUNCTION", b"RESTORE", payload.bytes(), b"FLUSH"]);
        }
        _ => broken("the server refused to dump its functions"),
    }
}

impl Module {
    /// Gives the unit its position; whoever waits for it begins to wait.
    ///
    /// Returns the position when a reply waits for it that could not be held.
    fn commit(&mut self, unit: &Unit) -> Option<Lsn> {
        let Some(log) = self.log().cloned() else {
            self.drop_holds();
            return None;
        };
        let lsn = self.batch.push(unit);
        self.end_notices(lsn);
        self.counters.units += u64::from(!unit.is_empty());
        if self.life.is_active() {
            unit.emptied.iter().for_each(|db| self.dirty.mark_all(*db, lsn));
            if unit.functions_changed {
                self.dirty.mark_functions(lsn);
            }
            unit.touched().for_each(|key| self.dirty.mark(key, lsn));
        }
        for hold in self.unit_holds.drain(..) {
            self.counters.writes_blocked += 1;
            self.clients.held(hold.client, lsn);
            log.wait(lsn, Waiting { client: hold.client, held: hold.held });
        }
        if self.batch.len() >= EARLY_HAND_OVER_BYTES {
            self.hand_over();
        }
        let own = std::mem::take(&mut self.unit_waits).then_some(lsn);
        own.max(self.unit_reads.take()).filter(|_| self.life.is_active())
    }

    /// Has the loop wait for the running unit, which this client's reply shows.
    pub(super) fn wait_for_unit(&mut self, client: u64) {
        self.unit_waits = true;
        self.unit_waiters.insert(client);
    }

    /// Lets the running unit's replies go without waiting: there is no log (any more) to wait for.
    pub(super) fn drop_holds(&mut self) {
        self.unit_holds.drain(..).for_each(|hold| release(hold.held, Why::NotActive));
        self.unit_waits = false;
        self.unit_waiters.clear();
        self.unit_reads = None;
    }

    /// Hands the batch to the writer thread. Waits for room when too much is pending.
    pub(super) fn hand_over(&mut self) {
        let Some(log) = self.log().cloned() else { return };
        if self.batch.is_empty() {
            return;
        }
        let expected = self.batch.appended();
        let payload = self.batch.take(log.log().take_buffer());
        let appended = log.log().append(payload, unix_ms());
        if appended != expected {
            broken("the log's position is not the one that was promised to waiters");
        }
        let limit = u64::try_from(value(Setting::MaxPendingBytes)).unwrap_or(u64::MAX);
        while log.log().pending_bytes() > limit && log.log().error().is_none() {
            // The poll is bounded by the writer thread: it makes room or ends the process.
            if log.log().wait_durable(appended, Some(ROOM_POLL)).is_err() {
                break;
            }
        }
    }

    /// Everything executed so far, in the log's words.
    pub(super) fn appended(&self) -> Lsn {
        self.batch.appended()
    }
}
