//! `wbl`: looks at logs of valkey-wbl, and works on them.
//!
//! It reads with the module's own reader (`valkey_wbl::log`). What only looks takes no lock, so a server may have the
//! folder; what writes to a folder refuses one that a server has.

mod bench_disk;
mod chain;
mod check;
mod compact;
mod dump;
mod export;
mod exporter;
mod failure;
mod filter;
mod folder;
mod history;
mod manual;
mod moment;
mod progress;
mod repair;
mod shown;
mod stat;
mod written;

use clap::{Parser, Subcommand};
use failure::Failure;
use std::process::ExitCode;

/// Looks at the logs of valkey-wbl, and works on them.
///
/// Exit status: 0 if all is well. 1 if there is a manifest of this module, and the log that it names is damaged. 2 if
/// nothing can be said of a log: wrong arguments, no folder, no manifest of this module in it, a log of a later
/// version, errors of the system.
#[derive(Parser)]
#[command(name = "wbl", version, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Check(check::Arguments),
    Dump(dump::Arguments),
    History(history::Arguments),
    Stat(stat::Arguments),
    Export(export::Arguments),
    Repair(repair::Arguments),
    Compact(compact::Arguments),
    BenchDisk(bench_disk::Arguments),
    Exporter(exporter::Arguments),
    #[command(hide = true)]
    Manual(manual::Arguments),
}

impl Command {
    fn run(&self) -> Result<ExitCode, Failure> {
        match self {
            Command::Check(arguments) => check::run(arguments),
            Command::Dump(arguments) => dump::run(arguments),
            Command::History(arguments) => history::run(arguments),
            Command::Stat(arguments) => stat::run(arguments),
            Command::Export(arguments) => export::run(arguments),
            Command::Repair(arguments) => repair::run(arguments),
            Command::Compact(arguments) => compact::run(arguments),
            Command::BenchDisk(arguments) => bench_disk::run(arguments),
            Command::Exporter(arguments) => exporter::run(arguments),
            Command::Manual(arguments) => manual::run(arguments, <Arguments as clap::CommandFactory>::command()),
        }
    }
}

fn main() -> ExitCode {
    match Arguments::parse().command.run() {
        Ok(status) => status,
        Err(failure) => failure.report(),
    }
}
