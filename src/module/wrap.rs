//! The commands through which the module runs others: `WBL.CALL` (writes), `WBL.READ`, `WBL.EVAL` and `WBL.EVAL_RO`
//! (scripts and functions).
//!
//! The command filter turns `XACK key group id` into `WBL.CALL XACK key group id` for clients whose user may run it;
//! key positions, ACL rules and errors are those of the command itself. So the module sees the reply and can hold it:
//! by then it is known whether anything changed.

use crate::core::capture::Class;
use crate::core::reads::Reads;
use crate::core::table::{CommandSpec, Pending, Quirk, Rule};
use crate::ffi::{CallMode, Ctx, KeyKind, Promise, Reply, ReplyKind};
use crate::log::Lsn;
use crate::module::known::Known;
use crate::module::seal::seal;
use crate::module::units::ask_for_unit_end;
use crate::module::wrapped_run::{Outcome, WrappedRun};
use crate::module::{Module, blocking, durable_reads, errors, streams, with};

/// A hyperloglog's header has this many bytes; the highest bit of the last shows that the cached count is stale
/// (`hyperloglog.c`).
const HYPERLOGLOG_HEADER_BYTES: usize = 16;

/// WBL.CALL command [argument ...]
pub fn write(ctx: Ctx<'_>, args: &[&[u8]]) {
    run(ctx, args, |known| matches!(known.class, Class::Write(spec) if !spec.is_unknown()));
}

/// WBL.READ command [argument ...]
///
/// It runs only what the filter turns into it, commands that show data: the server lets a module call commands that
/// crash it (SYNC).
pub fn read(ctx: Ctx<'_>, args: &[&[u8]]) {
    run(ctx, args, |known| match known.class {
        Class::Write(spec) => spec.rule == Rule::CardinalityCache,
        class => class == Class::ReadOnly && !matches!(known.reads, Reads::Nothing | Reads::Script),
    });
}

