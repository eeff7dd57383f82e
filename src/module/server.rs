//! Questions to the server.

use crate::core::silent::Proof;
use crate::core::table::{self, Shows};
use crate::ffi::{CallMode, Ctx, ServerInfo, server_version};
use crate::module::cut_commands;
use crate::module::known::{Commands, is_own_command, lacking};
use crate::rdb;

/// The first server whose hash fields can expire.
pub(super) const FIELD_EXPIRY_SINCE: u32 = 0x0009_0000;

/// What is known of the server.
#[derive(Debug)]
pub(super) struct Facts {
    /// Other modules are loaded, and may do work of their own at the end of a unit.
    pub(super) other_modules: bool,
    /// Replies can be sent by other threads at any time.
    pub(super) io_threads: IoThreads,
    /// It loses a command that comes in two parts while its client is blocked.
    pub(super) loses_cut_commands: bool,
    /// It is a node of a cluster.
    pub(super) in_cluster: bool,
    /// Its event loop sleeps no longer than this (`hz`).
    pub(super) sleeps_max_ms: i64,
    /// It keeps expired keys, and treats them as missing (`import-mode`).
    pub(super) imports: bool,
    /// It removes keys to make room for commands (`maxmemory`).
    pub(super) makes_room: bool,
    /// After this long it lets other clients in while a script runs (`busy-reply-threshold`).
    pub(super) busy_after_us: u64,
    /// It publishes keyspace notifications itself, when a change is made.
    pub(super) notifies: bool,
    /// Whether it reports each command that has run.
    pub(super) reports: Reports,
    /// It writes an append-only file of its own (`appendonly`), or is to.
    pub(super) appends: bool,
    /// Its commands.
    pub(super) commands: Commands,
}

/// Whether the server sends replies from threads of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum IoThreads {
    /// It does not.
    #[default]
    Off,
    /// It may at any time.
    On,
    /// It is to stop. Commands that they have read still run, also after BEFORE_SLEEP, where their replies are sent at
    /// once: until so many more iterations have ended.
    Stopping(u8),
}

/// In how many iterations commands that the threads have read may run after the setting: in the one in which it was
/// made after BEFORE_SLEEP, and in the next.
const STOPS_AFTER: u8 = 2;

impl IoThreads {
    /// Whether it may send replies before the end of an iteration.
    pub(super) fn may_send(self) -> bool {
        self != IoThreads::Off
    }

    /// The setting says that it has threads, or none.
    pub(super) fn set(self, has_threads: bool) -> IoThreads {
        match self {
            _ if has_threads => IoThreads::On,
            IoThreads::Off => IoThreads::Off,
            IoThreads::On | IoThreads::Stopping(_) => IoThreads::Stopping(STOPS_AFTER),
        }
    }

    /// BEFORE_SLEEP ends.
    pub(super) fn iteration_ended(self) -> IoThreads {
        match self {
            IoThreads::Stopping(left @ 2..) => IoThreads::Stopping(left - 1),
            IoThreads::Stopping(_) => IoThreads::Off,
            IoThreads::Off | IoThreads::On => self,
        }
    }
}

/// Whether the server reports each command that has run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reports {
    /// It cannot.
    Never,
    /// It can, as far as is known.
    WhenAsked,
    /// It does now: an EXEC runs.
    Now,
}

impl Facts {
    /// Asks the server.
    ///
    /// # Errors
    /// A command that the module needs is missing.
    pub(super) fn ask(ctx: Ctx<'_>) -> Result<Facts, String> {
        Ok(Facts {
            other_modules: has_other_modules(ctx),
            loses_cut_commands: cut_commands::are_lost(server_version(ctx)),
            io_threads: IoThreads::default().set(has_io_threads(ctx)),
            in_cluster: ctx.flags().in_cluster(),
            sleeps_max_ms: sleeps_max_ms(ctx),
            imports: imports(ctx),
            busy_after_us: busy_after_us(ctx),
            notifies: may_notify(ctx),
            makes_room: makes_room(ctx),
            appends: appends(ctx),
            reports: Reports::WhenAsked,
            commands: Commands::ask(ctx)?,
        })
    }
}

/// Whether the server holds any key or function. Where it does not say, it may.
pub(super) fn has_data(ctx: Ctx<'_>) -> bool {
    let (Some(keyspace), Some(memory)) = (ServerInfo::read(ctx, "keyspace"), ServerInfo::read(ctx, "memory")) else {
        return true;
    };
    let has_functions = memory.unsigned("number_of_libraries") != Some(0);
    has_functions || (0..database_count(ctx)).any(|db| keyspace.text(&format!("db{db}")).is_some())
}

