//! What the module takes from the machine it runs on: the log's storage, the clock, threads for the log, the end of the
//! process. A simulation of the whole product (`module-tests/sim`) replaces them with its own, so that a seed decides
//! what happens and when.

use crate::lock::lock;
use crate::log::Steps;
use crate::log::sim::SimDisk;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A machine that is simulated.
pub struct Simulated {
    /// Holds the log's folder.
    pub disk: SimDisk,
    /// The clock: milliseconds since the Unix epoch.
    pub unix_ms: fn() -> u64,
    /// Called instead of ending the process.
    pub exit: fn(i32) -> !,
    /// Called with the steps of the log's threads when a log begins.
    pub log_begins: fn(Arc<dyn Steps>),
    /// Called with the exit status of a forked child, which does its work when it is forked.
    pub child_ran: fn(i32),
    /// Called instead of a signal that ends the child.
    pub kill_child: fn(),
    /// Looks at what a client has sent and the server has not read.
    pub peek: fn(u64, &mut [u8]) -> usize,
    /// Called instead of shutting the socket of a client.
    pub shut_client: fn(u64),
}

static SIMULATED: Mutex<Option<Simulated>> = Mutex::new(None);

/// Spares the real machine a look at the above.
static IS_SIMULATED: AtomicBool = AtomicBool::new(false);

fn present() -> MutexGuard<'static, Option<Simulated>> {
    lock(&SIMULATED)
}

/// From here on the module runs on this machine.
pub fn simulate(machine: Simulated) {
    *present() = Some(machine);
    IS_SIMULATED.store(true, Ordering::Release);
}

/// Forgets the module, like a process that is killed: nothing of it runs any more, and nothing is written.
pub fn forget_module() {
    crate::module::forget();
}

fn simulated<T>(of: impl FnOnce(&Simulated) -> T) -> Option<T> {
    if !IS_SIMULATED.load(Ordering::Acquire) {
        return None;
    }
    present().as_ref().map(of)
}

/// The disk of a simulated machine.
pub(crate) fn disk() -> Option<SimDisk> {
    simulated(|machine| machine.disk.clone())
}

/// Wall-clock time, milliseconds since the Unix epoch.
pub(crate) fn unix_ms() -> u64 {
    if let Some(clock) = simulated(|machine| machine.unix_ms) {
        return clock();
    }
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// The same, as the server counts time-outs.
pub(crate) fn now_ms() -> i64 {
    i64::try_from(unix_ms()).unwrap_or(i64::MAX)
}

/// Microseconds since some moment, never fewer than before.
pub(crate) fn monotonic_us() -> u64 {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    if let Some(clock) = simulated(|machine| machine.unix_ms) {
        return clock().saturating_mul(1000);
    }
    u64::try_from(BEGAN.get_or_init(Instant::now).elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Ends a simulated process.
pub(crate) fn exit(status: i32) {
    if let Some(exit) = simulated(|machine| machine.exit) {
        exit(status)
    }
}

/// Runs the work of a child that has been forked on a simulated machine. A real child runs it on its own.
pub(crate) fn run_child(work: impl FnOnce() -> i32) {
    if let Some(child_ran) = simulated(|machine| machine.child_ran) {
        child_ran(work());
    }
}

/// Ends the child of a simulated machine; `false` where the machine is real.
pub(crate) fn kill_child() -> bool {
    simulated(|machine| machine.kill_child).map(|kill| kill()).is_some()
}

/// Lets nothing more leave for a client of a simulated machine; `false` where the machine is real.
pub(crate) fn shut_client(client: u64) -> bool {
    simulated(|machine| machine.shut_client).map(|shut| shut(client)).is_some()
}

/// Whether the machine is simulated.
pub(crate) fn is_simulated() -> bool {
    IS_SIMULATED.load(Ordering::Acquire)
}

/// Looks at what a client has sent through this socket and the server has not read. Returns how much that is, up to the
/// length of `bytes`.
pub(crate) fn peek(client: u64, descriptor: i32, bytes: &mut [u8]) -> usize {
    match simulated(|machine| machine.peek) {
        Some(peek) => peek(client, bytes),
        None => crate::ffi::peek(descriptor, bytes),
    }
}

/// What takes the steps of the log's threads on a simulated machine.
pub(crate) fn log_begins() -> Option<fn(Arc<dyn Steps>)> {
    simulated(|machine| machine.log_begins)
}
