//! The table of settings.

use crate::ffi::ConfigKind;
use crate::log::Options;
use std::ffi::CStr;

/// A setting; the discriminant is its index with the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// `wbl.enabled`: log and withhold. Default: yes.
    Enabled,
    /// `wbl.dir`: the log's folder, relative to the server's `dir`. Immutable. Default: wbl.
    Dir,
    /// `wbl.segment-bytes`: a segment is closed when it has reached this size. Default: 64mb. Minimum: 4kb.
    SegmentBytes,
    /// `wbl.max-pending-bytes`: when so much waits for the disk, writers wait too. Default: 256mb. Minimum: 64kb.
    MaxPendingBytes,
    /// `wbl.on-existing-log`: what to do when the module is loaded on data while the folder holds another state, or
    /// when a start finds that the log may not be the newest. Default: refuse.
    OnExistingLog,
    /// `wbl.debug-commands`: allow WBL.DEBUG. Immutable. Default: no.
    DebugCommands,
    /// `wbl.notify-keyspace-events`: publish keyspace notifications when the change is durable; letters as in the
    /// server's setting. Default: none.
    NotifyKeyspaceEvents,
    /// `wbl.on-replay-error`: what to do when a command of the log fails at the start. Default: refuse.
    OnReplayError,
    /// `wbl.max-inflight-flushes`: how many flushes of the log may be under way at a time, 1 to 16; 0 has it follow
    /// from how long they take. Immutable. Default: 0.
    MaxInflightFlushes,
    /// `wbl.commit-mode`: who makes the log durable, its own threads (async), the main thread before replies leave
    /// (inline), or whichever is better (auto). Default: auto.
    CommitMode,
    /// `wbl.io-mode`: whether the log is written through the page cache (buffered), past it where segments were written
    /// ahead (direct), or past it where that is no slower (auto). Immutable. Default: auto.
    IoMode,
    /// `wbl.checkpoint-min-bytes`: no checkpoint begins automatically before the log after the base has this size.
    /// Default: 64mb.
    CheckpointMinBytes,
    /// `wbl.checkpoint-percentage`: a checkpoint begins automatically when the log after the base has this percentage
    /// of the base's size; 0 for never. Default: 100.
    CheckpointPercentage,
    /// `wbl.on-error`: after an error of the disk the log is written to another file, and that is tried until it
    /// succeeds (retry), or the process ends (exit). Default: retry.
    OnError,
    /// `wbl.max-log-bytes`: base and log are not to take more than this; 0 for no bound. Default: 0.
    MaxLogBytes,
    /// `wbl.reserve`: hold room on the disk for the next base. Default: yes.
    Reserve,
    /// `wbl.replica-log`: log on replicas, too. Default: yes.
    ReplicaLog,
    /// `wbl.max-recovery-seconds`: a checkpoint begins automatically when a recovery would take longer; 0 for no bound.
    /// Default: 0.
    MaxRecoverySeconds,
    /// `wbl.pipelines`: the module runs pipelines for their clients while the log's threads commit (auto), or the event
    /// loop waits for them (wait). Default: auto.
    Pipelines,
    /// `wbl.transactions`: the same for transactions that come as a whole. Default: auto.
    Transactions,
    /// `wbl.checkpoint-method`: who writes a new base, a forked child (fork), a second server that makes it of the log
    /// (process), or that where a fork takes long and there is memory for it (auto). Default: auto.
    CheckpointMethod,
    /// `wbl.keep-history-seconds`: what a base has taken the place of is kept until what it holds is so old; 0 for not
    /// at all. Default: 0.
    KeepHistorySeconds,
}

pub(super) const MEGABYTE: i64 = 1024 * 1024;

/// A setting as it is registered with the server.
pub(super) struct Entry {
    pub(super) setting: Setting,
    pub(super) name: &'static CStr,
    pub(super) immutable: bool,
    pub(super) default: Default,
}

#[derive(Clone, Copy)]
pub(super) enum Default {
    Bool(bool),
    Bytes { default: i64, min: i64, max: i64 },
    Count { default: i64, min: i64, max: i64 },
    Text(&'static str),
    Names { default: usize, names: &'static [&'static CStr] },
}

