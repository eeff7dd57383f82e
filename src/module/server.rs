//! Questions to the server.

use crate::core::capture::Class;
use crate::core::reads::Reads;
use crate::core::table;
use crate::ffi::{ClientInfo, Ctx, Reply, ReplyKind, ServerInfo, server_version};
use crate::module::census::Listed;
use crate::rdb;
use std::collections::HashMap;

/// The first server whose hash fields can expire.
pub(super) const FIELD_EXPIRY_SINCE: u32 = 0x0009_0000;

/// How the module's own commands begin.
const OWN_COMMANDS: &str = "wbl.";

/// Whether the server holds any key or function. Where it does not say, it may.
pub(super) fn has_data(ctx: Ctx<'_>) -> bool {
    let (Some(keyspace), Some(memory)) = (ServerInfo::read(ctx, "keyspace"), ServerInfo::read(ctx, "memory")) else {
        return true;
    };
    let has_functions = memory.unsigned("number_of_libraries") != Some(0);
    has_functions || (0..database_count(ctx)).any(|db| keyspace.text(&format!("db{db}")).is_some())
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

/// The number of databases. To select one may make it, so that few are tried.
pub(super) fn database_count(ctx: Ctx<'_>) -> u32 {
    let own = ctx.own();
    let (mut some, mut none) = (0, u32::MAX / 2);
    while none - some > 1 {
        let middle = some + (none - some) / 2;
        if own.select_db(middle) { some = middle } else { none = middle }
    }
    none
}

/// The value of one of the server's settings; `None` when it does not say.
pub(super) fn setting(ctx: Ctx<'_>, name: &str) -> Option<Vec<u8>> {
    let reply = ctx.own().ask("CONFIG", [&b"GET"[..], name.as_bytes()])?;
    Some(reply.element(1)?.bytes().to_vec())
}

/// Whether the server sends replies from threads of its own. Where it does not say, it may.
pub(super) fn has_io_threads(ctx: Ctx<'_>) -> bool {
    setting(ctx, "io-threads").is_none_or(|value| value != b"1")
}

/// Whether the server keeps keys that have expired, and takes them for missing, as it waits for another one to delete
/// them. Where it does not say, it may.
pub(super) fn imports(ctx: Ctx<'_>) -> bool {
    setting(ctx, "import-mode").is_none_or(|value| value != b"no")
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

/// Whether the server is known to publish keyspace notifications by itself, when a change is made.
pub(super) fn notifies_early(ctx: Ctx<'_>) -> bool {
    setting(ctx, "notify-keyspace-events").is_some_and(|value| !value.is_empty())
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

/// All connected clients.
///
/// # Errors
/// The server does not say, or not in the known form.
pub(super) fn listed_clients(ctx: Ctx<'_>) -> Result<Vec<Listed>, String> {
    let list = ctx.own().ask("CLIENT", [&b"LIST"[..]]).ok_or_else(|| lacking("client"))?;
    let text = String::from_utf8_lossy(list.bytes());
    text.lines()
        .map(|line| Listed::parse(line).ok_or_else(|| format!("what CLIENT LIST shows is not known: {line}")))
        .collect()
}

/// Whether this is the name of a command of the module.
pub(super) fn is_own_command(name: &str) -> bool {
    name.get(..OWN_COMMANDS.len()).is_some_and(|begins| begins.eq_ignore_ascii_case(OWN_COMMANDS))
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

/// Whether output of this client may still wait for its socket (its write handler is installed): more may follow before
/// the loop's end.
pub(super) fn has_pending_output(ctx: Ctx<'_>, client: u64) -> bool {
    let id = client.to_string();
    let list = ctx.own().ask("CLIENT", [&b"LIST"[..], b"ID", id.as_bytes()]);
    list.is_none_or(|list| list.bytes().windows(PENDING_OUTPUT.len()).any(|window| window == PENDING_OUTPUT))
}

/// What CLIENT LIST tells of a client: slower than `client_info`, and safe whatever executes. It raises no events.
pub(super) fn listed_client_info(ctx: Ctx<'_>, client: u64) -> Option<ClientInfo> {
    let id = client.to_string();
    let list = ctx.own().ask("CLIENT", [&b"LIST"[..], b"ID", id.as_bytes()])?;
    let line = String::from_utf8_lossy(list.bytes());
    let field = |name: &str| line.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
    let flags = field("flags")?;
    Some(ClientInfo {
        db: field("db")?.parse().ok()?,
        in_multi: flags.contains('x'),
        blocked: flags.contains('b'),
        tracking: flags.contains('t'),
        subscribed: flags.contains('P'),
    })
}

/// How many commands the server has queued for a client since its MULTI.
pub(super) fn queued_commands(ctx: Ctx<'_>, client: u64) -> Option<usize> {
    listed_field(ctx, client, "multi")?.parse().ok()
}

/// Whether the server will close the client when it has its reply.
pub(super) fn closes_after_reply(ctx: Ctx<'_>, client: u64) -> bool {
    listed_field(ctx, client, "flags").is_some_and(|flags| flags.contains('c'))
}

/// Whether the client watches any key.
pub(super) fn watches_keys(ctx: Ctx<'_>, client: u64) -> bool {
    listed_field(ctx, client, "watch").is_some_and(|count| count != "0")
}

/// A field of a client in CLIENT LIST.
fn listed_field(ctx: Ctx<'_>, client: u64, name: &str) -> Option<String> {
    let id = client.to_string();
    let list = ctx.own().ask("CLIENT", [&b"LIST"[..], b"ID", id.as_bytes()])?;
    let line = String::from_utf8_lossy(list.bytes());
    line.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('=').map(String::from))
}

/// How often the server has run a command of this name (`container|subcommand`), from clients, scripts and modules;
/// `None` where it does not say.
pub(super) fn runs_of(ctx: Ctx<'_>, name: &str) -> Option<u64> {
    let statistics = ServerInfo::read(ctx, "commandstats")?;
    // A command that has never run is not listed.
    let Some(line) = statistics.text(&format!("cmdstat_{name}")) else { return Some(0) };
    line.strip_prefix("calls=")?.split(',').next()?.parse().ok()
}

/// How CLIENT LIST shows a client with a write handler.
const PENDING_OUTPUT: &[u8] = b" events=rw";

/// The server's own replication offset (`primary_repl_offset`; INFO still calls it `master_repl_offset`).
pub(super) fn replication_offset(ctx: Ctx<'_>) -> u64 {
    ServerInfo::read(ctx, "replication").and_then(|info| info.unsigned("master_repl_offset")).unwrap_or(0)
}

/// How many commands the server has answered with an error.
pub(super) fn error_replies(ctx: Ctx<'_>) -> Option<u64> {
    ServerInfo::read(ctx, "stats")?.unsigned("total_error_replies")
}

/// For how long a child has been saving the server's own RDB file, in seconds; `None` where none is. Where the server
/// does not say, one may have just begun.
pub(super) fn saves_for_s(ctx: Ctx<'_>) -> Option<u64> {
    let Some(info) = ServerInfo::read(ctx, "persistence") else { return Some(0) };
    match info.unsigned("rdb_bgsave_in_progress") {
        Some(0) => None,
        _ => Some(info.unsigned("rdb_current_bgsave_time_sec").unwrap_or(0)),
    }
}

/// How much of the server's own AOF is still to be written.
pub(super) fn unwritten_aof_bytes(ctx: Ctx<'_>) -> u64 {
    ServerInfo::read(ctx, "persistence").and_then(|info| info.unsigned("aof_buffer_length")).unwrap_or(0)
}

/// Whether the server writes an AOF of its own.
pub(super) fn has_own_aof(ctx: Ctx<'_>) -> bool {
    ServerInfo::read(ctx, "persistence").and_then(|info| info.unsigned("aof_enabled")) == Some(1)
}

/// How many scripts and functions have run, not counting one that runs now; `None` when the server does not say.
pub(super) fn scripts_run(ctx: Ctx<'_>) -> Option<u64> {
    let info = ServerInfo::read(ctx, "commandstats")?;
    let calls = |name: &&str| {
        let Some(text) = info.text(&format!("cmdstat_{name}")) else { return Some(0) };
        text.strip_prefix("calls=")?.split(',').next()?.parse::<u64>().ok()
    };
    SCRIPT_COMMANDS.iter().map(calls).sum()
}

/// Commands that run scripts and functions.
const SCRIPT_COMMANDS: [&str; 6] = ["eval", "eval_ro", "evalsha", "evalsha_ro", "fcall", "fcall_ro"];

/// What is known of one of the server's commands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// What it is for capture.
    pub(super) class: Class,
    /// What its reply shows.
    pub(super) reads: Reads,
    /// It may wait for a stream to change (XREAD).
    pub(super) stream_reader: bool,
    /// The number of arguments, with the name; at least so many when negative; 0 when not known.
    pub(super) arity: i64,
    /// The server marks it as a write.
    pub(super) writes: bool,
}

impl Known {
    /// A command that COMMAND did not tell of.
    pub(super) const UNKNOWN: Known =
        Known { class: Class::Opaque, reads: Reads::Nothing, stream_reader: false, arity: 0, writes: false };
    /// A command that neither shows nor changes data.
    pub(super) const HARMLESS: Known =
        Known { class: Class::ReadOnly, reads: Reads::Nothing, stream_reader: false, arity: 0, writes: false };

    /// Whether the server refuses it with so many arguments, its name among them.
    pub(super) fn refuses(self, len: usize) -> bool {
        let len = i64::try_from(len).unwrap_or(i64::MAX);
        self.arity > 0 && len != self.arity || len < -self.arity
    }

    /// Whether COMMAND did not tell of it.
    pub(super) fn is_unknown(self) -> bool {
        self.class == Class::Opaque && self.arity == 0
    }
}

/// What the module cannot work without: it reads and restores images of keys, knows clients, and knows what commands
/// are.
const NEEDED: [&str; 3] = ["dump", "restore", "client"];
/// The same where hash fields expire.
const NEEDED_WITH_FIELD_EXPIRY: [&str; 1] = ["hpexpireat"];
/// Commands that make a field of a hash expire.
const FIELD_EXPIRIES: [&str; 6] = ["hexpire", "hexpireat", "hgetex", "hpexpire", "hpexpireat", "hsetex"];
/// The same in a cluster.
const NEEDED_IN_CLUSTER: [&str; 2] = ["cluster", "module"];

/// What each of the server's commands is, by its own name in lower case: the module's table where it knows the command,
/// the server's flags elsewhere.
///
/// # Errors
/// A command that the module needs is missing.
pub(super) fn commands(ctx: Ctx<'_>) -> Result<HashMap<Vec<u8>, Known>, String> {
    let mut commands = HashMap::new();
    let none: [&[u8]; 0] = [];
    let list = ctx.own().ask("COMMAND", none).ok_or_else(|| lacking("command"))?;
    (0..list.len()).filter_map(|index| list.element(index)).for_each(|entry| add_command(&mut commands, &entry));
    let has = |name: &str| commands.contains_key(name.as_bytes());
    let expires_fields = FIELD_EXPIRIES.iter().any(|name| has(name));
    let with_field_expiry = NEEDED_WITH_FIELD_EXPIRY.iter().filter(|_| expires_fields);
    let in_cluster = NEEDED_IN_CLUSTER.iter().filter(|_| ctx.flags().in_cluster());
    if let Some(name) = NEEDED.iter().chain(with_field_expiry).chain(in_cluster).find(|name| !has(name)) {
        return Err(lacking(name));
    }
    // What cannot be logged as what it did, as the server has no command for that, is logged as what came of it.
    let can_log = |spec: &table::CommandSpec| {
        let with_fields = spec.logged_with_fields_as().iter().filter(|_| expires_fields);
        spec.logged_as().iter().chain(with_fields).all(|name| has(name))
    };
    let classes: Vec<_> = table::COMMANDS
        .iter()
        .map(|spec| (spec.name, Class::Write(if can_log(spec) { spec } else { spec.as_unknown() })))
        .collect();
    for (name, class) in classes {
        if let Some(known) = commands.get_mut(name.as_bytes()) {
            known.class = class;
        }
    }
    for (name, class) in [
        ("multi", Class::Multi),
        ("exec", Class::Exec),
        ("discard", Class::EndMulti),
        ("reset", Class::EndMulti),
        ("watch", Class::Watch),
        ("unwatch", Class::Unwatch),
        ("select", Class::Opaque),
        ("debug", Class::Opaque),
    ] {
        commands.entry(name.as_bytes().to_vec()).or_insert(Known::UNKNOWN).class = class;
    }
    Ok(commands)
}

fn lacking(name: &str) -> String {
    format!(
        "the server has no command {}, which the module needs; is it disabled by rename-command?",
        name.to_ascii_uppercase()
    )
}

/// Adds an entry of COMMAND's reply (name, arity, flags, first key, last key, step, ..., subcommands last) and its
/// subcommands.
fn add_command(commands: &mut HashMap<Vec<u8>, Known>, entry: &Reply<'_>) {
    let (Some(name), Some(flags)) = (entry.element(0), entry.element(2)) else { return };
    let has_flag =
        |wanted: &[u8]| (0..flags.len()).filter_map(|index| flags.element(index)).any(|flag| flag.bytes() == wanted);
    let number = |index| entry.element(index).map_or(0, |number| number.integer());
    let lower = String::from_utf8_lossy(name.bytes()).to_ascii_lowercase();
    let movable = has_flag(b"movablekeys");
    let own = lower.starts_with(OWN_COMMANDS);
    // Commands with neither flag change no data by themselves (PUBLISH, CLIENT...), but for scripts, functions and what
    // modules bring.
    let opaque = !own && (has_flag(b"module") || movable && !has_flag(b"readonly") || has_flag(b"write"));
    let subcommands = entry.element(9).filter(|list| list.kind() == ReplyKind::Array && !list.is_empty());
    let class = match (&subcommands, opaque) {
        (Some(_), _) => Class::Container,
        (None, true) if has_flag(b"write") && !has_flag(b"module") => {
            let spec = if has_flag(b"blocking") { &table::UNKNOWN_BLOCKING } else { &table::UNKNOWN };
            Class::Write(spec)
        }
        (None, true) => Class::Opaque,
        (None, false) => Class::ReadOnly,
    };
    let reads = if own { Reads::Nothing } else { Reads::of(&lower, number(3), number(4), number(5), movable) };
    let stream_reader = lower == "xread";
    commands.insert(
        lower.into_bytes(),
        Known { class, reads, stream_reader, arity: number(1), writes: has_flag(b"write") },
    );
    if let Some(subcommands) = subcommands {
        (0..subcommands.len())
            .filter_map(|index| subcommands.element(index))
            .for_each(|entry| add_command(commands, &entry));
    }
}
