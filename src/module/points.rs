//! Named points of the code at which a test stops or kills the process (WBL.DEBUG POINT, or the environment variable
//! `WBL_DEBUG_POINT` for the start).

use crate::ffi::{Level, kill_process, log, stop_process};
use crate::module::config::{Setting, value};
use std::sync::atomic::{AtomicU32, Ordering};

/// For a point that is passed at the start, when no command can be sent: `NAME:stop` or `NAME:kill`.
const VARIABLE: &str = "WBL_DEBUG_POINT";

/// A place in the code; the discriminant is its bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    /// The folder's state was recovered, and the log does not go on yet.
    Recovered,
    /// A new log has begun that waits for its base; nothing of it is visible.
    LogBegun,
    /// The child that writes a base is about to be forked.
    BaseFork,
    /// In that child, before it writes.
    BaseChild,
    /// In that child, when everything is written and not yet reported.
    BaseChildWritten,
    /// The child's report is here; its file is about to become the base.
    BaseWritten,
    /// The base is in place, and nobody knows yet.
    BaseInstalled,
    /// The log is about to be closed: shutdown, demotion, `wbl.enabled no`.
    LogCloses,
    /// It is closed.
    LogClosed,
    /// The folder is about to be marked as superseded.
    Supersedes,
    /// It is marked.
    Superseded,
    /// The next manifest is about to replace the present one.
    Rename,
    /// It has.
    Renamed,
    /// A file of the folder is about to be removed.
    Remove,
    /// The folder of a backup is about to be created.
    BackupBegins,
    /// A file is about to be linked into it.
    BackupLink,
    /// It is about to get its name, or to lose it.
    BackupRename,
}

const NAMES: [(&str, Point); 17] = [
    ("recovered", Point::Recovered),
    ("log-begun", Point::LogBegun),
    ("base-fork", Point::BaseFork),
    ("base-child", Point::BaseChild),
    ("base-child-written", Point::BaseChildWritten),
    ("base-written", Point::BaseWritten),
    ("base-installed", Point::BaseInstalled),
    ("log-closes", Point::LogCloses),
    ("log-closed", Point::LogClosed),
    ("supersedes", Point::Supersedes),
    ("superseded", Point::Superseded),
    ("rename", Point::Rename),
    ("renamed", Point::Renamed),
    ("remove", Point::Remove),
    ("backup-begins", Point::BackupBegins),
    ("backup-link", Point::BackupLink),
    ("backup-rename", Point::BackupRename),
];

/// What happens at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// SIGSTOP.
    Stop,
    /// SIGKILL.
    Kill,
    /// No longer anything.
    Clear,
}

static STOPS: AtomicU32 = AtomicU32::new(0);
static KILLS: AtomicU32 = AtomicU32::new(0);

/// Sets what happens at a point; `false` when there is none of this name.
pub(super) fn set(name: &[u8], action: Action) -> bool {
    let Some((_, point)) = NAMES.iter().find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes())) else {
        return false;
    };
    let bit = 1 << *point as u32;
    for (mask, on) in [(&STOPS, action == Action::Stop), (&KILLS, action == Action::Kill)] {
        if on {
            mask.fetch_or(bit, Ordering::Relaxed);
        } else {
            mask.fetch_and(!bit, Ordering::Relaxed);
        }
    }
    true
}

/// Takes over what the environment asks for, if WBL.DEBUG is allowed.
pub(super) fn set_from_environment() {
    if value(Setting::DebugCommands) == 0 {
        return;
    }
    let Ok(text) = std::env::var(VARIABLE) else { return };
    let ok = match text.rsplit_once(':') {
        Some((name, "stop")) => set(name.as_bytes(), Action::Stop),
        Some((name, "kill")) => set(name.as_bytes(), Action::Kill),
        _ => false,
    };
    if !ok {
        log(Level::Warning, &format!("{VARIABLE} names no point of the module: {text}"));
    }
}

/// Stops or kills the process if a test has asked for that. Any thread, also the forked child's, which is a process of
/// its own.
pub(super) fn reach(point: Point) {
    let bit = 1 << point as u32;
    if (STOPS.load(Ordering::Relaxed) | KILLS.load(Ordering::Relaxed)) & bit == 0 {
        return;
    }
    if KILLS.load(Ordering::Relaxed) & bit != 0 {
        kill_process();
    }
    // Once: a process that was continued must not stop again at the next base.
    STOPS.fetch_and(!bit, Ordering::Relaxed);
    stop_process();
}

/// A child was forked, which has this process's points and stops at them instead.
pub(super) fn forked() {
    let in_child = 1 << Point::BaseChild as u32 | 1 << Point::BaseChildWritten as u32;
    STOPS.fetch_and(!in_child, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::NAMES;

    #[test]
    fn names_stand_in_the_order_of_their_bits() {
        assert!(NAMES.iter().enumerate().all(|(index, (_, point))| *point as usize == index));
    }
}
