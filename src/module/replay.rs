//! Replaying the log into the server.

use crate::core::portion::{Action, Arguments};
use crate::ffi::{CallMode, Ctx, Level, Reply, ReplyKind, log};
use crate::log::Opened;
use crate::module::broken;
use crate::module::gate::GatedStorage;
use crate::module::read_ahead::{ReadAhead, Ready, Stop, read_ahead};
use crate::rdb::Deferred;

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

/// Replays the log. The server is loading, so that nothing expires and other clients are answered with -LOADING.
pub(super) fn replay(
    ctx: Ctx<'_>,
    opened: &Opened<GatedStorage>,
    report: &mut Report,
    tell: &mut dyn FnMut(&Report),
) -> Result<(), String> {
    let (ahead, reader) = read_ahead();
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("wbl-log-reader".into())
            .spawn_scoped(scope, move || reader.run(opened))
            .map_err(|error| format!("no thread: {error}"))?;
        // A context made while the server loads lets it look at other clients as often as it does when it loads its own files.
        ctx.with_new_context(|own| Replay { own, joins: true, yielded_at: 0, report, tell }.run_all(ahead))
    })
}

/// A replay under way.
struct Replay<'a, 'b> {
    own: Ctx<'a>,
    /// The server takes MSET; it does not when that is renamed, or for keys of several slots.
    joins: bool,
    /// Commands replayed at the last look at other clients.
    yielded_at: u64,
    report: &'b mut Report,
    tell: &'b mut dyn FnMut(&Report),
}

impl Replay<'_, '_> {
    /// Drops its end of the channels when it ends, so that the reader ends, too.
    fn run_all(mut self, ahead: ReadAhead) -> Result<(), String> {
        while let Some(next) = ahead.next() {
            match next {
                Ok(Ready { portion, read_bytes }) => {
                    portion.actions().for_each(|action| self.act(action));
                    self.report.done_bytes = read_bytes;
                    ahead.give_back(portion);
                }
                Err(Stop::Log(error)) => return Err(error.to_string()),
                // The frame's checksum was right: the module itself wrote this.
                Err(Stop::NoCommands(error)) => broken(&format!("a frame of the log holds no commands: {error}")),
            }
        }
        (self.tell)(self.report);
        Ok(())
    }

    fn act(&mut self, action: Action<'_>) {
        match action {
            Action::Select(db) => {
                if !self.own.select_db(db) {
                    broken("the log uses a database that this server does not have; raise the setting 'databases'");
                }
            }
            Action::SetAll(pairs) => self.set_all(pairs),
            Action::Run(mut args) => {
                let Some(name) = args.next() else { return };
                self.run(name, args);
            }
        }
        if self.report.commands - self.yielded_at >= YIELD_EVERY {
            self.yielded_at = self.report.commands;
            self.own.yield_to_clients();
            (self.tell)(self.report);
        }
    }

    fn set_all(&mut self, mut pairs: Arguments<'_>) {
        let count = pairs.len() / 2;
        if self.joins && count > 1 {
            // A refused MSET has set nothing.
            let reply = self.own.call(CallMode::Internal, "MSET", pairs.clone());
            self.joins = reply.is_some_and(|reply| reply.kind() != ReplyKind::Error);
            if self.joins {
                self.report.commands += count as u64;
                return;
            }
        }
        for _ in 0..count {
            self.run(b"SET", pairs.split_off_first(2));
        }
    }

    fn run(&mut self, name: &[u8], args: Arguments<'_>) {
        let command = std::str::from_utf8(name).ok();
        let reply = command.and_then(|command| self.own.call(CallMode::Internal, command, args));
        note_difference(self.report, name, reply.as_ref());
        self.report.commands += 1;
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
