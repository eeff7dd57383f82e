//! Readers that wait for a stream to change (XREAD and XREADGROUP with BLOCK).
//!
//! The server serves a blocked reader without an event, so that nothing could hold its reply. The module therefore runs
//! such a command itself (`Call` with the flag `K`): the command waits as a client of the module's, and its reply comes
//! to the module, which holds the real client. The client's rights are asked for when it begins to wait, and again when
//! it is answered. Where the default user needs a password, a server before 9.1 asks the module's client for it when it
//! is to be served; the command is run again then.

use crate::core::ack::Why;
use crate::core::stream_reads::StreamRead;
use crate::core::table::CommandSpec;
use crate::ffi::{CallMode, Ctx, Held, Promise, Reply, ReplyKind};
use crate::module::arguments::keys_in;
use crate::module::release::release;
use crate::module::seal::seal;
use crate::module::units::ask_for_unit_end;
use crate::module::waits::wait_now;
use crate::module::wrapped_run::{Outcome, WrappedRun};
use crate::module::{errors, server, with};
use std::time::{Duration, Instant};

/// A client whose command waits.
pub(crate) struct Blocked {
    held: Held,
    promise: Promise,
    spec: Option<&'static CommandSpec>,
    /// As it can be run again.
    command: Vec<Vec<u8>>,
    db: u32,
    resp3: bool,
    /// Until when it waits.
    deadline: Option<Instant>,
}

/// The command waits: so does the context's client.
pub(super) fn block(ctx: Ctx<'_>, spec: Option<&'static CommandSpec>, command: &[&[u8]], promise: Promise) {
    let client = ctx.client_id();
    let Some(held) = ctx.block_for_answer(true) else {
        promise.abort();
        return ctx.reply_error(errors::CANNOT_BLOCK);
    };
    held.on_leave();
    promise.on_answer(client);
    let db = ctx.selected_db();
    let keys = keys_in(ctx, command, db);
    let (command, deadline) = repeatable(ctx, command);
    let blocked = Blocked { held, promise, spec, command, db, resp3: ctx.flags().is_resp3(), deadline };
    with(|module| {
        module.capture.blocked.run_by_module(client, keys);
        module.blocked.insert(client, blocked);
    });
}

/// The command as it can be run again, if the server may have that be necessary: `$` stands for the last id of now. And
/// until when it waits.
fn repeatable(ctx: Ctx<'_>, command: &[&[u8]]) -> (Vec<Vec<u8>>, Option<Instant>) {
    let mut owned: Vec<Vec<u8>> = command.iter().map(|arg| arg.to_vec()).collect();
    if !server::may_ask_calls_for_password(ctx) {
        return (owned, None);
    }
    let Some(StreamRead { timeout, keys, .. }) = StreamRead::parse(command.iter().copied()) else {
        return (owned, None);
    };
    let streams = keys.len();
    for key in keys {
        if let Some(id) = owned.get_mut(key + streams).filter(|id| *id == b"$")
            && let Some(key) = command.get(key)
        {
            *id = last_id(ctx, key);
        }
    }
    let timeout_ms = timeout.and_then(|index| std::str::from_utf8(command.get(index)?).ok()?.parse::<u64>().ok());
    let timeout = timeout_ms.filter(|timeout_ms| *timeout_ms > 0).map(Duration::from_millis);
    (owned, timeout.and_then(|timeout| Instant::now().checked_add(timeout)))
}

/// The last id of a stream, whether its entry is still there or not.
fn last_id(ctx: Ctx<'_>, key: &[u8]) -> Vec<u8> {
    let id = ctx.ask("XINFO", [&b"STREAM"[..], key]).and_then(|info| {
        let name = (0..info.len()).find(|index| info.element(*index).is_some_and(|name| name.bytes() == LAST_ID))?;
        Some(info.element(name + 1)?.bytes().to_vec())
    });
    id.unwrap_or_else(|| b"0-0".to_vec())
}

/// The field of XINFO STREAM that says it.
const LAST_ID: &[u8] = b"last-generated-id";

