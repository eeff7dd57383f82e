//! Another process that works for this one.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

/// A command that runs this very program, and ends when the thread that starts it does.
pub fn this_program() -> Command {
    let mut command = Command::new("/proc/self/exe");
    let parent = std::process::id();
    let die_with_parent = move || {
        // SAFETY: plain system calls without pointers.
        let (status, still) = unsafe { (libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL), libc::getppid()) };
        // A parent that died before the first call sends no signal.
        let ok = status == 0 && u32::try_from(still) == Ok(parent);
        if ok { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: between fork and exec only those system calls are made, which are safe there; nothing is allocated.
    unsafe { command.pre_exec(die_with_parent) };
    command
}

/// The file that this module was loaded from; `None` where the loader does not say.
pub fn this_library() -> Option<PathBuf> {
    static HERE: u8 = 0;
    // SAFETY: the structure is plain data, for which zeros are valid.
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: the address is one inside this library, and `info` is live.
    let found = unsafe { libc::dladdr((&raw const HERE).cast(), &raw mut info) } != 0;
    if !found || info.dli_fname.is_null() {
        return None;
    }
    // SAFETY: the loader's name of a loaded library is NUL-terminated and lives as long as that is loaded.
    let name = unsafe { CStr::from_ptr(info.dli_fname) };
    Some(PathBuf::from(OsStr::from_bytes(name.to_bytes())))
}
