//! `WBL.CALL`: runs a command that no keyspace event tells of, so that the module sees it run and can hold its reply.
//!
//! The command filter turns `XACK key group id` into `WBL.CALL XACK key group id` for clients whose user may run it; key positions, ACL rules
//! and errors are those of the wrapped command.

use crate::core::capture::Class;
use crate::core::leaf::Told;
use crate::core::table::{CommandSpec, Rule};
use crate::ffi::{CallMode, Ctx, Reply, ReplyKind};
use crate::module::{State, errors, streams, with};
use std::ffi::CStr;

/// The command's name.
pub const COMMAND: &CStr = c"wbl.call";

/// A hyperloglog's header has this many bytes; the highest bit of the last tells that the cached count is stale (`hyperloglog.c`).
const HYPERLOGLOG_HEADER_BYTES: usize = 16;

/// Runs `args[1..]`.
pub fn run(ctx: Ctx<'_>, args: &[&[u8]]) {
    let [_, command, rest @ ..] = args else { return ctx.reply_error(errors::CALL_REFUSED) };
    let Ok(name) = std::str::from_utf8(command) else { return ctx.reply_error(errors::CALL_REFUSED) };
    let spec = with(|module| module.state.logs().then(|| module.spec_of(name, rest.first().copied())));
    let call = || ctx.call(CallMode::AsClient, name, rest.iter().copied());
    let reply = match spec {
        Some(Some(Some(spec))) if spec.is_wrapped() && !is_cached_count(ctx, spec, rest) => {
            watched(ctx, spec, args, call)
        }
        _ => call(),
    };
    match reply {
        Some(reply) => ctx.reply_with(&reply),
        None => ctx.reply_error(errors::CALL_REFUSED),
    }
}

/// Runs the command with its reply held and its effect captured.
fn watched(
    ctx: Ctx<'_>,
    spec: &'static CommandSpec,
    args: &[&[u8]],
    call: impl FnOnce() -> Option<Reply<'static>>,
) -> Option<Reply<'static>> {
    if with(|module| module.state) == Some(State::Active) {
        ctx.raise_private_event();
    }
    with(|module| {
        module.counters.wrapped += 1;
        module.capture.wrapped(ctx.client_id(), spec, ctx.selected_db(), args.iter().skip(1).copied());
    });
    let reply = call();
    let changed = reply.as_ref().is_some_and(|reply| match reply.kind() {
        ReplyKind::Error | ReplyKind::Null => false,
        ReplyKind::Integer if spec.rule == Rule::Silent => reply.integer() > 0,
        _ => true,
    });
    let told = reply.as_ref().and_then(|reply| match spec.rule {
        Rule::RandomPop => Some(Told::Members(members(reply))),
        Rule::Pending if reply.kind() != ReplyKind::Error => {
            let created = with(|module| module.capture.wrapped_has_events()) == Some(true);
            streams::changes(ctx, args.get(1..)?, reply, created).map(Told::Groups)
        }
        _ => None,
    });
    let ask = with(|module| {
        module.capture.wrapped_done(changed && spec.is_silent(), told, ctx.unit_time_us() / 1000);
        !std::mem::replace(&mut module.unit_end_asked, true)
    });
    if ask == Some(true) && !ctx.ask_for_unit_end() {
        with(|module| module.unit_end_asked = false);
    }
    reply
}

/// What SPOP popped: one member, or many.
fn members(reply: &Reply<'_>) -> Vec<Vec<u8>> {
    match reply.kind() {
        ReplyKind::Array => (0..reply.len()).filter_map(|index| Some(reply.element(index)?.bytes().to_vec())).collect(),
        ReplyKind::String => vec![reply.bytes().to_vec()],
        _ => Vec::new(),
    }
}

/// A PFCOUNT that finds its cached count fresh changes nothing.
fn is_cached_count(ctx: Ctx<'_>, spec: &CommandSpec, args: &[&[u8]]) -> bool {
    let ([key], Rule::CardinalityCache) = (args, spec.rule) else { return false };
    let header = ctx.call(CallMode::Internal, "GETRANGE", [*key, b"0", b"15"]);
    header.is_some_and(|header| match header.bytes() {
        bytes if header.kind() != ReplyKind::String || bytes.len() < HYPERLOGLOG_HEADER_BYTES => true,
        bytes => bytes[HYPERLOGLOG_HEADER_BYTES - 1] & 0x80 == 0,
    })
}

impl super::Module {
    fn spec_of(&self, name: &str, subcommand: Option<&[u8]>) -> Option<&'static CommandSpec> {
        let mut name = name.to_ascii_lowercase().into_bytes();
        if self.classes.get(&name) == Some(&Class::Container) {
            name.push(b'|');
            name.extend(subcommand?.to_ascii_lowercase());
        }
        match self.classes.get(&name) {
            Some(Class::Write(spec)) => Some(spec),
            _ => None,
        }
    }
}
