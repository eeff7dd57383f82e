//! Another process that works for this one.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// A command that runs this very program, and ends when the thread that starts it does.
pub fn this_program() -> Command {
    let mut command = Command::new("/proc/self/exe");
    // SAFETY: between fork and exec only `prctl` is called, which is a plain system call.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        })
    };
    command
}
