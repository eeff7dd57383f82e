//! Readers that wait for a stream to change (XREAD and XREADGROUP with BLOCK).
//!
//! The server serves a blocked reader without an event, so nothing could hold its reply. The module therefore runs such
//! a command itself (`Call` with the flag `K`): the command waits as a client of the module's, and its reply comes to
//! the module, which holds the real client. The client's rights are checked when it begins to wait, and again when it
//! is answered.
//!
//! When the command can be served, the server runs it again, as for any client; but in two cases it lets go of a
//! module's client without serving it. If a pause begins before (CLIENT PAUSE, a failover), the command waits for its
//! end, and then gets a reply of no bytes. If the default user needs a password, a server before 9.1 asks for it. The
//! module then runs the command again, for the time that is left, and never while writes are paused: whatever is
//! replicated during a pause ends the server.

use crate::core::ack::Why;
use crate::core::stream_reads::StreamRead;
use crate::core::table::CommandSpec;
use crate::ffi::{CallMode, Ctx, Held, Promise, Reply, ReplyKind};
use crate::machine::monotonic_us;
use crate::module::arguments::keys_in;
use crate::module::release::release;
use crate::module::seal::seal;
use crate::module::units::{ask_for_unit_end, finish_unit};
use crate::module::waits::wait_now;
use crate::module::wrapped_run::{Outcome, WrappedRun};
use crate::module::{cluster, errors, waitaof, with};

/// A client whose command waits.
pub(crate) struct Reader {
    held: Held,
    spec: Option<&'static CommandSpec>,
    /// As it can be run again.
    command: Vec<Vec<u8>>,
    db: u32,
    resp3: bool,
    /// Until when it waits, by the machine's clock; microseconds.
    deadline_us: Option<u64>,
}

/// The command waits: so does the context's client.
pub(super) fn block(ctx: Ctx<'_>, spec: Option<&'static CommandSpec>, command: &[&[u8]], promise: Promise) {
    let client = ctx.client_id();
    let Some(held) = ctx.block_for_answer(true) else {
        promise.abort();
        return ctx.reply_error(errors::CANNOT_BLOCK);
    };
    held.on_leave();
    let db = ctx.selected_db();
    let keys = keys_in(ctx, command, db);
    let (command, deadline_us) = repeatable(ctx, command);
    let reader = Reader { held, spec, command, db, resp3: ctx.flags().is_resp3(), deadline_us };
    with(|module| module.capture.blocked.run_by_module(client, keys));
    reader.wait(client, promise);
}

