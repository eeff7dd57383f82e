//! The report: tables and pictures.

use super::cells::{CELLS, Load, System};
use super::hang::Seen;
use super::load::Measure;
use super::picture::{Line, Picture};
use crate::harness::Version;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// A load on a disk, by the numbers of its cell and itself and the flushes' delay in microseconds.
type Place = (usize, usize, u64);

/// All that was measured.
#[derive(Default)]
pub struct Results {
    measures: BTreeMap<(Place, System), Vec<Measure>>,
    flushes_us: BTreeMap<u64, Vec<f64>>,
}

impl Results {
    /// Adds what one run of a load gave.
    pub fn add(&mut self, cell: usize, load: usize, delay_us: u64, system: System, measure: Measure) {
        self.measures.entry(((cell, load, delay_us), system)).or_default().push(measure);
    }

    /// Notes how long a flush took, microseconds.
    pub fn note_flush(&mut self, delay_us: u64, flush_us: f64) {
        self.flushes_us.entry(delay_us).or_default().push(flush_us);
    }

    fn median(&self, place: Place, system: System, of: impl Fn(&Measure) -> f64) -> Option<f64> {
        median(self.measures.get(&(place, system))?.iter().map(of))
    }

    fn rate(&self, place: Place, system: System) -> Option<f64> {
        self.median(place, system, |measure| measure.per_second)
    }

    fn flush_us(&self, delay_us: u64) -> Option<f64> {
        median(self.flushes_us.get(&delay_us)?.iter().copied())
    }

    fn ratio(&self, place: Place) -> Option<f64> {
        let (base, system) = CELLS[place.0].compared;
        Some(self.rate(place, system)? / self.rate(place, base)?)
    }
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len().checked_sub(1)? / 2;
    Some(if values.len().is_multiple_of(2) { (values[middle] + values[middle + 1]) / 2.0 } else { values[middle] })
}

/// Where and how it was measured.
pub struct Conditions(String);

impl Conditions {
    /// Describes this machine and run.
    pub fn of_this_machine(version: Version, rounds: u32, seconds: u32, results: &Results) -> Conditions {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let processors = read("/proc/cpuinfo");
        let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let model = model.map_or("unknown processor", |(_, model)| model);
        let kernel = read("/proc/sys/kernel/osrelease");
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let flush = results.flush_us(0).map_or("unknown".into(), |flush_us| format!("about {flush_us:.0} us"));
        Conditions(format!(
            "{cores} cores ({model}), Linux {}; a flush takes {flush}. Valkey {} and valkey-benchmark on the same machine, unix sockets, \
             64-byte values and 100,000 random keys where nothing else is said, {rounds} interleaved runs of {seconds} s, medians. \
             Slower disks: each flush is made to last longer (strace), for all systems alike.",
            kernel.trim(),
            version.text()
        ))
    }
}

/// Writes the report and its pictures into a folder, and the report to the standard output, too.
pub fn write(out: &Path, conditions: &Conditions, results: &Results, disks: &[u64], hang: Option<&[(System, Seen)]>) {
    let mut text = format!("# Benchmarks\n\nFrom `scripts/bench`. {}\n", conditions.0);
    let _ = write!(
        text,
        "\n## Throughput, as a ratio to the stock server with `appendfsync always`\n\n{}",
        ratios(results, disks)
    );
    for delay_us in disks {
        let _ = write!(text, "\n## {}\n\n{}", disk_title(results, *delay_us), details(results, *delay_us));
    }
    let _ = write!(
        text,
        "\n## Beside the other settings of a stock server, on this machine's own disk\n\n{}",
        settings(results)
    );
    let mut pictures = vec![
        ("throughput.svg", by_flush_time(results, disks, "commands per second", |measure| measure.per_second)),
        ("latency.svg", by_flush_time(results, disks, "p50 latency, milliseconds", |measure| measure.p50_ms)),
    ];
    if let Some(hang) = hang {
        pictures.push(("hang.svg", super::hang::picture(hang)));
    }
    std::fs::create_dir_all(out.join("benchmarks")).expect("a folder for the report");
    text += "\n## Pictures\n";
    for (name, picture) in &pictures {
        std::fs::write(out.join("benchmarks").join(name), picture.svg()).expect("a picture can be written");
        let _ = write!(text, "\n![{}](benchmarks/{name})\n", picture.title);
    }
    std::fs::write(out.join("benchmarks.md"), wrap(&text)).expect("the report can be written");
    println!("{}", wrap(&text));
}

/// Breaks prose at the width of this repository's files.
fn wrap(text: &str) -> String {
    let mut wrapped = String::new();
    for line in text.lines() {
        if line.starts_with(['|', '!', '#']) {
            wrapped += line;
        } else {
            let mut width = 0;
            for word in line.split_inclusive(' ') {
                if width + word.trim_end().len() > 118 {
                    wrapped.truncate(wrapped.trim_end().len());
                    wrapped.push('\n');
                    width = 0;
                }
                wrapped += word;
                width += word.len();
            }
        }
        wrapped.push('\n');
    }
    wrapped
}

