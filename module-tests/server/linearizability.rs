//! Random concurrent clients, a durable offset that is frozen and freed at random, and crashes that take away all that
//! was not durable: one order per key must explain all that anybody was told, recoveries included.
//!
//! `WBL_SEED` sets the choices, `WBL_TIMES` multiplies the crashes per server version.

use crate::harness::history::clients::{self, Histories, Shared, Way};
use crate::harness::history::{Effect, Operation, Reply, linear};
use crate::harness::resp::encode;
use crate::harness::{Random, RawConnection, Server, ServerBuilder, Value, Version, each_version};
use std::fs::{self, OpenOptions};
use std::path::Path;
use std::thread;
use std::time::Duration;
use valkey_wbl::log::sim::times;

const ROUNDS: u64 = 6;
const CLIENTS: usize = 8;
/// So much of a bad history is shown.
const TAIL: usize = 16;

each_version! {
    fn whatever_anybody_was_shown_is_explained_by_one_order_that_survives_crashes(version: Version) {
        let rounds = ROUNDS * times();
        let rng = Random::of_test(&format!("history of {}", version.text()));
        let findings = Run::new(version, rng, 0).rounds(rounds);
        assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
    }

    // The canary: a check that cannot fail would prove nothing.
    fn the_loss_of_what_was_durable_is_noticed(version: Version) {
        let rng = Random::of_test(&format!("history canary of {}", version.text()));
        let findings = Run::new(version, rng, 40).rounds(1);
        assert!(!findings.is_empty(), "nobody missed what was cut off");
    }
}

struct Run {
    server: Server,
    rng: Random,
    shared: Shared,
    /// Frames that the crash takes away though they were durable.
    stolen_frames: usize,
}

impl Run {
    fn new(version: Version, rng: Random, stolen_frames: usize) -> Run {
        let shared = Shared::new(names("r", 4), names("l", 2));
        Run { server: ServerBuilder::with_module(version).start(), rng, shared, stolen_frames }
    }

    fn rounds(mut self, rounds: u64) -> Vec<String> {
        let mut findings = Vec::new();
        let mut initial: Histories = Histories::new();
        for round in 1..=rounds {
            self.server.raw().call(&[&["DEL".to_string()][..], &self.shared.lists[..]].concat());
            let mut histories = self.round(round, rounds);
            let recovered = self.read_all();
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
        let threads = if round.is_multiple_of(3) { "4" } else { "1" };
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
        let mut control = self.server.raw();
        let histories = thread::scope(|scope| {
            let (socket, shared, ways) = (self.server.socket(), &self.shared, &ways);
            let mut workers = Vec::new();
            for client in 0..CLIENTS {
                let (socket, rng) = (socket.clone(), self.rng.fork());
                workers.push(scope.spawn(move || clients::run(&socket, client, shared, ways, rng)));
            }
            let pauses = 4 + self.rng.below(12);
            for _ in 0..pauses {
                thread::sleep(Duration::from_micros(self.rng.below(20_000)));
                control.run("WBL.DEBUG PAUSE");
                thread::sleep(Duration::from_micros(self.rng.below(20_000)));
                control.run("WBL.DEBUG RESUME");
            }
            thread::sleep(Duration::from_micros(self.rng.below(20_000)));
            // From here on nothing that is not durable now may be shown; the crash takes all of that away.
            let durable = freeze(&mut control);
            thread::sleep(Duration::from_micros(self.rng.below(20_000)));
            self.server.kill9();
            cut(&self.server.log_folder(), durable, self.stolen_frames);
            workers.into_iter().flat_map(|worker| worker.join().expect("a client")).collect::<Vec<_>>()
        });
        self.server.start();
        let mut all = Histories::new();
        for (key, operations) in histories {
            all.entry(key).or_default().extend(operations);
        }
        let count: usize = all.values().map(Vec::len).sum();
        println!("round {round} of {rounds}: {count} operations");
        assert!(count > 0, "the clients did nothing");
        all
    }

    /// What the recovered server holds.
    fn read_all(&self) -> Vec<(String, Operation)> {
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
        let registers: Vec<_> = self.shared.registers.iter().map(|key| read(key, format!("GET {key}"))).collect();
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

/// Freezes the durable position and returns it.
fn freeze(control: &mut RawConnection) -> u64 {
    // In one piece, so that the server answers INFO before a script makes it busy.
    let bytes = [encode(&["WBL.DEBUG", "PAUSE"]), encode(&["INFO", "wbl"])].concat();
    control.send_bytes(&bytes).expect("the server takes the commands");
    assert_eq!(control.reply(), Value::Simple("OK".into()));
    let text = control.reply().text();
    let line = text.lines().find_map(|line| line.strip_prefix("wbl_previous_acked_offset:"));
    line.expect("the field").parse().expect("a number")
}

/// Cuts all frames off that end after the durable position, and some more.
fn cut(folder: &Path, durable: u64, stolen_frames: usize) {
    let files = fs::read_dir(folder).expect("the log's folder").map(|entry| entry.expect("an entry").path());
    // Each start begins a segment; what was written since the last one is in the newest.
    let segments = files.filter(|path| path.to_string_lossy().ends_with(".incr.aof"));
    let segment = segments.max_by_key(|path| number_of(path)).expect("a segment");
    let bytes = fs::read(&segment).expect("the segment");
    let mut ends = vec![line_end(&bytes, 0)];
    let header = std::str::from_utf8(&bytes[..ends[0]]).expect("a header");
    let first = header.split(' ').nth(3).expect("a position");
    let (mut start, mut position) = (ends[0], u64::from_str_radix(first, 16).expect("a number"));
    while bytes[start..].starts_with(b"#") {
        let time_line_end = if bytes[start..].starts_with(b"#TS:") { line_end(&bytes, start) } else { start };
        let payload = line_end(&bytes, time_line_end);
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

/// Where the line ends that begins at an offset.
fn line_end(bytes: &[u8], start: usize) -> usize {
    start + bytes[start..].iter().position(|byte| *byte == b'\n').expect("a line's end") + 1
}

/// The length in an annotation: the digits of base 64 after the ten of check and checksum.
fn frame_length(line: &str) -> u64 {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digits = line.trim_end().split('.').next().and_then(|line| line.get(11..)).expect("an annotation");
    digits.chars().fold(0, |length, digit| length * 64 + DIGITS.find(digit).expect("a digit") as u64)
}
