//! Seeds are run by processes of their own: the module ends its process where it must, and so may a schedule.

use crate::run;
use crate::server::Canary;
use std::fmt;
use std::io::{PipeReader, Read, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
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
    pub bases: u64,
    pub failed: Vec<u64>,
    pub took: Duration,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { schedules, crashes, checks, bases, failed, took } = self;
        let rate = *schedules as f64 / took.as_secs_f64();
        write!(
            f,
            "{schedules} schedules ({rate:.0} a second), {crashes} crashes, {bases} new bases, {checks} replies checked, {} failed",
            failed.len()
        )
    }
}

/// What a worker says about a seed: its number when it begins, what it did when it ends.
pub struct Report {
    pub seed: u64,
    pub crashes: u64,
    pub checks: u64,
    pub bases: u64,
}

pub const REPORT_BYTES: usize = 32;

impl Report {
    pub fn to_bytes(&self) -> [u8; REPORT_BYTES] {
        let mut bytes = [0; REPORT_BYTES];
        let numbers = [self.seed, self.crashes, self.checks, self.bases];
        bytes.as_chunks_mut().0.iter_mut().zip(numbers).for_each(|(place, number)| *place = number.to_le_bytes());
        bytes
    }
}

struct Worker {
    pid: i32,
    reports: PipeReader,
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
        pid => Worker { pid, reports },
    }
}

/// Waits for a worker; returns its exit status and what it has reported.
fn finish(worker: Worker) -> (i32, Vec<[u8; REPORT_BYTES]>) {
    let Worker { pid, mut reports } = worker;
    let mut bytes = Vec::new();
    reports.read_to_end(&mut bytes).unwrap();
    let mut status = 0;
    // SAFETY: waits for the child.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    let status = if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -libc::WTERMSIG(status) };
    (status, bytes.as_chunks::<REPORT_BYTES>().0.to_vec())
}

/// Runs seeds for some time, in one process for each processor. Ends early when some fail.
pub fn run_for(time: Duration, first: u64, canary: Canary) -> Outcome {
    let began = Instant::now();
    println!("seeds from {first}; WBL_SEED=N runs one again, with its trace");
    let (next, outcome) = (AtomicU64::new(first), Mutex::new(Outcome::default()));
    let work = || {
        while began.elapsed() < time && outcome.lock().unwrap().failed.is_empty() {
            run_some(next.fetch_add(SEEDS, Ordering::Relaxed), canary, &outcome, began + time);
        }
    };
    std::thread::scope(|scope| {
        let count = std::thread::available_parallelism().map_or(2, usize::from);
        (0..count).for_each(|_| drop(scope.spawn(work)));
    });
    let mut outcome = outcome.into_inner().unwrap();
    outcome.took = began.elapsed();
    outcome
}

fn run_some(first: u64, canary: Canary, outcome: &Mutex<Outcome>, deadline: Instant) {
    let end = first + SEEDS;
    let mut next = first;
    while next < end && Instant::now() < deadline {
        let (status, reports) = finish(start(next, end - next, canary, false));
        next += reports.len() as u64;
        let mut outcome = outcome.lock().unwrap();
        for report in reports {
            let number = |at: usize| u64::from_le_bytes(report[at..at + 8].try_into().unwrap_or_default());
            outcome.schedules += 1;
            outcome.crashes += number(8);
            outcome.checks += number(16);
            outcome.bases += number(24);
        }
        if !matches!(status, DONE | ENDED) {
            outcome.failed.push(next);
            if canary == Canary::None {
                eprintln!("seed {next} fails (status {status}); its trace:");
                finish(start(next, 1, canary, true));
            }
            return;
        }
    }
}

/// Runs one seed, with its trace.
pub fn replay(seed: u64) {
    let (status, _) = finish(start(seed, 1, Canary::None, true));
    assert!(matches!(status, DONE | ENDED), "seed {seed} fails: status {status}");
}