/// Whether what is in memory is a whole dataset, as far as the server knows.
///
/// # Errors
/// It is being loaded.
pub(super) fn has_loaded(ctx: Ctx<'_>) -> Result<(), String> {
    if ctx.flags().is_loading() {
        return Err("the server is loading its dataset: try again when it has".into());
    }
    Ok(())
}

/// The number of keys in all databases; `None` when the server does not say.
pub(super) fn key_count(ctx: Ctx<'_>) -> Option<u64> {
    let keyspace = ServerInfo::read(ctx, "keyspace")?;
    let of_database = |text: String| text.strip_prefix("keys=")?.split(',').next()?.parse::<u64>().ok();
    (0..database_count(ctx)).filter_map(|db| keyspace.text(&format!("db{db}"))).map(of_database).sum()
}

/// Whether the module can read what this server writes.
///
/// # Errors
/// The server writes RDB files of a version that the module does not know, or does not say which.
pub(super) fn check_rdb_version(ctx: Ctx<'_>) -> Result<(), String> {
    if server_version(ctx) < RDB_VERSION_UNKNOWN_SINCE {
        return Ok(());
    }
    // A dump of no functions is a version and a checksum.
    let dump = ctx.own().ask("FUNCTION", [&b"DUMP"[..]]);
    let version = dump.as_ref().and_then(|dump| dump.bytes().rchunks(8).nth(1)?.last_chunk::<2>());
    match version.map(|version| u16::from_le_bytes(*version)) {
        Some(version) if rdb::is_known_version(version) => Ok(()),
        Some(version) => {
            Err(format!("the server writes RDB files of version {version}, which this module does not know"))
        }
        None => Err(lacking("function")),
    }
}

/// The first server whose RDB files may be of a version that the module does not know.
const RDB_VERSION_UNKNOWN_SINCE: u32 = 0x0009_0200;

/// The number of databases. Selecting one may create it, so few are tried.
pub(super) fn database_count(ctx: Ctx<'_>) -> u32 {
    let own = ctx.own();
    let (mut some, mut none) = (0, u32::MAX / 2);
    while none - some > 1 {
        let middle = some + (none - some) / 2;
        if own.select_db(middle) { some = middle } else { none = middle }
    }
    none
}

/// The databases that have keys; where the server does not say, all of them. To select one creates it on servers from
/// 9.0 on.
pub(super) fn databases_with_keys(ctx: Ctx<'_>) -> Vec<u32> {
    let Some(keyspace) = ctx.own().ask("INFO", [&b"keyspace"[..]]) else {
        return (0..database_count(ctx)).collect();
    };
    let lines = String::from_utf8_lossy(keyspace.bytes());
    lines.lines().filter_map(|line| line.strip_prefix("db")?.split_once(':')?.0.parse().ok()).collect()
}

/// The value of one of the server's settings; `None` when it does not say.
pub(super) fn setting(ctx: Ctx<'_>, name: &str) -> Option<Vec<u8>> {
    let reply = ctx.own().ask("CONFIG", [&b"GET"[..], name.as_bytes()])?;
    Some(reply.element(1)?.bytes().to_vec())
}

/// After how long the server lets other clients in while a script runs. Where it does not say, at once.
pub(super) fn busy_after_us(ctx: Ctx<'_>) -> u64 {
    let after_ms = setting(ctx, BUSY_THRESHOLD).and_then(|value| String::from_utf8(value).ok()?.parse::<u64>().ok());
    after_ms.map_or(0, |after_ms| after_ms.saturating_mul(1000))
}

/// The server's setting for how long it is busy before it says so.
pub(super) const BUSY_THRESHOLD: &str = "busy-reply-threshold";

/// Whether the server sends replies from threads of its own. Where it does not say, it may.
pub(super) fn has_io_threads(ctx: Ctx<'_>) -> bool {
    setting(ctx, "io-threads").is_none_or(|value| value != b"1")
}

/// Runs `work` with one of the server's settings at another value, which is put back afterwards. Where the server does
/// not say what it is, it stays so.
pub(super) fn with_setting<T>(ctx: Ctx<'_>, name: &str, value: &[u8], work: impl FnOnce() -> T) -> T {
    let set = |value: &[u8]| ctx.own().call(CallMode::Internal, "CONFIG", [&b"SET"[..], name.as_bytes(), value]);
    let before = setting(ctx, name);
    if before.is_some() {
        set(value);
    }
    let result = work();
    if let Some(before) = before {
        set(&before);
    }
    result
}

/// The server's setting for how long a string may be. An AOF is loaded whatever its value.
pub(super) const STRING_BYTES: &str = "proto-max-bulk-len";

