//! Ending the process.

/// Ends the process at once with this status, without the server's own exit work. Any thread.
///
/// Used when the log cannot be written: like the server's `appendfsync always`, the process ends rather than acknowledge.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: `_exit` takes no pointers and does not return; no destructor or atexit handler runs, which is the point.
    unsafe { libc::_exit(status) }
}
