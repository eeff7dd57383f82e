//! Slow and failing disks, by system-call injection into a running server.

use super::process::send_signal;
use super::temp::TempDir;
use super::{PATIENCE, wait_until};
use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What becomes of the flushes of the server: fdatasync, fsync, and pwritev2, which writes past the page cache.
#[derive(Clone, Copy, Debug)]
pub enum Injection {
    /// Each one lasts this much longer.
    Delay(Duration),
    /// They fail with this error, such as `EIO`, from the nth of each thread on (the first is 1).
    Fail { error: &'static str, from: u32 },
    /// So does everything else that changes a file.
    FailChanges { error: &'static str },
    /// The first one of each thread fails with this error.
    FailOnce { error: &'static str },
    /// fdatasync and fsync report success and do nothing.
    Lie,
    /// They are as they were, but the server can fork no child, and begin no thread.
    NoFork,
    /// The same, but threads can be begun.
    NoChild,
    /// They are as they were, but the file of a new base is created so much later.
    HangBase(Duration),
}

/// The numbers of the bases that are created later.
const BASES: std::ops::Range<u32> = 1..100;

const FLUSHES: &str = "fdatasync,fsync,pwritev2";
const CHANGES: &str = "fdatasync,fsync,pwritev2,pwrite64,pwritev,renameat,renameat2,ftruncate";

/// An strace that is attached to all threads of a process, until it is dropped.
pub struct Strace {
    child: Child,
    folder: TempDir,
}

impl Strace {
    pub fn attach(process: u32, injection: Injection) -> Strace {
        let (calls, effect) = match injection {
            Injection::Delay(time) => (FLUSHES, format!("delay_exit={}", time.as_micros())),
            Injection::Fail { error, from } => (FLUSHES, format!("error={error}:when={from}+")),
            Injection::FailChanges { error } => (CHANGES, format!("error={error}:when=1+")),
            Injection::FailOnce { error } => (FLUSHES, format!("error={error}:when=1")),
            Injection::Lie => ("fdatasync,fsync", "retval=0".to_string()),
            Injection::NoFork => ("clone,clone3,fork,vfork", "error=EAGAIN".to_string()),
            Injection::NoChild => ("clone,fork,vfork", "error=ENOMEM".to_string()),
            Injection::HangBase(time) => ("openat", format!("delay_enter={}", time.as_micros())),
        };
        let mut arguments = vec![format!("-etrace={calls}"), format!("-einject={calls}:{effect}"), "-f".into()];
        if let Injection::HangBase(_) = injection {
            arguments.extend(BASES.map(|number| format!("-Ptemp-base-{number}.rdb")));
        }
        Strace::begin(process, &arguments)
    }

    /// Keeps a process, once it is dead, from being waited for until this is dropped: it has not ended for its parent,
    /// like one that is killed while it writes to a disk which does not answer.
    pub fn keep_unwaited(process: u32) -> Strace {
        let strace = Strace::begin(process, &["-etrace=none".into()]);
        send_signal(strace.child.id(), "STOP");
        strace
    }

    fn begin(process: u32, arguments: &[String]) -> Strace {
        let folder = TempDir::new();
        let messages = File::create(folder.path().join("messages")).expect("a file for strace's messages");
        let child = Command::new("strace")
            .args(arguments)
            .args(["-e", "signal=none", "-o"])
            .arg(folder.path().join("calls"))
            .args(["-p", &process.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(messages)
            .spawn()
            .expect("strace is installed (scripts/test installs it)");
        let mut strace = Strace { child, folder };
        wait_until("strace attaches to the server", PATIENCE, || {
            let messages = strace.messages();
            let ended = strace.child.try_wait().expect("strace can be waited for");
            assert!(ended.is_none(), "strace could not attach: {messages}");
            messages.contains("attached")
        });
        strace
    }

    /// The calls since the start, as strace writes them.
    pub fn calls(&self) -> String {
        fs::read_to_string(self.folder.path().join("calls")).expect("strace's output")
    }

    /// How many flushes there have been since the start.
    pub fn flush_count(&self) -> usize {
        self.calls().lines().filter(|line| line.contains("INJECTED") || line.contains("DELAYED")).count()
    }

    fn messages(&self) -> String {
        fs::read_to_string(self.folder.path().join("messages")).expect("strace's messages")
    }
}

impl Drop for Strace {
    /// The system lets go of a traced process when its tracer ends.
    fn drop(&mut self) {
        let killed = self.child.kill().and_then(|()| self.child.wait());
        if let Err(error) = killed {
            eprintln!("strace {}: {error}", self.child.id());
        }
    }
}
