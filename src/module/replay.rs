//! Replaying the log into the server.
//!
//! Only commands that did something when they were executed are in the log. So a command that the server refuses now is
//! one that this server, as configured, cannot execute, and its effect would be missing: by default the recovery then
//! fails, like that of a stock server. What no log holds (SHUTDOWN, SYNC, CLIENT PAUSE...) is not run at all, whoever
//! has written it there.

use crate::core::portion::{Action, Arguments, Place};
use crate::ffi::{CallMode, Ctx, Level, ReplyKind, log};
use crate::log::{Lsn, Opened};
use crate::module::config;
use crate::module::gate::GatedStorage;
use crate::module::known::Commands;
use crate::module::read_ahead::{ReadAhead, Ready, Stop, read_ahead};
use crate::module::server::{self, STRING_BYTES, STRING_BYTES_MAX};
use std::time::{Duration, Instant};

/// Commands between two looks at other clients.
const YIELD_EVERY: u64 = 100;

/// How many skipped commands are reported at once; from then on it is one in each interval.
const REPORTED_AT_ONCE: u64 = 10;
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// A command is shown with at most this many arguments, its name included, and this many bytes of each.
const SHOWN_ARGUMENTS: usize = 3;
const SHOWN_BYTES: usize = 64;

/// What to do about a command that fails, for the server's log.
const ADVICE: &str = "Start a server that has the commands, modules and settings that the log was written with, or set wbl.on-replay-error to skip to go on without what fails";

/// Why a command is not run.
const NEVER_LOGGED: &str = "it is not run, because a log holds only commands that change data: the file was not written by the module, or was changed";

/// What a recovery did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Report {
    /// Keys of the base.
    pub(crate) keys: u64,
    /// Commands replayed.
    pub(crate) commands: u64,
    /// Commands that the server refused, and that were skipped (`wbl.on-replay-error skip`).
    pub(crate) errors: u64,
    /// Bytes of log to replay.
    pub(crate) total_bytes: u64,
    /// Bytes of log replayed.
    pub(crate) done_bytes: u64,
    /// How long the base has taken to be checked and loaded, and the log to be replayed, in microseconds.
    pub(crate) base_us: u64,
    pub(crate) log_us: u64,
}

/// Replays the log. The server is loading, so nothing expires and other clients are answered with -LOADING.
///
/// # Errors
/// What is wrong and what to do about it, for the server's log. The dataset is incomplete then.
pub(super) fn replay(
    ctx: Ctx<'_>,
    opened: &Opened<GatedStorage>,
    report: &mut Report,
    tell: &mut dyn FnMut(&Report),
) -> Result<(), String> {
    let commands = Commands::ask(ctx)?;
    let (ahead, reader) = read_ahead();
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("wbl-log-reader".into())
            .spawn_scoped(scope, move || reader.run(opened))
            .map_err(|error| format!("no thread: {error}"))?;
        // A context made while the server loads lets it look at other clients as often as it does when it loads its own
        // files.
        ctx.with_new_context(|own| {
            let skipped = Skipped { allowed: config::skips_replay_errors(), last_reported: None };
            let replay =
                Replay { own, opened, commands, joins: true, no_database: None, yielded_at: 0, report, tell, skipped };
            replay.run_all(ahead)
        })
    })
}

/// A replay under way.
struct Replay<'a, 'b> {
    own: Ctx<'a>,
    opened: &'b Opened<GatedStorage>,
    /// The server's.
    commands: Commands,
    /// The server accepts MSET, which it does not for keys of several slots, or where it is renamed.
    joins: bool,
    /// The selected database, when the server has none of that number.
    no_database: Option<u32>,
    /// Commands replayed at the last look at other clients.
    yielded_at: u64,
    report: &'b mut Report,
    tell: &'b mut dyn FnMut(&Report),
    skipped: Skipped,
}

/// What to do with commands that fail.
struct Skipped {
    /// They are skipped.
    allowed: bool,
    last_reported: Option<Instant>,
}

impl Replay<'_, '_> {
    /// Drops its end of the channels when it ends, so that the reader ends, too.
    fn run_all(mut self, ahead: ReadAhead) -> Result<(), String> {
        while let Some(next) = ahead.next() {
            match next {
                Ok(Ready { portion, read_bytes }) => {
                    portion.actions().try_for_each(|(place, action)| self.act(place, action))?;
                    self.report.done_bytes = read_bytes;
                    ahead.give_back(portion);
                }
                Err(Stop::Log(error)) => return Err(error.to_string()),
                Err(Stop::NoCommand(at, error)) => {
                    return Err(format!("{} holds no command: {error}", self.place(at)));
                }
            }
        }
        (self.tell)(self.report);
        if self.report.errors > 0 {
            let text = format!(
                "{} of {} commands of the log failed and were skipped (wbl.on-replay-error skip): the dataset is not what it was",
                self.report.errors, self.report.commands
            );
            log(Level::Warning, &text);
        }
        Ok(())
    }

    fn act(&mut self, place: Place, action: Action<'_>) -> Result<(), String> {
        match action {
            Action::Select(db) => self.no_database = if self.own.select_db(db) { None } else { Some(db) },
            Action::SetAll(pairs) => self.set_all(place, pairs)?,
            Action::Run(args) => self.run(place, args)?,
        }
        if self.report.commands - self.yielded_at >= YIELD_EVERY {
            self.yielded_at = self.report.commands;
            self.own.yield_to_clients();
            (self.tell)(self.report);
        }
        Ok(())
    }

