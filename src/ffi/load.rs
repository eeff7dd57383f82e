//! Saving and loading a whole dataset.

use super::context::Ctx;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};
use valkey_module::raw;

/// What became of a forked child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildResult {
    /// It exited with this status.
    Exited(i32),
    /// A signal ended it.
    Killed(i32),
}

/// The child that was forked last; 0 before any.
static LAST_CHILD: AtomicI32 = AtomicI32::new(0);

/// Forks a child that runs `work` and exits with its status; the parent gets the child's pid, and later the fork-done
/// callback. `None` when the server refused (another child runs).
pub fn fork_child(work: impl FnOnce() -> i32) -> Option<i32> {
    let parent = std::process::id();
    // SAFETY: called on the main thread (callers hold a Ctx); the callback is a shell with the server's signature,
    // without private data.
    let pid = unsafe { api!(ValkeyModule_Fork)(Some(super::shells::fork_done as _), std::ptr::null_mut()) };
    match pid {
        0 => {
            if !dies_with_parent(parent) {
                super::exit_now(102);
            }
            let status = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or(101);
            // SAFETY: this is the child; the call ends it.
            unsafe { api!(ValkeyModule_ExitFromChild)(status) };
            super::exit_now(status)
        }
        pid if pid > 0 => {
            LAST_CHILD.store(pid, Ordering::Relaxed);
            crate::machine::run_child(work);
            Some(pid)
        }
        _ => None,
    }
}

/// Makes this process, a child, end when its parent does, however that ends; `false` when the parent has already gone.
fn dies_with_parent(parent: u32) -> bool {
    // SAFETY: a plain system call with numbers.
    let set = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } == 0;
    set && std::os::unix::process::parent_id() == parent
}

/// Ends the module's forked child, whatever it does or has stopped at, and waits for nothing. The server notices at
/// some time, and the fork-done callback follows.
pub fn kill_child(pid: i32) {
    if crate::machine::kill_child() {
        return;
    }
    // SAFETY: a plain system call with numbers. The pid is that of a child that nobody but the server's timer waits
    // for, on this thread, so that no other process has it.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// Makes the server forget the child that was forked last, for which it still waits if no fork-done callback came: none
/// follows. Waits until it is dead, so it must have been ended before.
pub fn forget_child() {
    let pid = LAST_CHILD.swap(0, Ordering::Relaxed);
    // SAFETY: takes a pid only; one that is not the running child of a module is refused by the server.
    unsafe { api!(ValkeyModule_KillForkChild)(pid) };
}

/// Runs `work` with a stream over the file; `false` when the stream could not be made or the work failed.
fn with_stream(path: &Path, work: impl FnOnce(*mut raw::ValkeyModuleRdbStream) -> i32) -> bool {
    let Ok(name) = CString::new(path.as_os_str().as_bytes()) else { return false };
    // SAFETY: the name is NUL-terminated and copied by the server.
    let stream = unsafe { api!(ValkeyModule_RdbStreamCreateFromFile)(name.as_ptr()) };
    if stream.is_null() {
        return false;
    }
    let status = work(stream);
    // SAFETY: the stream came from RdbStreamCreateFromFile and is freed once.
    unsafe { api!(ValkeyModule_RdbStreamFree)(stream) };
    status == raw::VALKEYMODULE_OK as i32
}

/// Writes the dataset to an RDB file; for the forked child. The file is not synced.
pub fn save_rdb(ctx: Ctx<'_>, path: &Path) -> bool {
    // SAFETY: context and stream are valid over the call; there are no flags.
    with_stream(path, |stream| unsafe { api!(ValkeyModule_RdbSave)(ctx.as_raw(), stream, 0) })
}

/// Replaces the dataset with that of an RDB file (which may be a pipe). The server exits when it finds the file
/// damaged.
pub fn load_rdb(ctx: Ctx<'_>, path: &Path) -> bool {
    // SAFETY: context and stream are valid over the call; there are no flags.
    with_stream(path, |stream| unsafe { api!(ValkeyModule_RdbLoad)(ctx.as_raw(), stream, 0) })
}

/// Whether any module has a type of this name. The server answers only while this module is being loaded; at any other
/// time this is `true`.
///
/// No function says so, but a name can be taken only once. If it was free, this module has now taken it, and must not
/// be loaded.
pub fn has_module_type(ctx: Ctx<'_>, name: &CStr) -> bool {
    // SAFETY: a structure of numbers and optional functions, for which zero is "none".
    let mut methods: raw::ValkeyModuleTypeMethods = unsafe { std::mem::zeroed() };
    methods.version = u64::from(raw::VALKEYMODULE_TYPE_METHOD_VERSION);
    // SAFETY: the context is valid (type invariant), the name is NUL-terminated, and the server copies both. A server
    // that knows more versions of the structure reads no further than this one's.
    unsafe { api!(ValkeyModule_CreateDataType)(ctx.as_raw(), name.as_ptr(), 0, &raw mut methods) }.is_null()
}

/// Checks whether [`descriptor_path`] works here: a process may have no `/proc`.
///
/// # Errors
/// It does not.
pub fn check_descriptor_paths() -> io::Result<()> {
    let (reader, _writer) = io::pipe()?;
    File::open(descriptor_path(&reader)).map(drop)
}

/// A path under which this process, or a child that it forks, can open a descriptor by name: a pipe's end, or a file
/// whatever its name is now.
pub fn descriptor_path(descriptor: &impl AsRawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", descriptor.as_raw_fd()))
}
