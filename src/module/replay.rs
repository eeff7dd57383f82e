//! Replaying the log into the server.

use crate::ffi::{CallMode, Ctx, Level, Reply, ReplyKind, log};
use crate::log::resp::Commands;
use crate::log::{FolderStorage, LogError, Opened};
use crate::module::broken;
use crate::rdb::Deferred;
use crossbeam::channel::{Receiver, Sender, bounded};

/// Frames that are read ahead of the replay.
const READ_AHEAD_FRAMES: usize = 4;

/// Commands between two looks at other clients.
const YIELD_EVERY: u64 = 100;

/// Differences that are told one by one in the server's log; more are only counted.
const TOLD_ERRORS_MAX: u64 = 10;

/// What a recovery did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Report {
    /// Keys of the base.
    pub(crate) keys: u64,
    /// Commands replayed.
    pub(crate) commands: u64,
    /// Commands that answered with an error, as they did when they were logged.
    pub(crate) errors: u64,
    /// Bytes of log to replay.
    pub(crate) total_bytes: u64,
    /// Bytes of log replayed.
    pub(crate) done_bytes: u64,
}

/// Applies what the base's stream left out.
pub(super) fn apply_deferred(ctx: Ctx<'_>, deferred: &[Deferred]) -> bool {
    let own = ctx.own();
    deferred.iter().all(|item| {
        let (db, reply) = match item {
            Deferred::Expire { db, key, at_ms } => {
                let at = at_ms.max(&0).to_string();
                (*db, own.select_db(*db).then(|| own.call(CallMode::Internal, "PEXPIREAT", [&key[..], at.as_bytes()])))
            }
            Deferred::Restore { db, key, at_ms, payload } => {
                let at = at_ms.unwrap_or(0).max(0).to_string();
                let args = [&key[..], at.as_bytes(), payload, b"REPLACE", b"ABSTTL"];
                (*db, own.select_db(*db).then(|| own.call(CallMode::Internal, "RESTORE", args)))
            }
        };
        let ok = reply.flatten().is_some_and(|reply| reply.kind() != ReplyKind::Error);
        if !ok {
            log(Level::Warning, &format!("an expiring key of the base could not be restored in database {db}"));
        }
        ok
    })
}

/// Replays all frames. The server is loading, so that nothing expires and other clients are answered with -LOADING.
pub(super) fn replay(
    ctx: Ctx<'_>,
    opened: &Opened<FolderStorage>,
    report: &mut Report,
    tell: &mut dyn FnMut(&Report),
) -> Result<(), LogError> {
    // One that is made before the server is loading first looks at other clients after busy-reply-threshold.
    ctx.own().with_new_context(|own| replay_in(own, opened, report, tell))
}

fn replay_in(
    own: Ctx<'_>,
    opened: &Opened<FolderStorage>,
    report: &mut Report,
    tell: &mut dyn FnMut(&Report),
) -> Result<(), LogError> {
    own.select_db(0);
    let (sender, frames) = bounded(READ_AHEAD_FRAMES);
    let (spares, spare) = bounded(READ_AHEAD_FRAMES + 1);
    std::thread::scope(|scope| {
        scope.spawn(move || read_frames(opened, &sender, &spare));
        for frame in frames {
            let (payload, read_bytes) = frame?;
            replay_frame(own, &payload, report, tell);
            report.done_bytes = read_bytes;
            // The reader may have ended; then nobody needs the buffer.
            let _ = spares.try_send(payload);
        }
        Ok(())
    })
}

/// Reads and checks frames ahead of the replay; ends when the log does, after an error, or when nobody takes them.
fn read_frames(
    opened: &Opened<FolderStorage>,
    sender: &Sender<Result<(Vec<u8>, u64), LogError>>,
    spare: &Receiver<Vec<u8>>,
) {
    let mut frames = opened.frames();
    loop {
        let mut payload = spare.try_recv().unwrap_or_default();
        let frame = match frames.next_frame(&mut payload) {
            Ok(None) => return,
            Ok(Some(_)) => Ok((payload, frames.read_bytes())),
            Err(error) => Err(error),
        };
        let failed = frame.is_err();
        if sender.send(frame).is_err() || failed {
            return;
        }
    }
}

/// Replays one frame: whole units, so that MULTI and EXEC need not be run.
fn replay_frame(own: Ctx<'_>, payload: &[u8], report: &mut Report, tell: &mut dyn FnMut(&Report)) {
    let mut commands = Commands::new(payload);
    let mut args = Vec::new();
    loop {
        match commands.next_into(&mut args) {
            Ok(true) => {}
            Ok(false) => return,
            // The frame's checksum was right: the module itself wrote this.
            Err(error) => broken(&format!("a frame of the log holds no commands: {error}")),
        }
        let [name, rest @ ..] = args.as_slice() else { continue };
        if is_marker(own, name, rest) {
            continue;
        }
        let reply =
            std::str::from_utf8(name).ok().and_then(|name| own.call(CallMode::Internal, name, rest.iter().copied()));
        note_difference(report, name, reply.as_ref());
        report.commands += 1;
        if report.commands.is_multiple_of(YIELD_EVERY) {
            own.yield_to_clients();
            tell(report);
        }
    }
}

/// Whether the command only marks units or databases.
fn is_marker(own: Ctx<'_>, name: &[u8], rest: &[&[u8]]) -> bool {
    match (name, rest) {
        (b"MULTI" | b"EXEC", []) => true,
        (b"SELECT", [db]) => {
            let db = std::str::from_utf8(db).ok().and_then(|db| db.parse().ok());
            if !db.is_some_and(|db| own.select_db(db)) {
                broken("the log uses a database that this server does not have; raise the setting 'databases'");
            }
            true
        }
        _ => false,
    }
}

/// Commands of a transaction that failed when they ran are in the log as they were sent, and fail again.
fn note_difference(report: &mut Report, name: &[u8], reply: Option<&Reply<'_>>) {
    let text = match reply {
        Some(reply) if reply.kind() != ReplyKind::Error => return,
        Some(reply) => String::from_utf8_lossy(reply.bytes()).into_owned(),
        None => "refused".into(),
    };
    report.errors += 1;
    if report.errors <= TOLD_ERRORS_MAX {
        let name = String::from_utf8_lossy(name);
        log(
            Level::Notice,
            &format!("a replayed command answered with an error, as when it was logged: {name}: {text}"),
        );
    }
}
