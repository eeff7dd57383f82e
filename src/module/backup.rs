//! WBL.BACKUP: makes backups of the log that is written, says which there are, and removes them. The log's threads do
//! that; whoever has asked is answered when it is done.

use crate::core::ack::Why;
use crate::ffi::{Ctx, Level, log};
use crate::log::{Backup, Storage, backup_name};
use crate::module::release::{Release, release};
use crate::module::units::finish_unit;
use crate::module::waits::unix_ms;
use crate::module::{State, errors, refusal, with};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What has been asked for last.
#[derive(Clone, Debug, Default)]
pub(super) struct Backups(Arc<Mutex<Asked>>);

#[derive(Debug, Default)]
enum Asked {
    #[default]
    Nothing,
    UnderWay,
    /// Whoever has asked gets this.
    Answered(Answer),
}

#[derive(Debug)]
enum Answer {
    /// Where it is.
    Made(String),
    Removed,
    Listed(Vec<Backup>),
    Failed(String),
}

impl Backups {
    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `false` where something is under way.
    fn begin(&self) -> bool {
        let mut asked = self.asked();
        let is_free = !matches!(*asked, Asked::UnderWay);
        if is_free {
            *asked = Asked::UnderWay;
        }
        is_free
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
        State::Replica => return ctx.reply_error(errors::IS_REPLICA),
        State::Failing => return ctx.reply_error(&refusal::text()),
        _ => return ctx.reply_error(&refusal::no_log_text()),
    }
    if !ctx.flags().can_block() {
        return ctx.reply_error(errors::CANNOT_BLOCK);
    }
    finish_unit(ctx);
    let opened = with(|module| {
        module.hand_over();
        Some((module.log().cloned()?, module.backups.clone()))
    });
    let Some(Some((open, backups))) = opened else { return ctx.reply_error(errors::NOT_ENABLED) };
    if !backups.begin() {
        return ctx.reply_error(errors::BACKUP_RUNS);
    }
    let Some(held) = ctx.block_command(0) else {
        *backups.asked() = Asked::Nothing;
        return ctx.reply_error(errors::CANNOT_BLOCK);
    };
    let answer = move |answer: Answer| {
        *backups.asked() = Asked::Answered(answer);
        release(held, Why::Own);
    };
    begin(&open, words.first().copied().unwrap_or_default(), args.get(2).copied().unwrap_or_default(), answer);
}

fn begin(open: &Arc<Release>, what: &[u8], name: &[u8], answer: impl FnOnce(Answer) + Send + 'static) {
    let log_of = open.log();
    match what {
        b"START" => {
            let name = backup_name(unix_ms(), log_of.appended());
            let place = log_of.storage().locate(&name);
            let on_done = move |outcome: Result<(), crate::log::LogError>| match outcome {
                Ok(()) => {
                    log(Level::Notice, &format!("a backup is made: {place}"));
                    answer(Answer::Made(place));
                }
                Err(error) => answer(Answer::Failed(error.to_string())),
            };
            log_of.back_up(name, Box::new(on_done));
        }
        b"END" => {
            let name = String::from_utf8_lossy(name).into_owned();
            let on_done = move |outcome: Result<(), crate::log::LogError>| {
                answer(outcome.map_or_else(|error| Answer::Failed(error.to_string()), |()| Answer::Removed));
            };
            log_of.remove_backup(name, Box::new(on_done));
        }
        _ => log_of.list_backups(Box::new(move |listed| {
            answer(listed.map_or_else(|error| Answer::Failed(error.to_string()), Answer::Listed));
        })),
    }
}

/// The answer of what was asked for last.
pub(super) fn reply(ctx: Ctx<'_>) {
    let asked = with(|module| std::mem::take(&mut *module.backups.asked()));
    match asked {
        Some(Asked::Answered(Answer::Made(place))) => ctx.reply_bulk(place.as_bytes()),
        Some(Asked::Answered(Answer::Removed)) => ctx.reply_simple(c"OK"),
        Some(Asked::Answered(Answer::Failed(reason))) => ctx.reply_error(&errors::backup_failed(&reason)),
        Some(Asked::Answered(Answer::Listed(backups))) => {
            ctx.reply_map(backups.len());
            backups.iter().for_each(|backup| reply_backup(ctx, backup));
        }
        _ => ctx.reply_error(errors::NOT_ENABLED),
    }
}

fn reply_backup(ctx: Ctx<'_>, backup: &Backup) {
    let number = |value: u64| ctx.reply_integer(i64::try_from(value).unwrap_or(i64::MAX));
    ctx.reply_bulk(backup.name.as_bytes());
    ctx.reply_map(3);
    ctx.reply_bulk(b"unix-ms");
    number(backup.unix_ms);
    ctx.reply_bulk(b"offset");
    number(backup.end.get());
    ctx.reply_bulk(b"state");
    ctx.reply_bulk(if backup.is_whole { b"whole" } else { b"unfinished" });
}
