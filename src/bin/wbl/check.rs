//! `wbl check`: is a log whole?

use crate::failure::{DAMAGED, Failure};
use crate::folder::{View, with_view};
use crate::moment::time;
use crate::progress::{Progress, Shown};
use crate::shown::size;
use serde_json::{Value, json};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use valkey_wbl::log::{Base, LogError, Lsn, Segment, Standing, Verdict};
use valkey_wbl::rdb::{self, RdbError, Summary};

/// Verifies a log: manifest, base, and each segment, frame by frame.
///
/// It reads all that a start would read, and finds what a start would find. A server may be writing to the folder. An
/// end that a crash has left unfinished is no damage: nothing proves that it was acknowledged, and a start cuts it and
/// keeps it aside.
///
/// The line of the generation says what the log counts for at the next start ("standing" with --json). "current": it is
/// the newest. "left": the server has continued without it, or has ended; a file that the server itself has saved since
/// counts instead. "superseded": the server has taken another dataset since, so that it is not brought back.
///
/// Exit status: 0 for a good log. 1 for a damaged one: its manifest is this module's, and not all is as that says. 2 if
/// there is nothing to judge: no folder, no manifest of this module, a later version, an error of the system.
#[derive(clap::Args)]
pub struct Arguments {
    /// The log's folder (wbl.dir), or a backup's.
    folder: PathBuf,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

/// What was found.
struct Found {
    format: u32,
    generation: String,
    standing: &'static str,
    begins: Lsn,
    base: Option<(Base, Option<Summary>)>,
    segments: Vec<Segment>,
    counts: Counts,
    end: Lsn,
    verdict: Option<Verdict>,
    leftovers: Vec<String>,
    damage: Vec<LogError>,
}

#[derive(Default)]
struct Counts {
    units: u64,
    commands: u64,
    first_unix_ms: Option<u64>,
    last_unix_ms: Option<u64>,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let Arguments { folder, json } = arguments;
    let found = match with_view(folder, examine) {
        Ok(found) => found,
        Err(failure) if *json && failure.is_damage() => {
            let damage = if let Failure::Log(error) = &failure { damage_json(error) } else { Value::Null };
            let text = json!({ "folder": folder.display().to_string(), "verdict": "damaged", "damage": [damage] });
            writeln!(io::stdout(), "{text}").map_err(Failure::output)?;
            return Ok(ExitCode::from(DAMAGED));
        }
        Err(failure) => return Err(failure),
    };
    let holder = crate::folder::storage(folder)?.lock_holder();
    let text = if *json { format!("{}\n", found.json(folder, holder)) } else { found.text(folder, holder) };
    io::stdout().write_all(text.as_bytes()).map_err(Failure::output)?;
    Ok(ExitCode::from(found.status()))
}

/// Reads all of a log. Damage is an error if the log has become another one meanwhile.
fn examine(view: &View) -> Result<Found, Failure> {
    let mut found = Found {
        format: view.format(),
        generation: view.generation().to_string(),
        standing: match view.standing() {
            Standing::Current => "current",
            Standing::Left(_) => "left",
            Standing::Superseded(_) => "superseded",
        },
        begins: view.begins(),
        base: None,
        segments: Vec::new(),
        counts: Counts::default(),
        end: view.begins(),
        verdict: None,
        leftovers: Vec::new(),
        damage: Vec::new(),
    };
    found.read_base(view)?;
    found.read_segments(view)?;
    if found.damage.is_empty() {
        match view.leftovers(&found.segments) {
            Ok(names) => found.leftovers = names,
            Err(error) => found.take(error)?,
        }
    }
    if !found.damage.is_empty() && view.has_changed()? {
        return Err(found.damage.swap_remove(0).into());
    }
    Ok(found)
}

impl Found {
    fn read_base(&mut self, view: &View) -> Result<(), Failure> {
        let Some(base) = view.base() else { return Ok(()) };
        let progress = Progress::of_bytes("base", base.bytes);
        let read = view.read_base();
        self.base = Some((base, None));
        let reader = match read {
            Ok(Some(reader)) => reader,
            Ok(None) => return Ok(()),
            Err(error) => return self.take(error),
        };
        let file = reader.path().to_string();
        match rdb::verify(&mut Shown { from: reader, at: 0, progress: &progress }) {
            Ok(summary) => {
                if let Some((_, keys)) = &mut self.base {
                    *keys = Some(summary);
                }
                Ok(())
            }
            Err(RdbError::Read { source, .. }) if source.kind() != io::ErrorKind::InvalidData => {
                Err(Failure::Io(format!("cannot read {file}"), source))
            }
            Err(error) => {
                let offset = error.offset();
                let why = match error {
                    RdbError::Read { source, .. } => source.to_string(),
                    error => error.to_string(),
                };
                self.take(LogError::Damaged { file, offset, why })
            }
        }
    }

