//! A server under mixed load for long, whose disk hangs and fails now and then, with checkpoints, and which is killed:
//! nothing that anybody was shown is lost, what was refused has no effect, units are whole, and neither memory nor
//! descriptors grow.
//!
//! `WBL_TIMES` multiplies the time (one of each version takes two minutes together), `WBL_SEED` sets the choices.

use crate::harness::process::children;
use crate::harness::resp::encode;
use crate::harness::{
    Injection, PATIENCE, Random, RawConnection, Server, ServerBuilder, Strace, Value, Version, each_version, wait_until,
};
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use valkey_wbl::log::sim::times;

const CLIENTS: usize = 6;
/// Of one version.
const TIME: Duration = Duration::from_secs(50);
/// Between two looks at memory and descriptors.
const ROUND: Duration = Duration::from_secs(4);
/// Between two kills.
const ROUNDS: usize = 4;
/// What the allocator may keep or not.
const SLACK_BYTES: u64 = 24 << 20;
const LONG_VALUE_BYTES: usize = 40_000;
const SCRIPT: &str = "server.call('SET', KEYS[1], ARGV[1]) server.call('SET', KEYS[2], ARGV[1]) return 1";

each_version! {
    fn a_long_mixed_load_on_a_disk_that_hangs_and_fails_loses_and_leaks_nothing(version: Version) {
        let mut random = Random::of_test(&format!("soak of {}", version.text()));
        let mut server = builder(version).start();
        let mut models: Vec<Model> = (0..CLIENTS).map(|number| Model::new(number, &mut random)).collect();
        let (begin, mut seen) = (Instant::now(), Seen::default());
        let time = TIME * u32::try_from(times()).expect("a number of times");
        while begin.elapsed() < time {
            let mut first = None;
            for _ in 0..ROUNDS {
                seen.add(&round(&server, &mut models, &mut random));
                let now = Usage::of(&server);
                first.get_or_insert(now).assert_holds(now);
            }
            kill_under_load(&mut server, &mut models);
            server.start();
            let mut control = server.raw();
            models.iter_mut().for_each(|model| model.verify(&mut control));
            seen.kills += 1;
        }
        println!("{}: {seen:?}, {:?}", version.text(), begin.elapsed());
        seen.assert_all();
    }
}

fn builder(version: Version) -> ServerBuilder {
    ServerBuilder::with_module(version)
        .set("wbl.segment-bytes", "1mb")
        .set("wbl.max-pending-bytes", "1mb")
        .allow_warning("<wbl>")
        .allow_warning("Write error while saving DB to the disk")
}

/// What has happened.
#[derive(Debug, Default)]
struct Seen {
    acknowledged: u64,
    refused: u64,
    disconnected: u64,
    hangs: u64,
    failures: u64,
    checkpoints: u64,
    kills: u64,
}

impl Seen {
    fn add(&mut self, other: &Seen) {
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.disconnected += other.disconnected;
        self.hangs += other.hangs;
        self.failures += other.failures;
        self.checkpoints += other.checkpoints;
    }

    fn assert_all(&self) {
        assert!(self.hangs > 0 && self.failures > 0 && self.checkpoints > 0 && self.kills > 0, "{self:?}");
    }
}

/// What the server takes.
#[derive(Clone, Copy, Debug)]
struct Usage {
    bytes: u64,
    descriptors: usize,
}

impl Usage {
    fn of(server: &Server) -> Usage {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.process_id())).expect("its status");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        let bytes = resident.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024;
        let folder = format!("/proc/{}/fd", server.process_id());
        Usage { bytes, descriptors: std::fs::read_dir(folder).expect("its descriptors").count() }
    }

    fn assert_holds(self, now: Usage) {
        assert!(now.bytes <= self.bytes + SLACK_BYTES, "the memory grows: {self:?}, {now:?}");
        // A segment that is written ahead or not, and one flush more or less.
        assert!(now.descriptors <= self.descriptors + 20, "descriptors are left open: {self:?}, {now:?}");
    }
}