impl Blocked {
    /// Runs the command again. It may have to wait on, for the time that is left to it.
    fn run_again(&mut self, ctx: Ctx<'_>, client: u64) -> Option<Result<Promise, Reply<'static>>> {
        let timeout = StreamRead::parse(self.command.iter().map(Vec::as_slice))?.timeout?;
        if let (Some(deadline), Some(timeout)) = (self.deadline, self.command.get_mut(timeout)) {
            let left = deadline.saturating_duration_since(Instant::now());
            *timeout = left.as_millis().max(1).to_string().into_bytes();
        }
        let (name, args) = self.command.split_first()?;
        let (name, mode) = (String::from_utf8_lossy(name), CallMode::Waiting { resp3: self.resp3 });
        let run = |ctx: Ctx<'_>| ctx.call(mode, &name, args.iter().map(Vec::as_slice));
        ctx.as_user_of(client, self.db, run)?.map(Reply::into_promise)
    }
}

/// Whether the server has asked the module's temporary client for a password, in the place of serving it.
fn asks_for_password(reply: &Reply<'_>) -> bool {
    reply.kind() == ReplyKind::Error && reply.bytes().starts_with(b"NOAUTH")
}

/// The command has an answer: entries, a time-out, an error. Its client gets it when what it shows, or did, is durable.
pub fn answered(ctx: Ctx<'_>, client: u64, reply: Reply<'static>) {
    let Some(Some(mut blocked)) = with(|module| module.blocked.remove(&client)) else { return };
    let again = if asks_for_password(&reply) { blocked.run_again(ctx, client) } else { None };
    let reply = match again {
        Some(Ok(promise)) => {
            promise.on_answer(client);
            blocked.promise = promise;
            with(|module| module.blocked.insert(client, blocked));
            return;
        }
        Some(Err(reply)) => reply,
        None => reply,
    };
    let Blocked { mut held, promise, spec, command, db, .. } = blocked;
    drop(promise);
    let args: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
    let run = with(|module| {
        let run = WrappedRun::enter(module, client, db)?;
        if let Some(spec) = spec {
            module.announce_wrapped(ctx, client, spec, db, &args);
        }
        Some(run)
    });
    let Some(Some(run)) = run else {
        with(|module| module.capture.blocked.answered(client));
        held.set_answer(reply);
        return release(held, Why::NotActive);
    };
    if let Some(spec) = spec {
        seal(ctx, spec, &args, Some(&reply), false);
    }
    held.set_answer(refusal(ctx, client, db, &args).unwrap_or(reply));
    let outcome = run.leave(ctx);
    with(|module| {
        let shown = module.capture.blocked.shown(client, &module.dirty);
        module.capture.blocked.answered(client);
        let changed = outcome.changed || module.running.ends_late();
        module.hold_for(client, held, Outcome { changed, shown });
    });
    if outcome.changed {
        ask_for_unit_end(ctx);
    }
}

/// The server's refusal where the client may not run the command any more. The server asks for the rights of a reader
/// again when it serves it, but not for those of the module's.
fn refusal(ctx: Ctx<'_>, client: u64, db: u32, command: &[&[u8]]) -> Option<Reply<'static>> {
    let (name, args) = command.split_first()?;
    let dry_run = |ctx: Ctx<'_>| ctx.call(CallMode::DryRunAsUser, &String::from_utf8_lossy(name), args.iter().copied());
    let reply = ctx.as_user_of(client, db, dry_run)??;
    (reply.kind() == ReplyKind::Error && reply.bytes().starts_with(b"NOPERM")).then_some(reply)
}

/// CLIENT UNBLOCK id TIMEOUT: the context's client waits no longer.
pub(super) fn timed_out(ctx: Ctx<'_>) {
    let client = ctx.client_id();
    if with(|module| module.capture.blocked.is_answered(client)) != Some(true) {
        // Nobody waits in the context's command, so that the loop can wait for what this shows.
        with(|module| module.wait_for_answer(ctx, client));
        left(client);
        return ctx.reply_null_array();
    }
    // It has its answer, which waits for the disk, and no other. The filter does not see a CLIENT UNBLOCK that an EXEC
    // runs.
    if let Some(Some((lsn, waiting))) = with(|module| module.log()?.withdraw(client)) {
        wait_now(ctx, lsn);
        let mut held = waiting.held;
        held.answer_now(ctx);
        let durable = with(|module| module.log().map(|log| log.log().durable())).flatten();
        release(held, durable.map_or(Why::NotActive, |durable| Why::Durable { waits_for: lsn, durable }));
    }
}

/// The client has disconnected, or CLIENT UNBLOCK id ERROR has ended its wait.
pub fn left(client: u64) {
    let blocked = with(|module| {
        module.capture.awake(client);
        module.blocked.remove(&client)
    });
    if let Some(Some(blocked)) = blocked {
        blocked.promise.abort();
        release(blocked.held, Why::Left);
    }
}
