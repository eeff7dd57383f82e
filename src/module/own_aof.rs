//! The server's own append-only file, where that is on.
//!
//! The server begins its file anew when it is turned on, and when the dataset is replaced (a recovery by `RdbLoad`, a
//! full sync), which takes a rewrite by a child. Until that has ended, what is appended goes to a file that no start
//! looks at. If no child can be forked after a dataset has been loaded, the file stays off, and the server neither says
//! so nor tries again. Nothing is lost as long as all that is acknowledged is in the log; so the log is not given up
//! before the server's file is there.

use crate::ffi::{CallMode, Ctx, Level, ReplyKind, ServerInfo, fork_child, load_rdb, log};
use crate::log::{LogError, mark_behind, unmark_behind};
use crate::module::gate::GatedStorage;
use crate::module::life::behind;
use crate::module::with;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often to check whether the file is there again.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How often to make the server try again.
const RETRY_EVERY: Duration = Duration::from_secs(5);

/// Whether the server's own file must be taken care of.
#[derive(Debug)]
pub(super) enum OwnAof {
    /// It is as the server says.
    Settled,
    /// The server must write it anew.
    Awaited {
        look_at: Instant,
        /// It was said that the server has given up.
        told: bool,
        mark: Mark,
    },
}

/// Whether the folder has the mark that the file lacks what is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// It has, or there is no log that is written.
    Made,
    /// It was not possible, and that was reported.
    Owed,
}

impl OwnAof {
    fn awaited(mark: Mark) -> OwnAof {
        OwnAof::Awaited { look_at: Instant::now(), told: false, mark }
    }
}

/// What the server says of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// It is to write none.
    Unwanted,
    /// It is to write one, and has failed to begin it.
    Off,
    /// It is being written anew, or is to be. Some of what was appended may be in it, or nothing.
    Rewritten,
    /// It has everything.
    Written,
}

/// Whether it is to write one, also where it has failed to begin it.
pub(super) fn is_wanted(ctx: Ctx<'_>) -> bool {
    look(ctx) != Found::Unwanted
}

/// Replaces the server's dataset with that of an RDB file. `false` when it could not be loaded.
pub(super) fn load_dataset(ctx: Ctx<'_>, path: &Path) -> bool {
    if is_wanted(ctx) {
        with(|module| module.own_aof = OwnAof::awaited(Mark::Made));
    }
    load_rdb(ctx, path)
}

/// The module has deleted these keys of the selected database, after the dataset had been loaded: the file, which is
/// begun anew with what was loaded, has to say so, too, and so have replicas.
pub(super) fn keys_deleted<'a>(own: Ctx<'_>, keys: impl Iterator<Item = &'a [u8]>) {
    if !own.propagate_deletion(keys) && is_wanted(own) {
        log(
            Level::Warning,
            "the server has neither DEL nor UNLINK, so its own append-only file keeps keys that were deleted: run BGREWRITEAOF when its rewrite has ended (INFO persistence: aof_rewrite_in_progress:0)",
        );
    }
}

/// A log begins, or goes on with another setting of the server's file: from here on it has what the file lacks, unless
/// all is written to that, too. The mark is durable before anything is acknowledged that only the log keeps.
pub(super) fn log_goes_on(ctx: Ctx<'_>) {
    match look(ctx) {
        Found::Written => unmark(),
        Found::Off | Found::Rewritten => {
            let awaited = OwnAof::awaited(make_mark(Mark::Made));
            with(|module| module.own_aof = awaited);
        }
        // Other settings may load what there is.
        Found::Unwanted if behind::has_file(ctx) => drop(make_mark(Mark::Made)),
        Found::Unwanted => {}
    }
}

/// Marks the folder: the file lacks what is in the log.
///
/// # Errors
/// Why it can't be marked.
fn mark() -> Result<(), LogError> {
    let folder = with(|module| module.folder.clone()).unwrap_or_default();
    let missing = || LogError::io("open the folder", folder.display().to_string(), std::io::ErrorKind::NotFound.into());
    mark_behind(&GatedStorage::existing(&folder)?.ok_or_else(missing)?)
}

/// Removes the mark: the file has all that the log has, and will have it.
fn unmark() {
    let folder = with(|module| module.folder.clone()).unwrap_or_default();
    let unmarked = GatedStorage::existing(&folder).and_then(|storage| storage.as_ref().map_or(Ok(()), unmark_behind));
    if let Err(error) = unmarked {
        log(
            Level::Warning,
            &format!(
                "the server's own append-only file is written, which can't be noted: a start with wbl.enabled no and with that file may be refused: {error}"
            ),
        );
    }
}