/// What one client has done to its keys: `a` and `b`, which change together, and `list`.
struct Model {
    number: usize,
    random: Random,
    /// The last number that was sent.
    sent: u64,
    acknowledged: u64,
    /// Numbers that were refused since.
    refused: BTreeSet<u64>,
    /// The largest one that anybody was shown.
    shown: u64,
}

#[derive(PartialEq, Eq)]
enum Outcome {
    Done,
    Refused,
    Gone,
}

impl Model {
    fn new(number: usize, random: &mut Random) -> Model {
        Model { number, random: random.fork(), sent: 0, acknowledged: 0, refused: BTreeSet::new(), shown: 0 }
    }

    /// One write of the next number, in one of several ways.
    fn step(&mut self, connection: &mut RawConnection) -> Outcome {
        self.sent += 1;
        let outcome = self.write(connection).unwrap_or(Outcome::Gone);
        match outcome {
            Outcome::Done => {
                self.acknowledged = self.sent;
                self.refused.clear();
            }
            Outcome::Refused => drop(self.refused.insert(self.sent)),
            Outcome::Gone => {}
        }
        outcome
    }

    /// Commands that set both keys to the number, in one unit.
    fn commands(&mut self) -> Vec<Vec<String>> {
        let (a, b, number) = (format!("a:{}", self.number), format!("b:{}", self.number), self.sent.to_string());
        let bytes_max = if self.sent.is_multiple_of(8) { LONG_VALUE_BYTES } else { LONG_VALUE_BYTES / 40 };
        let filler = "v".repeat(self.random.below(bytes_max as u64) as usize);
        let other = format!("filler:{}:{}", self.number, self.sent % 4);
        let both = ["MSET", &a, &number, &b, &number];
        let commands: &[&[&str]] = match self.random.below(5) {
            0 => &[&["MSET", &a, &number, &other, &filler, &b, &number]],
            1 => &[&["EVAL", SCRIPT, "2", &a, &b, &number]],
            2 => &[&["MULTI"], &["SET", &a, &number], &["SET", &other, &filler], &["SET", &b, &number], &["EXEC"]],
            3 => &[&["DEL", &other], &both, &["PING"]],
            _ => &[&["GET", &a], &both, &["APPEND", &other, "x"], &["GET", &b]],
        };
        commands.iter().map(|words| words.iter().map(ToString::to_string).collect()).collect()
    }

    fn write(&mut self, connection: &mut RawConnection) -> io::Result<Outcome> {
        let commands = self.commands();
        let bytes: Vec<u8> = commands.iter().flat_map(|words| encode(words)).collect();
        connection.send_bytes(&bytes)?;
        let mut is_refused = false;
        for words in &commands {
            let is_ours = ["MSET", "EVAL", "EXEC"].contains(&words[0].as_str());
            match connection.try_reply()? {
                Value::Error(error) => {
                    let is_known = error.starts_with("MISCONF") || error.starts_with("EXECABORT");
                    assert!(is_known, "{words:?}: {error}");
                    is_refused |= is_ours;
                }
                Value::Bulk(bytes) if words[0] == "GET" => {
                    let shown: u64 = String::from_utf8_lossy(&bytes).parse().expect("a number");
                    assert!(shown >= self.shown, "{shown} after {}", self.shown);
                    self.shown = shown;
                }
                Value::Null if words[0] == "EXEC" => panic!("nothing is watched"),
                _ => {}
            }
        }
        Ok(if is_refused { Outcome::Refused } else { Outcome::Done })
    }

    /// After a kill.
    fn verify(&mut self, control: &mut RawConnection) {
        let mut of = |key: &str| match control.run(&format!("GET {key}:{}", self.number)) {
            Value::Null => 0,
            value => value.text().parse::<u64>().expect("a number"),
        };
        let (a, b) = (of("a"), of("b"));
        assert_eq!(a, b, "client {}: a unit in part", self.number);
        let least = self.acknowledged.max(self.shown);
        assert!(a >= least && a <= self.sent, "client {}: {a} is not within {least} and {}", self.number, self.sent);
        assert!(!self.refused.contains(&a), "client {}: {a} was refused", self.number);
        self.acknowledged = a;
        self.refused.clear();
    }
}

