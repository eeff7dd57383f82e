//! Seeds are run by processes of their own: the module ends its process where it must, and so may a schedule.

use crate::run;
use crate::server::Canary;
use std::fmt;
use std::io::{PipeReader, Read, Write};
use std::time::{Duration, Instant};

/// Exit statuses of workers.
pub const DONE: i32 = 0;
pub const FAILED: i32 = 3;
/// The schedule ended as the module's process would have; the worker cannot go on.
pub const ENDED: i32 = 4;

/// A worker runs so many seeds.
const SEEDS: u64 = 400;

/// What came of a run.
#[derive(Default)]
pub struct Outcome {
    pub schedules: u64,
    pub crashes: u64,
    pub checks: u64,
    pub failed: Vec<u64>,
    pub took: Duration,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { schedules, crashes, checks, failed, took } = self;
        let rate = *schedules as f64 / took.as_secs_f64();
        write!(
            f,
            "{schedules} schedules ({rate:.0} a second), {crashes} crashes, {checks} replies checked, {} failed",
            failed.len()
        )
    }
}

/// What a worker says about a seed: its number when it begins, what it did when it ends.
pub struct Report {
    pub seed: u64,
    pub crashes: u64,
    pub checks: u64,
}

impl Report {
    pub fn to_bytes(&self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.seed.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.crashes.to_le_bytes());
        bytes[16..].copy_from_slice(&self.checks.to_le_bytes());
        bytes
    }
}

struct Worker {
    pid: i32,
    reports: PipeReader,
    first: u64,
}

fn start(first: u64, count: u64, canary: Canary, trace: bool) -> Worker {
    let (reports, mut to_parent) = std::io::pipe().unwrap();
    // SAFETY: the child runs in this thread only, and ends without returning.
    match unsafe { libc::fork() } {
        0 => {
            drop(reports);
            for seed in first..first + count {
                let report = run::schedule(seed, canary, trace, &to_parent);
                to_parent.write_all(&report.to_bytes()).unwrap();
            }
            // SAFETY: ends the process.
            unsafe { libc::_exit(DONE) }
        }
        pid => Worker { pid, reports, first },
    }
}

/// Waits for a worker; returns its exit status and what it has reported.
fn finish(worker: Worker) -> (i32, Vec<[u8; 24]>) {
    let Worker { pid, mut reports, .. } = worker;
    let mut bytes = Vec::new();
    reports.read_to_end(&mut bytes).unwrap();
    let mut status = 0;
    // SAFETY: waits for the child.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    let status = if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -libc::WTERMSIG(status) };
    (status, bytes.as_chunks::<24>().0.to_vec())
}

/// Runs seeds for some time. Ends early when some fail.
pub fn run_for(time: Duration, first: u64, canary: Canary) -> Outcome {
    let began = Instant::now();
    let mut next = first;
    println!("seeds from {next}; WBL_SEED=N runs one again, with its trace");
    let mut outcome = Outcome::default();
    while began.elapsed() < time && outcome.failed.is_empty() {
        let workers: Vec<Worker> = (0..2).map(|at| start(next + at * SEEDS, SEEDS, canary, false)).collect();
        next += 2 * SEEDS;
        for worker in workers {
            take(worker, canary, &mut outcome, SEEDS, began + time);
        }
    }
    outcome.took = began.elapsed();
    outcome
}

fn take(worker: Worker, canary: Canary, outcome: &mut Outcome, count: u64, deadline: Instant) {
    let first = worker.first;
    let (status, reports) = finish(worker);
    let done = reports.len() as u64;
    for report in reports {
        let number = |at: usize| u64::from_le_bytes(report[at..at + 8].try_into().unwrap_or_default());
        outcome.schedules += 1;
        outcome.crashes += number(8);
        outcome.checks += number(16);
    }
    match status {
        DONE => {}
        ENDED if done < count && Instant::now() < deadline => {
            take(start(first + done, count - done, canary, false), canary, outcome, count - done, deadline);
        }
        ENDED => {}
        _ => {
            let seed = first + done;
            outcome.failed.push(seed);
            if canary == Canary::None {
                eprintln!("seed {seed} fails (status {status}); its trace:");
                finish(start(seed, 1, canary, true));
            }
        }
    }
}

/// Runs one seed, with its trace.
pub fn replay(seed: u64) {
    let (status, _) = finish(start(seed, 1, Canary::None, true));
    assert!(matches!(status, DONE | ENDED), "seed {seed} fails: status {status}");
}