/// The rows of a disk, in the order of the cells.
fn places(results: &Results, delay_us: u64) -> impl Iterator<Item = (Place, &'static Load)> {
    let loads = CELLS
        .iter()
        .enumerate()
        .flat_map(|(cell, of)| of.loads.iter().enumerate().map(move |(load, is)| (cell, load, is)));
    loads.map(move |(cell, load, is)| ((cell, load, delay_us), is)).filter(|(place, _)| results.ratio(*place).is_some())
}

fn disk_title(results: &Results, delay_us: u64) -> String {
    match (delay_us, results.flush_us(delay_us)) {
        (0, Some(flush_us)) => format!("This machine's own disk (a flush takes {flush_us:.0} us)"),
        (0, None) => "This machine's own disk".into(),
        (delay_us, Some(flush_us)) => format!("Flushes {delay_us} us longer ({flush_us:.0} us)"),
        (delay_us, None) => format!("Flushes {delay_us} us longer"),
    }
}

fn ratios(results: &Results, disks: &[u64]) -> String {
    let mut text = String::from("| load |");
    for delay_us in disks {
        let _ = match delay_us {
            0 => write!(text, " own disk |"),
            delay_us => write!(text, " + {delay_us} us |"),
        };
    }
    let _ = writeln!(text, "\n|{}", " --- |".repeat(disks.len() + 1));
    for (place, load) in places(results, 0) {
        let _ = write!(text, "| {} |", load.title);
        for delay_us in disks {
            let _ = match results.ratio((place.0, place.1, *delay_us)) {
                Some(ratio) => write!(text, " {ratio:.2} |"),
                None => write!(text, " |"),
            };
        }
        text.push('\n');
    }
    text
}

fn details(results: &Results, delay_us: u64) -> String {
    let mut text = String::from(
        "Stock server / module; latencies in milliseconds, commits (p50) in flush times, processor time of the server per command in \
         microseconds, changes per flush of the module.\n\n\
         | load | per second | ratio | p50 | p99 | p99.9 | p50 in flush times | processor time | changes per flush |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for (place, load) in places(results, delay_us) {
        let (base, system) = CELLS[place.0].compared;
        let pair = |of: fn(&Measure) -> f64, digits: usize| {
            let value =
                |system| results.median(place, system, of).map_or("?".into(), |value| format!("{value:.digits$}"));
            format!("{} / {}", value(base), value(system))
        };
        let flush_ms = results.flush_us(delay_us).map_or(f64::NAN, |flush_us| flush_us / 1000.0);
        let in_flushes = results.median(place, system, |measure| measure.p50_ms).unwrap_or(f64::NAN) / flush_ms;
        let grouped = results.median(place, system, |measure| measure.writes_per_flush.unwrap_or(f64::NAN));
        let _ = writeln!(
            text,
            "| {} | {} | {:.2} | {} | {} | {} | {in_flushes:.2} | {} | {} |",
            load.title,
            pair(|measure| measure.per_second, 0),
            results.ratio(place).unwrap_or(f64::NAN),
            pair(|measure| measure.p50_ms, 2),
            pair(|measure| measure.p99_ms, 2),
            pair(|measure| measure.p99_9_ms, 2),
            pair(|measure| measure.cpu_us, 1),
            grouped.map_or(String::new(), |grouped| format!("{grouped:.1}")),
        );
    }
    text
}

fn settings(results: &Results) -> String {
    let mut text = String::from("| load | none | everysec | always | module |\n| --- | --- | --- | --- | --- |\n");
    let systems = [System::None, System::Everysec, System::Always, System::Module];
    for (place, load) in places(results, 0) {
        let rates: Vec<f64> = systems.iter().filter_map(|system| results.rate(place, *system)).collect();
        if rates.len() == systems.len() {
            let rates: Vec<String> = rates.iter().map(|rate| format!("{rate:.0}/s")).collect();
            let _ = writeln!(text, "| {} | {} |", load.title, rates.join(" | "));
        }
    }
    text
}

/// SETs of 8 and 50 clients over the time of a flush.
fn by_flush_time(results: &Results, disks: &[u64], unit: &str, of: fn(&Measure) -> f64) -> Picture {
    let cells = [("SET, 8 clients", true), ("SET, 50 clients", false)];
    let mut lines = Vec::new();
    for (title, is_dashed) in cells {
        for system in [System::Always, System::Module] {
            let Some(cell) = CELLS.iter().position(|cell| cell.loads[0].title == title) else { continue };
            let point = |delay_us: &u64| {
                let flush_ms = results.flush_us(*delay_us)? / 1000.0;
                Some((flush_ms, results.median((cell, 0, *delay_us), system, of)?))
            };
            let title = format!("{title}, {}", system.title());
            lines.push(Line {
                title,
                is_module: system == System::Module,
                is_dashed,
                points: disks.iter().filter_map(point).collect(),
            });
        }
    }
    Picture {
        title: format!("SET: {unit}, by the time of a flush"),
        x: "flush, milliseconds".into(),
        y: unit.into(),
        is_x_log: true,
        lines,
    }
}
