//! The commands through which the module runs others: `WBL.CALL` (writes), `WBL.READ`, `WBL.EVAL` and `WBL.EVAL_RO`
//! (scripts and functions).
//!
//! The command filter turns `XACK key group id` into `WBL.CALL XACK key group id` for clients whose user may run it;
//! key positions, ACL rules and errors are those of the command itself. That way the module sees the reply and can hold
//! it: whether anything changed is known by then.

use crate::core::capture::Class;
use crate::core::leaf::Told;
use crate::core::pending::GroupChange;
use crate::core::reads::Reads;
use crate::core::table::{CommandSpec, Keys, Rule};
use crate::ffi::{CallMode, Ctx, KeyKind, Reply, ReplyKind};
use crate::log::Lsn;
use crate::module::server::Known;
use crate::module::units::ask_for_unit_end;
use crate::module::{Frame, Module, blocking, errors, streams, with};
use std::ffi::CStr;
use std::sync::Arc;

/// Runs a write.
pub const CALL: &CStr = c"wbl.call";
/// Runs a read.
pub const READ: &CStr = c"wbl.read";
/// Runs a script or function that may write.
pub const EVAL: &CStr = c"wbl.eval";
/// Runs a script or function that may not.
pub const EVAL_RO: &CStr = c"wbl.eval_ro";

/// A hyperloglog's header has this many bytes; the highest bit of the last tells that the cached count is stale
/// (`hyperloglog.c`).
const HYPERLOGLOG_HEADER_BYTES: usize = 16;

/// WBL.CALL command [argument ...]
pub fn call(ctx: Ctx<'_>, args: &[&[u8]]) {
    run(ctx, args, |known| matches!(known.class, Class::Write(spec) if !spec.is_unknown()));
}

/// WBL.READ command [argument ...]
///
/// It runs what the filter turns into it, commands that show data, and no others: the server lets a module call
/// commands that end it (SYNC).
pub fn read(ctx: Ctx<'_>, args: &[&[u8]]) {
    run(ctx, args, |known| match known.class {
        Class::Write(spec) => spec.rule == Rule::CardinalityCache,
        class => class == Class::ReadOnly && !matches!(known.reads, Reads::Nothing | Reads::Script),
    });
}

