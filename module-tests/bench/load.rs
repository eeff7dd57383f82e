//! Running loads, and what their programs report.

use super::cells::{Load, Program, System};
use super::zipf;
use crate::harness::paths::repository;
use crate::harness::server::info_field;
use crate::harness::{RawConnection, Server, ServerBuilder, Version};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What one run of a load has given.
#[derive(Clone, Copy, Debug)]
pub struct Measure {
    /// Requests per second; a sequence of commands counts each of them.
    pub per_second: f64,
    /// Percentiles of the latency, milliseconds.
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p99_9_ms: f64,
    /// Processor time of the server's process, all of its threads, microseconds per request of all loads of the cell.
    pub cpu_us: f64,
    /// Changes that shared a flush; of the module only.
    pub writes_per_flush: Option<f64>,
}

/// A server under test.
pub struct Subject {
    server: Server,
    process: u32,
}

impl Subject {
    /// Starts a server whose flushes last longer by so many microseconds.
    pub fn start(version: Version, system: System, settings: &[(&str, &str)], delay_us: u64) -> Subject {
        let builder = match system {
            System::None => ServerBuilder::stock(version),
            System::Everysec => ServerBuilder::stock_always(version).set("appendfsync", "everysec"),
            System::Always => ServerBuilder::stock_always(version),
            System::Module => {
                let builder = ServerBuilder::with_module(version).set("wbl.commit-mode", &commit_mode());
                builder.set("wbl.checkpoint-percentage", "0")
            }
            System::Disabled => ServerBuilder::with_module(version).set("wbl.enabled", "no"),
        };
        let builder = builder.set("auto-aof-rewrite-percentage", "0").allow_warning("fsync");
        let builder = settings.iter().fold(builder, |builder, (name, value)| builder.set(name, value));
        Subject::of(match delay_us {
            0 => builder,
            delay_us => on_slow_disk(builder, &format!("delay_exit={delay_us}")),
        })
    }

    /// Starts a server, of which each thread's 200th flush takes this long.
    pub fn start_with_hang(version: Version, system: System, hang: Duration) -> Subject {
        let builder = match system {
            System::Always => ServerBuilder::stock_always(version),
            _ => ServerBuilder::with_module(version).set("wbl.commit-mode", &commit_mode()),
        };
        let effect = format!("delay_exit={}:when=200", hang.as_micros());
        Subject::of(on_slow_disk(builder.allow_warning("fsync"), &effect))
    }

    fn of(builder: ServerBuilder) -> Subject {
        let server = builder.start();
        let process = info_field(&mut server.raw(), "server", "process_id").expect("INFO names the process");
        Subject { server, process: process.parse().expect("a process id") }
    }

    /// A connection.
    pub fn connect(&self) -> RawConnection {
        self.server.raw()
    }

    /// Microseconds that a flush takes, as the module sees it.
    pub fn flush_us(&self) -> Option<f64> {
        info_field(&mut self.connect(), "wbl", "wbl_log_sync_ewma_us")?.parse().ok()
    }

    /// Empties the server, and puts in what loads expect.
    pub fn prepare(&self, loads: &[Load]) {
        let mut control = self.connect();
        control.run("FLUSHALL");
        control.run("XGROUP CREATE jobs group $ MKSTREAM");
        if loads.iter().any(Load::reads) {
            let keys = loads[0].keys;
            let fill =
                ["-c", "50", "-P", "64", "-d", "64", "-n", &keys.to_string(), "-r", &keys.to_string(), "--sequential"]
                    .map(String::from);
            let output = self.benchmark(&fill, &["SET", "key:__rand_int__", "__data__"]).output();
            assert!(output.expect("valkey-benchmark starts").status.success(), "the keys cannot be written");
        }
    }

    /// Runs loads side by side for so many seconds.
    pub fn run(&self, loads: &[Load], seconds: u32) -> Vec<Measure> {
        let (began_us, wrote) = (self.processor_time_us(), self.writes_and_flushes());
        let children = loads.iter().map(|load| self.spawn(load, seconds)).collect::<Vec<_>>();
        let outputs = children.into_iter().map(|child| child.wait_with_output().expect("the clients end"));
        let mut measures: Vec<Measure> = outputs
            .zip(loads)
            .map(|(output, load)| {
                assert!(output.status.success(), "{}: {}", load.title, String::from_utf8_lossy(&output.stderr));
                let text = String::from_utf8_lossy(&output.stdout);
                match load.program {
                    Program::Benchmark(_) => parse(&text),
                    Program::Zipf | Program::Script(_) => parse_report(&text),
                }
            })
            .collect();
        let requests: f64 = measures.iter().map(|measure| measure.per_second * f64::from(seconds)).sum();
        let cpu_us = (self.processor_time_us() - began_us) / requests;
        let writes_per_flush = wrote
            .zip(self.writes_and_flushes())
            .and_then(|(before, after)| (after.1 > before.1).then(|| (after.0 - before.0) / (after.1 - before.1)));
        measures.iter_mut().for_each(|measure| {
            measure.cpu_us = cpu_us;
            measure.writes_per_flush = writes_per_flush;
        });
        measures
    }

    /// Ends it.
    pub fn stop(mut self) {
        self.server.stop();
    }

