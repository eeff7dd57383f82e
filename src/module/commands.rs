//! The module's commands.

use crate::core::ack::Why;
use crate::ffi::{CallMode, CommandDocs, CommandFlags, Ctx, Level, log, register_command};
use crate::module::commit::leave_inline;
use crate::module::config::{Setting, value};
use crate::module::points::{self, Action};
use crate::module::release::{Release, Waiting, release};
use crate::module::units::finish_unit;
use crate::module::waits::wait_now;
use crate::module::{
    State, backup, blocking, collecting, errors, explain, gate, help, info, life, refusal, scripts, waitaof, watching,
    with, wrap, wrappers,
};
use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

struct Entry {
    name: &'static CStr,
    flags: CommandFlags,
    docs: CommandDocs,
    run: fn(Ctx<'_>, &[&[u8]]),
}

const WAIT: &CStr = c"wbl.wait";
const STATUS: &CStr = c"wbl.status";
const LAG: &CStr = c"wbl.lag";
const HELP: &CStr = c"wbl.help";
const CHECKPOINT: &CStr = c"wbl.checkpoint";
const BACKUP: &CStr = c"wbl.backup";
const DEBUG: &CStr = c"wbl.debug";

const ENTRIES: [Entry; 14] = [
    Entry {
        name: WAIT,
        flags: CommandFlags { flags: c"readonly deny-script allow-stale fast", acl_categories: c"connection fast" },
        docs: CommandDocs {
            summary: c"Waits until everything executed before is durable, and returns the durable position of the log.",
            complexity: c"O(1)",
            since: c"0.1.0",
            arity: -1,
            args: &[(c"timeout-ms", None, true)],
        },
        run: wait,
    },
    Entry {
        name: STATUS,
        flags: CommandFlags { flags: c"readonly allow-stale allow-loading fast", acl_categories: c"admin fast" },
        docs: CommandDocs {
            summary: c"Returns the state of the write-behind log.",
            complexity: c"O(1)",
            since: c"0.1.0",
            arity: 1,
            args: &[],
        },
        run: status,
    },
    Entry {
        name: LAG,
        flags: CommandFlags { flags: c"readonly allow-stale allow-loading fast", acl_categories: c"admin fast" },
        docs: CommandDocs {
            summary: c"Returns how far the durable position of the log lags the appended one, in bytes and milliseconds.",
            complexity: c"O(1)",
            since: c"0.1.0",
            arity: 1,
            args: &[],
        },
        run: watching::lag,
    },
    Entry {
        name: HELP,
        flags: CommandFlags { flags: c"readonly allow-stale allow-loading fast", acl_categories: c"connection fast" },
        docs: CommandDocs {
            summary: c"Returns which commands the module has, and what they do.",
            complexity: c"O(1)",
            since: c"0.1.0",
            arity: 1,
            args: &[],
        },
        run: help::help,
    },
    Entry {
        name: CHECKPOINT,
        flags: CommandFlags { flags: c"readonly deny-script admin", acl_categories: c"admin dangerous slow" },
        docs: CommandDocs {
            summary: c"Writes a new base in a child process and removes the log that it replaces.",
            complexity: c"O(N) where N is the number of keys, in a child process",
            since: c"0.1.0",
            arity: 1,
            args: &[],
        },
        run: checkpoint,
    },
    Entry {
        name: BACKUP,
        flags: CommandFlags { flags: c"readonly deny-script admin", acl_categories: c"admin dangerous slow" },
        docs: CommandDocs {
            summary: c"Makes a backup of the log, as a folder of hard links (START), says which there are (STATUS), or removes one (END).",
            complexity: c"O(N) where N is the number of the log's files, by threads of its own",
            since: c"0.1.0",
            arity: -2,
            args: &[(c"start", Some(c"START"), true), (c"status", Some(c"STATUS"), true), (c"end", Some(c"END"), true), (c"name", None, true)],
        },
        run: backup::run,
    },
    Entry {
        name: DEBUG,
        flags: CommandFlags { flags: c"readonly deny-script admin allow-stale allow-busy fast", acl_categories: c"admin dangerous" },
        docs: CommandDocs {
            summary: c"EXPLAIN says how the reply to a command would be kept. The others are levers for tests, refused unless wbl.debug-commands is yes: PAUSE freezes the durable position, RESUME frees it; SYNC HOLD has syncs of the log wait, SYNC RELEASE lets them go on; POINT stops or kills the process at a named point of the code; COLLECT ALL has the module run the pipelines of all clients, and single commands, too.",
            complexity: c"O(1)",
            since: c"0.1.0",
            arity: -2,
            args: &[(c"explain", Some(c"EXPLAIN"), true), (c"pause", Some(c"PAUSE"), true), (c"resume", Some(c"RESUME"), true), (c"sync", Some(c"SYNC"), true), (c"point", Some(c"POINT"), true), (c"collect", Some(c"COLLECT"), true)],
        },
        run: debug,
    },
    wrapper(
        refusal::REFUSED,
        c"readonly no-mandatory-keys allow-stale no-monitor no-slowlog fast",
        c"write fast",
        c"Answers a command that is refused: a write as the log cannot begin or its disk fails, or a setting that endangers the log. For the module's own use.",
        refusal::refused,
    ),
    wrapper(
        wrappers::WAITAOF,
        c"no-mandatory-keys blocking",
        c"connection blocking slow",
        c"Waits as WAITAOF does, for the write-behind log in the place of an append-only file. For the module's own use; rights are those of the command.",
        waitaof::waitaof,
    ),
    wrapper(
        wrappers::CALL,
        c"write getkeys-api deny-script no-monitor no-slowlog",
        c"write slow",
        c"Runs a write with its reply held until it is durable. For the module's own use; rights are those of the command.",
        wrap::write,
    ),
    wrapper(
        wrappers::READ,
        c"readonly getkeys-api deny-script no-monitor no-slowlog",
        c"read slow",
        c"Runs a read with its reply held until what it shows is durable. For the module's own use; rights are those of the command.",
        wrap::read,
    ),
    wrapper(
        wrappers::EVAL,
        c"may-replicate no-mandatory-keys getkeys-api deny-script no-monitor no-slowlog",
        c"scripting slow",
        c"Runs a script or function with its reply held until what it did and shows is durable. For the module's own use; rights are those of the command.",
        scripts::eval,
    ),
    wrapper(
        wrappers::EVAL_RO,
        c"readonly no-mandatory-keys getkeys-api deny-script no-monitor no-slowlog",
        c"scripting slow",
        c"Runs a read-only script or function with its reply held until what it shows is durable. For the module's own use; rights are those of the command.",
        scripts::eval_ro,
    ),
    wrapper(
        wrappers::COLLECT,
        c"may-replicate no-mandatory-keys deny-script no-monitor no-slowlog",
        c"write slow",
        c"Runs a command of a pipeline and keeps its reply, until the last one is durable. For the module's own use; rights are those of the command.",
        collecting::collect,
    ),
];

/// The entry of a command that runs another.
const fn wrapper(
    name: &'static CStr,
    flags: &'static CStr,
    acl_categories: &'static CStr,
    summary: &'static CStr,
    run: fn(Ctx<'_>, &[&[u8]]),
) -> Entry {
    let docs = CommandDocs {
        summary,
        complexity: c"That of the command",
        since: c"0.1.0",
        arity: -2,
        args: &[(c"command", None, false)],
    };
    Entry { name, flags: CommandFlags { flags, acl_categories }, docs, run }
}

/// Runs a module command that does nothing.
pub(super) fn call_for_nothing(ctx: Ctx<'_>) {
    ctx.own().call(CallMode::Internal, "wbl.wait", [&b"never"[..]]);
}

/// Registers all commands. `false` when the server refused one.
pub fn register(ctx: Ctx<'_>) -> bool {
    ENTRIES.iter().all(|entry| register_command(ctx, entry.name, &entry.flags, &entry.docs))
}

/// Runs the command that `args[0]` names.
pub fn run(ctx: Ctx<'_>, args: &[&[u8]]) {
    let name = args.first().copied().unwrap_or_default();
    match ENTRIES.iter().find(|entry| entry.name.to_bytes().eq_ignore_ascii_case(name)) {
        Some(entry) => (entry.run)(ctx, args),
        None => ctx.reply_error(&format!("ERR unknown command '{}'", String::from_utf8_lossy(name))),
    }
}

/// The reply of a WBL.WAIT that is over.
pub fn blocked_reply(ctx: Ctx<'_>) {
    match with(|module| module.log().map(|log| log.log().durable().get())) {
        Some(Some(durable)) => ctx.reply_integer(i64::try_from(durable).unwrap_or(i64::MAX)),
        _ => ctx.reply_error(&refusal::no_log_text()),
    }
}

/// The reply of a command whose wait took too long.
pub fn blocked_timeout(ctx: Ctx<'_>, args: &[&[u8]]) {
    let name = args.first().copied().unwrap_or_default();
    if name.eq_ignore_ascii_case(WAIT.to_bytes()) {
        ctx.reply_error(errors::WAIT_TIMEOUT);
    } else if name.eq_ignore_ascii_case(wrappers::WAITAOF.to_bytes()) {
        waitaof::timed_out(ctx);
    } else {
        blocking::timed_out(ctx);
    }
}

/// WBL.WAIT [timeout-ms]
fn wait(ctx: Ctx<'_>, args: &[&[u8]]) {
    let timeout_ms = match args {
        [_] => Some(0),
        [_, timeout] => std::str::from_utf8(timeout)
            .ok()
            .and_then(|text| text.parse::<i64>().ok())
            .filter(|ms| (0..=i64::MAX / 2).contains(ms)),
        _ => return ctx.reply_error(&errors::wrong_arity("wbl.wait")),
    };
    let Some(timeout_ms) = timeout_ms else { return ctx.reply_error(errors::BAD_TIMEOUT) };
    finish_unit(ctx);
    let flags = ctx.flags();
    let state = with(|module| {
        module.hand_over();
        let log = module.log().cloned();
        (module.life.state(), log, module.appended())
    });
    let Some((state, log, appended)) = state else { return ctx.reply_error(errors::NOT_ENABLED) };
    match (state, log) {
        (State::Active, Some(log)) => {
            let durable = log.log().durable();
            if durable >= appended || !flags.can_block() {
                return ctx.reply_integer(i64::try_from(durable.get()).unwrap_or(i64::MAX));
            }
            match ctx.block_command(timeout_ms) {
                Some(held) => log.wait(appended, Waiting { client: ctx.client_id(), held }),
                None => ctx.reply_error(errors::CANNOT_BLOCK),
            }
        }
        (State::Baselining, _) => {
            if !flags.can_block() {
                return ctx.reply_error(errors::CANNOT_BLOCK);
            }
            let client = ctx.client_id();
            match ctx.block_command(timeout_ms) {
                Some(held) => {
                    if let Some(Err(waiting)) = with(|module| module.wait_for_active(Waiting { client, held })) {
                        release(waiting.held, Why::Own);
                    }
                }
                None => ctx.reply_error(errors::CANNOT_BLOCK),
            }
        }
        (State::Replica, _) => ctx.reply_error(errors::IS_REPLICA),
        (State::Failing, _) => ctx.reply_error(&refusal::text()),
        _ => ctx.reply_error(&refusal::no_log_text()),
    }
}

/// WBL.STATUS
fn status(ctx: Ctx<'_>, args: &[&[u8]]) {
    if args.len() != 1 {
        return ctx.reply_error(&errors::wrong_arity("wbl.status"));
    }
    let fields = info::fields(ctx);
    ctx.reply_map(fields.len());
    for (name, value) in fields {
        ctx.reply_bulk(name.as_bytes());
        match value {
            info::Value::Number(number) => ctx.reply_integer(i64::try_from(number).unwrap_or(i64::MAX)),
            info::Value::Text(text) => ctx.reply_bulk(text.as_bytes()),
        }
    }
}

/// WBL.CHECKPOINT
fn checkpoint(ctx: Ctx<'_>, args: &[&[u8]]) {
    if args.len() != 1 {
        return ctx.reply_error(&errors::wrong_arity("wbl.checkpoint"));
    }
    let state = with(|module| module.life.state()).unwrap_or(State::Disabled);
    let flags = ctx.flags();
    match state {
        State::Active | State::Baselining => {}
        State::Replica if with(|module| module.life.logs()) == Some(true) => {}
        State::Replica => return ctx.reply_error(errors::NO_REPLICA_LOG),
        State::Failing => return ctx.reply_error(&refusal::text()),
        _ => return ctx.reply_error(&refusal::no_log_text()),
    }
    if !flags.can_block() {
        return ctx.reply_error(errors::CANNOT_BLOCK);
    }
    if !life::request_checkpoint() {
        return ctx.reply_error(errors::CHECKPOINT_RUNS);
    }
    match ctx.block_for_answer(true) {
        Some(held) => {
            if let Some(Err(mut held)) = with(|module| module.wait_for_checkpoint(held)) {
                held.set_error(refusal::no_log_text());
                release(held, Why::Own);
            }
        }
        None => ctx.reply_error(errors::CANNOT_BLOCK),
    }
}

/// WBL.DEBUG EXPLAIN command... | PAUSE | RESUME | SYNC HOLD [file] | SYNC RELEASE | POINT name STOP|KILL|CLEAR
/// | COLLECT ALL|SOME
fn debug(ctx: Ctx<'_>, args: &[&[u8]]) {
    let words: Vec<Vec<u8>> = args.iter().skip(1).map(|word| word.to_ascii_uppercase()).collect();
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    let outcome = match words.as_slice() {
        // It changes nothing.
        [b"EXPLAIN", _, ..] => return explain::explain(ctx),
        _ if value(Setting::DebugCommands) == 0 => Err(errors::DEBUG_REFUSED),
        [b"PAUSE"] => pause(ctx),
        [b"RESUME"] => resume(),
        [b"SYNC", b"HOLD"] | [b"SYNC", b"HOLD", _] => {
            if args.len() == 3 {
                leave_inline(ctx);
            }
            gate::close(args.get(3).map(|path| OsStr::from_bytes(path).into()));
            Ok(())
        }
        [b"SYNC", b"RELEASE"] => {
            gate::open();
            Ok(())
        }
        [b"POINT", name, action] => point(name, action),
        [b"COLLECT", forced @ (b"ALL" | b"SOME")] => {
            with(|module| module.looks.force(*forced == b"ALL"));
            Ok(())
        }
        [] | [b"EXPLAIN"] | [b"PAUSE" | b"RESUME", ..] => return ctx.reply_error(&errors::wrong_arity("wbl.debug")),
        _ => Err(errors::DEBUG_SUBCOMMAND),
    };
    match outcome {
        Ok(()) => ctx.reply_simple(c"OK"),
        Err(text) => ctx.reply_error(text),
    }
}

/// WBL.DEBUG POINT name STOP|KILL|CLEAR
fn point(name: &[u8], action: &[u8]) -> Result<(), &'static str> {
    let action = match action {
        b"STOP" => Action::Stop,
        b"KILL" => Action::Kill,
        b"CLEAR" => Action::Clear,
        _ => return Err(errors::DEBUG_SUBCOMMAND),
    };
    if points::set(name, action) { Ok(()) } else { Err(errors::NO_SUCH_POINT) }
}

fn open_log() -> Result<Arc<Release>, &'static str> {
    with(|module| module.log().cloned()).flatten().ok_or(errors::NOT_ENABLED)
}

fn pause(ctx: Ctx<'_>) -> Result<(), &'static str> {
    let open = open_log()?;
    finish_unit(ctx);
    // What already waits in the loop is let through: nothing could resume it there.
    if let Some(Some(lsn)) = with(|module| module.iteration.waits.take()) {
        wait_now(ctx, lsn);
    }
    leave_inline(ctx);
    log(Level::Notice, "the durable position is frozen by WBL.DEBUG PAUSE");
    open.log().pause();
    with(|module| module.paused = true);
    Ok(())
}

fn resume() -> Result<(), &'static str> {
    let open = open_log()?;
    with(|module| module.paused = false);
    open.log().resume();
    Ok(())
}
