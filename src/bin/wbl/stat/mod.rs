//! `wbl stat`: what takes the room of a log.

mod kept;
mod tally;

use crate::failure::Failure;
use crate::folder::{View, with_view_once};
use crate::moment::time;
use crate::progress::Progress;
use crate::shown::{bytes_json, size, word};
use kept::KeptBytes;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use tally::{Rate, Tally};
use valkey_wbl::core::logged;
use valkey_wbl::log::{KeptLog, Unit, UnitCommand, kept_logs};

/// Says what takes the room of a log: commands, prefixes of keys, keys; how much was logged when; and how much of it a
/// checkpoint would save.
///
/// Memory is bounded: where there are very many keys, those with few bytes are counted together. What a checkpoint
/// would save is estimated from a sample of the keys. A server may be writing to the folder.
#[derive(clap::Args)]
pub struct Arguments {
    /// The log's folder (wbl.dir), or a backup's.
    folder: PathBuf,
    /// How many keys and prefixes are shown.
    #[arg(long, default_value_t = 10, value_name = "NUMBER")]
    top: usize,
    /// What ends the prefix of a key.
    #[arg(long, default_value = ":", value_name = "TEXT")]
    separator: String,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

/// What was counted.
struct Found {
    base_bytes: u64,
    log_bytes: u64,
    units: u64,
    commands: Tally,
    prefixes: Tally,
    keys: Tally,
    rate: Rate,
    kept: KeptBytes,
    /// What is kept of the time before the base.
    history: Vec<KeptLog>,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let found = with_view_once(&arguments.folder, |view| arguments.count(view))?;
    let text = if arguments.json { format!("{}\n", found.json(arguments.top)) } else { found.text(arguments.top) };
    io::stdout().write_all(text.as_bytes()).map_err(Failure::output)?;
    Ok(ExitCode::SUCCESS)
}

impl Arguments {
    fn count(&self, view: &View) -> Result<Found, Failure> {
        let progress = Progress::of_bytes("log", view.segment_bytes());
        let mut found = Found {
            base_bytes: view.base().map_or(0, |base| base.bytes),
            log_bytes: 0,
            units: 0,
            commands: Tally::default(),
            prefixes: Tally::default(),
            keys: Tally::default(),
            rate: Rate::default(),
            kept: KeptBytes::default(),
            history: kept_logs(view.storage()).map_err(Failure::io("cannot look for what is kept of before"))?,
        };
        view.walk().each_unit(|unit| {
            found.add(unit, self.separator.as_bytes());
            progress.at(unit.end.get() - view.begins().get());
            Ok::<_, Failure>(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }
}

impl Found {
    fn add(&mut self, unit: &Unit<'_>, separator: &[u8]) {
        let bytes = unit.end.bytes_since(unit.start);
        self.units += 1;
        self.log_bytes += bytes;
        self.rate.add(unit.unix_ms, bytes);
        unit.commands().for_each(|command| self.add_command(&command, separator));
    }

    fn add_command(&mut self, command: &UnitCommand<'_, '_>, separator: &[u8]) {
        let name = command.args.first().copied().unwrap_or_default();
        self.commands.add(&name.to_ascii_uppercase(), command.bytes);
        let keys = logged::keys(command.args);
        self.kept.add(command, &keys);
        let Some(share) = command.bytes.checked_div(keys.len() as u64) else { return };
        for key in keys.iter().filter_map(|index| command.args.get(*index)) {
            self.keys.add(key, share);
            self.prefixes.add(prefix(key, separator), share);
        }
    }

    fn text(&self, top: usize) -> String {
        let mut text =
            format!("base {}, log {} in {} units\n", size(self.base_bytes), size(self.log_bytes), self.units);
        let kept = self.kept.bytes();
        let after = self.base_bytes.saturating_add(kept);
        let saved = self.log_bytes.saturating_sub(kept);
        let _ = writeln!(
            text,
            "a checkpoint would make a base of at most about {}, and save about {} ({} %)",
            size(after),
            size(saved),
            saved * 100 / (self.base_bytes + self.log_bytes).max(1)
        );
        if let Some(oldest) = self.history.first() {
            let (bytes, since) = (size(self.history_bytes()), time(oldest.begins_unix_ms));
            let _ = writeln!(text, "history {bytes} in {} folders, since {since}", self.history.len());
        }
        for (title, tally, count) in [
            ("commands", &self.commands, usize::MAX),
            ("prefixes of keys", &self.prefixes, top),
            ("keys", &self.keys, top),
        ] {
            let _ = writeln!(text, "\n{title}");
            for (name, counted) in tally.largest(count) {
                let _ = writeln!(text, "{:>12} {:>10}  {}", size(counted.bytes), counted.number, word(name));
            }
            if tally.others().number > 0 {
                let others = tally.others();
                let _ = writeln!(text, "{:>12} {:>10}  (others)", size(others.bytes), others.number);
            }
        }
        let _ = writeln!(text, "\ntimes, each of {} s", self.rate.width_ms() / 1000);
        for (unix_ms, counted) in self.rate.buckets() {
            let a_second = counted.bytes * 1000 / self.rate.width_ms();
            let _ = writeln!(text, "{:>10}/s {:>10} units  {}", size(a_second), counted.number, time(unix_ms));
        }
        text
    }

    fn history_bytes(&self) -> u64 {
        self.history.iter().map(|kept| kept.bytes).sum()
    }

    fn json(&self, top: usize) -> Value {
        let list = |tally: &Tally, count| -> Vec<Value> {
            let counted = tally.largest(count).into_iter();
            let one = |(name, counted): (&[u8], &tally::Counted)| json!({ "name": bytes_json(name), "commands": counted.number, "bytes": counted.bytes });
            counted.map(one).collect()
        };
        let rate = self.rate.buckets().map(|(unix_ms, counted)| {
            json!({ "time": time(unix_ms), "unix_ms": unix_ms, "units": counted.number, "bytes": counted.bytes })
        });
        json!({
            "base_bytes": self.base_bytes,
            "log_bytes": self.log_bytes,
            "units": self.units,
            "estimated_bytes_after_checkpoint": self.base_bytes.saturating_add(self.kept.bytes()),
            "estimated_bytes_saved_by_checkpoint": self.log_bytes.saturating_sub(self.kept.bytes()),
            "history_bytes": self.history_bytes(),
            "history_since_unix_ms": self.history.first().map(|oldest| oldest.begins_unix_ms),
            "commands": list(&self.commands, usize::MAX),
            "prefixes": list(&self.prefixes, top),
            "keys": list(&self.keys, top),
            "is_complete": self.keys.others().number == 0,
            "interval_ms": self.rate.width_ms(),
            "intervals": rate.collect::<Vec<_>>(),
        })
    }
}

/// A key up to its first separator, with that; all of it where it has none.
fn prefix<'k>(key: &'k [u8], separator: &[u8]) -> &'k [u8] {
    let at = key.windows(separator.len().max(1)).position(|part| part == separator);
    at.and_then(|at| key.get(..at + separator.len())).unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use super::prefix;

    #[test]
    fn a_prefix_ends_with_the_separator() {
        assert_eq!(prefix(b"user:1:name", b":"), b"user:");
        assert_eq!(prefix(b"user", b":"), b"user");
        assert_eq!(prefix(b"a::b:c", b"::"), b"a::");
        assert_eq!((prefix(b"", b":"), prefix(b"a", b"")), (&b""[..], &b"a"[..]));
    }
}
