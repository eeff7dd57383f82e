//! A simulation of the whole product: the module, under a fake server that calls it in the order of the real one, on a
//! simulated disk. A seed decides who does what and when, when a write is durable, and when the power goes; after each
//! step it is checked that nothing has left that was not durable, that clients get what a stock server sends, and after
//! each crash that all that was shown is there. See CONTRIBUTING.md for how to run it.
#![allow(missing_docs, unsafe_code, clippy::undocumented_unsafe_blocks, clippy::unwrap_used, clippy::expect_used)]
#![allow(unsafe_op_in_unsafe_fn, reason = "functions that the module calls from C")]

mod admin;
mod api;
mod checks;
mod client;
mod commands;
mod data;
mod event_loop;
mod exec;
mod functions;
mod held;
mod life;
mod other;
mod process;
mod rdb;
mod resp;
mod run;
mod schedule;
mod server;
mod table;
mod truth;
mod workers;

use server::Canary;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use valkey_wbl::log::sim::{seeds, times};

/// How long the simulation runs: 45 seconds, `WBL_TIMES` times that, or as `WBL_SIM` says (`long`, or seconds).
fn duration() -> Duration {
    match std::env::var("WBL_SIM").as_deref() {
        Ok("long") => Duration::from_secs(1200),
        Ok(seconds) => Duration::from_secs(seconds.parse().expect("WBL_SIM is long or a number of seconds")),
        Err(_) => Duration::from_secs(45 * times()),
    }
}

/// The first seed; each later schedule has the next one.
fn first_seed() -> u64 {
    match std::env::var("WBL_SIM") {
        // The long mode is for seeds that nobody has tried.
        Ok(_) => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs() * 1000),
        Err(_) => seeds(1, 1).start,
    }
}

#[test]
fn simulated_schedules_keep_the_promises() {
    if let Ok(seed) = std::env::var("WBL_SEED").as_deref().unwrap_or("random").parse() {
        return workers::replay(seed);
    }
    let outcome = workers::run_for(duration(), first_seed(), Canary::None);
    println!("{outcome}");
    assert!(outcome.failed.is_empty(), "seeds that fail: {:?}", outcome.failed);
}

/// What the simulated product does wrong breaks a promise soon.
fn assert_found_out(canary: Canary) {
    let outcome = workers::run_for(Duration::from_secs(20), 1, canary);
    assert!(!outcome.failed.is_empty(), "nobody noticed: {outcome}");
}

#[test]
fn a_disk_that_lies_about_syncs_is_found_out() {
    assert_found_out(Canary::LyingDisk);
}

#[test]
fn a_value_that_is_older_than_one_that_was_shown_is_found_out() {
    assert_found_out(Canary::StaleValue);
}

#[test]
fn a_hold_that_is_lost_is_found_out() {
    assert_found_out(Canary::LostHold);
}

#[test]
fn a_hold_of_a_half_closed_client_that_is_lost_is_found_out() {
    assert_found_out(Canary::LostHoldAtEnd);
}

#[test]
fn another_module_that_is_not_known_of_is_found_out() {
    assert_found_out(Canary::HiddenModule);
}

#[test]
fn a_pause_that_freezes_nothing_is_found_out() {
    assert_found_out(Canary::Thawed);
}
