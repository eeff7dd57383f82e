//! Random concurrent clients, a durable offset that is frozen and freed at random, and crashes that take away all that
//! was not durable: one order per key must explain all that anybody was told, recoveries included.
//!
//! `WBL_SEED` sets the choices, `WBL_TIMES` multiplies the seeds per server version.

use crate::harness::conditions::Conditions;
use crate::harness::history::clients::{self, Histories};
use crate::harness::history::disturbances::{self, evictions};
use crate::harness::history::steps::{Shared, Way};
use crate::harness::history::{Effect, Operation, Reply, linear};
use crate::harness::resp::encode;
use crate::harness::{PATIENCE, Random, RawConnection, Server, ServerBuilder, Value, Version, each_version, wait_for};
use std::fs::{self, OpenOptions};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::MutexGuard;
use std::thread;
use std::time::{Duration, Instant};
use valkey_wbl::log::sim::seeds;

/// Of each version. Between them they have all conditions.
const SEEDS: u64 = 4;
const FIRST_SEED: u64 = 9400;
const ROUNDS: u64 = 6;
const CLIENTS: usize = 8;
const IO_THREADS: &str = "4";
/// Who has no reply after so long is not heard.
const UNHEARD: Duration = Duration::from_millis(300);
/// So much of a bad history is shown.
const TAIL: usize = 16;

each_version! {
    fn whatever_anybody_was_shown_is_explained_by_one_order_that_survives_crashes(version: Version) {
        for seed in seeds(FIRST_SEED, SEEDS) {
            let conditions = Conditions::of_seed(seed);
            println!("{version:?} {conditions:?} WBL_SEED={seed}");
            let mut run = Run::new(version, conditions, Random::new(seed), 0);
            let findings = run.rounds(ROUNDS);
            assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
            run.assert_conditions_were_met();
        }
    }

    // The canary: a check that cannot fail would prove nothing.
    fn the_loss_of_what_was_durable_is_noticed(version: Version) {
        for conditions in [Conditions::default(), Conditions::ALL] {
            let rng = Random::of_test(&format!("history canary of {}, {conditions:?}", version.text()));
            let findings = Run::new(version, conditions, rng, 40).rounds(1);
            assert!(!findings.is_empty(), "nobody missed what was cut off");
        }
    }
}

#[test]
fn the_seeds_of_histories_have_all_conditions() {
    Conditions::assert_all(FIRST_SEED..FIRST_SEED + SEEDS);
}

struct Run {
    server: Server,
    rng: Random,
    shared: Shared,
    /// Frames that the crash takes away though they were durable.
    stolen_frames: usize,
}

impl Run {
    fn new(version: Version, conditions: Conditions, rng: Random, stolen_frames: usize) -> Run {
        let builder = ServerBuilder::with_module(version).allow_warning("WBL.DEBUG PAUSE ends, as another module");
        // Too large to be written ahead: what is to be cut is in one segment, and nothing in it is padded.
        let builder = builder.set("wbl.segment-bytes", "2gb");
        let server = conditions.apply(builder, version).start();
        let shared = Shared::new(names("r", 4), names("l", 2), conditions, server.builder.names());
        Run { server, rng, shared, stolen_frames }
    }

    fn rounds(&mut self, rounds: u64) -> Vec<String> {
        let mut findings = Vec::new();
        let mut initial: Histories = Histories::new();
        for round in 1..=rounds {
            self.server.raw().call(&[&["DEL".to_string()][..], &self.shared.lists[..]].concat());
            let mut histories = self.round(round, rounds);
            let recovered = self.read_all(&self.volatile(&histories));
            for (key, found) in recovered {
                let start = match initial.get(&key).and_then(|history| history.last()).map(contents) {
                    Some(values) if !self.shared.lists.contains(&key) => values,
                    _ => Vec::new(),
                };
                let history = histories.entry(key.clone()).or_default();
                history.push(found.clone());
                if let Err(finding) = linear::check(&start, history) {
                    findings.push(format!("round {round}, {key}: {finding}\nthe last of them:\n{}", tail(history)));
                }
                initial.insert(key, vec![found]);
            }
            if !findings.is_empty() {
                break;
            }
        }
        findings
    }

