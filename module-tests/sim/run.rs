//! One schedule: a life of the server, a crash, and what is there afterwards.

use crate::api::{Context, Strings};
use crate::event_loop::{after_sleep, before_sleep, clients, connect, disconnect, file_events, process_input, timer};
use crate::server::{Canary, Child, Client, Server, User, Waits, server, set_server, violated};
use crate::truth::Truth;
use crate::workers::{ENDED, FAILED, REPORT_BYTES, Report};
use crate::{api, exec, schedule as commands};
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::io::PipeWriter;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use valkey_wbl::log::Steps;
use valkey_wbl::log::sim::{Effect, Random, SimDisk};
use valkey_wbl::machine::{self, Simulated};

unsafe extern "C" {
    fn ValkeyModule_OnLoad(ctx: *mut c_void, argv: *mut *mut c_void, argc: c_int) -> c_int;
}

/// The clock, for all threads.
static NOW_MS: AtomicU64 = AtomicU64::new(0);

const BEGINNING_MS: i64 = 1_700_000_000_000;

/// What the end of the process, or of the power, has to know.
#[derive(Clone, Copy)]
struct Running {
    seed: u64,
    canary: Canary,
    trace: bool,
    /// The disk may fail from this operation on, which the module may end the process for.
    fault_at: Option<u64>,
    recovering: bool,
    crashes: u64,
    checks: u64,
    bases: u64,
    reports: i32,
}

thread_local! {
    static RUNNING: Cell<Option<Running>> = const { Cell::new(None) };
}

fn running() -> Running {
    RUNNING.get().expect("a schedule runs")
}

