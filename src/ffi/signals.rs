//! Signals to this process, and its end.

use std::sync::atomic::{AtomicBool, Ordering};

/// Ends the process at once with this status, without the server's own exit work. Any thread.
///
/// Used when the log cannot be written: like the server's `appendfsync always`, the process ends rather than
/// acknowledge.
pub fn exit_now(status: i32) -> ! {
    crate::machine::exit(status);
    // SAFETY: `_exit` takes no pointers and does not return; no destructor or atexit handler runs, which is the point.
    unsafe { libc::_exit(status) }
}

/// Stops the whole process until it gets SIGCONT. Any thread.
pub fn stop_process() {
    signal_process(libc::SIGSTOP);
}

/// Ends the process as `kill -9` does. Any thread.
pub fn kill_process() {
    signal_process(libc::SIGKILL);
}

fn signal_process(signal: i32) {
    // To this thread, so that it takes effect before the thread goes on. It stops or ends all of them.
    // SAFETY: takes a number only.
    unsafe { libc::raise(signal) };
}

/// Whether SIGXFSZ is ignored because of this module.
static IGNORES_FILE_SIZE: AtomicBool = AtomicBool::new(false);

/// Makes a write beyond the process's limit of file sizes (`ulimit -f`) fail with an error, as on a full disk, in all
/// threads and children. By default the system ends the process, without a line in any log.
pub fn survive_file_size_limit() {
    if set_disposition(libc::SIG_DFL, libc::SIG_IGN) {
        IGNORES_FILE_SIZE.store(true, Ordering::Relaxed);
    }
}

/// Undoes [`survive_file_size_limit`].
pub fn forget_file_size_limit() {
    if IGNORES_FILE_SIZE.swap(false, Ordering::Relaxed) {
        set_disposition(libc::SIG_IGN, libc::SIG_DFL);
    }
}

/// Sets what SIGXFSZ does, if that is `from` now.
fn set_disposition(from: libc::sighandler_t, to: libc::sighandler_t) -> bool {
    // SAFETY: all zeros is a `sigaction`: plain numbers, an empty set and null pointers.
    let (mut found, mut wanted): (libc::sigaction, libc::sigaction) = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to values that live beyond the calls. No handler is installed, so that no code runs in
    // a signal's context.
    unsafe {
        if libc::sigaction(libc::SIGXFSZ, std::ptr::null(), &raw mut found) != 0 || found.sa_sigaction != from {
            return false;
        }
        wanted.sa_sigaction = to;
        libc::sigaction(libc::SIGXFSZ, &raw const wanted, std::ptr::null_mut()) == 0
    }
}
