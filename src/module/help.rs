//! WBL.HELP, in the form of the server's HELP subcommands.

use crate::ffi::Ctx;
use crate::module::errors;
use std::ffi::CStr;

/// What it answers.
const LINES: &[&CStr] = &[
    c"WBL.<command> [<arg> [value] [opt] ...]. Commands are:",
    c"WBL.WAIT [<timeout-ms>]",
    c"    Wait until everything executed before is durable; return the durable position.",
    c"WBL.STATUS",
    c"    Return the fields of INFO wbl: whether data are safe, why not, and what to do.",
    c"WBL.LAG",
    c"    Return how far the durable position lags, in bytes and milliseconds.",
    c"WBL.CHECKPOINT",
    c"    Write a new base in a child process and remove the log that it replaces.",
    c"WBL.BACKUP START",
    c"    Make a backup of all that was executed before; return its folder.",
    c"WBL.BACKUP STATUS",
    c"    Return which backups there are.",
    c"WBL.BACKUP END <name>",
    c"    Remove a backup.",
    c"WBL.DEBUG EXPLAIN <command> [<arg> ...]",
    c"    Return how the reply to a command would be kept until it is durable, and why.",
    c"WBL.DEBUG PAUSE|RESUME",
    c"    Freeze and free the durable position.",
    c"WBL.DEBUG SYNC HOLD [<file>]|RELEASE",
    c"    Have flushes of the log wait, as on a disk that does not answer.",
    c"WBL.DEBUG POINT <name> STOP|KILL|CLEAR",
    c"    Stop or kill the process at a named point of the code.",
    c"WBL.DEBUG COLLECT ALL|SOME",
    c"    Have the module run the pipelines of all clients, and single commands, too.",
    c"WBL.HELP",
    c"    Print this help.",
];

/// WBL.HELP
pub(super) fn help(ctx: Ctx<'_>, args: &[&[u8]]) {
    if args.len() != 1 {
        return ctx.reply_error(&errors::wrong_arity("wbl.help"));
    }
    ctx.reply_array(LINES.len());
    LINES.iter().for_each(|line| ctx.reply_simple(line));
}