    /// Lets the clients work, and crashes the server.
    fn round(&mut self, round: u64, rounds: u64) -> Histories {
        let mut control = Control::open(&self.server);
        // From the next start on.
        let threads = if round.is_multiple_of(3) { IO_THREADS } else { "1" };
        let mode = ["auto", "async", "inline"][self.rng.below(3) as usize];
        self.server.reconfigure(|builder| builder.set("io-threads", threads).set("wbl.commit-mode", mode));
        // Each of the ways is tried alone, too, as one can hide what another would show.
        let ways = match round % 5 {
            0 => vec![Way::Single, Way::Transaction],
            1 => vec![Way::Single],
            2 => vec![Way::Single, Way::Pipeline],
            3 => vec![Way::Single, Way::Single, Way::Single, Way::Pipeline, Way::Transaction, Way::Script],
            _ => vec![Way::Single, Way::Script],
        };
        disturbances::prepare(&mut control.client, &self.shared);
        let (histories, windows) = thread::scope(|scope| {
            let (socket, shared, ways) = (self.server.socket(), &self.shared, &ways);
            let mut workers = Vec::new();
            // They all connect before there is a password.
            let clients: Vec<_> =
                (0..CLIENTS).map(|client| clients::greet(self.server.raw(), client, shared)).collect();
            let disturber = disturbances::are_asked_for(shared).then(|| {
                let (socket, rng) = (socket.clone(), self.rng.fork());
                scope.spawn(move || disturbances::run(&socket, shared, rng))
            });
            for (client, connection) in clients.into_iter().enumerate() {
                let rng = self.rng.fork();
                workers.push(scope.spawn(move || clients::run(connection, client, shared, ways, rng)));
            }
            let durable = catch_unwind(AssertUnwindSafe(|| control.pause_and_freeze(&mut self.rng, shared)));
            // Whatever happened, the clients end only when the server does.
            self.server.kill9();
            let (durable, _no_threads) = durable.unwrap_or_else(|panic| resume_unwind(panic));
            cut(&self.server.log_folder(), durable, self.stolen_frames);
            let histories = workers.into_iter().flat_map(|worker| worker.join().expect("a client"));
            let windows = disturber.map(|disturber| disturber.join().expect("the disturber"));
            (histories.collect::<Vec<_>>(), windows.unwrap_or_default())
        });
        self.server.start();
        let mut all = Histories::new();
        for (key, operations) in histories {
            all.entry(key).or_default().extend(operations);
        }
        let count: usize = all.values().map(Vec::len).sum();
        println!("round {round} of {rounds}: {count} operations, {:?}", self.shared.seen());
        assert!(count > 0, "the clients did nothing");
        for key in self.volatile(&all) {
            all.entry(key).or_default().extend(evictions(&windows, CLIENTS + 1));
        }
        self.shared.forget_volatile();
        all
    }

    /// The registers that may be evicted.
    fn volatile(&self, histories: &Histories) -> Vec<String> {
        let lasting = |key: &&String| self.shared.registers.contains(key) || self.shared.lists.contains(key);
        histories.keys().filter(|key| !lasting(key)).cloned().collect()
    }

    /// Fails where a condition has made no difference.
    fn assert_conditions_were_met(&self) {
        let Conditions { evicts, refuses, runs_long, .. } = self.shared.conditions;
        let seen = self.shared.seen();
        let wanted = [(evicts, "evicted"), (refuses, "NOAUTH"), (refuses, "NOPERM"), (refuses, "OOM")];
        for (is_wanted, what) in wanted.into_iter().chain([(refuses, "ERR"), (runs_long, "BUSY")]) {
            assert!(!is_wanted || seen.get(what).is_some_and(|count| *count > 0), "no {what}: {seen:?}");
        }
    }

    /// What the recovered server holds.
    fn read_all(&self, volatile: &[String]) -> Vec<(String, Operation)> {
        let mut connection = self.server.raw();
        let mut read = |key: &String, command: String| {
            let invoked = self.shared.now();
            let values = match connection.run(&command) {
                Value::Null => Vec::new(),
                Value::Array(items) => items.iter().map(number).collect(),
                value => vec![number(&value)],
            };
            let reply = Some(Reply::Contents(values));
            let completed = self.shared.now();
            (key.clone(), Operation { client: CLIENTS, effect: Effect::Read, reply, invoked, completed })
        };
        let registers = self.shared.registers.iter().chain(volatile);
        let registers: Vec<_> = registers.map(|key| read(key, format!("GET {key}"))).collect();
        let lists = self.shared.lists.iter().map(|key| read(key, format!("LRANGE {key} 0 -1")));
        registers.into_iter().chain(lists).collect()
    }
}

fn tail(history: &[Operation]) -> String {
    let mut last: Vec<&Operation> = history.iter().collect();
    last.sort_by_key(|operation| operation.completed);
    let lines = last.iter().rev().take(TAIL).rev().map(|operation| format!("  {operation:?}"));
    lines.collect::<Vec<_>>().join("\n")
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}{number}")).collect()
}

fn number(value: &Value) -> u64 {
    value.text().parse().expect("a number")
}

fn contents(read: &Operation) -> Vec<u64> {
    match &read.reply {
        Some(Reply::Contents(values)) => values.clone(),
        reply => panic!("not a read: {reply:?}"),
    }
}

/// Who freezes the durable position.
struct Control {
    client: RawConnection,
    other: RawConnection,
    has_io_threads: bool,
    /// Whether somebody else had to free the position.
    was_freed: bool,
}

impl Control {
    fn open(server: &Server) -> Control {
        let has_io_threads = server.builder.has(&["io-threads", IO_THREADS]);
        Control { client: server.raw(), other: server.raw(), has_io_threads, was_freed: false }
    }