/// The command behind the module's own, with what is known of it; `None` when it is none that may be run so.
pub(super) fn wrapped_command<'a>(
    args: &'a [&'a [u8]],
    allowed: impl Fn(Known) -> bool,
) -> Option<(&'a str, &'a [&'a [u8]], Known)> {
    let command = args.get(1..)?;
    let name = std::str::from_utf8(command.first()?).ok()?;
    let known = with(|module| module.known(name.as_bytes(), command.get(1).copied().unwrap_or_default()))?;
    allowed(known).then_some((name, command, known))
}

fn run(ctx: Ctx<'_>, args: &[&[u8]], allowed: impl Fn(Known) -> bool) {
    let Some((name, command, known)) = wrapped_command(args, allowed) else {
        return ctx.reply_error(errors::CALL_REFUSED);
    };
    let rest = command.get(1..).unwrap_or_default();
    let spec = match known.class {
        Class::Write(spec) if !is_cached_count(ctx, spec, rest) => Some(spec),
        _ => None,
    };
    let entered = with(|module| module.enter_frame(ctx, spec, known.reads, command)).flatten();
    let mode = if entered.is_some() && may_block(ctx, known) { CallMode::AsBlockingClient } else { CallMode::AsClient };
    if loses_its_error(ctx, spec, rest) {
        let (_, read) = with(Module::leave_frame).flatten().unwrap_or_default();
        hold(ctx, false, read.max(entered.flatten()));
        return match ctx.call(CallMode::DryRunAsClient, name, rest.iter().copied()) {
            Some(refusal) if refusal.kind() == ReplyKind::Error => ctx.reply_with(&refusal),
            _ => ctx.reply_error(errors::WRONG_TYPE),
        };
    }
    let length = length_if_silent(ctx, spec, command);
    let can_change = spec.is_none_or(|spec| spec.name != "xclaim") || streams::may_claim(ctx, command);
    let reply = ctx.call(mode, name, rest.iter().copied());
    let Some(shown) = entered else {
        return match reply {
            Some(reply) => ctx.reply_with(&reply),
            None => ctx.reply_error(errors::CALL_REFUSED),
        };
    };
    if let Some(spec) = spec {
        let unseen = length != length_if_silent(ctx, Some(spec), command);
        seal(ctx, spec, command, reply.as_ref().filter(|_| can_change), unseen);
    }
    let (changed, read) = with(Module::leave_frame).flatten().unwrap_or_default();
    match reply.map(Reply::into_promise) {
        Some(Ok(promise)) => blocking::block(ctx, spec, command, promise),
        Some(Err(reply)) => {
            hold(ctx, changed, read.max(shown));
            ctx.reply_with(&reply);
        }
        None => ctx.reply_error(errors::CALL_REFUSED),
    }
    if with(|module| module.capture.has_unit()) == Some(true) {
        ask_for_unit_end(ctx);
    }
}

/// Whether the server would lose the error of the command when a module calls it, and send it with a later call's reply
/// instead: GETSET and GETDEL of a key that is no string defer their reply and leave it there (t_string.c of 8.1 and
/// 9.1).
fn loses_its_error(ctx: Ctx<'_>, spec: Option<&CommandSpec>, args: &[&[u8]]) -> bool {
    if !spec.is_some_and(|spec| matches!(spec.name, "getset" | "getdel")) {
        return false;
    }
    args.first().is_some_and(|key| !matches!(ctx.key_kind(key), KeyKind::String | KeyKind::None))
}

/// Whether the command may wait for a stream to change.
fn may_block(ctx: Ctx<'_>, known: Known) -> bool {
    let flags = ctx.flags();
    let reads_streams = known.stream_reader || matches!(known.class, Class::Write(spec) if spec.blocks);
    reads_streams && flags.can_block() && with(|module| module.life.is_active()) == Some(true)
}

/// The length of the string of a BITFIELD, which with OVERFLOW FAIL may grow without an event.
fn length_if_silent(ctx: Ctx<'_>, spec: Option<&CommandSpec>, command: &[&[u8]]) -> Option<i64> {
    spec.filter(|spec| spec.rule == Rule::Bits)?;
    Some(ctx.call(CallMode::Internal, "STRLEN", [*command.get(1)?])?.integer())
}

/// Shows the capture what the command did; `unseen` where it is known to have changed data without an event.
pub(super) fn seal(ctx: Ctx<'_>, spec: &CommandSpec, command: &[&[u8]], reply: Option<&Reply<'_>>, unseen: bool) {
    let changed = reply.is_some_and(|reply| match reply.kind() {
        ReplyKind::Error | ReplyKind::Null | ReplyKind::Promise => false,
        ReplyKind::Integer if spec.rule == Rule::Silent => reply.integer() > 0,
        _ => true,
    });
    let told = reply.and_then(|reply| match spec.rule {
        Rule::RandomPop => Some(Told::Members(members(reply))),
        Rule::Pending if reply.kind() != ReplyKind::Error => {
            let created = with(|module| module.capture.wrapped_has_events()) == Some(true);
            streams::changes(ctx, command, reply, created).map(Told::Groups)
        }
        _ => None,
    });
    // A reply that names no entry, of a command that made no consumer, tells that nothing was changed.
    let changed = changed && !matches!(&told, Some(Told::Groups(groups)) if groups.iter().all(GroupChange::is_nothing));
    let now_ms = ctx.unit_time_us() / 1000;
    with(|module| {
        let changed = module.capture.wrapped_done(unseen || changed && spec.is_silent(), told, now_ms);
        if let Some(frame) = &mut module.frame {
            frame.changed |= changed;
        }
    });
}

/// Has the client's reply, which is to come, wait: for the running unit if that changed data, else for what it shows.
fn hold(ctx: Ctx<'_>, changed: bool, shown: Option<Lsn>) {
    if !changed && shown.is_none() {
        return;
    }
    ctx.raise_private_event();
    if changed {
        return;
    }
    let inline = with(|module| {
        // Nothing changed: the hold that the event made is for what is shown only.
        module.unit_waits = false;
        module.unit_waiters.clear();
        match (module.unit_holds.pop(), shown) {
            (Some(hold), Some(lsn)) => {
                module.clients.held(hold.client, lsn);
                module.release_when_durable(hold, Some(lsn));
                false
            }
            _ => module.note_read(shown),
        }
    });
    if inline == Some(true) {
        ask_for_unit_end(ctx);
    }
}

/// What SPOP popped: one member, or many.
fn members(reply: &Reply<'_>) -> Vec<Vec<u8>> {
    match reply.kind() {
        ReplyKind::Array => (0..reply.len()).filter_map(|index| Some(reply.element(index)?.bytes().to_vec())).collect(),
        ReplyKind::String => vec![reply.bytes().to_vec()],
        _ => Vec::new(),
    }
}

/// A PFCOUNT that finds its cached count fresh changes nothing; that of several keys caches none.
fn is_cached_count(ctx: Ctx<'_>, spec: &CommandSpec, args: &[&[u8]]) -> bool {
    if spec.rule != Rule::CardinalityCache {
        return false;
    }
    let [key] = args else { return true };
    if ctx.key_kind(key) != KeyKind::String {
        return true;
    }
    // What cannot be looked at may be stale.
    let header = ctx.ask("GETRANGE", [*key, b"0", b"15"]);
    header.is_some_and(|header| match header.bytes() {
        bytes if bytes.len() < HYPERLOGLOG_HEADER_BYTES => true,
        bytes => bytes[HYPERLOGLOG_HEADER_BYTES - 1] & 0x80 == 0,
    })
}

impl Module {
    /// The module is about to run a command for the context's client. Returns the newest change that its keys show;
    /// `None` when it only runs it.
    fn enter_frame(
        &mut self,
        ctx: Ctx<'_>,
        spec: Option<&'static CommandSpec>,
        reads: Reads,
        command: &[&[u8]],
    ) -> Option<Option<Lsn>> {
        if !self.life.logs() || self.frame.is_some() {
            return None;
        }
        self.counters.wrapped += 1;
        self.frame = Some(Frame::default());
        self.unit_reads = None;
        let db = ctx.selected_db();
        if let Some(spec) = spec {
            self.announce_wrapped(ctx, ctx.client_id(), spec, db, command);
        }
        Some(self.newest_change(ctx, command.len(), || command.iter().copied(), reads, Some(db)))
    }

    /// The module is about to run a write of this client's.
    pub(super) fn announce_wrapped(
        &mut self,
        ctx: Ctx<'_>,
        client: u64,
        spec: &'static CommandSpec,
        db: u32,
        command: &[&[u8]],
    ) {
        self.capture.wrapped(client, spec, db, command.iter().copied());
        if spec.keys == Keys::AfterStreams {
            let keys = ctx.command_keys(command.iter().copied());
            let keys = keys.into_iter().filter_map(|index| command.get(index).map(|key| Arc::from(*key)));
            self.capture.told_keys(keys.collect());
        }
    }

    /// The command has run: whether it changed data, and the newest change that commands inside of it have read.
    pub(super) fn leave_frame(&mut self) -> Option<(bool, Option<Lsn>)> {
        let frame = self.frame.take()?;
        // A frame and its command end together, whichever way the command went: what comes next is not its own.
        if self.capture.is_wrapping() {
            self.capture.wrapped_done(false, None, 0);
        }
        let read = self.unit_reads.take();
        Some((frame.changed && self.life.is_active(), self.undurable(read)))
    }
}
