//! The settings, `wbl.NAME`: in valkey.conf, CONFIG SET/GET/REWRITE and as arguments of `loadmodule`.

mod argument;

use crate::core::commit::{Mode, Wish};
use crate::core::notices::EventClasses;
use crate::ffi::{ConfigKind, Ctx, load_configs, register_config};
use crate::log::Options;
use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{PoisonError, RwLock};

/// The module's version: major * 10000 + minor * 100 + patch, from Cargo.toml.
pub const MODULE_VERSION: i32 = {
    const fn number(text: &str) -> i32 {
        let bytes = text.as_bytes();
        let (mut value, mut index) = (0, 0);
        while index < bytes.len() {
            value = value * 10 + (bytes[index] - b'0') as i32;
            index += 1;
        }
        value
    }
    number(env!("CARGO_PKG_VERSION_MAJOR")) * 10_000
        + number(env!("CARGO_PKG_VERSION_MINOR")) * 100
        + number(env!("CARGO_PKG_VERSION_PATCH"))
};

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
    /// `wbl.checkpoint-min-bytes`: no checkpoint begins by itself before the log after the base has this size. Default:
    /// 64mb.
    CheckpointMinBytes,
    /// `wbl.checkpoint-percentage`: a checkpoint begins by itself when the log after the base has so many hundredths of
    /// the base's size; 0 for never. Default: 100.
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
    /// `wbl.max-recovery-seconds`: a checkpoint begins by itself when a recovery would take longer; 0 for no bound.
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
    /// `wbl.keep-history-seconds`: what a base has taken the place of is kept until what it holds is so old; 0 for not at
    /// all. Default: 0.
    KeepHistorySeconds,
}

/// Who writes a new base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointMethod {
    /// A forked child.
    Fork,
    /// A second server, which reads the log.
    Process,
    /// Whichever is better.
    Auto,
}

/// How the log is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoMode {
    /// Whichever is better.
    Auto,
    /// Through the page cache.
    Buffered,
    /// Past the page cache.
    Direct,
}

/// The server's words for a letter that `notify-keyspace-events` does not know.
const BAD_EVENT_CLASS: &str = "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.";

/// `wbl.on-existing-log replace`.
const REPLACE: i64 = 1;

/// `wbl.on-existing-log keep`.
const KEEP: i64 = 2;

/// `wbl.on-replay-error skip`.
const SKIP: i64 = 1;

/// `wbl.commit-mode async`.
const ASYNC: i64 = 1;

/// `wbl.commit-mode inline`.
const INLINE: i64 = 2;

/// `wbl.pipelines wait`.
const WAIT: i64 = 1;

/// `wbl.on-error retry`.
const RETRY: i64 = 0;

/// `wbl.io-mode buffered`.
const BUFFERED: i64 = 1;

/// `wbl.io-mode direct`.
const DIRECT: i64 = 2;

/// `wbl.checkpoint-method fork`.
const FORK: i64 = 1;

/// `wbl.checkpoint-method process`.
const PROCESS: i64 = 2;

const MEGABYTE: i64 = 1024 * 1024;

struct Entry {
    setting: Setting,
    name: &'static CStr,
    immutable: bool,
    default: Default,
}

#[derive(Clone, Copy)]
enum Default {
    Bool(bool),
    Bytes { default: i64, min: i64, max: i64 },
    Count { default: i64, min: i64, max: i64 },
    Text(&'static str),
    Names { default: usize, names: &'static [&'static CStr] },
}

