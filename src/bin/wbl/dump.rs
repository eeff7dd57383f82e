//! `wbl dump`: the commands of a log, one a line.

use crate::chain::{Chain, with_chain_once};
use crate::failure::Failure;
use crate::filter::Filter;
use crate::moment::time;
use crate::shown::{Redaction, Shown};
use serde_json::json;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use valkey_wbl::log::{Unit, UnitCommand};

/// Prints the commands of a log: positions of their unit, time (UTC), database, command.
///
/// A unit is what was executed as a whole: a command, a transaction or a script with all its effects. The time is that
/// at which it was handed to the disk, to a second. What `wbl.keep-history-seconds` has kept comes first. A server may
/// be writing to the folder.
#[derive(clap::Args)]
pub struct Arguments {
    /// The log's folder (wbl.dir), or a backup's.
    folder: PathBuf,
    #[command(flatten)]
    filter: Filter,
    /// Shows how long arguments are instead of the arguments.
    #[arg(long, value_enum)]
    redact: Option<Redaction>,
    /// Prints one JSON object a line; bytes that are no text as {"hex": "..."}.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let dumped = with_chain_once(&arguments.folder, |chain| arguments.dump(chain, &mut out));
    // What is good before the damage is still shown.
    out.flush().map_err(Failure::output)?;
    dumped.map(|is_whole| if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Arguments {
    fn dump(&self, chain: &Chain, out: &mut impl Write) -> Result<bool, Failure> {
        chain.each_readable_unit(|unit| {
            if self.filter.is_over(unit) {
                return Ok(ControlFlow::Break(()));
            }
            if self.filter.has_unit(unit) {
                for command in unit.commands().filter(|command| self.filter.has_command(command)) {
                    writeln!(out, "{}", self.line(unit, &command)).map_err(Failure::output)?;
                }
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    fn line(&self, unit: &Unit<'_>, command: &UnitCommand<'_, '_>) -> String {
        let shown = Shown { args: command.args, redaction: self.redact };
        if !self.json {
            let (start, end, db) = (unit.start, unit.end, command.db);
            return format!("{start}..{end} {} db{db} {}", time(unit.unix_ms), shown.line());
        }
        let line = json!({
            "start": unit.start.get(),
            "end": unit.end.get(),
            "position": command.at.get(),
            "time": time(unit.unix_ms),
            "unix_ms": unit.unix_ms,
            "db": command.db,
            "is_transaction": unit.is_transaction,
            "command": shown.json(),
        });
        line.to_string()
    }
}