/// Its largest value.
pub(super) const STRING_BYTES_MAX: &str = "9223372036854775807";

/// How long its event loop sleeps at most: until its timer. Where the server does not say, as long as it may.
pub(super) fn sleeps_max_ms(ctx: Ctx<'_>) -> i64 {
    let hz = setting(ctx, "hz").and_then(|value| String::from_utf8(value).ok()?.parse::<i64>().ok());
    1000 / hz.unwrap_or(1).max(1)
}

/// Whether the server keeps keys that have expired, and treats them as missing, because it waits for another server to
/// delete them. Where it does not say, it may.
pub(super) fn imports(ctx: Ctx<'_>) -> bool {
    setting(ctx, "import-mode").is_none_or(|value| value != b"no")
}

/// Whether the server removes keys to make room for commands. Where it does not say, it may.
pub(super) fn makes_room(ctx: Ctx<'_>) -> bool {
    let is_limited = setting(ctx, "maxmemory").is_none_or(|value| value != b"0");
    is_limited && setting(ctx, "maxmemory-policy").is_none_or(|value| value != b"noeviction")
}

/// Whether the server writes an append-only file of its own.
pub(super) fn writes_aof(ctx: Ctx<'_>) -> bool {
    ServerInfo::read(ctx, "persistence").and_then(|info| info.unsigned("aof_enabled")) == Some(1)
}

/// How much of that file is still to be written.
pub(super) fn unwritten_aof_bytes(ctx: Ctx<'_>) -> u64 {
    ServerInfo::read(ctx, "persistence").and_then(|info| info.unsigned("aof_buffer_length")).unwrap_or(0)
}

/// Whether the server is to write an append-only file of its own. Where it does not say, it may.
pub(super) fn appends(ctx: Ctx<'_>) -> bool {
    setting(ctx, "appendonly").is_none_or(|value| value != b"no")
}

/// Whether a hash may have a field that expires.
pub(super) fn has_expiring_fields(ctx: Ctx<'_>) -> bool {
    if server_version(ctx) < FIELD_EXPIRY_SINCE {
        return false;
    }
    let Some(keyspace) = ServerInfo::read(ctx, "keyspace") else { return true };
    let databases = (0..database_count(ctx)).filter_map(|db| keyspace.text(&format!("db{db}")));
    databases.into_iter().any(|line| line.rsplit_once("keys_with_volatile_items=").is_none_or(|(_, keys)| keys != "0"))
}

/// Whether the server is known to publish keyspace notifications itself, when a change is made.
pub(super) fn notifies_early(ctx: Ctx<'_>) -> bool {
    setting(ctx, "notify-keyspace-events").is_some_and(|value| !value.is_empty())
}

/// Whether it does. Where it does not say, it may.
pub(super) fn may_notify(ctx: Ctx<'_>) -> bool {
    setting(ctx, "notify-keyspace-events").is_none_or(|value| !value.is_empty())
}

/// Whether modules are loaded besides this one and those that are part of the server. Where the server does not say,
/// they may be.
pub(super) fn has_other_modules(ctx: Ctx<'_>) -> bool {
    let known: [&[u8]; 2] = [b"wbl", b"lua"];
    let Some(list) = ctx.own().ask("MODULE", [&b"LIST"[..]]) else { return true };
    (0..list.len()).filter_map(|index| list.element(index)).any(|entry| {
        let at = (0..entry.len()).step_by(2).find(|at| entry.element(*at).is_some_and(|name| name.bytes() == b"name"));
        at.and_then(|at| entry.element(at + 1)).is_none_or(|name| !known.contains(&name.bytes()))
    })
}

/// A rule of an ACL user that names a command of the module.
///
/// # Errors
/// The server does not say.
pub(super) fn own_acl_rule(ctx: Ctx<'_>) -> Result<Option<String>, String> {
    let list = ctx.own().ask("ACL", [&b"LIST"[..]]).ok_or_else(|| lacking("acl"))?;
    let users = (0..list.len()).filter_map(|index| list.element(index));
    Ok(users.map(|user| String::from_utf8_lossy(user.bytes()).into_owned()).find_map(|user| acl_rule_of(&user)))
}

/// The first such rule in a line of ACL LIST: `user NAME RULE...`, with more rules in parentheses.
fn acl_rule_of(user: &str) -> Option<String> {
    let rules = user.split_whitespace().skip(2).map(|rule| rule.trim_matches(['(', ')']));
    let mut own = rules.filter(|rule| rule.strip_prefix(['+', '-']).is_some_and(is_own_command));
    own.next().map(String::from)
}