/// The command inside the module's own, with what is known of it; `None` when it may not be run so.
pub(super) fn wrapped_command<'a>(
    args: &'a [&'a [u8]],
    allowed: impl Fn(Known) -> bool,
) -> Option<(&'a str, &'a [&'a [u8]], Known)> {
    let command = args.get(1..)?;
    let name = std::str::from_utf8(command.first()?).ok()?;
    let subcommand = command.get(1).copied().unwrap_or_default();
    let known = with(|module| module.server.commands.known(name.as_bytes(), subcommand))?;
    allowed(known).then_some((name, command, known))
}

fn run(ctx: Ctx<'_>, args: &[&[u8]], allowed: impl Fn(Known) -> bool) {
    let Some((_, command, known)) = wrapped_command(args, allowed) else {
        return ctx.reply_error(errors::CALL_REFUSED);
    };
    let Some(Done { ran, spec, outcome, is_dirty }) = run_for_client(ctx, CallMode::AsClient, known, command) else {
        return run_only(ctx, CallMode::AsClient, command).answer(ctx);
    };
    match ran {
        Ran::Waits(promise) => blocking::block(ctx, spec, command, promise),
        Ran::Answered(reply)
            if is_dirty && !outcome.changed && durable_reads::serve(ctx, known.row, command, &reply) =>
        {
            return;
        }
        Ran::Answered(_) | Ran::Refused(_) => {
            hold(ctx, Outcome { reply_bytes: ran.sent_bytes(), ..outcome });
            ran.answer(ctx);
        }
        Ran::NoCommand => ran.answer(ctx),
    }
    if with(|module| module.capture.has_unit()) == Some(true) {
        ask_for_unit_end(ctx);
    }
}

/// A command that was run.
pub(super) struct Done {
    pub(super) ran: Ran,
    /// Its row, if it may have changed data.
    spec: Option<&'static CommandSpec>,
    /// What its reply waits for.
    pub(super) outcome: Outcome,
    /// Its keys had changes that were not durable.
    is_dirty: bool,
}

/// Runs a command for the context's client, and sees what it does. `None` where it need not be captured.
pub(super) fn run_for_client(ctx: Ctx<'_>, mode: CallMode, known: Known, command: &[&[u8]]) -> Option<Done> {
    let rest = command.get(1..).unwrap_or_default();
    let spec = match known.class {
        Class::Write(spec) if !is_cached_count(ctx, spec, rest) => Some(spec),
        _ => None,
    };
    let (run, shown) = with(|module| module.enter(ctx, spec, known, command)).flatten()?;
    let ran = match spec.filter(|spec| loses_its_error(ctx, spec, rest)) {
        Some(_) => Ran::Refused(call(ctx, CallMode::DryRunAsClient, command)),
        None => run_wrapped(ctx, mode, spec, known, command),
    };
    let outcome = run.leave(ctx);
    let outcome = Outcome { shown: outcome.shown.max(shown), ..outcome };
    Some(Done { ran, spec, outcome, is_dirty: shown.is_some() })
}

/// The outcome of a command.
pub(super) enum Ran {
    /// It has an answer.
    Answered(Reply<'static>),
    /// It waits for one.
    Waits(Promise),
    /// It did not run because it would have failed, with this refusal if any.
    Refused(Option<Reply<'static>>),
    /// The server has no such command.
    NoCommand,
}

impl Ran {
    /// The size of its answer.
    fn sent_bytes(&self) -> usize {
        match self {
            Ran::Answered(reply) | Ran::Refused(Some(reply)) => reply.sent_bytes(),
            Ran::Refused(None) | Ran::NoCommand | Ran::Waits(_) => 0,
        }
    }

    /// Answers the context's client with it.
    fn answer(&self, ctx: Ctx<'_>) {
        match self {
            Ran::Answered(reply) => ctx.reply_with(reply),
            Ran::Refused(Some(refusal)) if refusal.kind() == ReplyKind::Error => ctx.reply_with(refusal),
            Ran::Refused(_) => ctx.reply_error(errors::WRONG_TYPE),
            Ran::NoCommand => ctx.reply_error(errors::CALL_REFUSED),
            Ran::Waits(_) => {}
        }
    }
}

fn call(ctx: Ctx<'_>, mode: CallMode, command: &[&[u8]]) -> Option<Reply<'static>> {
    let (name, rest) = command.split_first()?;
    ctx.call(mode, &String::from_utf8_lossy(name), rest.iter().copied())
}

/// Runs a command that need not be captured: nothing is logged, or it runs within another.
pub(super) fn run_only(ctx: Ctx<'_>, mode: CallMode, command: &[&[u8]]) -> Ran {
    call(ctx, mode, command).map_or(Ran::NoCommand, Ran::Answered)
}

fn run_wrapped(
    ctx: Ctx<'_>,
    mode: CallMode,
    spec: Option<&'static CommandSpec>,
    known: Known,
    command: &[&[u8]],
) -> Ran {
    let waits = may_block(ctx, known);
    let mode = if waits { CallMode::Waiting { resp3: ctx.flags().is_resp3() } } else { mode };
    if waits {
        let refusal = call(ctx, CallMode::DryRunAsClient, command);
        if let Some(refusal) = refusal.filter(|refusal| refusal.kind() == ReplyKind::Error) {
            return Ran::Refused(Some(refusal));
        }
    }
    let length = length_if_silent(ctx, spec, command);
    let is_claim = spec.is_some_and(|spec| spec.rule == Rule::Pending(Pending::Claim));
    let can_change = !is_claim || streams::may_claim(ctx, command);
    let reply = call(ctx, mode, command);
    if let Some(spec) = spec {
        let unseen = length != length_if_silent(ctx, Some(spec), command);
        seal(ctx, spec, command, reply.as_ref().filter(|_| can_change), unseen);
    }
    match reply.map(Reply::into_promise) {
        Some(Ok(promise)) => Ran::Waits(promise),
        Some(Err(reply)) => Ran::Answered(reply),
        None => Ran::NoCommand,
    }
}

/// Whether the server would lose the error of the command when a module calls it ([`Quirk::LosesItsError`]).
fn loses_its_error(ctx: Ctx<'_>, spec: &CommandSpec, args: &[&[u8]]) -> bool {
    if spec.quirk != Quirk::LosesItsError {
        return false;
    }
    args.first().is_some_and(|key| !matches!(ctx.key_kind(key), KeyKind::String | KeyKind::None))
}

/// Whether the command may wait for something, and its client with it.
fn may_block(ctx: Ctx<'_>, known: Known) -> bool {
    let flags = ctx.flags();
    known.row.may_block() && flags.can_block() && with(|module| module.life.withholds()) == Some(true)
}

/// The length of the string of a BITFIELD, which with OVERFLOW FAIL may grow without an event.
fn length_if_silent(ctx: Ctx<'_>, spec: Option<&CommandSpec>, command: &[&[u8]]) -> Option<usize> {
    spec.filter(|spec| spec.rule == Rule::Bits)?;
    ctx.key_length(command.get(1)?, KeyKind::String)
}

/// Has the client's reply, which is to come, wait for what it shows.
pub(super) fn hold(ctx: Ctx<'_>, outcome: Outcome) {
    if with(|module| module.hold_reply_for(ctx, outcome)) == Some(true) {
        ask_for_unit_end(ctx);
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
    fn enter(
        &mut self,
        ctx: Ctx<'_>,
        spec: Option<&'static CommandSpec>,
        known: Known,
        command: &[&[u8]],
    ) -> Option<(WrappedRun, Option<Lsn>)> {
        let (client, db) = (ctx.client_id(), ctx.selected_db());
        let run = WrappedRun::enter(self, client, db)?;
        self.counters.wrapped += 1;
        if let Some(spec) = spec {
            self.announce_wrapped(ctx, client, spec, db, command);
        }
        Some((run, self.newest_change(ctx, command.len(), || command.iter().copied(), known, Some(db))))
    }
}