    fn read_segments(&mut self, view: &View) -> Result<(), Failure> {
        let progress = Progress::of_bytes("log", view.segment_bytes());
        let mut walk = view.walk();
        let counts = &mut self.counts;
        let outcome = walk.each_unit(|unit| -> Result<_, LogError> {
            counts.units += 1;
            counts.commands += unit.commands().count() as u64;
            counts.first_unix_ms.get_or_insert(unit.unix_ms);
            counts.last_unix_ms = Some(unit.unix_ms);
            if counts.units.is_multiple_of(8192) {
                progress.at(unit.end.get() - view.begins().get());
            }
            Ok(ControlFlow::Continue(()))
        });
        self.end = walk.good_end();
        self.verdict = walk.verdict().cloned();
        self.segments = walk.segments().to_vec();
        outcome.or_else(|error| self.take(error))
    }

    /// Notes damage; anything else is an error.
    fn take(&mut self, error: LogError) -> Result<(), Failure> {
        if !matches!(error, LogError::Damaged { .. }) {
            return Err(error.into());
        }
        self.damage.push(error);
        Ok(())
    }

    fn status(&self) -> u8 {
        if self.damage.is_empty() { 0 } else { DAMAGED }
    }

    fn verdict_name(&self) -> &'static str {
        match self.verdict {
            _ if !self.damage.is_empty() => "damaged",
            Some(Verdict::TornTail { .. }) => "torn-tail",
            _ => "good",
        }
    }

    fn json(&self, folder: &Path, holder: Option<u32>) -> Value {
        let base = self.base.as_ref().map(|(base, summary)| {
            json!({
                "file": base.name,
                "position": base.lsn.get(),
                "bytes": base.bytes,
                "crc32c": base.crc32c.map(|crc| format!("{crc:08x}")),
                "keys": summary.as_ref().map(|summary| summary.keys),
                "function_libraries": summary.as_ref().map(|summary| summary.functions),
            })
        });
        let segments: Vec<Value> = self.segments.iter().map(segment_json).collect();
        let tail = match &self.verdict {
            Some(Verdict::TornTail { file, offset, bytes, .. }) => json!({
                "file": file, "offset": offset, "bytes": bytes,
            }),
            _ => Value::Null,
        };
        json!({
            "folder": folder.display().to_string(),
            "verdict": self.verdict_name(),
            "damage": self.damage.iter().map(damage_json).collect::<Vec<_>>(),
            "unfinished_end": tail,
            "locked_by_process": holder,
            "format": self.format,
            "generation": self.generation,
            "standing": self.standing,
            "base": base,
            "first_position": self.begins.get(),
            "end_position": self.end.get(),
            "units": self.counts.units,
            "commands": self.counts.commands,
            "first_time": self.counts.first_unix_ms.map(time),
            "last_time": self.counts.last_unix_ms.map(time),
            "segments": segments,
            "leftovers": self.leftovers,
        })
    }

    fn text(&self, folder: &Path, holder: Option<u32>) -> String {
        let verdict = match self.verdict_name() {
            "torn-tail" => "good, with an unfinished end",
            verdict => verdict,
        };
        let mut lines = vec![format!("{}: {verdict}", folder.display())];
        lines.extend(self.damage.iter().map(|error| format!("  {error}")));
        if let Some(Verdict::TornTail { file, offset, bytes, .. }) = &self.verdict {
            let who =
                if holder.is_some() { "the server is writing there" } else { "a start cuts it and keeps it aside" };
            lines.push(format!("  unfinished end: {bytes} bytes of {file} from byte {offset} on ({who})"));
        }
        lines.push(format!("  generation {}, format {}, {}", self.generation, self.format, self.standing));
        if let Some((base, summary)) = &self.base {
            let keys = summary.as_ref().map_or(String::new(), |summary| {
                format!(", {} keys, {} function libraries", summary.keys, summary.functions)
            });
            lines.push(format!("  base {}: position {}, {}{keys}", base.name, base.lsn, size(base.bytes)));
        }
        let bytes = self.segments.iter().map(|segment| segment.bytes).sum();
        let Counts { units, commands, first_unix_ms, last_unix_ms } = self.counts;
        lines.push(format!(
            "  log: positions {} to {}, {units} units, {commands} commands in {} segments, {}",
            self.begins,
            self.end,
            self.segments.len(),
            size(bytes)
        ));
        if let (Some(first), Some(last)) = (first_unix_ms, last_unix_ms) {
            lines.push(format!("  times: {} to {}", time(first), time(last)));
        }
        lines.extend(holder.map(|process| format!("  process {process} has the folder locked")));
        if !self.leftovers.is_empty() && holder.is_none() {
            lines.push(format!("  no part of the log, removed at the next start: {}", self.leftovers.join(", ")));
        }
        lines.join("\n") + "\n"
    }
}

fn segment_json(segment: &Segment) -> Value {
    json!({
        "file": segment.name,
        "first_position": segment.first.get(),
        "end_position": segment.end.get(),
        "bytes": segment.bytes,
    })
}

fn damage_json(error: &LogError) -> Value {
    match error {
        LogError::Damaged { file, offset, why } => json!({ "file": file, "offset": offset, "why": why }),
        error => json!({ "why": error.to_string() }),
    }
}
