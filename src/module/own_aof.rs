//! The server's own append-only file, where that is on.
//!
//! The recovery replaces the dataset, and the server turns its file off for that and on again (`RdbLoad`), which takes
//! a rewrite by a child. Until that has ended, what is appended goes to a file that no start looks at. Where no child
//! can be forked the file stays off, and the server neither says so nor tries again. Nothing is lost by that as long as
//! all that is acknowledged is in the log; so the log is not given up before the server's file is there again.

use crate::ffi::{CallMode, Ctx, Level, ReplyKind, ServerInfo, load_rdb, log};
use crate::module::{server, with};
use std::path::Path;
use std::time::{Duration, Instant};

/// How often it is looked whether the file is there again.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How often the server is made to try again.
const RETRY_EVERY: Duration = Duration::from_secs(5);

/// Whether the server's own file may be relied upon.
#[derive(Debug)]
pub(super) enum OwnAof {
    /// As far as the server says.
    AsSet,
    /// The server is to write it anew, since a dataset was loaded.
    Awaited { look_at: Instant, told: bool },
    /// It is being turned off and on again.
    Turned,
}

/// What the server says of its file.
enum Found {
    Off,
    Rewritten,
    Written,
}

/// Whether the server writes one.
pub(super) fn is_on(ctx: Ctx<'_>) -> bool {
    ServerInfo::read(ctx, "persistence").and_then(|info| info.unsigned("aof_enabled")) == Some(1)
}

/// Whether it is to write one, also where it has failed to begin it.
pub(super) fn is_wanted(ctx: Ctx<'_>) -> bool {
    is_on(ctx) || server::setting(ctx, "appendonly").is_some_and(|value| value != b"no")
}

/// How much of it is still to be written.
pub(super) fn unwritten_bytes(ctx: Ctx<'_>) -> u64 {
    ServerInfo::read(ctx, "persistence").and_then(|info| info.unsigned("aof_buffer_length")).unwrap_or(0)
}

/// Replaces the server's dataset by that of an RDB file. `false` when it could not be loaded.
pub(super) fn load_dataset(ctx: Ctx<'_>, path: &Path) -> bool {
    if is_wanted(ctx) {
        with(|module| module.own_aof = OwnAof::Awaited { look_at: Instant::now(), told: false });
    }
    load_rdb(ctx, path)
}

/// Whether the log may be given up, as far as the server's own file is concerned.
///
/// # Errors
/// Why not, for whoever asked.
pub(super) fn check(ctx: Ctx<'_>) -> Result<(), String> {
    let is_settled = with(|module| matches!(module.own_aof, OwnAof::AsSet)) != Some(false);
    if is_settled || matches!(look(ctx), Found::Written) {
        return Ok(());
    }
    Err("the server's own append-only file is not there yet since the log was brought back: try again when its rewrite has ended (INFO persistence: aof_enabled:1, aof_rewrite_in_progress:0), or turn it off (CONFIG SET appendonly no)".into())
}

/// Settings of the server changed: whoever turns the file off wants none.
pub(super) fn setting_changed(ctx: Ctx<'_>) {
    if !is_on(ctx) {
        with(|module| {
            if matches!(module.own_aof, OwnAof::Awaited { .. }) {
                module.own_aof = OwnAof::AsSet;
            }
        });
    }
}

/// Looks now and then whether the file is there again, and has the server try again where it has given up.
pub(super) fn poll(ctx: Ctx<'_>) {
    let told = with(|module| match module.own_aof {
        OwnAof::Awaited { look_at, told } if Instant::now() >= look_at => Some(told),
        _ => None,
    });
    let Some(Some(told)) = told else { return };
    let next = match look(ctx) {
        Found::Written => {
            if told {
                log(Level::Notice, "the server's own append-only file is there again");
            }
            OwnAof::AsSet
        }
        Found::Rewritten => OwnAof::Awaited { look_at: Instant::now() + LOOK_EVERY, told },
        Found::Off => {
            if !told {
                log(
                    Level::Warning,
                    "the server could not begin its own append-only file again when the log had been brought back, for the reason that it gave before this line, and writes none: it is turned off and on again every five seconds, and wbl.enabled no and MODULE UNLOAD are refused until that succeeds",
                );
            }
            turn_on(ctx);
            OwnAof::Awaited { look_at: Instant::now() + RETRY_EVERY, told: true }
        }
    };
    with(|module| module.own_aof = next);
}

fn look(ctx: Ctx<'_>) -> Found {
    let Some(info) = ServerInfo::read(ctx, "persistence") else { return Found::Rewritten };
    let number = |field| info.unsigned(field);
    match (number("aof_enabled"), number("aof_rewrite_in_progress"), number("aof_rewrite_scheduled")) {
        (Some(0), ..) => Found::Off,
        (Some(1), Some(0), Some(0)) => Found::Written,
        _ => Found::Rewritten,
    }
}

/// Turned on again it takes the dataset as it is. The value stays at `no` where that fails.
fn turn_on(ctx: Ctx<'_>) {
    with(|module| module.own_aof = OwnAof::Turned);
    for value in [&b"no"[..], b"yes"] {
        let reply = ctx.own().call(CallMode::Internal, "CONFIG", [&b"SET"[..], b"appendonly", value]);
        if reply.is_none_or(|reply| reply.kind() == ReplyKind::Error) {
            return;
        }
    }
}
