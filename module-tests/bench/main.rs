//! Compares the module with a stock server: throughput, latency and processor time of many loads, on disks of several
//! speeds.
//!
//! Runs are interleaved and medians are reported, so that a machine that gets slower or faster meanwhile favours
//! nobody. `scripts/bench` runs it, and says which arguments there are.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a measurement that fails is to say so at once")]
#![allow(dead_code, unused_imports, unused_macros, reason = "the harness has more than is needed here")]

#[path = "../harness/mod.rs"]
mod harness;

mod cells;
mod hang;
mod load;
mod picture;
mod report;
mod zipf;

use cells::{CELLS, Cell, DISKS_US, QUICK_DISKS_US, System};
use harness::Version;
use load::{Measure, Subject};
use report::{Conditions, Results};
use std::path::PathBuf;

/// What was asked for.
struct Arguments {
    is_quick: bool,
    /// Only cells with this in a load's title.
    only: Option<String>,
    rounds: u32,
    seconds: u32,
    version: Version,
    /// Where the report goes.
    out: PathBuf,
}

impl Arguments {
    fn parse() -> Arguments {
        let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
        let is_quick = words.iter().any(|word| word == "--quick");
        let value = |name: &str| {
            let at = words.iter().position(|word| word == name)?;
            Some(words.get(at + 1).unwrap_or_else(|| panic!("{name} needs a value")).clone())
        };
        let number = |name: &str| value(name).map(|text| text.parse::<u32>().expect("a whole number"));
        Arguments {
            is_quick,
            only: value("--only"),
            rounds: number("--rounds").unwrap_or(if is_quick { 2 } else { 3 }),
            seconds: number("--seconds").unwrap_or(if is_quick { 1 } else { 2 }),
            version: match value("--server").as_deref() {
                Some("8.1") => Version::V8_1,
                Some("9.1") | None => Version::V9_1,
                Some(other) => panic!("--server is 8.1 or 9.1, not {other}"),
            },
            out: value("--out").map_or_else(|| harness::paths::repository().join("target/bench"), PathBuf::from),
        }
    }

    fn takes(&self, cell: &Cell, delay_us: u64) -> bool {
        let is_named = self.only.as_ref().is_none_or(|only| cell.loads.iter().any(|load| load.title.contains(only)));
        is_named
            && (cell.is_quick || !self.is_quick || self.only.is_some())
            && (delay_us == 0 || cell.is_for_slow_disks)
    }
}

fn main() {
    if zipf::run_if_asked() {
        return;
    }
    let arguments = Arguments::parse();
    let disks = if arguments.is_quick { QUICK_DISKS_US } else { DISKS_US };
    let mut results = Results::default();
    for round in 1..=arguments.rounds {
        for delay_us in disks {
            eprintln!("scripts/bench: round {round} of {}, flushes {delay_us} us longer", arguments.rounds);
            run_round(&arguments, *delay_us, &mut results);
        }
    }
    let hang = arguments.only.is_none().then(|| hang::run(arguments.version));
    let conditions = Conditions::of_this_machine(arguments.version, arguments.rounds, arguments.seconds, &results);
    report::write(&arguments.out, &conditions, &results, disks, hang.as_deref());
}

/// A server, with what it was started as.
type Running = (System, &'static [(&'static str, &'static str)], Subject);

/// Runs every cell once on every system; servers with the same settings serve one cell after the other.
fn run_round(arguments: &Arguments, delay_us: u64, results: &mut Results) {
    let mut subjects: Vec<Running> = Vec::new();
    for (index, cell) in CELLS.iter().enumerate().filter(|(_, cell)| arguments.takes(cell, delay_us)) {
        for system in cell.systems(delay_us > 0) {
            let found = subjects.iter().position(|(is, settings, _)| *is == system && *settings == cell.settings);
            let at = found.unwrap_or_else(|| {
                let subject = Subject::start(arguments.version, system, cell.settings, delay_us);
                subjects.push((system, cell.settings, subject));
                subjects.len() - 1
            });
            let subject = &subjects[at].2;
            subject.prepare(cell.loads);
            let measures = subject.run(cell.loads, arguments.seconds);
            let rates: Vec<String> = measures.iter().map(|measure| format!("{:.0}/s", measure.per_second)).collect();
            eprintln!("scripts/bench:   {}, {}: {}", cell.loads[0].title, system.title(), rates.join(", "));
            measures
                .into_iter()
                .enumerate()
                .for_each(|(load, measure)| results.add(index, load, delay_us, system, measure));
        }
    }
    for (system, _, subject) in subjects {
        if system == System::Module {
            subject.flush_us().into_iter().for_each(|flush_us| results.note_flush(delay_us, flush_us));
        }
        subject.stop();
    }
}