const ENTRIES: [Entry; 22] = [
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

static NUMBERS: [AtomicI64; ENTRIES.len()] = [const { AtomicI64::new(0) }; ENTRIES.len()];
static DIR: RwLock<Dir> = RwLock::new(Dir { value: String::new(), folder: None });

/// `wbl.dir`.
struct Dir {
    value: String,
    /// Where it leads to, once the module is loaded with this value.
    folder: Option<PathBuf>,
}

/// The value of a setting that is no text: a number, 0 or 1, or the index of a name.
pub fn number(index: usize) -> i64 {
    NUMBERS.get(index).map_or(0, |number| number.load(Ordering::Relaxed))
}

/// A setting's value.
pub fn value(setting: Setting) -> i64 {
    number(setting as usize)
}

/// The value of a setting that is a text.
pub fn text(index: usize) -> String {
    if index == Setting::NotifyKeyspaceEvents as usize {
        return EventClasses::from_bits(u32::try_from(number(index)).unwrap_or(0)).letters();
    }
    let Dir { value, folder } = &*DIR.read().unwrap_or_else(PoisonError::into_inner);
    folder.as_deref().and_then(|folder| path_elsewhere(value, folder)).unwrap_or_else(|| value.clone())
}

fn set_dir(value: String) {
    *DIR.write().unwrap_or_else(PoisonError::into_inner) = Dir { value, folder: None };
}

/// The folder of the log, an absolute path. `wbl.dir` leads there, however the server's `dir` changes: CONFIG REWRITE
/// writes both, and the next start must find it.
pub fn set_folder(folder: &Path) {
    DIR.write().unwrap_or_else(PoisonError::into_inner).folder = Some(folder.to_path_buf());
}

/// The folder's path, where this relative one leads elsewhere by now.
fn path_elsewhere(dir: &str, folder: &Path) -> Option<String> {
    let here = std::env::current_dir().ok()?;
    if here.join(dir) == folder { None } else { folder.to_str().map(String::from) }
}

/// All settings, by name without `wbl.`, with their values as the configuration takes them.
pub(super) fn values() -> impl Iterator<Item = (String, String)> {
    ENTRIES.iter().map(|entry| {
        let number = value(entry.setting);
        let value = match entry.default {
            Default::Bool(_) => if number != 0 { "yes" } else { "no" }.into(),
            Default::Bytes { .. } | Default::Count { .. } => number.to_string(),
            Default::Text(_) => text(entry.setting as usize),
            Default::Names { names, .. } => {
                let name = usize::try_from(number).ok().and_then(|index| names.get(index));
                name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
            }
        };
        (entry.name.to_string_lossy().into_owned(), value)
    })
}

/// Whether the module may replace the log of another dataset.
pub fn replaces_existing_log() -> bool {
    value(Setting::OnExistingLog) == REPLACE
}

/// Whether the settings want a log.
pub fn is_enabled() -> bool {
    value(Setting::Enabled) != 0
}

/// Whether a start brings the folder's log back whatever is newer.
pub fn keeps_existing_log() -> bool {
    value(Setting::OnExistingLog) == KEEP
}

/// Whether a start goes on without commands of the log that fail.
pub fn skips_replay_errors() -> bool {
    value(Setting::OnReplayError) == SKIP
}

/// Who is to make the log durable.
pub fn commit_mode() -> Wish {
    match value(Setting::CommitMode) {
        ASYNC => Wish::Only(Mode::Async),
        INLINE => Wish::Only(Mode::Inline),
        _ => Wish::Auto,
    }
}

/// Whether the module runs pipelines for their clients.
pub fn collects_pipelines() -> bool {
    value(Setting::Pipelines) != WAIT
}

/// The same of their transactions.
pub fn collects_transactions() -> bool {
    value(Setting::Transactions) != WAIT
}

/// Whether the log goes on after an error of the disk.
pub fn goes_on_after_errors() -> bool {
    value(Setting::OnError) == RETRY
}

/// How the log is to be written.
pub fn io_mode() -> IoMode {
    match value(Setting::IoMode) {
        BUFFERED => IoMode::Buffered,
        DIRECT => IoMode::Direct,
        _ => IoMode::Auto,
    }
}

/// Who writes a new base.
pub fn checkpoint_method() -> CheckpointMethod {
    match value(Setting::CheckpointMethod) {
        FORK => CheckpointMethod::Fork,
        PROCESS => CheckpointMethod::Process,
        _ => CheckpointMethod::Auto,
    }
}

/// At this size a segment is left.
pub fn segment_bytes() -> u64 {
    u64::try_from(value(Setting::SegmentBytes)).unwrap_or(0)
}

/// What base and log may take together.
pub fn max_log_bytes() -> Option<u64> {
    u64::try_from(value(Setting::MaxLogBytes)).ok().filter(|bytes| *bytes > 0)
}

/// How long a recovery may take, in milliseconds.
pub fn max_recovery_ms() -> Option<u64> {
    u64::try_from(value(Setting::MaxRecoverySeconds)).ok().filter(|seconds| *seconds > 0).map(|seconds| seconds * 1000)
}

/// For how long what bases take the place of is kept; 0 for not at all.
pub fn keep_history_seconds() -> u64 {
    u64::try_from(value(Setting::KeepHistorySeconds)).unwrap_or(0)
}

/// Whether base and log are kept within a bound by checkpoints that begin by themselves.
pub fn bounds_log() -> bool {
    max_log_bytes().is_some() || max_recovery_ms().is_some()
}

/// Whether replicas log.
pub fn logs_replicas() -> bool {
    value(Setting::ReplicaLog) != 0
}

/// Whether room is held for the next base.
pub fn keeps_reserve() -> bool {
    value(Setting::Reserve) != 0
}

/// Whether a log of so many bytes after a base of so many is to get a new base by itself.
pub fn wants_checkpoint(log_bytes: u64, base_bytes: u64) -> bool {
    let nears_bound = max_log_bytes().is_some_and(|bound| nears_bound(log_bytes, base_bytes, bound));
    nears_bound || has_outgrown(log_bytes, base_bytes)
}

/// Whether base and log take four fifths of what they may, and half of what the base leaves. A base that leaves next to
/// nothing is not written again and again.
fn nears_bound(log_bytes: u64, base_bytes: u64, bound: u64) -> bool {
    let left = bound.saturating_sub(base_bytes);
    let takes = base_bytes.saturating_add(log_bytes);
    takes >= bound - bound / 5 && log_bytes >= (left / 2).max(bound / 64).max(1)
}

fn has_outgrown(log_bytes: u64, base_bytes: u64) -> bool {
    let of = |setting| u64::try_from(value(setting)).unwrap_or(0);
    let (min_bytes, percentage) = (of(Setting::CheckpointMinBytes), of(Setting::CheckpointPercentage));
    let has_grown = u128::from(log_bytes) * 100 >= u128::from(base_bytes) * u128::from(percentage);
    percentage > 0 && log_bytes >= min_bytes.max(1) && has_grown
}

/// Sets a value that is no text. The server has checked its bounds.
///
/// # Errors
/// There is no such setting.
pub fn set_number(index: usize, value: i64) -> Result<(), String> {
    let Some(number) = NUMBERS.get(index) else { return Err("no such setting".into()) };
    number.store(value, Ordering::Relaxed);
    Ok(())
}

/// Sets a value that is a text.
///
/// # Errors
/// Why the value was refused, for the client.
pub fn set_text(index: usize, value: String) -> Result<(), String> {
    if index == Setting::NotifyKeyspaceEvents as usize {
        let classes = EventClasses::parse(&value).ok_or(BAD_EVENT_CLASS)?;
        return set_number(index, i64::from(classes.bits()));
    }
    if value.is_empty() || value.contains('\0') {
        return Err("wbl.dir must name a folder".into());
    }
    set_dir(value);
    Ok(())
}

/// Registers all settings, with the arguments of `loadmodule` as their defaults, and reads the server's configuration.
///
/// # Errors
/// What is wrong, for the server's log.
pub fn register(ctx: Ctx<'_>, args: &[&[u8]]) -> Result<(), String> {
    let mut kinds: Vec<ConfigKind> = ENTRIES.iter().map(|entry| kind_of(entry.default)).collect();
    for pair in args.chunks(2) {
        let [name, value] = pair else {
            return Err(format!(
                "the argument '{}' has no value",
                String::from_utf8_lossy(pair.first().unwrap_or(&&b""[..]))
            ));
        };
        let name = String::from_utf8_lossy(name);
        let value =
            std::str::from_utf8(value).map_err(|_| format!("the value of the argument '{name}' is not UTF-8"))?;
        argument::apply(&mut kinds, &name, value)?;
    }
    for (entry, kind) in ENTRIES.iter().zip(&kinds) {
        set_default(entry.setting as usize, kind);
        if !register_config(ctx, entry.setting as usize, entry.name, entry.immutable, kind) {
            return Err(format!("the server refused the setting wbl.{}", entry.name.to_string_lossy()));
        }
    }
    if load_configs(ctx) { Ok(()) } else { Err("the server refused the value of a setting".into()) }
}

fn kind_of(default: Default) -> ConfigKind {
    match default {
        Default::Bool(default) => ConfigKind::Bool(default),
        Default::Bytes { default, min, max } => ConfigKind::Number { default, min, max, memory: true },
        Default::Count { default, min, max } => ConfigKind::Number { default, min, max, memory: false },
        Default::Text(default) => ConfigKind::Text(default.to_string()),
        Default::Names { default, names } => ConfigKind::Enum { default, names },
    }
}

fn set_default(index: usize, kind: &ConfigKind) {
    let value = match kind {
        ConfigKind::Bool(value) => i64::from(*value),
        ConfigKind::Number { default, .. } => *default,
        ConfigKind::Enum { default, .. } => i64::try_from(*default).unwrap_or(0),
        ConfigKind::Text(value) if index == Setting::NotifyKeyspaceEvents as usize => {
            EventClasses::parse(value).map_or(0, |classes| i64::from(classes.bits()))
        }
        ConfigKind::Text(value) => {
            set_dir(value.clone());
            0
        }
    };
    if let Some(number) = NUMBERS.get(index) {
        number.store(value, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::nears_bound;

    #[test]
    fn a_checkpoint_begins_before_the_bound_and_where_it_gains_room() {
        for (log, base, expected) in [
            (79, 0, false),
            (80, 0, true),
            (50, 29, false),
            (30, 50, true),
            (9, 80, false),
            (10, 80, true),
            (0, 100, false),
            (1, 100, true),
            (1, 500, true),
        ] {
            assert_eq!(nears_bound(log, base, 100), expected, "{log} after {base}");
        }
        assert!(!nears_bound(14, 2000, 1000) && nears_bound(15, 2000, 1000));
    }
}