/// Marks the folder. A failure is reported once.
fn make_mark(before: Mark) -> Mark {
    match mark() {
        Ok(()) => Mark::Made,
        Err(error) => {
            if before == Mark::Made {
                log(
                    Level::Warning,
                    &format!(
                        "it can't be noted that the server's own append-only file lacks what is in the log: a start with wbl.enabled no may load that file: {error}"
                    ),
                );
            }
            Mark::Owed
        }
    }
}

/// Whether the log may be given up, as far as the server's own file is concerned.
///
/// # Errors
/// Why not.
pub(super) fn check(ctx: Ctx<'_>) -> Result<(), String> {
    if with(|module| module.life.is_relied_upon()) != Some(true) {
        return Ok(());
    }
    match look(ctx) {
        Found::Unwanted | Found::Written => Ok(()),
        Found::Off | Found::Rewritten => Err(
            "the server's own append-only file is being written anew, and until that has ended nothing but the log would keep what follows: try again when its rewrite has ended (INFO persistence: aof_enabled:1, aof_rewrite_in_progress:0, aof_rewrite_scheduled:0), or turn it off (CONFIG SET appendonly no)".into(),
        ),
    }
}

/// Whether the server has an AOF, and is not about to write another one, nor has failed to.
pub(super) fn is_written(ctx: Ctx<'_>) -> bool {
    ServerInfo::read(ctx, "persistence").is_some_and(|info| {
        found_in(&info) == Found::Written && info.text("aof_last_bgrewrite_status").as_deref() == Some("ok")
    })
}

/// Checks now and then whether the file is there again, and has the server try again where it has given up.
pub(super) fn poll(ctx: Ctx<'_>) {
    let awaited = with(|module| match module.own_aof {
        OwnAof::Awaited { look_at, told, mark } if Instant::now() >= look_at => Some((told, mark)),
        _ => None,
    });
    let Some(Some((told, before))) = awaited else { return };
    let found = look(ctx);
    let is_owed = before == Mark::Owed && found != Found::Written;
    let mark = if is_owed { make_mark(before) } else { before };
    let next = match found {
        Found::Written => {
            unmark();
            if told {
                log(Level::Notice, "the server's own append-only file is there again");
            }
            OwnAof::Settled
        }
        // It has been turned off: none is wanted.
        Found::Unwanted => OwnAof::Settled,
        Found::Rewritten => OwnAof::Awaited { look_at: Instant::now() + LOOK_EVERY, told, mark },
        Found::Off => {
            if !told {
                log(
                    Level::Warning,
                    "the server could not begin its own append-only file again when the log had been brought back, for the reason that it gave before this line, and writes none: it is made to try again every five seconds, and wbl.enabled no and MODULE UNLOAD are refused until that succeeds",
                );
            }
            begin_again(ctx);
            OwnAof::Awaited { look_at: Instant::now() + RETRY_EVERY, told: true, mark }
        }
    };
    with(|module| module.own_aof = next);
}

fn look(ctx: Ctx<'_>) -> Found {
    ServerInfo::read(ctx, "persistence").map_or(Found::Rewritten, |info| found_in(&info))
}

fn found_in(info: &ServerInfo) -> Found {
    let number = |field| info.unsigned(field);
    match (number("aof_enabled"), number("aof_rewrite_in_progress"), number("aof_rewrite_scheduled")) {
        // The server shows sizes where the setting is on.
        (Some(0), ..) if number("aof_current_size").is_none() => Found::Unwanted,
        (Some(0), ..) => Found::Off,
        (Some(1), Some(0), Some(0)) => Found::Written,
        _ => Found::Rewritten,
    }
}

/// Has the server begin its file, which it does when the setting changes: so the setting is turned off and on again,
/// within one event.
///
/// While a child of another kind runs the server only schedules its own, and that cannot fail: the setting is never
/// left off. So a child is forked before, which ends at once. If that is not possible the setting is not touched.
fn begin_again(ctx: Ctx<'_>) {
    let has_child = ctx.flags().has_active_child();
    if has_child && look_for_rewrite(ctx) || !has_child && fork_child(|| 0).is_none() {
        return;
    }
    for value in [&b"no"[..], b"yes"] {
        let reply = ctx.own().call(CallMode::Internal, "CONFIG", [&b"SET"[..], b"appendonly", value]);
        if reply.is_none_or(|reply| reply.kind() == ReplyKind::Error) {
            return;
        }
    }
}

/// Whether the running child writes an append-only file that somebody has asked for (BGREWRITEAOF): the server would
/// end it and fork another.
fn look_for_rewrite(ctx: Ctx<'_>) -> bool {
    ServerInfo::read(ctx, "persistence").and_then(|info| info.unsigned("aof_rewrite_in_progress")) != Some(0)
}
