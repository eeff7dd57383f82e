//! `wbl export`: writes a new copy of a log, up to a moment, without what is to be left out.

use crate::chain::{Chain, begun_s, with_chain_once};
use crate::failure::Failure;
use crate::filter::is_until;
use crate::folder::View;
use crate::moment::{Moment, Span, time};
use crate::progress::Progress;
use crate::shown::{Shown, size};
use crate::written::NewLog;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use valkey_wbl::log::{Lsn, Unit};

/// How many of the commands that are left out are shown.
const SHOWN_MAX: u64 = 10;

/// Writes a new copy of a log, which a stock server loads (appenddirname), and the module, too (wbl.dir).
///
/// Whole units only. The folder that is read stays as it is; a server may be writing there. A damaged log can be
/// exported up to the position that `wbl check` calls its end. What `wbl.keep-history-seconds` has kept of the time
/// before the log's base is gone back to where a moment, or a unit to be left out, is in it.
#[derive(clap::Args)]
pub struct Arguments {
    /// The log's folder (wbl.dir), or a backup's.
    folder: PathBuf,
    /// The folder to be made. It appears when it is whole.
    out: PathBuf,
    #[command(flatten)]
    selection: Selection,
    /// Says what would be written and what left out, and writes nothing.
    #[arg(long)]
    dry_run: bool,
}

/// What of a log is wanted; all where nothing is said.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Selection {
    /// The last position, or the last time: what was logged after it is left out.
    #[arg(long, value_name = "POSITION|TIME")]
    until: Option<Moment>,
    /// Leaves out the units of these positions, as `wbl dump` shows them.
    #[arg(long, value_name = "START..END")]
    skip: Vec<Span>,
}

/// What was written and left out.
#[derive(Default)]
pub struct Outcome {
    units: u64,
    commands: u64,
    skipped_units: u64,
    skipped: Vec<String>,
    last_unix_ms: Option<u64>,
    end: Lsn,
    /// The first unit that was too late.
    stopped_at: Option<(Lsn, u64)>,
    base: Option<String>,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let Arguments { folder, out, selection, dry_run } = arguments;
    let outcome = with_chain_once(folder, |chain| {
        if *dry_run {
            return selection.go_through(chain, &mut |_| Ok(()));
        }
        export(chain, selection, out)
    })?;
    let text = outcome.text(*dry_run, out);
    io::stdout().write_all(text.as_bytes()).map_err(Failure::output)?;
    Ok(ExitCode::SUCCESS)
}

/// Makes a new folder with what is selected of a log.
pub fn export(chain: &Chain, selection: &Selection, out: &Path) -> Result<Outcome, Failure> {
    let first = chain.part(selection.first(chain)?)?;
    let mut log = NewLog::create(out, first.read_base()?)?;
    let outcome = selection.go_through(chain, &mut |unit| log.push(unit))?;
    log.finish()?;
    Ok(outcome)
}

impl Selection {
    /// Hands over each unit that is wanted.
    fn go_through(
        &self,
        chain: &Chain,
        take: &mut dyn FnMut(&Unit<'_>) -> Result<(), Failure>,
    ) -> Result<Outcome, Failure> {
        let first = self.first(chain)?;
        let view = chain.part(first)?;
        let progress = Progress::of_bytes("log", chain.bytes_from(first));
        let mut found = vec![false; self.skip.len()];
        let mut outcome = Outcome { end: view.begins(), ..Outcome::default() };
        outcome.base = view.base().map(|base| format!("{} ({})", base.name, size(base.bytes)));
        chain.each_unit(first, |unit| {
            if self.until.is_some_and(|until| !is_until(unit, until)) {
                outcome.stopped_at = Some((unit.start, unit.unix_ms));
                return Ok(ControlFlow::Break(()));
            }
            progress.at(unit.end.get() - view.begins().get());
            outcome.end = unit.end;
            if self.skips(unit, &mut found)? {
                outcome.skip(unit);
                return Ok(ControlFlow::Continue(()));
            }
            outcome.units += 1;
            outcome.commands += unit.commands().count() as u64;
            outcome.last_unix_ms = Some(unit.unix_ms);
            take(unit).map(ControlFlow::Continue)
        })?;
        match self.skip.iter().zip(found).find(|(_, found)| !found) {
            Some((span, _)) => Err(Failure::text(format!("no unit of the log has positions within {span}"))),
            None => Ok(outcome),
        }
    }

    /// The part whose base is the one to begin with.
    fn first(&self, chain: &Chain) -> Result<usize, Failure> {
        let first = chain.part_for(self.until, &self.skip)?;
        self.check_base(chain.part(first)?)?;
        Ok(first)
    }

    fn skips(&self, unit: &Unit<'_>, found: &mut [bool]) -> Result<bool, Failure> {
        let mut skips = false;
        for (span, found) in self.skip.iter().zip(found) {
            if unit.start >= span.end || unit.end <= span.start {
                continue;
            }
            if unit.start < span.start || unit.end > span.end {
                let whole = Span { start: unit.start, end: unit.end };
                return Err(Failure::text(format!("{span} takes a part of the unit {whole}, which is one whole")));
            }
            (skips, *found) = (true, true);
        }
        Ok(skips)
    }

    /// The log begins with its base.
    fn check_base(&self, view: &View) -> Result<(), Failure> {
        let Some(until) = self.until else { return Ok(()) };
        let is_before = match until {
            Moment::Position(position) => position < view.begins(),
            Moment::UnixMs(unix_ms) => begun_s(view)?.is_some_and(|begun_s| unix_ms / 1000 < begun_s),
        };
        if !is_before {
            return Ok(());
        }
        let when = begun_s(view)?.map_or(String::new(), |begun_s| format!(", of {}", time(begun_s * 1000)));
        Err(Failure::text(format!(
            "the log begins with a base of position {}{when}: what was before is in an older backup, or history, only",
            view.begins()
        )))
    }
}

impl Outcome {
    fn skip(&mut self, unit: &Unit<'_>) {
        self.skipped_units += 1;
        if self.skipped_units > SHOWN_MAX {
            return;
        }
        let lines = unit.commands().take(SHOWN_MAX as usize).map(|command| {
            let shown = Shown { args: command.args, redaction: None }.line();
            let head: String = shown.chars().take(100).collect();
            format!("  {}..{} {} db{} {head}", unit.start, unit.end, time(unit.unix_ms), command.db)
        });
        self.skipped.extend(lines);
    }

    fn text(&self, dry_run: bool, out: &Path) -> String {
        let (would, out) = (if dry_run { "would be written" } else { "written" }, out.display());
        let mut text = format!(
            "{would} to {out}: {}{} units ({} commands), up to position {}{}\n",
            self.base.as_ref().map_or(String::new(), |base| format!("base {base}, ")),
            self.units,
            self.commands,
            self.end,
            self.last_unix_ms.map_or(String::new(), |unix_ms| format!(", the last of {}", time(unix_ms))),
        );
        if self.skipped_units > 0 {
            text += &format!("left out: {} units\n{}\n", self.skipped_units, self.skipped.join("\n"));
        }
        if let Some((position, unix_ms)) = self.stopped_at {
            text += &format!("the next unit, not written, is that of position {position}, {}\n", time(unix_ms));
        }
        text
    }
}