    /// With I/O threads the server may have read a command together with that of a client whose unit waits until the
    /// position moves on, and runs it only afterwards. Then somebody else ends the wait.
    fn reply(&mut self) -> Value {
        let start = Instant::now();
        wait_for("a reply", PATIENCE, || {
            let reply = self.client.ready_reply();
            if reply.is_none() && self.has_io_threads && start.elapsed() > UNHEARD {
                self.other.run("WBL.DEBUG RESUME");
                self.was_freed = true;
            }
            reply
        })
    }

    fn call(&mut self, words: &[&str]) -> Value {
        self.client.send(words);
        self.reply()
    }

    fn run(&mut self, words: &[&str]) {
        let reply = self.call(words);
        assert!(!reply.is_error(), "{words:?}: {reply:?}");
    }

    /// Freezes the durable position and frees it, some times, and in the end freezes it and returns it.
    fn pause_and_freeze<'a>(&mut self, rng: &mut Random, shared: &'a Shared) -> (u64, MutexGuard<'a, ()>) {
        let pause = |rng: &mut Random| thread::sleep(Duration::from_micros(rng.below(20_000)));
        let pauses = 4 + rng.below(12);
        for _ in 0..pauses {
            pause(rng);
            self.run(&["WBL.DEBUG", "PAUSE"]);
            pause(rng);
            if shared.conditions.refuses {
                // What is refused does not wait for the disk.
                assert!(self.call(&["SET", "r0"]).is_error(), "a SET without a value");
            }
            self.run(&["WBL.DEBUG", "RESUME"]);
        }
        pause(rng);
        // From here on nothing that is not durable now may be shown; the crash takes all of that away.
        let no_threads = shared.end_threads();
        let durable = self.freeze();
        pause(rng);
        (durable, no_threads)
    }

    /// Freezes the durable position and returns it.
    fn freeze(&mut self) -> u64 {
        // In one piece, so that the server answers INFO before a script makes it busy.
        let bytes = [encode(&["WBL.DEBUG", "PAUSE"]), encode(&["INFO", "wbl"])].concat();
        let text = wait_for("the server is not busy", PATIENCE, || {
            self.was_freed = false;
            self.client.send_bytes(&bytes).expect("the server takes the commands");
            assert_eq!(self.reply(), Value::Simple("OK".into()));
            let info = self.reply();
            if info.is_error() {
                // A script that waits for the disk keeps the server busy until then.
                self.run(&["WBL.DEBUG", "RESUME"]);
            }
            (!info.is_error() && !self.was_freed).then(|| info.text())
        });
        let line = text.lines().find_map(|line| line.strip_prefix("wbl_previous_acked_offset:"));
        line.expect("the field").parse().expect("a number")
    }
}

/// Cuts all frames off that end after the durable position, and some more.
fn cut(folder: &Path, durable: u64, stolen_frames: usize) {
    let files = fs::read_dir(folder).expect("the log's folder").map(|entry| entry.expect("an entry").path());
    // Each start begins a segment; what was written since the last one is in the newest.
    let segments = files.filter(|path| path.to_string_lossy().ends_with(".incr.aof"));
    let segment = segments.max_by_key(|path| number_of(path)).expect("a segment");
    let bytes = fs::read(&segment).expect("the segment");
    let mut ends = vec![line_end(&bytes, 0).expect("a header's end")];
    let header = std::str::from_utf8(&bytes[..ends[0]]).expect("a header");
    let first = header.split(' ').nth(3).expect("a position");
    let (mut start, mut position) = (ends[0], u64::from_str_radix(first, 16).expect("a number"));
    while bytes[start..].starts_with(b"#") {
        let time_line_end = if bytes[start..].starts_with(b"#TS:") { line_end(&bytes, start) } else { Some(start) };
        // The crash may have torn what was being written.
        let Some((time_line_end, payload)) = time_line_end.and_then(|end| Some((end, line_end(&bytes, end)?))) else {
            break;
        };
        let length = frame_length(std::str::from_utf8(&bytes[time_line_end..payload]).expect("an annotation"));
        position += length;
        if position > durable {
            break;
        }
        start = payload + usize::try_from(length).expect("a length");
        ends.push(start);
    }
    // The header of the segment stays.
    let keep = ends.len().saturating_sub(1 + stolen_frames);
    let file = OpenOptions::new().write(true).open(segment).expect("the segment");
    file.set_len(ends[keep] as u64).expect("the segment can be cut");
}

/// The number in a segment's name.
fn number_of(path: &Path) -> u64 {
    let name = path.to_string_lossy();
    name.rsplit('.').nth(2).and_then(|number| number.parse().ok()).expect("a number")
}

/// Where the line ends that begins at an offset, if it does.
fn line_end(bytes: &[u8], start: usize) -> Option<usize> {
    Some(start + bytes[start..].iter().position(|byte| *byte == b'\n')? + 1)
}

/// The length in an annotation: the digits of base 64 after the ten of check and checksum.
fn frame_length(line: &str) -> u64 {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digits = line.trim_end().split('.').next().and_then(|line| line.get(11..)).expect("an annotation");
    digits.chars().fold(0, |length, digit| length * 64 + DIGITS.find(digit).expect("a digit") as u64)
}
