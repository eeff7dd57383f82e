//! Questions to the server.

use crate::core::leaf::ClientId;
use crate::core::silent::Proof;
use crate::core::table::{self, Shows};
use crate::ffi::{ClientInfo, Ctx, ServerInfo, empty_socket_bytes, server_version};
use crate::module::census::{Listed, field_of};
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
    pub(super) io_threads: bool,
    /// It keeps expired keys, and takes them for missing (`import-mode`).
    pub(super) imports: bool,
    /// It removes keys to make room for commands (`maxmemory`).
    pub(super) makes_room: bool,
    /// After so long it lets other clients in while a script runs (`busy-reply-threshold`).
    pub(super) busy_after_us: u64,
    /// It publishes keyspace notifications by itself, when a change is made.
    pub(super) notifies: bool,
    /// Whether it reports each command that has run.
    pub(super) reports: Reports,
    /// Its commands.
    pub(super) commands: Commands,
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
            io_threads: has_io_threads(ctx),
            imports: imports(ctx),
            busy_after_us: busy_after_us(ctx),
            notifies: may_notify(ctx),
            makes_room: makes_room(ctx),
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

/// After how long the server lets other clients in while a script runs. Where it does not say, at once.
pub(super) fn busy_after_us(ctx: Ctx<'_>) -> u64 {
    let after_ms = setting(ctx, BUSY_THRESHOLD).and_then(|value| String::from_utf8(value).ok()?.parse::<u64>().ok());
    after_ms.map_or(0, |after_ms| after_ms.saturating_mul(1000))
}

/// The server's setting of how long it is busy before it says so.
pub(super) const BUSY_THRESHOLD: &str = "busy-reply-threshold";

/// Whether the server sends replies from threads of its own. Where it does not say, it may.
pub(super) fn has_io_threads(ctx: Ctx<'_>) -> bool {
    setting(ctx, "io-threads").is_none_or(|value| value != b"1")
}

/// Whether the server asks for a password before it serves a command that waits in a module's call: it does where the
/// default user needs one. Where it does not say, that user may.
pub(super) fn asks_calls_for_password(ctx: Ctx<'_>) -> bool {
    let is_open = || {
        let user = ctx.own().ask("ACL", [&b"GETUSER"[..], b"default"])?;
        let flags = user.element(1)?;
        let has = |wanted: &[u8]| (0..).map_while(|index| flags.element(index)).any(|flag| flag.bytes() == wanted);
        Some(has(b"on") && has(b"nopass"))
    };
    server_version(ctx) < CALLS_WITHOUT_PASSWORD_SINCE && is_open() != Some(true)
}

/// The first server that asks no call of a module's for a password.
const CALLS_WITHOUT_PASSWORD_SINCE: u32 = 0x0009_0100;

/// Whether the server keeps keys that have expired, and takes them for missing, as it waits for another one to delete
/// them. Where it does not say, it may.
pub(super) fn imports(ctx: Ctx<'_>) -> bool {
    setting(ctx, "import-mode").is_none_or(|value| value != b"no")
}

/// Whether the server removes keys to make room for commands. Where it does not say, it may.
pub(super) fn makes_room(ctx: Ctx<'_>) -> bool {
    let is_limited = setting(ctx, "maxmemory").is_none_or(|value| value != b"0");
    is_limited && setting(ctx, "maxmemory-policy").is_none_or(|value| value != b"noeviction")
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

/// A client's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// Some may still wait for its socket (its write handler is installed): more may follow before the loop's end.
    Left,
    /// The socket has taken all but the replies of this iteration.
    Sent {
        /// What it takes, if nothing waits in its buffer, and nobody but the client's own commands sends it anything.
        socket_bytes: Option<usize>,
        /// The replies of this iteration.
        reply_bytes: usize,
    },
}

/// What CLIENT LIST says of the output of these clients; nothing of those that have gone. It looks for them among all
/// clients, so that one question for several costs little more than one for each.
pub(super) fn outputs_of(ctx: Ctx<'_>, clients: &[ClientId]) -> Vec<(ClientId, Output)> {
    let ids: Vec<String> = clients.iter().map(ClientId::to_string).collect();
    let args = [&b"LIST"[..], b"ID"].into_iter().chain(ids.iter().map(String::as_bytes));
    let Some(list) = ctx.own().ask("CLIENT", args) else { return Vec::new() };
    let text = String::from_utf8_lossy(list.bytes());
    let of = |line| Some((field_of(line, "id")?.parse().ok()?, Output::parse(line, empty_socket_bytes)));
    text.lines().filter_map(of).collect()
}

impl Output {
    /// Reads a line of CLIENT LIST. `socket` says what an empty socket takes, by its descriptor.
    fn parse(line: &str, socket: impl FnOnce(i32) -> Option<usize>) -> Output {
        if line.contains(PENDING_OUTPUT) {
            return Output::Left;
        }
        let field = |name| field_of(line, name);
        let number = |name| field(name)?.trim_end().parse::<usize>().ok();
        // What comes unasked for is not counted: messages, invalidations (to RESP3 also those of other clients).
        let is_plain = field("resp").map(str::trim_end) == Some("2")
            && field("flags").is_some_and(|flags| !flags.contains(|flag| GETS_MORE.contains(flag)));
        let (reply_bytes, listed) = (number("obl"), number("oll"));
        let descriptor = field("fd").and_then(|fd| fd.parse().ok());
        let socket_bytes = match (is_plain && listed == Some(0), reply_bytes, descriptor) {
            (true, Some(_), Some(descriptor)) => socket(descriptor),
            _ => None,
        };
        Output::Sent { socket_bytes, reply_bytes: reply_bytes.unwrap_or(usize::MAX) }
    }
}