/// How often the server has run a command of this name (`container|subcommand`), from clients, scripts and modules;
/// `None` where it does not say.
pub(super) fn runs_of(ctx: Ctx<'_>, name: &str) -> Option<u64> {
    calls_of(&ServerInfo::read(ctx, "commandstats")?, name)
}

/// The same without those that have ended with an error.
pub(super) fn successes_of(ctx: Ctx<'_>, name: &str) -> Option<u64> {
    let info = ServerInfo::read(ctx, "commandstats")?;
    calls_of(&info, name)?.checked_sub(number_of(&info, name, "failed_calls=")?)
}

/// A count of the server's, where it reports it.
pub(super) fn count(ctx: Ctx<'_>, proof: Proof) -> Option<[u64; 2]> {
    match proof {
        Proof::Runs(name) => Some([successes_of(ctx, name)?, 0]),
        Proof::Changes => {
            // Changes are counted from the last time that the server saved them.
            let info = ServerInfo::read(ctx, "persistence")?;
            Some([info.unsigned("rdb_changes_since_last_save")?, info.unsigned("rdb_saves")?])
        }
        Proof::None => None,
    }
}

/// The server's own replication offset (`primary_repl_offset`; INFO still calls it `master_repl_offset`).
pub(super) fn replication_offset(ctx: Ctx<'_>) -> u64 {
    ServerInfo::read(ctx, "replication").and_then(|info| info.unsigned("master_repl_offset")).unwrap_or(0)
}

/// What the dataset takes in memory, in bytes: an RDB file of it takes less.
pub(super) fn dataset_bytes(ctx: Ctx<'_>) -> Option<u64> {
    ServerInfo::read(ctx, "memory")?.unsigned("used_memory_dataset")
}

/// How many commands the server has answered with an error.
pub(super) fn error_replies(ctx: Ctx<'_>) -> Option<u64> {
    ServerInfo::read(ctx, "stats")?.unsigned("total_error_replies")
}

/// How many commands of its primary or its replicas the server has refused; `None` when it does not say.
pub(super) fn refused_of_primary(ctx: Ctx<'_>) -> Option<u64> {
    ServerInfo::read(ctx, "stats")?.unsigned("unexpected_error_replies")
}

/// Whether clients may write on a replica. Where the server does not say, they may.
pub(super) fn is_writable_replica(ctx: Ctx<'_>) -> bool {
    setting(ctx, "replica-read-only").is_none_or(|value| value != b"yes")
}

/// How long a child has been saving the server's own RDB file, or the base of its AOF, in seconds; `None` where none
/// is. Where the server does not say, one may have just begun.
pub(super) fn saves_for_s(ctx: Ctx<'_>) -> Option<u64> {
    let Some(info) = ServerInfo::read(ctx, "persistence") else { return Some(0) };
    let since = |in_progress, seconds| match info.unsigned(in_progress) {
        Some(0) => None,
        _ => Some(info.unsigned(seconds).unwrap_or(0)),
    };
    since("rdb_bgsave_in_progress", "rdb_current_bgsave_time_sec")
        .or_else(|| since("aof_rewrite_in_progress", "aof_current_rewrite_time_sec"))
}

/// Whether the dataset has changed since the server saved it, or loaded it from its RDB file.
pub(super) fn has_unsaved_changes(ctx: Ctx<'_>) -> bool {
    let info = ServerInfo::read(ctx, "persistence");
    info.and_then(|info| info.unsigned("rdb_changes_since_last_save")).is_none_or(|count| count > 0)
}

/// Whether the server is a replica whose primary has brought it up to date, and still does.
pub(super) fn follows_primary(ctx: Ctx<'_>) -> bool {
    let link = ServerInfo::read(ctx, "replication").and_then(|info| info.text("master_link_status"));
    link.as_deref() == Some("up")
}

/// How many scripts and functions have run, not counting one that runs now; `None` when the server does not say.
pub(super) fn scripts_run(ctx: Ctx<'_>) -> Option<u64> {
    let info = ServerInfo::read(ctx, "commandstats")?;
    let scripts = table::COMMANDS.iter().filter(|row| matches!(row.shows, Shows::Script | Shows::FunctionCall));
    scripts.map(|row| calls_of(&info, row.name)).sum()
}

fn calls_of(statistics: &ServerInfo, name: &str) -> Option<u64> {
    number_of(statistics, name, "calls=")
}

fn number_of(statistics: &ServerInfo, name: &str, field: &str) -> Option<u64> {
    // A command that has never run is not listed.
    let Some(line) = statistics.text(&format!("cmdstat_{name}")) else { return Some(0) };
    line.split(',').find_map(|part| part.strip_prefix(field))?.parse().ok()
}
