//! `wbl history`: what happened to one key.

use crate::chain::with_chain_once;
use crate::failure::Failure;
use crate::moment::time;
use crate::shown::{Redaction, Shown, bytes_json};
use serde_json::json;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use valkey_wbl::core::logged::{self, Databases};
use valkey_wbl::log::{Unit, UnitCommand};

/// Prints every change of one key, with its time.
///
/// That is every command that names the key, and what empties or exchanges its database. What the module has logged as
/// the key's resulting state is a RESTORE or DEL; an expired or evicted key is a DEL. What `wbl.keep-history-seconds`
/// has kept comes first. It begins with a base, which may have the key, too.
#[derive(clap::Args)]
pub struct Arguments {
    /// The log's folder (wbl.dir), or a backup's.
    folder: PathBuf,
    /// The key.
    key: String,
    /// The key's database.
    #[arg(long, default_value_t = 0)]
    db: u32,
    /// Shows how long arguments are instead of the arguments.
    #[arg(long, value_enum)]
    redact: Option<Redaction>,
    /// Prints one JSON object a line.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    let printed = with_chain_once(&arguments.folder, |chain| {
        if let Some(base) = chain.part(0)?.base().filter(|_| !arguments.json) {
            writeln!(out, "the base is of position {}", base.lsn).map_err(Failure::output)?;
        }
        chain.each_readable_unit(|unit| {
            for command in unit.commands().filter(|command| arguments.is_change(command)) {
                writeln!(out, "{}", arguments.line(unit, &command)).map_err(Failure::output)?;
            }
            Ok(ControlFlow::Continue(()))
        })
    });
    out.flush().map_err(Failure::output)?;
    printed.map(|is_whole| if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Arguments {
    fn is_change(&self, command: &UnitCommand<'_, '_>) -> bool {
        match logged::databases(command.args) {
            Databases::AllEmptied => true,
            Databases::OneEmptied => command.db == self.db,
            Databases::Swapped(first, second) => self.db == first || self.db == second,
            Databases::Untouched => {
                let is_key = |index: usize| command.args.get(index).is_some_and(|arg| *arg == self.key.as_bytes());
                let is_here = command.db == self.db || logged::moves_to(command.args) == Some(self.db);
                is_here && logged::keys(command.args).into_iter().any(is_key)
            }
        }
    }

    fn line(&self, unit: &Unit<'_>, command: &UnitCommand<'_, '_>) -> String {
        let shown = Shown { args: command.args, redaction: self.redact };
        if !self.json {
            return format!("{}..{} {} {}", unit.start, unit.end, time(unit.unix_ms), shown.line());
        }
        let line = json!({
            "key": bytes_json(self.key.as_bytes()),
            "start": unit.start.get(),
            "end": unit.end.get(),
            "time": time(unit.unix_ms),
            "unix_ms": unit.unix_ms,
            "command": shown.json(),
        });
        line.to_string()
    }
}
