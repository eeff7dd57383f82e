//! Processes that may not make some system calls.
#![allow(unsafe_code, reason = "what runs between fork and exec, and the system's filter of calls")]

use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, c_long, sock_filter, sock_fprog};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// What systemd calls `@resources`; Debian's unit of the server forbids these.
const RESOURCES: [c_long; 8] = [
    libc::SYS_setpriority,
    libc::SYS_ioprio_set,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setscheduler,
    libc::SYS_mbind,
    libc::SYS_set_mempolicy,
];

/// Has the program end by SIGSYS when it, or a child, makes one of these calls.
pub fn forbid_resources(command: &mut Command) {
    let filter = filter(&RESOURCES);
    // SAFETY: between fork and exec only two system calls are made, with memory that the closure owns.
    unsafe { command.pre_exec(move || install(&filter)) };
}

/// Loads the number of the call, compares it with each of these, and allows it if it is none of them.
fn filter(forbidden: &[c_long]) -> Vec<sock_filter> {
    let step = |code: u32, k: u32, jf| sock_filter { code: u16::try_from(code).expect("a code"), jt: 0, jf, k };
    let end = |k| step(BPF_RET | BPF_K, k, 0);
    let mut filter = vec![step(BPF_LD | BPF_W | BPF_ABS, 0, 0)];
    for call in forbidden {
        let number = u32::try_from(*call).expect("the number of a call");
        filter.extend([step(BPF_JMP | BPF_JEQ | BPF_K, number, 1), end(libc::SECCOMP_RET_KILL_PROCESS)]);
    }
    filter.push(end(libc::SECCOMP_RET_ALLOW));
    filter
}

fn install(filter: &[sock_filter]) -> io::Result<()> {
    let len = u16::try_from(filter.len()).map_err(io::Error::other)?;
    let program = sock_fprog { len, filter: filter.as_ptr().cast_mut() };
    // SAFETY: prctl reads the program and its steps, which live until it returns.
    let results = unsafe {
        [
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
            libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program),
        ]
    };
    if results == [0, 0] { Ok(()) } else { Err(io::Error::last_os_error()) }
}
