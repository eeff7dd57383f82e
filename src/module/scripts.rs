//! Scripts and functions of clients that may run the module's command: they run at the end of the iteration of the
//! event loop, so that their replies can be held.
//!
//! While a script runs long the server serves other clients, and the script's own may disconnect. The server protects
//! the client of a script against that, but not one whose command calls the script. So the script does not run inside
//! its client's command: the client is blocked first, and its reply is written to the blocked client.

use crate::core::args::Args;
use crate::core::capture::Class;
use crate::core::reads::Reads;
use crate::core::table::Shows;
use crate::ffi::{CallMode, Ctx, Held, ReplyKind};
use crate::module::known::Known;
use crate::module::units::finish_unit;
use crate::module::waits::wait_before_yield;
use crate::module::wrapped_run::{Outcome, WrappedRun};
use crate::module::{cluster, errors, with, wrap};

/// A script that waits for the end of the iteration.
pub(crate) struct Script {
    pub(super) client: u64,
    pub(super) held: Held,
    command: Args,
    /// It shows which functions there are.
    shows_library: bool,
    db: u32,
    resp3: bool,
}

/// WBL.EVAL command [argument ...]
pub(super) fn eval(ctx: Ctx<'_>, args: &[&[u8]]) {
    schedule(ctx, args, |known| known.class == Class::Opaque && known.reads == Reads::Script);
}

/// WBL.EVAL_RO command [argument ...]
pub(super) fn eval_ro(ctx: Ctx<'_>, args: &[&[u8]]) {
    schedule(ctx, args, |known| known.class == Class::ReadOnly && known.reads == Reads::Script);
}

fn schedule(ctx: Ctx<'_>, args: &[&[u8]], allowed: impl Fn(Known) -> bool) {
    let Some((_, command, known)) = wrap::wrapped_command(args, allowed) else {
        return ctx.reply_error(errors::CALL_REFUSED);
    };
    let flags = ctx.flags();
    if !flags.can_block() {
        return ctx.reply_error(errors::CANNOT_BLOCK);
    }
    let Some(held) = ctx.block_for_answer(false) else { return ctx.reply_error(errors::CANNOT_BLOCK) };
    let script = Script {
        client: ctx.client_id(),
        held,
        command: Args::of(command),
        shows_library: known.row.shows == Shows::FunctionCall,
        db: ctx.selected_db(),
        resp3: flags.is_resp3(),
    };
    with(|module| module.scripts.push_back(script));
}

/// Runs the scripts that wait, in their order. While writes are paused they keep waiting, as their clients would
/// without the module.
///
/// The end of the iteration is the only place for it: nothing runs there that the script would be inside of. A log may
/// end within a script or a transaction, or when the server ends, which a script could hold up.
pub(super) fn run_waiting(ctx: Ctx<'_>) -> bool {
    if with(|module| module.scripts.is_empty()) != Some(false) {
        return false;
    }
    // A pause may begin while one of them runs long.
    while !ctx.writes_are_paused()
        && let Some(Some(script)) = with(|module| module.scripts.pop_front())
    {
        wait_before_yield(ctx, None);
        run(ctx, script);
    }
    true
}

fn run(ctx: Ctx<'_>, script: Script) {
    let Script { client, mut held, command, shows_library, db, resp3 } = script;
    finish_unit(ctx);
    let entered = with(|module| {
        module.counters.scripts += 1;
        module.homes.iter_mut().for_each(|homes| homes.calls(client));
        module.capture.command(client, Class::Opaque, None, std::iter::empty());
        let library = if shows_library { module.dirty.functions_change() } else { None };
        (WrappedRun::enter(module, client, db), library)
    });
    let (run, library) = entered.unwrap_or_default();
    let call = |mode| {
        let answer = ctx.as_user_of(client, db, |ctx| {
            let name = String::from_utf8_lossy(command.get(0)?);
            ctx.call(mode, &name, command.iter().skip(1))
        });
        answer.flatten()
    };
    // A script that has begun is never sent elsewhere, whatever it answers: it would run twice. So the server is asked
    // beforehand whether it refuses this one.
    let asks = ctx.flags().in_cluster();
    let refusal = asks.then(|| call(CallMode::DryRunAsUser)).flatten();
    match refusal.filter(|refusal| refusal.kind() == ReplyKind::Error) {
        Some(refusal) => match cluster::redirection(ctx, command.iter(), &refusal) {
            Some(error) => held.set_error(error),
            None => held.set_answer(refusal),
        },
        None => match call(CallMode::AsUser { resp3 }) {
            Some(answer) => held.set_answer(answer),
            // Its user has gone (and so has the client), or its arguments were refused before, which the filter rules
            // out.
            None => {
                ctx.close_client(client);
            }
        },
    }
    let outcome = run.map(|run| run.leave(ctx)).unwrap_or_default();
    let outcome = Outcome { shown: outcome.shown.max(library), ..outcome };
    with(|module| {
        module.clients.answered(client);
        module.hold_for(client, held, outcome);
    });
    finish_unit(ctx);
}