/// What CLIENT LIST says about a client: slower than `client_info`, and safe whatever executes. It raises no events.
pub(super) fn listed_client_info(ctx: Ctx<'_>, client: u64) -> Option<ClientInfo> {
    let id = client.to_string();
    let list = ctx.own().ask("CLIENT", [&b"LIST"[..], b"ID", id.as_bytes()])?;
    let line = String::from_utf8_lossy(list.bytes());
    let field = |name| field_of(&line, name);
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

/// Whether the client's EXEC depends on a key that it watches. Once one has changed the server watches none of them any
/// more, and has noted that (flag `d`) until the EXEC. Where the server does not say, it may.
pub(super) fn watches_keys(ctx: Ctx<'_>, client: u64) -> bool {
    listed_field(ctx, client, "watch").is_none_or(|count| count != "0")
        || listed_field(ctx, client, "flags").is_none_or(|flags| flags.contains('d'))
}

/// A field of a client in CLIENT LIST.
fn listed_field(ctx: Ctx<'_>, client: u64, name: &str) -> Option<String> {
    let id = client.to_string();
    let list = ctx.own().ask("CLIENT", [&b"LIST"[..], b"ID", id.as_bytes()])?;
    let line = String::from_utf8_lossy(list.bytes());
    field_of(&line, name).map(String::from)
}

/// How often the server has run a command of this name (`container|subcommand`), from clients, scripts and modules;
/// `None` where it does not say.
pub(super) fn runs_of(ctx: Ctx<'_>, name: &str) -> Option<u64> {
    calls_of(&ServerInfo::read(ctx, "commandstats")?, name)
}

/// A count of the server's, where it says it.
pub(super) fn count(ctx: Ctx<'_>, proof: Proof) -> Option<[u64; 2]> {
    match proof {
        Proof::Runs(name) => {
            let info = ServerInfo::read(ctx, "commandstats")?;
            let failed = number_of(&info, name, "failed_calls=")?;
            Some([calls_of(&info, name)?.checked_sub(failed)?, 0])
        }
        Proof::Changes => {
            // Changes are counted from the last time that the server saved them.
            let info = ServerInfo::read(ctx, "persistence")?;
            Some([info.unsigned("rdb_changes_since_last_save")?, info.unsigned("rdb_saves")?])
        }
        Proof::None => None,
    }
}

/// How CLIENT LIST shows a client with a write handler.
const PENDING_OUTPUT: &str = " events=rw";

/// How it shows clients that get more than the replies to their own commands: monitors, replicas, primaries,
/// subscribers, those that track or wait.
const GETS_MORE: &str = "OSMPtRBbAc";

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

/// Whether the dataset has changed since the server saved it, or loaded it from its RDB file.
pub(super) fn has_unsaved_changes(ctx: Ctx<'_>) -> bool {
    let info = ServerInfo::read(ctx, "persistence");
    info.and_then(|info| info.unsigned("rdb_changes_since_last_save")).is_none_or(|count| count > 0)
}

/// How much of the server's own AOF is still to be written.
pub(super) fn unwritten_aof_bytes(ctx: Ctx<'_>) -> u64 {
    ServerInfo::read(ctx, "persistence").and_then(|info| info.unsigned("aof_buffer_length")).unwrap_or(0)
}

/// Whether the server is a replica whose primary has brought it up to date, and still does.
pub(super) fn follows_primary(ctx: Ctx<'_>) -> bool {
    let link = ServerInfo::read(ctx, "replication").and_then(|info| info.text("master_link_status"));
    link.as_deref() == Some("up")
}

/// Whether the server writes an AOF of its own.
pub(super) fn has_own_aof(ctx: Ctx<'_>) -> bool {
    ServerInfo::read(ctx, "persistence").and_then(|info| info.unsigned("aof_enabled")) == Some(1)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_socket_has_room_for_replies_alone() {
        let line = |change: (&str, &str)| {
            "id=7 addr= fd=9 flags=U db=0 obl=5 oll=0 omem=0 events=r cmd=set resp=2\n".replace(change.0, change.1)
        };
        let of = |change| Output::parse(&line(change), |descriptor| (descriptor == 9).then_some(4096));
        assert_eq!(of(("", "")), Output::Sent { socket_bytes: Some(4096), reply_bytes: 5 });
        assert_eq!(of(("events=r", "events=rw")), Output::Left);
        for change in
            [("fd=9", "fd=8"), ("flags=U", "flags=UP"), ("oll=0", "oll=1"), ("resp=2", "resp=3"), ("obl", "x")]
        {
            assert!(matches!(of(change), Output::Sent { socket_bytes: None, .. }), "{change:?}");
        }
    }
}