/// Ends the clients, also where the test fails.
struct StopsAtEnd<'a>(&'a AtomicBool);

impl Drop for StopsAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Clients that work until they are told to stop.
fn work(socket: &Path, models: &mut [Model], stop: &AtomicBool, disturb: impl FnOnce() -> Seen) -> Seen {
    let counts: [AtomicU64; 3] = Default::default();
    let mut seen = std::thread::scope(|scope| {
        for model in models.iter_mut() {
            let counts = &counts;
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let Ok(mut connection) = RawConnection::open(socket) else { return };
                    while !stop.load(Ordering::Relaxed) {
                        let outcome = model.step(&mut connection);
                        counts[usize::from(outcome == Outcome::Refused) + 2 * usize::from(outcome == Outcome::Gone)]
                            .fetch_add(1, Ordering::Relaxed);
                        if outcome == Outcome::Gone {
                            break;
                        }
                    }
                }
            });
        }
        let _stops = StopsAtEnd(stop);
        disturb()
    });
    seen.acknowledged = counts[0].load(Ordering::Relaxed);
    seen.refused = counts[1].load(Ordering::Relaxed);
    seen.disconnected = counts[2].load(Ordering::Relaxed);
    seen
}

/// Load, checkpoints, a disk that hangs and one that fails; returns when all is well again and nobody is connected.
fn round(server: &Server, models: &mut [Model], random: &mut Random) -> Seen {
    let stop = AtomicBool::new(false);
    let seen = work(&server.socket(), models, &stop, || {
        let (begin, mut seen, mut control) = (Instant::now(), Seen::default(), server.raw());
        while begin.elapsed() < ROUND {
            let time = Duration::from_millis(50 + random.below(400));
            match random.below(4) {
                0 => {
                    // Refused while the disk fails.
                    seen.checkpoints += u64::from(!control.call(&["WBL.CHECKPOINT"]).is_error());
                }
                1 => {
                    let gate = server.folder().join("gate");
                    std::fs::write(&gate, "").expect("a file");
                    control.send_text(&format!("WBL.DEBUG SYNC HOLD {}", gate.display()));
                    std::thread::sleep(time);
                    std::fs::remove_file(&gate).expect("the gate's file");
                    control.reply();
                    seen.hangs += 1;
                }
                2 => {
                    let error = ["EIO", "ENOSPC"][random.below(2) as usize];
                    let strace = Strace::attach(server.process_id(), Injection::Fail { error, from: 1 });
                    std::thread::sleep(time);
                    drop(strace);
                    seen.failures += 1;
                }
                _ => std::thread::sleep(time),
            }
        }
        seen
    });
    wait_until("the disk is well again", PATIENCE, || server.wbl_info("wbl_disk_error").is_empty());
    wait_until("no checkpoint is under way", PATIENCE, || {
        server.wbl_info("wbl_checkpoint_in_progress") == "0" && children(server.process_id()).is_empty()
    });
    wait_until("nobody is connected", PATIENCE, || {
        server.raw().run("CLIENT LIST").text().lines().filter(|line| !line.is_empty()).count() == 1
    });
    seen
}

fn kill_under_load(server: &mut Server, models: &mut [Model]) {
    let stop = AtomicBool::new(false);
    let socket = server.socket();
    work(&socket, models, &stop, || {
        let mut control = server.raw();
        let position = |control: &mut RawConnection| control.run("WBL.WAIT").integer();
        let begin = position(&mut control);
        wait_until("the clients write", PATIENCE, || position(&mut control) > begin + 100_000);
        stop.store(true, Ordering::Relaxed);
        server.kill9();
        Seen::default()
    });
}