    /// Begins a load in the background.
    pub fn spawn(&self, load: &Load, seconds: u32) -> std::process::Child {
        let mut command = match load.program {
            Program::Benchmark(words) => self.benchmark_for(load, words, seconds),
            Program::Zipf => zipf::command(load, &self.server.socket(), seconds),
            Program::Script(words) => self.script(words, load.clients, seconds),
        };
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the clients start")
    }

    fn benchmark_for(&self, load: &Load, words: &[&str], seconds: u32) -> Command {
        let options = [
            ("-c", load.clients.to_string()),
            ("-P", load.pipeline.to_string()),
            ("-d", load.value_bytes.to_string()),
            ("-r", load.keys.to_string()),
            ("--duration", seconds.to_string()),
            ("--precision", "3".to_string()),
        ];
        let options: Vec<String> = options.into_iter().flat_map(|(name, value)| [name.to_string(), value]).collect();
        self.benchmark(&options, words)
    }

    fn script(&self, words: &[&str], clients: u32, seconds: u32) -> Command {
        // Where scripts/bench has put them with their packages.
        let folder = repository().join("target/bench-clients");
        let program = if words[0].contains('/') { folder.join(words[0]) } else { words[0].into() };
        let mut command = Command::new(program);
        command.current_dir(folder).args(&words[1..]).arg(self.server.socket());
        command.args([clients.to_string(), seconds.to_string()]);
        command
    }

    fn benchmark(&self, options: &[String], words: &[&str]) -> Command {
        // 8.1's takes no sequences.
        let mut command = Command::new(Version::V9_1.program("valkey-benchmark"));
        command.arg("-s").arg(self.server.socket()).args(options).arg("--").args(words);
        command
    }

    fn processor_time_us(&self) -> f64 {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.process)).expect("the server runs");
        let (_, fields) = text.rsplit_once(')').expect("a program's name");
        let ticks: f64 =
            fields.split_ascii_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<f64>().expect("ticks")).sum();
        // A tick of /proc is a hundredth of a second on Linux, whatever the kernel's own is.
        ticks * 10_000.0
    }

    fn writes_and_flushes(&self) -> Option<(f64, f64)> {
        let mut control = self.connect();
        let mut number = |field| info_field(&mut control, "wbl", field)?.parse().ok();
        Some((number("wbl_units")?, number("wbl_log_syncs")?))
    }
}

/// The module's default, unless `WBL_COMMIT_MODE` names another.
fn commit_mode() -> String {
    std::env::var("WBL_COMMIT_MODE").unwrap_or_else(|_| "auto".into())
}

/// Starts the server under an strace that has an effect on its flushes, and stops it at nothing else.
fn on_slow_disk(builder: ServerBuilder, effect: &str) -> ServerBuilder {
    // The last writes past the page cache.
    let inject = format!("inject=fdatasync,fsync,pwritev2:{effect}");
    let words =
        ["strace", "-f", "--seccomp-bpf", "-e", "trace=fdatasync,fsync,pwritev2", "-e", "signal=none", "-e", &inject];
    builder.run_by(&[&words[..], &["-o", "/dev/null"]].concat())
}

/// Reads what the scripts of `clients/` and `zipf` print.
fn parse_report(output: &str) -> Measure {
    let number = |name: &str| -> f64 {
        let (_, rest) = output.split_once(&format!("\"{name}\":")).expect("a field of its report");
        let end = rest.find([',', '}']).expect("the end of a number");
        rest[..end].trim().parse().expect("a number")
    };
    Measure {
        per_second: number("per_second"),
        p50_ms: number("p50_ms"),
        p99_ms: number("p99_ms"),
        p99_9_ms: number("p99_9_ms"),
        cpu_us: 0.0,
        writes_per_flush: None,
    }
}

/// Reads what valkey-benchmark prints.
fn parse(output: &str) -> Measure {
    let text = output.replace('\r', "\n");
    let number = |line: &str, after: &str| -> Option<f64> {
        line.trim().strip_prefix(after)?.trim_start().split(' ').next()?.parse().ok()
    };
    let per_second = text.lines().find_map(|line| number(line, "throughput summary:"));
    let (_, percentiles) = text.split_once("Latency by percentile distribution:").expect("percentiles");
    let percentiles = percentiles.split("Cumulative").next().unwrap_or_default();
    // `99.902% <= 1.359 milliseconds (cumulative count 656904)`
    let percentiles: Vec<(f64, f64)> = percentiles
        .lines()
        .filter_map(|line| {
            let (percent, rest) = line.split_once("% <= ")?;
            Some((percent.trim().parse().ok()?, rest.split(' ').next()?.parse().ok()?))
        })
        .collect();
    let at = |percent: f64| percentiles.iter().find(|(reached, _)| *reached >= percent).map_or(f64::NAN, |(_, ms)| *ms);
    Measure {
        per_second: per_second.unwrap_or_else(|| panic!("valkey-benchmark reports no throughput:\n{text}")),
        p50_ms: at(50.0),
        p99_ms: at(99.0),
        p99_9_ms: at(99.9),
        cpu_us: f64::NAN,
        writes_per_flush: None,
    }
}
