//! The settings, `wbl.NAME`: in valkey.conf, CONFIG SET/GET/REWRITE and as arguments of `loadmodule`.

mod argument;
mod table;
mod values;

pub use table::Setting;
pub(super) use values::values;
pub use values::{number, set_folder, set_number, set_text, text, value};

use crate::core::commit::{Mode, Wish};
use crate::ffi::{ConfigKind, Ctx, load_configs, register_config};
use table::{ENTRIES, kind_of};
use values::set_default;

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

/// Whether the module may replace the log of another dataset.
pub fn replaces_existing_log() -> bool {
    value(Setting::OnExistingLog) == REPLACE
}

/// Whether the settings want a log.
pub fn is_enabled() -> bool {
    value(Setting::Enabled) != 0
}

/// Whether a start brings back the folder's log even if something is newer.
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

/// The same for their transactions.
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

/// The size at which a segment is closed.
pub fn segment_bytes() -> u64 {
    u64::try_from(value(Setting::SegmentBytes)).unwrap_or(0)
}

/// How many bytes may wait for the disk.
pub fn max_pending_bytes() -> u64 {
    u64::try_from(value(Setting::MaxPendingBytes)).unwrap_or(u64::MAX)
}

/// What base and log may take together.
pub fn max_log_bytes() -> Option<u64> {
    u64::try_from(value(Setting::MaxLogBytes)).ok().filter(|bytes| *bytes > 0)
}

/// How long a recovery may take, in milliseconds.
pub fn max_recovery_ms() -> Option<u64> {
    u64::try_from(value(Setting::MaxRecoverySeconds)).ok().filter(|seconds| *seconds > 0).map(|seconds| seconds * 1000)
}

/// How long what bases replace is kept; 0 for not at all.
pub fn keep_history_seconds() -> u64 {
    u64::try_from(value(Setting::KeepHistorySeconds)).unwrap_or(0)
}

/// Whether automatic checkpoints keep base and log within a bound.
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

/// Whether a log of this size after a base of this size is to get a new base automatically.
pub fn wants_checkpoint(log_bytes: u64, base_bytes: u64) -> bool {
    let nears_bound = max_log_bytes().is_some_and(|bound| nears_bound(log_bytes, base_bytes, bound));
    nears_bound || has_outgrown(log_bytes, base_bytes)
}

/// Whether base and log take four fifths of what they may, and the log half of what the base leaves. So a base that
/// leaves next to nothing is not written again and again.
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
