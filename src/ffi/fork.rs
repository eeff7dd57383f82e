//! Descriptors that forked children must not inherit.
//!
//! A lock on a folder belongs to the open description, which every child shares (a snapshot, a full sync, a rewrite of the server's AOF, the module's
//! own): it would stay locked until the last of them ends, also when the server was killed long before.

use std::any::Any;
use std::os::fd::RawFd;
use std::sync::Once;
use std::sync::atomic::{AtomicI32, Ordering};

const NONE: RawFd = -1;

/// A folder has two of them, and a server one folder, or two while it changes from one to the next.
static DESCRIPTORS: [AtomicI32; 8] = [const { AtomicI32::new(NONE) }; 8];

/// The C library forgets the handler when the module is unloaded, and a module that is loaded again has a `Once` of its own.
static REGISTERED: Once = Once::new();

/// Has children not inherit a descriptor, until it is dropped, which must be before the descriptor is closed.
struct Closed(&'static AtomicI32);

impl Drop for Closed {
    fn drop(&mut self) {
        self.0.store(NONE, Ordering::SeqCst);
    }
}

/// Closes the descriptor in every child that is forked until the guard is dropped. The guard must go before the descriptor is closed.
pub fn close_in_children(descriptor: RawFd) -> Box<dyn Any + Send + Sync> {
    REGISTERED.call_once(|| {
        // SAFETY: the handler is a function without arguments that lives as long as the module, and calls `close` only.
        let status = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        assert_eq!(status, 0, "no memory for a fork handler");
    });
    let claim = |slot: &&AtomicI32| slot.compare_exchange(NONE, descriptor, Ordering::SeqCst, Ordering::SeqCst).is_ok();
    match DESCRIPTORS.iter().find(claim) {
        Some(slot) => Box::new(Closed(slot)),
        None => panic!("more folders are locked than a server can use"),
    }
}

/// Runs in each forked child before anything else does: only what is safe in a signal handler may be called.
extern "C" fn in_child() {
    for slot in &DESCRIPTORS {
        let descriptor = slot.load(Ordering::SeqCst);
        if descriptor != NONE {
            // SAFETY: a plain system call. The child has a descriptor of its own under the number, as guards go before their descriptors are closed.
            unsafe { libc::close(descriptor) };
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::fd::AsRawFd;

    /// Whether a descriptor is open in a child that is forked now.
    fn is_open_in_child(descriptor: RawFd) -> bool {
        // SAFETY: the child calls nothing but `fcntl` and `_exit`.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: plain system calls.
            unsafe { libc::_exit(i32::from(libc::fcntl(descriptor, libc::F_GETFD) >= 0)) };
        }
        let mut status = 0;
        // SAFETY: waits for the child; `status` outlives the call.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        libc::WEXITSTATUS(status) == 1
    }

    #[test]
    fn a_child_does_not_inherit_what_must_stay() {
        let (kept, other) = (std::fs::File::open("/dev/null").unwrap(), std::fs::File::open("/dev/null").unwrap());
        let guard = close_in_children(kept.as_raw_fd());
        assert!(!is_open_in_child(kept.as_raw_fd()) && is_open_in_child(other.as_raw_fd()));
        drop(guard);
        assert!(is_open_in_child(kept.as_raw_fd()));
    }
}
