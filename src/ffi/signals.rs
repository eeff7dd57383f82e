//! Signals to this process, and its end.

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