/// The command as it can be run again, with the present last id for `$`. And until when it waits.
fn repeatable(ctx: Ctx<'_>, command: &[&[u8]]) -> (Vec<Vec<u8>>, Option<u64>) {
    let mut owned: Vec<Vec<u8>> = command.iter().map(|arg| arg.to_vec()).collect();
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
    let timeout_us =
        timeout_ms.filter(|timeout_ms| *timeout_ms > 0).and_then(|timeout_ms| timeout_ms.checked_mul(1000));
    (owned, timeout_us.and_then(|timeout_us| monotonic_us().checked_add(timeout_us)))
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

impl Reader {
    /// It waits in this call.
    fn wait(self, client: u64, promise: Promise) {
        with(|module| {
            module.readers.begin(client, self, |number| {
                promise.on_answer(number);
                promise
            })
        });
    }

    /// Its command is about to run, or has run: what comes belongs to it. `None` where nothing is logged.
    fn enter(&self, ctx: Ctx<'_>, client: u64) -> Option<WrappedRun> {
        let command: Vec<&[u8]> = self.command.iter().map(Vec::as_slice).collect();
        let run = with(|module| {
            let run = WrappedRun::enter(module, client, self.db)?;
            if let Some(spec) = self.spec {
                module.announce_wrapped(ctx, client, spec, self.db, &command);
            }
            Some(run)
        });
        run.flatten()
    }

    /// It has run, with this result.
    fn seal(&self, ctx: Ctx<'_>, reply: &Reply<'_>) {
        if let Some(spec) = self.spec {
            let command: Vec<&[u8]> = self.command.iter().map(Vec::as_slice).collect();
            seal(ctx, spec, &command, Some(reply), false);
        }
    }

    /// Runs the command again. It may have to wait again, for the time that is left to it. `None` when its user has
    /// gone.
    fn call(&mut self, ctx: Ctx<'_>, client: u64) -> Option<Reply<'static>> {
        let timeout = StreamRead::parse(self.command.iter().map(Vec::as_slice))?.timeout?;
        if let (Some(deadline_us), Some(timeout)) = (self.deadline_us, self.command.get_mut(timeout)) {
            let left_us = deadline_us.saturating_sub(monotonic_us());
            *timeout = (left_us / 1000).max(1).to_string().into_bytes();
        }
        let (name, args) = self.command.split_first()?;
        let (name, mode) = (String::from_utf8_lossy(name), CallMode::Waiting { resp3: self.resp3 });
        ctx.as_user_of(client, self.db, |ctx| ctx.call(mode, &name, args.iter().map(Vec::as_slice)))?
    }

    /// The client gets this answer when what it shows, or did, is durable.
    fn answer(mut self, ctx: Ctx<'_>, client: u64, run: Option<WrappedRun>, reply: Reply<'static>) {
        let Some(run) = run else {
            with(|module| module.capture.blocked.answered(client));
            self.held.set_answer(reply);
            return release(self.held, Why::NotActive);
        };
        self.seal(ctx, &reply);
        match cluster::redirection(ctx, self.command.iter().map(Vec::as_slice), &reply) {
            Some(error) => self.held.set_error(error),
            None => self.held.set_answer(self.refusal(ctx, client).unwrap_or(reply)),
        }
        let outcome = run.leave(ctx);
        with(|module| {
            let shown = module.capture.blocked.shown(client, &module.dirty);
            module.capture.blocked.answered(client);
            let changed = outcome.changed || module.running.ends_late();
            module.hold_for(client, self.held, Outcome { changed, shown, ..outcome });
        });
        if outcome.changed {
            ask_for_unit_end(ctx);
        }
    }

    /// The server's refusal where the client may not run the command any more. The server checks a reader's rights
    /// again when it serves it, but not for the module's client.
    fn refusal(&self, ctx: Ctx<'_>, client: u64) -> Option<Reply<'static>> {
        let (name, args) = self.command.split_first()?;
        let (name, args) = (String::from_utf8_lossy(name), args.iter().map(Vec::as_slice));
        let reply = ctx.as_user_of(client, self.db, |ctx| ctx.call(CallMode::DryRunAsUser, &name, args))??;
        (reply.kind() == ReplyKind::Error && reply.bytes().starts_with(b"NOPERM")).then_some(reply)
    }
}

/// Whether the server has let go of the module's client instead of serving it: a pause has made it wait, or it was
/// asked for a password.
fn is_unserved(reply: &Reply<'_>) -> bool {
    match reply.kind() {
        ReplyKind::Missing => true,
        ReplyKind::Error => reply.bytes().starts_with(b"NOAUTH"),
        _ => false,
    }
}

/// A call has an answer: entries, a time-out, an error. Its client gets it when what it shows, or did, is durable.
pub fn answered(ctx: Ctx<'_>, call: u64, reply: Reply<'static>) {
    let Some(Some((client, reader))) = with(|module| module.readers.answered(call)) else { return };
    if is_unserved(&reply) {
        return run_again(ctx, client, reader);
    }
    let run = reader.enter(ctx, client);
    reader.answer(ctx, client, run, reply);
}

fn run_again(ctx: Ctx<'_>, client: u64, mut reader: Reader) {
    if ctx.writes_are_paused() {
        with(|module| module.readers.put_off(client, reader));
        return;
    }
    let run = reader.enter(ctx, client);
    let reply = reader.refusal(ctx, client).or_else(|| reader.call(ctx, client));
    let Some(reply) = reply else {
        ctx.close_client(client);
        return release(reader.held, Why::Left);
    };
    if reply.kind() != ReplyKind::Promise {
        return reader.answer(ctx, client, run, reply);
    }
    reader.seal(ctx, &reply);
    let outcome = run.map(|run| run.leave(ctx)).unwrap_or_default();
    if let Ok(promise) = reply.into_promise() {
        reader.wait(client, promise);
    }
    if outcome.changed {
        ask_for_unit_end(ctx);
    }
}

/// Runs the commands that wait for the end of a pause, if it is over. At the end of an iteration.
pub(super) fn run_put_off(ctx: Ctx<'_>) -> bool {
    let mut has_run = false;
    while with(|module| module.readers.any_put_off()) == Some(true)
        && !ctx.writes_are_paused()
        && let Some(Some((client, reader))) = with(|module| module.readers.next_put_off())
    {
        finish_unit(ctx);
        run_again(ctx, client, reader);
        finish_unit(ctx);
        has_run = true;
    }
    has_run
}

/// CLIENT UNBLOCK id TIMEOUT: the context's client waits no longer.
pub(super) fn timed_out(ctx: Ctx<'_>) {
    let client = ctx.client_id();
    if with(|module| module.capture.blocked.is_answered(client)) != Some(true) {
        // Nobody waits in the context's command, so the loop can wait for what this shows.
        with(|module| module.wait_for_answer(ctx, client));
        left(client);
        return ctx.reply_null_array();
    }
    // It has its answer, which waits for the disk, and no other. The filter does not see a CLIENT UNBLOCK that an EXEC
    // runs.
    if let Some(Some((lsn, waiting))) = with(|module| module.log()?.withdraw(client)) {
        wait_now(ctx, lsn);
        let mut held = waiting.held;
        let durable = with(|module| module.log().map(|log| log.log().durable())).flatten();
        if durable.is_some_and(|durable| durable < lsn) {
            // The disk fails, and the server has ended the wait: nobody gets this answer.
            ctx.close_client(client);
            return release(held, Why::Left);
        }
        held.answer_now(ctx);
        release(held, durable.map_or(Why::NotActive, |durable| Why::Durable { waits_for: lsn, durable }));
    }
}

/// The client has disconnected, or CLIENT UNBLOCK id ERROR has ended its wait.
pub fn left(client: u64) {
    waitaof::left(client);
    let left = with(|module| {
        module.capture.awake(client);
        module.readers.leave(client)
    });
    if let Some(Some((reader, promise))) = left {
        promise.inspect(Promise::abort);
        release(reader.held, Why::Left);
    }
}
