//! Descriptors that forked children must not inherit.
//!
//! A lock on a folder belongs to the open description, which every child shares (a snapshot, a full sync, a rewrite of
//! the server's AOF, the module's own): it would stay locked until the last of them ends, even if the server was killed
//! long before.

use std::any::Any;
use std::os::fd::RawFd;
use std::sync::Once;
use std::sync::atomic::{AtomicI32, Ordering};

const NONE: RawFd = -1;

/// A folder has two of them, and a server one folder, or two while it changes from one to the next.
static DESCRIPTORS: [AtomicI32; 8] = [const { AtomicI32::new(NONE) }; 8];

/// The C library forgets the handler when the module is unloaded, and a module that is loaded again has a `Once` of its
/// own.
static REGISTERED: Once = Once::new();

/// Keeps children from inheriting a descriptor, until it is dropped, which must be before the descriptor is closed.
struct Closed(&'static AtomicI32);

impl Drop for Closed {
    fn drop(&mut self) {
        self.0.store(NONE, Ordering::SeqCst);
    }
}

/// Closes the descriptor in every child that is forked until the guard is dropped. The guard must go before the
/// descriptor is closed.
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
            // SAFETY: a plain system call. The child has a descriptor of its own under the number, as guards go before
            // their descriptors are closed.
            unsafe { libc::close(descriptor) };
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::log::{FolderStorage, Storage};
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

    /// Whether a folder can be locked while a child lives that was forked when it was locked before.
    fn is_free_beside_a_child(folder: &std::path::Path, close: bool) -> bool {
        let storage = FolderStorage::new(folder).unwrap();
        let storage = if close { storage.close_in_children(close_in_children) } else { storage };
        let lock = storage.lock().unwrap();
        let (mut alive, end) = std::io::pipe().unwrap();
        let (mut begun, begins) = std::io::pipe().unwrap();
        // SAFETY: the child calls nothing but `write`, `close`, `read` and `_exit`; it ends when the other end of the
        // pipe does.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let mut byte = 0_u8;
            // SAFETY: plain system calls; the buffer is one byte.
            unsafe {
                libc::write(begins.as_raw_fd(), (&raw const byte).cast(), 1);
                libc::close(end.as_raw_fd());
                libc::read(alive.as_raw_fd(), (&raw mut byte).cast(), 1);
                libc::_exit(0);
            }
        }
        // By then what runs first in a child has run.
        std::io::Read::read_exact(&mut begun, &mut [0]).unwrap();
        drop(lock);
        let is_free = FolderStorage::new(folder).unwrap().lock().unwrap().is_some();
        drop(end);
        std::io::Read::read_to_end(&mut alive, &mut Vec::new()).unwrap();
        // SAFETY: waits for the child, without asking for its status.
        assert_eq!(unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) }, pid);
        is_free
    }

    #[test]
    fn a_childs_life_does_not_keep_the_folder_locked() {
        let folder = std::env::temp_dir().join(format!("wbl-fork-{}", std::process::id()));
        // Also one that was forked when its descriptor was no longer, or not yet, to be closed.
        assert!(is_free_beside_a_child(&folder, false) && is_free_beside_a_child(&folder, true));
        std::fs::remove_dir_all(folder).unwrap();
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
