//! One schedule: a life of the server, a crash, and what is there afterwards.

use crate::life::{live, quiesce};
use crate::process::{RUNNING, Running, boot, power_is_lost, report, running, update};
use crate::server::{Canary, server, violated};
use crate::truth::Truth;
use crate::workers::Report;
use crate::{exec, schedule as commands};
use std::io::PipeWriter;
use valkey_wbl::log::sim::{Random, SimDisk};
use valkey_wbl::machine;

const BEGINNING_MS: i64 = 1_700_000_000_000;

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

/// Kills the process, or takes the power away; then starts the server with what the disk has, and looks at that.
pub(super) fn crash_and_recover(quiet: bool) {
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
