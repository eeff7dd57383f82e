//! The process that a schedule runs in: its machine, its log, and its end.

use crate::api;
use crate::api::{Context, Strings};
use crate::event_loop::before_sleep;
use crate::run::crash_and_recover;
use crate::server::{Canary, Child, Server, server, set_server, violated};
use crate::workers::{ENDED, FAILED, REPORT_BYTES, Report};
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use valkey_wbl::log::Steps;
use valkey_wbl::log::sim::{Random, SimDisk};
use valkey_wbl::machine::{self, Simulated};

unsafe extern "C" {
    fn ValkeyModule_OnLoad(ctx: *mut c_void, argv: *mut *mut c_void, argc: c_int) -> c_int;
}

/// The clock, for all threads.
static NOW_MS: AtomicU64 = AtomicU64::new(0);

/// What the end of the process, or of the power, has to know.
#[derive(Clone, Copy)]
pub(super) struct Running {
    pub(super) seed: u64,
    pub(super) canary: Canary,
    pub(super) trace: bool,
    /// The disk may fail from this operation on, which the module may end the process for.
    pub(super) fault_at: Option<u64>,
    pub(super) recovering: bool,
    pub(super) crashes: u64,
    pub(super) checks: u64,
    pub(super) bases: u64,
    pub(super) reports: i32,
}

thread_local! {
    pub(super) static RUNNING: Cell<Option<Running>> = const { Cell::new(None) };
}

pub(super) fn running() -> Running {
    RUNNING.get().expect("a schedule runs")
}

pub(super) fn update(change: impl FnOnce(&mut Running)) {
    let mut state = running();
    change(&mut state);
    RUNNING.set(Some(state));
}

/// The run has failed.
pub fn fail(text: &str) -> ! {
    if running().canary == Canary::None {
        eprintln!("seed {}: {text}", running().seed);
    }
    // SAFETY: ends the process.
    unsafe { libc::_exit(FAILED) }
}

/// A line of the server's log.
pub fn log_line(line: String) {
    if RUNNING.try_with(|running| running.get().is_some()).unwrap_or(false) {
        server().note(|| format!("    log: {line}"));
        update(|running| running.bases += u64::from(line.starts_with("a new base is in place")));
        let ends = line.contains("ending the process");
        server().lines.borrow_mut().push(line.clone());
        if ends {
            if running().trace {
                eprintln!("{}", std::backtrace::Backtrace::force_capture());
            }
            violated(&line);
        }
    }
}

fn exited(status: i32) -> ! {
    server().note(|| format!("the module ends the process: {status}"));
    let state = running();
    if state.recovering {
        violated("the recovery failed");
    }
    if state.fault_at.is_none_or(|at| server().disk.borrow().operations() <= at) {
        violated("the module has ended the process without a reason");
    }
    crash_and_recover(false);
    let report = report();
    // SAFETY: the descriptor is the worker's, which ends here.
    let written = unsafe { libc::write(state.reports, report.to_bytes().as_ptr().cast(), REPORT_BYTES) };
    // SAFETY: ends the process.
    unsafe { libc::_exit(if written == REPORT_BYTES as isize { ENDED } else { FAILED }) }
}

fn child_ran(status: i32) {
    change_child(|child| child.status = status);
}

fn kill_child() {
    change_child(|child| child.signal = libc::SIGKILL);
}

fn change_child(change: impl FnOnce(&mut Child)) {
    let child = server().child.get();
    server().child.set(child.map(|mut child| {
        change(&mut child);
        child
    }));
}

/// What a client has sent and the server has not read.
fn peek(client: u64, bytes: &mut [u8]) -> usize {
    let Some(client) = server().client(client) else { return 0 };
    let sent = client.sent();
    let read =
        usize::try_from(client.read_bytes.get() - client.run_bytes.get()).expect("the server reads before it runs");
    let unread = &sent[read..];
    let len = unread.len().min(bytes.len());
    bytes[..len].copy_from_slice(&unread[..len]);
    len
}

/// Nothing more leaves for this client, which is closed at the end of the iteration.
fn shut_client(client: u64) {
    server().note(|| format!("    shut: {client}"));
    if let Some(client) = server().client(client) {
        client.close.set(true);
    }
}

fn log_begins(steps: Arc<dyn Steps>) {
    server().steps.replace(Some(steps));
}

pub(super) fn report() -> Report {
    let Running { seed, crashes, checks, bases, .. } = running();
    Report { seed, crashes, checks, bases }
}

/// The disk has come to the operation at which the power goes.
pub fn power_is_lost() -> bool {
    let state = running();
    state.fault_at.is_some_and(|at| server().disk.borrow().operations() > at) && server().power_goes.get()
}

/// A server starts with what is on the disk.
pub(super) fn boot(disk: SimDisk, seed: u64, now_ms: i64) -> &'static Server {
    let state = running();
    let server: &'static Server = Box::leak(Box::new(Server::new(disk.clone(), seed, now_ms)));
    if state.trace {
        server.trace.replace(Some(Vec::new()));
    }
    server.canary.set(state.canary);
    set_server(server);
    NOW_MS.store(now_ms as u64, Ordering::Relaxed);
    let unix_ms = || NOW_MS.load(Ordering::Relaxed);
    machine::simulate(Simulated { disk, unix_ms, exit: exited, log_begins, child_ran, kill_child, peek, shut_client });
    let segment_bytes = ["4096", "8192", "1000000"][server.below(3)];
    let in_flight = ["1", "2", "4"][server.below(3)];
    let commit_mode = ["auto", "async", "inline"][server.below(3)];
    let io_mode = ["buffered", "direct"][Random::new(seed).below(2) as usize];
    let checkpoint_bytes = ["64mb", "16kb", "0"][Random::new(seed ^ 0xba5e).below(3) as usize];
    let [pipelines, transactions] =
        [0xba7c, 0x7a75].map(|other| ["auto", "auto", "wait"][Random::new(seed ^ other).below(3) as usize]);
    server.note(|| format!("settings: {segment_bytes} {in_flight} {commit_mode} {io_mode} {checkpoint_bytes}"));
    let words = [
        ["segment-bytes", segment_bytes],
        ["max-inflight-flushes", in_flight],
        ["commit-mode", commit_mode],
        ["io-mode", io_mode],
        ["checkpoint-min-bytes", checkpoint_bytes],
        ["debug-commands", "yes"],
        ["pipelines", pipelines],
        ["transactions", transactions],
    ]
    .concat();
    let mut args = Strings::new(&words.iter().map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>());
    let context = Context::new(api::Kind::None, api::call_client());
    let argc = words.len() as c_int;
    // SAFETY: the function takes a context and arguments, which live over the call.
    let loaded = context.run(|ctx| unsafe { ValkeyModule_OnLoad(ctx, args.0.as_mut_ptr().cast(), argc) });
    if loaded != 0 {
        violated("the module does not load");
    }
    server.starting.set(false);
    before_sleep();
    server
}

pub(super) fn advance(ms: i64) {
    let s = server();
    s.now_ms.set(s.now_ms.get() + ms);
    NOW_MS.store(s.now_ms.get() as u64, Ordering::Relaxed);
}