    fn set_all(&mut self, place: Place, mut pairs: Arguments<'_>) -> Result<(), String> {
        let count = pairs.len() / 2;
        if self.joins && count > 1 && self.no_database.is_none() {
            // A refused MSET has set nothing.
            let reply = self.own.call(CallMode::Internal, "MSET", pairs.clone());
            self.joins = reply.is_some_and(|reply| reply.kind() != ReplyKind::Error);
            if self.joins {
                self.report.commands += count as u64;
                return Ok(());
            }
        }
        for _ in 0..count {
            let pair = pairs.split_off_first(2);
            self.run_named(place, b"SET", pair)?;
        }
        Ok(())
    }

    fn run(&mut self, place: Place, mut args: Arguments<'_>) -> Result<(), String> {
        match args.next() {
            Some(name) => self.run_named(place, name, args),
            None => Ok(()),
        }
    }

    fn run_named(&mut self, place: Place, name: &[u8], args: Arguments<'_>) -> Result<(), String> {
        self.report.commands += 1;
        if let Some(db) = self.no_database {
            let why = format!("the server has no database {db} (see its setting 'databases')");
            return self.failed(place, name, args, &why);
        }
        if !self.commands.known(name, args.clone().next().unwrap_or_default()).is_logged {
            return self.failed(Place { may_have_failed: false, ..place }, name, args, NEVER_LOGGED);
        }
        let command = std::str::from_utf8(name).ok();
        let call = || command.and_then(|command| self.own.call(CallMode::Internal, command, args.clone()));
        let reply = match call() {
            // The server loads its own AOF whatever its limit is. No client is read before it is put back.
            Some(reply) if reply.kind() == ReplyKind::Error && !place.may_have_failed => {
                server::with_setting(self.own, STRING_BYTES, STRING_BYTES_MAX.as_bytes(), call)
            }
            reply => reply,
        };
        match reply {
            Some(reply) if reply.kind() != ReplyKind::Error => Ok(()),
            _ if self.run_without_command(name, args.clone()) => Ok(()),
            Some(reply) => self.failed(place, name, args, &String::from_utf8_lossy(reply.bytes())),
            None => self.failed(place, name, args, "the server has no such command"),
        }
    }

    /// Does what the log says of keys that the server removed of its own accord; the command for that may be disabled.
    /// `false` for anything else.
    fn run_without_command(&self, name: &[u8], args: Arguments<'_>) -> bool {
        if name.eq_ignore_ascii_case(b"del") {
            args.for_each(|key| {
                self.own.delete_key(key);
            });
            true
        } else if name.eq_ignore_ascii_case(b"flushall") && args.len() == 0 {
            self.own.delete_all_keys();
            true
        } else {
            false
        }
    }

    /// A command failed.
    fn failed(&mut self, place: Place, name: &[u8], args: Arguments<'_>, why: &str) -> Result<(), String> {
        if place.may_have_failed && !is_inability(name, why) {
            return Ok(());
        }
        let what = format!("{}: {} failed: {}", self.place(place.at), shown(name, args), why.trim_end());
        if !self.skipped.allowed {
            return Err(format!("{what}. {ADVICE}"));
        }
        self.report.errors += 1;
        let is_due = self.skipped.last_reported.is_none_or(|last| last.elapsed() >= REPORT_INTERVAL);
        if self.report.errors <= REPORTED_AT_ONCE || is_due {
            self.skipped.last_reported = Some(Instant::now());
            log(Level::Warning, &format!("skipped number {}: {what}", self.report.errors));
        }
        Ok(())
    }

    /// A position of the log, for the server's log.
    fn place(&self, at: Lsn) -> String {
        let segment = self.opened.segments().iter().rev().find(|segment| segment.first <= at);
        let file = segment.map_or("", |segment| &segment.name);
        format!("{}, position {at}", self.opened.storage().path(file).display())
    }
}

/// Whether this server cannot do it whatever the data: such commands did not fail when they were logged.
fn is_inability(name: &[u8], why: &str) -> bool {
    const OWN: [&[u8]; 2] = [b"RESTORE", b"FUNCTION"];
    const WORDS: [&str; 4] = ["unknown command", "unknown subcommand", "no such command", "maximum allowed size"];
    OWN.iter().any(|own| name.eq_ignore_ascii_case(own)) || WORDS.iter().any(|word| why.contains(word))
}

/// The beginning of a command.
fn shown(name: &[u8], args: Arguments<'_>) -> String {
    let (more, mut text) = (args.len() + 1 > SHOWN_ARGUMENTS, String::new());
    for arg in std::iter::once(name).chain(args).take(SHOWN_ARGUMENTS) {
        let (head, rest) = arg.split_at(arg.len().min(SHOWN_BYTES));
        let separator = if text.is_empty() { "" } else { " " };
        text += &format!("{separator}{}{}", head.escape_ascii(), if rest.is_empty() { "" } else { "..." });
    }
    if more { text + " ..." } else { text }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::core::portion::{Marks, Portion};
    use crate::log::resp::push_command;

    #[test]
    fn a_failed_command_is_shown_in_one_short_line() {
        let shown_of = |args: &[&[u8]]| {
            let (mut portion, mut command) = (Portion::default(), Vec::new());
            push_command(&mut command, args);
            portion.add(Lsn::ZERO, &command, 0, &mut Marks::default()).unwrap();
            let Some((_, Action::Run(mut args))) = portion.actions().next() else { panic!("no command") };
            let name = args.next().unwrap();
            shown(name, args)
        };
        assert_eq!(shown_of(&[b"DEL", b"a\r\nb"]), "DEL a\\r\\nb");
        assert_eq!(shown_of(&[b"HSET", b"k", b"f", b"v"]), "HSET k f ...");
        let long = shown_of(&[b"APPEND", &[b'k'; 65], &[b'v'; 1000]]);
        assert_eq!(long, format!("APPEND {}... {}...", "k".repeat(64), "v".repeat(64)));
    }
}