pub(super) const ENTRIES: [Entry; 22] = [
    Entry { setting: Setting::Enabled, name: c"enabled", immutable: false, default: Default::Bool(true) },
    Entry { setting: Setting::Dir, name: c"dir", immutable: true, default: Default::Text("wbl") },
    Entry {
        setting: Setting::SegmentBytes,
        name: c"segment-bytes",
        immutable: true,
        default: Default::Bytes { default: Options::SEGMENT_BYTES_DEFAULT as i64, min: 4096, max: 1 << 40 },
    },
    Entry {
        setting: Setting::MaxPendingBytes,
        name: c"max-pending-bytes",
        immutable: false,
        default: Default::Bytes { default: 256 * MEGABYTE, min: 65_536, max: 1 << 40 },
    },
    Entry {
        setting: Setting::OnExistingLog,
        name: c"on-existing-log",
        immutable: false,
        default: Default::Names { default: 0, names: &[c"refuse", c"replace", c"keep"] },
    },
    Entry { setting: Setting::DebugCommands, name: c"debug-commands", immutable: true, default: Default::Bool(false) },
    Entry {
        setting: Setting::NotifyKeyspaceEvents,
        name: c"notify-keyspace-events",
        immutable: false,
        default: Default::Text(""),
    },
    Entry {
        setting: Setting::OnReplayError,
        name: c"on-replay-error",
        immutable: false,
        default: Default::Names { default: 0, names: &[c"refuse", c"skip"] },
    },
    Entry {
        setting: Setting::MaxInflightFlushes,
        name: c"max-inflight-flushes",
        immutable: true,
        default: Default::Count { default: 0, min: 0, max: 16 },
    },
    Entry {
        setting: Setting::CommitMode,
        name: c"commit-mode",
        immutable: false,
        default: Default::Names { default: 0, names: &[c"auto", c"async", c"inline"] },
    },
    Entry {
        setting: Setting::IoMode,
        name: c"io-mode",
        immutable: true,
        default: Default::Names { default: 0, names: &[c"auto", c"buffered", c"direct"] },
    },
    Entry {
        setting: Setting::CheckpointMinBytes,
        name: c"checkpoint-min-bytes",
        immutable: false,
        default: Default::Bytes { default: 64 * MEGABYTE, min: 0, max: i64::MAX },
    },
    Entry {
        setting: Setting::CheckpointPercentage,
        name: c"checkpoint-percentage",
        immutable: false,
        default: Default::Count { default: 100, min: 0, max: i32::MAX as i64 },
    },
    Entry {
        setting: Setting::OnError,
        name: c"on-error",
        immutable: false,
        default: Default::Names { default: 0, names: &[c"retry", c"exit"] },
    },
    Entry {
        setting: Setting::MaxLogBytes,
        name: c"max-log-bytes",
        immutable: false,
        default: Default::Bytes { default: 0, min: 0, max: i64::MAX },
    },
    Entry { setting: Setting::Reserve, name: c"reserve", immutable: false, default: Default::Bool(true) },
    Entry { setting: Setting::ReplicaLog, name: c"replica-log", immutable: false, default: Default::Bool(true) },
    Entry {
        setting: Setting::MaxRecoverySeconds,
        name: c"max-recovery-seconds",
        immutable: false,
        default: Default::Count { default: 0, min: 0, max: i32::MAX as i64 },
    },
    Entry {
        setting: Setting::Pipelines,
        name: c"pipelines",
        immutable: false,
        default: Default::Names { default: 0, names: &[c"auto", c"wait"] },
    },
    Entry {
        setting: Setting::Transactions,
        name: c"transactions",
        immutable: false,
        default: Default::Names { default: 0, names: &[c"auto", c"wait"] },
    },
    Entry {
        setting: Setting::CheckpointMethod,
        name: c"checkpoint-method",
        immutable: false,
        default: Default::Names { default: 0, names: &[c"auto", c"fork", c"process"] },
    },
    Entry {
        setting: Setting::KeepHistorySeconds,
        name: c"keep-history-seconds",
        immutable: false,
        default: Default::Count { default: 0, min: 0, max: i32::MAX as i64 },
    },
];

/// The values that it may have, for the server.
pub(super) fn kind_of(default: Default) -> ConfigKind {
    match default {
        Default::Bool(default) => ConfigKind::Bool(default),
        Default::Bytes { default, min, max } => ConfigKind::Number { default, min, max, memory: true },
        Default::Count { default, min, max } => ConfigKind::Number { default, min, max, memory: false },
        Default::Text(default) => ConfigKind::Text(default.to_string()),
        Default::Names { default, names } => ConfigKind::Enum { default, names },
    }
}