fn update(change: impl FnOnce(&mut Running)) {
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

fn report() -> Report {
    let Running { seed, crashes, checks, bases, .. } = running();
    Report { seed, crashes, checks, bases }
}

/// The writer thread does something, or not.
pub fn writer_may_step() {
    let s = server();
    if s.chance(30) {
        step_writer(1 + s.below(3));
    }
}

fn step_writer(count: usize) {
    let steps = server().steps.borrow().clone();
    if let Some(steps) = steps {
        (0..count).for_each(|_| {
            if power_is_lost() {
                return;
            }
            let (first, which) = (server().chance(50), server().below(4));
            let flushes =
                if first { steps.flush(which) || steps.write() } else { !steps.write() && steps.flush(which) };
            server().note(|| format!("  writer steps: {flushes}"));
        });
    }
}

/// The disk has come to the operation at which the power goes.
pub fn power_is_lost() -> bool {
    let state = running();
    state.fault_at.is_some_and(|at| server().disk.borrow().operations() > at) && server().power_goes.get()
}

/// A server starts with what is on the disk.
fn boot(disk: SimDisk, seed: u64, now_ms: i64) -> &'static Server {
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

fn advance(ms: i64) {
    let s = server();
    s.now_ms.set(s.now_ms.get() + ms);
    NOW_MS.store(s.now_ms.get() as u64, Ordering::Relaxed);
}

/// Runs the schedule of a seed.
pub fn schedule(seed: u64, canary: Canary, trace: bool, reports: &PipeWriter) -> Report {
    let reports = std::os::fd::AsRawFd::as_raw_fd(reports);
    let recovering = false;
    RUNNING.set(Some(Running {
        seed,
        canary,
        trace,
        fault_at: None,
        recovering,
        crashes: 0,
        checks: 0,
        bases: 0,
        reports,
    }));
    commands::reset();
    let disk = SimDisk::new();
    boot(disk.clone(), seed, BEGINNING_MS);
    if canary == Canary::LyingDisk {
        disk.lie();
    }
    server().truth.borrow_mut().begin(&mut server().data.borrow_mut(), &server().disk.borrow());
    let lives = 1 + server().below(2);
    for _ in 0..lives {
        live();
        let mut quiet = false;
        if !power_is_lost() && server().chance(40) {
            quiesce();
            quiet = !power_is_lost();
        }
        crash_and_recover(quiet);
    }
    end_process();
    report()
}

/// The process ends; nothing of it is left.
fn end_process() {
    let s = server();
    update(|running| running.checks += s.checks.get());
    machine::forget_module();
    exec::forget(s);
}

fn live() {
    let s = server();
    for _ in 0..2 + s.below(3) {
        connect_someone();
    }
    let count = 12 + s.below(48);
    // How many things happen while the disk fails.
    let mut mended_after = None;
    if s.chance(35) {
        let at = s.disk.borrow().operations() + s.below(60) as u64;
        let effect = [Effect::None, Effect::Part, Effect::Full][s.below(3)];
        s.power_goes.set(s.chance(70));
        if s.power_goes.get() {
            s.disk.borrow().fail_from(at, libc::EIO, effect);
        } else if s.chance(60) {
            s.disk.borrow().fail_from(at, [libc::EIO, libc::ENOSPC, libc::EROFS][s.below(3)], effect);
            mended_after = Some(1 + s.below(60));
        } else {
            s.disk.borrow().fail_at(at, [libc::EIO, libc::ENOSPC][s.below(2)], effect);
        }
        update(|running| running.fault_at = Some(at));
        s.note(|| format!("the disk fails at {at}"));
    }
    for _ in 0..count {
        if power_is_lost() {
            return;
        }
        act();
        let fails = running().fault_at.is_some_and(|at| s.disk.borrow().operations() > at);
        if let Some(left) = mended_after.as_mut().filter(|_| fails) {
            *left -= 1;
            if *left == 0 {
                mend();
                mended_after = None;
            }
        }
    }
    if mended_after.is_some() && s.chance(60) {
        mend();
    }
}

fn mend() {
    server().note(|| "the disk works again".into());
    server().disk.borrow().mend();
}

fn connect_someone() -> Rc<Client> {
    let s = server();
    let user = match s.below(20) {
        0..=15 => User::Default,
        16 | 17 => User::Plain,
        18 => User::Reader,
        _ => User::Nobody,
    };
    connect(user)
}

fn act() {
    let s = server();
    let all = clients();
    match s.below(100) {
        0..=44 => {
            let Some(client) = pick(&all) else { return };
            let ids: Vec<u64> = all.iter().map(|client| client.id).collect();
            let many = if s.chance(25) { 1 + s.below(4) } else { 1 };
            for _ in 0..many {
                client.input.borrow_mut().extend(commands::next(&ids));
            }
        }
        45..=71 => iterate(60),
        72..=87 => step_writer(1 + s.below(4)),
        88 => tidy(),
        89..=93 => advance(if s.chance(85) { s.below(20) as i64 } else { 1500 }),
        94 => drop(connect_someone()),
        95 | 96 => {
            if let Some(client) = pick(&all).filter(|_| all.len() > 1) {
                disconnect(&client);
            }
        }
        97 if s.is_limited => {
            s.keys_max.set(if s.chance(50) { usize::MAX } else { 1 + s.below(6) });
            s.evicts.set(s.chance(70));
        }
        _ => {
            if let Some(client) = pick(&all) {
                process_input(&client);
            }
        }
    }
}

fn pick(clients: &[Rc<Client>]) -> Option<Rc<Client>> {
    if clients.is_empty() { None } else { Some(Rc::clone(&clients[server().below(clients.len())])) }
}

fn tidy() {
    let steps = server().steps.borrow().clone();
    if let Some(steps) = steps {
        // It may remove segments.
        let followed = server().truth.borrow_mut().follow(&server().disk.borrow());
        if let Err(text) = followed {
            violated(&text);
        }
        steps.tidy();
    }
}

/// One round of the event loop.
fn iterate(chance: u64) {
    after_sleep();
    file_events(chance);
    server().one_shots.borrow_mut().clear();
    timer();
    if !power_is_lost() {
        before_sleep();
    }
}

/// Whether a client has all that it can get now.
fn is_quiet(client: &Client) -> bool {
    let s = server();
    let waits_for_data =
        match &*client.waits.borrow() {
            None => client.input.borrow().is_empty(),
            Some(Waits::Keys { .. }) => true,
            Some(Waits::Module(..)) => s.waiting.borrow().iter().any(|other| {
                other.behalf.get() == client.id && matches!(&*other.waits.borrow(), Some(Waits::Keys { .. }))
            }),
            Some(Waits::Pause) => false,
        };
    waits_for_data && client.out.borrow().is_empty()
}

/// The disk works and nobody sends more: everybody gets what he waits for.
fn quiesce() {
    let s = server();
    s.note(|| "quiesce".into());
    if !s.power_goes.get() {
        mend();
    }
    s.keys_max.set(usize::MAX);
    let mut quiet_rounds = 0;
    for _ in 0..100 {
        if power_is_lost() {
            return;
        }
        advance(50);
        iterate(100);
        step_writer(50);
        tidy();
        quiet_rounds = if clients().iter().all(|client| is_quiet(client)) { quiet_rounds + 1 } else { 0 };
        if quiet_rounds == 4 {
            break;
        }
    }
    if running().fault_at.is_some_and(|at| s.disk.borrow().operations() > at) {
        // Where it has failed just now the module ends the process here.
        iterate(100);
        step_writer(50);
    }
    if power_is_lost() {
        return;
    }
    if running().fault_at.is_some_and(|at| s.disk.borrow().operations() > at) {
        // The module may have to notice yet that the disk has failed, and end the process.
        iterate(100);
        step_writer(50);
    }
    for client in clients() {
        let has_all = client.expected.borrow().is_empty();
        if !is_quiet(&client) || !has_all {
            violated(&format!(
                "client {} waits for ever: in {}, expects {:?}",
                client.id,
                exec::show(&client.command.borrow()),
                client.expected.borrow()
            ));
        }
    }
    let mut truth = s.truth.borrow_mut();
    if let Err(text) = truth.follow(&s.disk.borrow()) {
        drop(truth);
        violated(&text);
    }
    let (durable, units) = (truth.durable(), truth.units());
    drop(truth);
    if durable < units {
        violated(&format!("the log is at rest, and of {units} units {durable} are in it"));
    }
}

/// Kills the process, or takes the power away; then starts the server with what the disk has, and looks at that.
fn crash_and_recover(quiet: bool) {
    let before = server();
    let seed = running().seed;
    // What ran when the process ended may be there, too.
    let running_unit = before.truth.borrow_mut().close_unit(&mut before.data.borrow_mut(), false);
    before.note(|| format!("crash: unit {running_unit:?} runs"));
    let mut truth: Truth = before.truth.take();
    if let Err(text) = truth.follow(&before.disk.borrow()) {
        before.truth.replace(truth);
        violated(&text);
    }
    let (durable, units, shown) = (truth.surely_durable(), truth.units(), truth.shown);
    // What a segment holds that was given up does not count, though it may be durable.
    let has_failed = running().fault_at.is_some_and(|at| before.disk.borrow().operations() > at);
    let durable = if has_failed { durable.min(shown) } else { durable };
    let by_power = before.chance(70) || running().canary == Canary::LyingDisk;
    let image = {
        let disk = before.disk.borrow();
        let image_seed = Random::new(seed ^ units).next_u64();
        if by_power { disk.crash_image(image_seed) } else { disk.restart_image() }
    };
    let now_ms = before.now_ms.get() + if before.chance(50) { 0 } else { 100_000 };
    let memory = before.data.borrow().show();
    let trace = before.trace.take();
    end_process();
    update(|running| {
        running.crashes += 1;
        running.fault_at = None;
        running.recovering = true;
    });
    let s = boot(image, seed.wrapping_mul(31) ^ units << 1 | seed & 1, now_ms);
    if let (Some(all), Some(trace)) = (&mut *s.trace.borrow_mut(), trace) {
        let after = std::mem::take(all);
        *all = trace;
        all.push(format!("crash: by power {by_power}, quiet {quiet}"));
        all.extend(after);
    }
    update(|running| running.recovering = false);
    let digest = {
        let mut data = s.data.borrow_mut();
        data.take_changed();
        data.digest()
    };
    let found = truth.find(durable, digest);
    let is_right = found.is_some_and(|unit| unit >= shown && (!quiet || unit == units));
    if !is_right {
        let now = s.data.borrow().show();
        s.truth.replace(truth);
        violated(&format!(
            "recovered to {found:?}, of {units} units, {durable} durable, {shown} shown, quiet: {quiet}\nmemory:\n{memory}recovered:\n{now}"
        ));
    }
    s.truth.borrow_mut().begin(&mut s.data.borrow_mut(), &s.disk.borrow());
}
