//! WBL.BACKUP: makes, lists and removes backups of the log that is written. The log's threads do that; the client is
//! answered when it is done.

use crate::core::ack::Why;
use crate::ffi::{Ctx, Held, Level, log};
use crate::log::{Backup, LogError, Storage};
use crate::machine::unix_ms;
use crate::module::release::{Release, release};
use crate::module::units::finish_unit;
use crate::module::{State, errors, following, refusal, with};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether one is being made or removed.
#[derive(Clone, Debug, Default)]
pub(super) struct Backups(Arc<AtomicBool>);

/// Until this is dropped no other backup is made or removed.
#[derive(Debug)]
struct Turn(Arc<AtomicBool>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Backups {
    /// `None` where one is being made or removed.
    fn begin(&self) -> Option<Turn> {
        (!self.0.swap(true, Ordering::AcqRel)).then(|| Turn(Arc::clone(&self.0)))
    }
}

/// The client that has asked and gets the answer.
struct Asker {
    held: Held,
    /// Held by those who make or remove one.
    turn: Option<Turn>,
}

impl Asker {
    /// Any thread.
    fn answer(self, outcome: Result<impl Fn(Ctx<'_>) + Send + 'static, LogError>) {
        let Asker { mut held, turn } = self;
        // A client that has its answer may ask for the next one.
        drop(turn);
        match outcome {
            Ok(write) => held.set_written(write),
            Err(LogError::Refused { why }) => held.set_error(errors::backup_failed(why)),
            Err(error) => held.set_error(errors::backup_failed(&error.to_string())),
        }
        release(held, Why::Own);
    }
}

/// WBL.BACKUP START | STATUS | END name
pub(super) fn run(ctx: Ctx<'_>, args: &[&[u8]]) {
    let words: Vec<Vec<u8>> = args.iter().skip(1).map(|word| word.to_ascii_uppercase()).collect();
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    let is_known = matches!(words.as_slice(), [b"START" | b"STATUS"] | [b"END", _]);
    if !is_known {
        return ctx.reply_error(errors::BACKUP_SUBCOMMAND);
    }
    match with(|module| module.life.state()).unwrap_or(State::Disabled) {
        State::Active | State::Baselining => {}
        State::Replica if with(|module| module.life.logs()) == Some(true) => {}
        State::Replica => return ctx.reply_error(errors::NO_REPLICA_LOG),
        State::Failing => return ctx.reply_error(&refusal::text()),
        _ => return ctx.reply_error(&refusal::no_log_text()),
    }
    if !ctx.flags().can_block() {
        return ctx.reply_error(errors::CANNOT_BLOCK);
    }
    following::settle(ctx);
    finish_unit(ctx);
    let opened = with(|module| {
        module.hand_over();
        Some((module.log().cloned()?, module.backups.clone()))
    });
    let Some(Some((open, backups))) = opened else { return ctx.reply_error(errors::NOT_ENABLED) };
    let what = words.first().copied().unwrap_or_default();
    let turn = if what == b"STATUS" { None } else { backups.begin() };
    if what != b"STATUS" && turn.is_none() {
        return ctx.reply_error(errors::BACKUP_RUNS);
    }
    let Some(held) = ctx.block_for_answer(true) else { return ctx.reply_error(errors::CANNOT_BLOCK) };
    begin(&open, what, args.get(2).copied().unwrap_or_default(), Asker { held, turn });
}

fn begin(open: &Arc<Release>, what: &[u8], name: &[u8], asker: Asker) {
    let log_of = open.log();
    match what {
        b"START" => {
            // It ends with a slash.
            let folder = log_of.storage().locate("");
            let on_done = move |outcome: Result<Backup, LogError>| {
                let place = outcome.map(|backup| format!("{folder}{}", backup.name));
                if let Ok(place) = &place {
                    log(Level::Notice, &format!("a backup is made: {place}"));
                }
                asker.answer(place.map(|place| move |ctx: Ctx<'_>| ctx.reply_bulk(place.as_bytes())));
            };
            log_of.back_up(unix_ms(), Box::new(on_done));
        }
        b"END" => {
            let name = String::from_utf8_lossy(name).into_owned();
            let on_done = move |outcome: Result<(), LogError>| {
                asker.answer(outcome.map(|()| |ctx: Ctx<'_>| ctx.reply_simple(c"OK")));
            };
            log_of.remove_backup(name, Box::new(on_done));
        }
        _ => log_of.list_backups(Box::new(move |listed: Result<Vec<Backup>, LogError>| {
            asker.answer(listed.map(|backups| move |ctx: Ctx<'_>| reply_listed(ctx, &backups)));
        })),
    }
}

fn reply_listed(ctx: Ctx<'_>, backups: &[Backup]) {
    ctx.reply_map(backups.len());
    backups.iter().for_each(|backup| reply_backup(ctx, backup));
}

fn reply_backup(ctx: Ctx<'_>, backup: &Backup) {
    let number = |value: u64| ctx.reply_integer(i64::try_from(value).unwrap_or(i64::MAX));
    ctx.reply_bulk(backup.name.as_bytes());
    ctx.reply_map(4);
    ctx.reply_bulk(b"unix-ms");
    number(backup.unix_ms);
    ctx.reply_bulk(b"offset");
    number(backup.end.get());
    ctx.reply_bulk(b"state");
    ctx.reply_bulk(if backup.is_whole { b"whole" } else { b"unfinished" });
    // What everything else calls it.
    ctx.reply_bulk(b"position");
    number(backup.end.get());
}
