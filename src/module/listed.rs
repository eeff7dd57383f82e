//! What CLIENT LIST says of clients.

use crate::core::client::Clients;
use crate::core::delayed::Delayed;
use crate::core::leaf::ClientId;
use crate::ffi::{self, CallMode, ClientInfo, Ctx};
use crate::module::known::{is_own_command, lacking};

/// A field of a client's line in CLIENT LIST.
pub(super) fn field_of<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let [value] = fields_of(line, [name]);
    value
}

/// Several of them, which are named in the order in which the server lists them: one that is not found hides those that
/// come after it.
fn fields_of<'a, const COUNT: usize>(line: &'a str, names: [&str; COUNT]) -> [Option<&'a str>; COUNT] {
    let mut values = [None; COUNT];
    let mut index = 0;
    // Far faster than `str::split`, on fields as short as these.
    for field in line.as_bytes().split(|byte| *byte == b' ') {
        let Some(name) = names.get(index) else { break };
        if let Some(value) = field.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"=")) {
            values[index] = std::str::from_utf8(value).ok();
            index += 1;
        }
    }
    values
}

/// What it says of a client that is connected when logging begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) id: u64,
    /// The command that it has sent last.
    pub(super) command: String,
    pub(super) blocked: bool,
    /// It has waited, and what it waits with may run at any time.
    pub(super) resumes: bool,
    /// A primary, a replica or a monitor.
    pub(super) is_special: bool,
    /// A primary, of whose commands the server looks up one at a time.
    pub(super) is_primary: bool,
    /// How many commands it has queued since a MULTI; `None` outside one.
    pub(super) queued: Option<u64>,
    pub(super) watches: bool,
    pub(super) tracks: bool,
    pub(super) subscribed: bool,
}

impl Listed {
    /// Reads a line; `None` where it is not of the known form.
    pub(super) fn parse(line: &str) -> Option<Listed> {
        let field = |name| field_of(line, name);
        let flags = field("flags")?;
        Some(Listed {
            id: field("id")?.parse().ok()?,
            command: field("cmd")?.into(),
            blocked: flags.contains('b'),
            resumes: flags.contains(GOES_ON),
            is_special: flags.contains(['M', 'S', 'O']),
            is_primary: flags.contains('M'),
            queued: field("multi")?.parse().ok(),
            watches: field("watch")? != "0",
            tracks: flags.contains('t'),
            subscribed: flags.contains('P'),
        })
    }

    /// Whether the server may read a command of the module for it, without any notice. `parses_ahead`: it looks up what
    /// a client has sent while that still waits in a command before it.
    pub(super) fn may_point_to_own_command(&self, parses_ahead: bool) -> bool {
        let has_sent_more = parses_ahead && (self.blocked || self.resumes) && !self.is_primary;
        has_sent_more || is_own_command(&self.command) || self.queued.is_some_and(|queued| queued > 0)
    }
}

/// What it says of these clients; nothing of those that have gone.
fn lines_of(ctx: Ctx<'_>, clients: &[ClientId]) -> Option<String> {
    let ids: Vec<String> = clients.iter().map(ClientId::to_string).collect();
    let args = [&b"LIST"[..], b"ID"].into_iter().chain(ids.iter().map(String::as_bytes));
    let list = ctx.own().ask("CLIENT", args)?;
    Some(String::from_utf8_lossy(list.bytes()).into_owned())
}

/// All connected clients.
///
/// # Errors
/// The server does not say, or not in the known form.
pub(super) fn clients(ctx: Ctx<'_>) -> Result<Vec<Listed>, String> {
    let list = ctx.own().ask("CLIENT", [&b"LIST"[..]]).ok_or_else(|| lacking("client"))?;
    let text = String::from_utf8_lossy(list.bytes());
    text.lines()
        .map(|line| Listed::parse(line).ok_or_else(|| format!("what CLIENT LIST shows is not known: {line}")))
        .collect()
}

/// Whether any of these clients waits in a command, or is about to go on. Where the server does not say, one does.
pub(super) fn any_waits(ctx: Ctx<'_>, clients: &[ClientId]) -> bool {
    let Some(text) = lines_of(ctx, clients) else { return true };
    text.lines().any(|line| field_of(line, "flags").is_none_or(|flags| flags.contains(['b', GOES_ON])))
}

/// Those of these clients that have waited and are about to go on; `None` where the server does not say.
pub(super) fn going_on(ctx: Ctx<'_>, clients: &[ClientId]) -> Option<Vec<ClientId>> {
    let text = lines_of(ctx, clients)?;
    let mut found = Vec::new();
    for line in text.lines() {
        let [client, flags] = fields_of(line, ["id", "flags"]);
        if flags?.contains(GOES_ON) {
            found.push(client?.parse().ok()?);
        }
    }
    Some(found)
}

/// Disconnects these clients at once, except for the one whose command this is.
pub(super) fn kill(ctx: Ctx<'_>, clients: &[ClientId]) {
    let ids: Vec<String> = clients.iter().map(ClientId::to_string).collect();
    let args = [&b"KILL"[..], b"ID"].into_iter().chain(ids.iter().map(String::as_bytes));
    ctx.own().call(CallMode::Internal, "CLIENT", args);
}

/// The databases that all connected clients have selected.
pub(super) fn databases(ctx: Ctx<'_>) -> Vec<(ClientId, u32)> {
    let Some(list) = ctx.own().ask("CLIENT", [&b"LIST"[..]]) else { return Vec::new() };
    let database = |line| {
        let [client, db] = fields_of(line, ["id", "db"]);
        Some((client?.parse().ok()?, db?.parse().ok()?))
    };
    String::from_utf8_lossy(list.bytes()).lines().filter_map(database).collect()
}

/// Whether a client uses RESP3. Where the server does not say, it does not.
pub(super) fn uses_resp3(ctx: Ctx<'_>, client: ClientId) -> bool {
    field(ctx, client, "resp").as_deref() == Some("3")
}

/// The replicas that are connected.
pub(super) fn replicas(ctx: Ctx<'_>) -> Vec<ClientId> {
    let Some(list) = ctx.own().ask("CLIENT", [&b"LIST"[..], b"TYPE", b"replica"]) else { return Vec::new() };
    let text = String::from_utf8_lossy(list.bytes());
    text.lines().filter_map(|line| field_of(line, "id")?.parse().ok()).collect()
}

/// The client through which the primary sends its commands.
pub(super) struct PrimaryClient {
    pub(super) client: ClientId,
    pub(super) db: u32,
    /// A transaction has begun.
    pub(super) is_queueing: bool,
    /// A command of it waits.
    pub(super) is_blocked: bool,
}

/// The primary's client, where the server has one.
pub(super) fn primary(ctx: Ctx<'_>) -> Option<PrimaryClient> {
    let list = ctx.own().ask("CLIENT", [&b"LIST"[..], b"TYPE", b"primary"])?;
    let text = String::from_utf8_lossy(list.bytes());
    let line = text.lines().next()?;
    let flags = field_of(line, "flags")?;
    Some(PrimaryClient {
        client: field_of(line, "id")?.parse().ok()?,
        db: field_of(line, "db")?.parse().ok()?,
        is_queueing: flags.contains('x'),
        is_blocked: flags.contains('b'),
    })
}

/// A client whose socket has taken everything but the replies of this iteration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) client: ClientId,
    /// Its socket's, if only the client's own commands send it anything.
    pub(super) descriptor: Option<i32>,
    /// The replies of this iteration.
    pub(super) reply_bytes: usize,
}

/// Those of these clients that have no output left. CLIENT LIST looks for them among all clients, so one question for
/// several costs little more than one for a single client.
pub(super) fn without_output(ctx: Ctx<'_>, clients: &[ClientId]) -> Vec<Sent> {
    let Some(text) = lines_of(ctx, clients) else { return Vec::new() };
    text.lines().filter_map(Sent::parse).collect()
}

/// What the server has received of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) client: ClientId,
    pub(super) descriptor: i32,
    /// How many bytes, in all.
    pub(super) bytes: u64,
    /// All of that has run.
    pub(super) is_drained: bool,
    /// There is nothing special about the client: it neither queues commands nor waits, is not a subscriber, and so on.
    pub(super) is_plain: bool,
    /// It watches keys.
    pub(super) watches: bool,
    /// The database that it has selected.
    pub(super) db: u32,
}

/// What the server has received of these clients; nothing of those that have gone.
pub(super) fn received_of(ctx: Ctx<'_>, clients: &[ClientId]) -> Vec<Received> {
    let Some(text) = lines_of(ctx, clients) else { return Vec::new() };
    text.lines().filter_map(Received::parse).collect()
}

impl Received {
    fn parse(line: &str) -> Option<Received> {
        let names = ["id", "fd", "flags", "db", "watch", "qbuf", "argv-mem", "tot-net-in"];
        let [client, descriptor, flags, db, watched, unread, arguments, bytes] = fields_of(line, names);
        let flags = flags?;
        let number = |field: Option<&str>| field?.trim_end().parse::<u64>().ok();
        Some(Received {
            client: number(client)?,
            descriptor: descriptor?.parse().ok()?,
            bytes: number(bytes)?,
            is_drained: number(unread)? == 0 && number(arguments)? == 0 && !flags.contains(['b', GOES_ON]),
            is_plain: flags == "N" || flags == "U",
            watches: number(watched)? > 0,
            db: db?.parse().ok()?,
        })
    }
}

/// The descriptors of these clients' sockets, as far as they are still connected; `None` where the server does not say.
pub(super) fn descriptors_of(ctx: Ctx<'_>, clients: &[ClientId]) -> Vec<Option<i32>> {
    let Some(text) = lines_of(ctx, clients) else { return vec![None] };
    text.lines().map(|line| field_of(line, "fd")?.parse().ok()).collect()
}

impl Sent {
    /// Reads a line of CLIENT LIST; `None` where output may still wait for the socket (its write handler is installed):
    /// more may follow before the loop's end.
    fn parse(line: &str) -> Option<Sent> {
        let names = ["id", "fd", "flags", "obl", "oll", "events", "resp"];
        let [client, descriptor, flags, reply_bytes, listed, events, resp] = fields_of(line, names);
        if events?.contains(WAITS_TO_WRITE) {
            return None;
        }
        // What comes unrequested is not counted: messages, invalidations (to RESP3 also those of other clients).
        let is_plain = resp.map(str::trim_end) == Some("2")
            && flags.is_some_and(|flags| !flags.contains(|flag| GETS_MORE.contains(flag)))
            && listed == Some("0");
        let reply_bytes = reply_bytes.and_then(|bytes| bytes.parse().ok());
        let descriptor = descriptor.and_then(|descriptor| descriptor.parse().ok());
        Some(Sent {
            client: client?.parse().ok()?,
            descriptor: descriptor.filter(|_| is_plain && reply_bytes.is_some()),
            reply_bytes: reply_bytes.unwrap_or(usize::MAX),
        })
    }
}

/// What CLIENT LIST says about a client: slower than `client_info`, but safe whatever executes. It raises no events.
pub(super) fn client_info(ctx: Ctx<'_>, client: u64) -> Option<ClientInfo> {
    let [flags, db] = fields(ctx, client, ["flags", "db"])?;
    Some(ClientInfo {
        db: db.parse().ok()?,
        in_multi: flags.contains('x'),
        blocked: flags.contains('b'),
        tracking: flags.contains('t'),
        subscribed: flags.contains('P'),
    })
}

/// What is known of a connected client; `None` for those of scripts and modules.
pub(super) fn info_in(clients: &Clients, ctx: Ctx<'_>, client: ClientId) -> Option<ClientInfo> {
    match clients.get(client)? {
        record if record.shares_id => client_info(ctx, client),
        _ => ffi::client_info(client),
    }
}

/// Whether a connected client waits in a command, or with one that a pause has delayed and that has yet to run: once
/// the pause has ended, the server does not count such a client as blocked.
pub(super) fn is_blocked_in(clients: &Clients, delayed: &Delayed, ctx: Ctx<'_>, client: ClientId) -> bool {
    info_in(clients, ctx, client).is_some_and(|info| waits(info, delayed, ctx, client))
}

/// The same of a client of which this is known.
pub(super) fn waits(info: ClientInfo, delayed: &Delayed, ctx: Ctx<'_>, client: ClientId) -> bool {
    info.blocked || !delayed.is_empty() && goes_on(ctx, client)
}

/// Whether a client has waited, and what it waits with may run at any time.
pub(super) fn goes_on(ctx: Ctx<'_>, client: ClientId) -> bool {
    field(ctx, client, "flags").is_none_or(|flags| flags.contains(GOES_ON))
}

/// How many commands the server has queued for a client since its MULTI.
pub(super) fn queued_commands(ctx: Ctx<'_>, client: u64) -> Option<usize> {
    field(ctx, client, "multi")?.parse().ok()
}

/// Whether the server will close the client when it has its reply.
pub(super) fn closes_after_reply(ctx: Ctx<'_>, client: u64) -> bool {
    field(ctx, client, "flags").is_some_and(|flags| flags.contains('c'))
}

/// Whether the client's EXEC depends on a key that it watches. Once one has changed, the server no longer watches any
/// of them, and keeps a note (flag `d`) until the EXEC. Where the server does not say, it may.
pub(super) fn watches_keys(ctx: Ctx<'_>, client: u64) -> bool {
    let listed = fields(ctx, client, ["watch", "flags"]);
    listed.is_none_or(|[count, flags]| count != "0" || flags.contains('d'))
}

/// A field of a client in CLIENT LIST.
fn field(ctx: Ctx<'_>, client: u64, name: &str) -> Option<String> {
    fields(ctx, client, [name]).map(|[value]| value)
}

/// Some of them, by one question.
fn fields<const COUNT: usize>(ctx: Ctx<'_>, client: u64, names: [&str; COUNT]) -> Option<[String; COUNT]> {
    let line = lines_of(ctx, &[client])?;
    let fields: Vec<String> = names.iter().map_while(|name| field_of(&line, name).map(String::from)).collect();
    fields.try_into().ok()
}

/// How CLIENT LIST shows a client that has waited and is about to go on: at the end of this iteration or of the next.
const GOES_ON: char = 'u';

/// How CLIENT LIST shows a write handler among a client's events.
const WAITS_TO_WRITE: char = 'w';

/// How it shows clients that get more than the replies to their own commands: monitors, replicas, primaries,
/// subscribers, those that track or wait.
const GETS_MORE: &str = "OSMPtRBbAc";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_client_list_are_read() {
        let line = "id=7 addr=/s:0 name=multi=3 flags=bx db=0 multi=2 watch=1 cmd=xread user=default";
        let listed = Listed {
            id: 7,
            command: "xread".into(),
            blocked: true,
            resumes: false,
            is_special: false,
            is_primary: false,
            queued: Some(2),
            watches: true,
            tracks: false,
            subscribed: false,
        };
        assert_eq!(Listed::parse(line), Some(listed));
        let outside = Listed::parse("id=8 flags=N multi=-1 watch=0 cmd=NULL").expect("of the known form");
        assert_eq!((outside.queued, outside.watches, outside.blocked), (None, false, false));
        let resumed = Listed::parse("id=9 flags=Mu multi=-1 watch=0 cmd=NULL").expect("of the known form");
        assert_eq!((resumed.resumes, resumed.is_special), (true, true));
        assert_eq!(Listed::parse("id=8 flags=N"), None);
    }

    #[test]
    fn what_the_server_has_received_is_read() {
        let line = |change: (&str, &str)| {
            "id=7 addr= fd=9 flags=N db=3 watch=0 qbuf=0 argv-mem=0 tot-net-in=120 tot-cmds=4\n"
                .replace(change.0, change.1)
        };
        let of = |change| Received::parse(&line(change));
        let expected =
            Received { client: 7, descriptor: 9, bytes: 120, is_drained: true, is_plain: true, watches: false, db: 3 };
        assert_eq!(of(("", "")), Some(expected));
        assert_eq!(of(("qbuf=0", "qbuf=1")), Some(Received { is_drained: false, ..expected }));
        assert_eq!(of(("argv-mem=0", "argv-mem=3")), Some(Received { is_drained: false, ..expected }));
        assert_eq!(of(("flags=N", "flags=b")), Some(Received { is_drained: false, is_plain: false, ..expected }));
        assert_eq!(of(("watch=0", "watch=1")), Some(Received { watches: true, ..expected }));
        assert_eq!(of(("tot-net-in=120", "")), None);
    }

    #[test]
    fn an_empty_socket_has_room_for_replies_alone() {
        let line = |change: (&str, &str)| {
            "id=7 addr= fd=9 flags=U db=0 obl=5 oll=0 omem=0 events=r cmd=set resp=2\n".replace(change.0, change.1)
        };
        let of = |change| Sent::parse(&line(change));
        assert_eq!(of(("", "")), Some(Sent { client: 7, descriptor: Some(9), reply_bytes: 5 }));
        assert_eq!(of(("events=r", "events=rw")), None);
        assert_eq!(of(("events=r", "")), None, "it is not known");
        assert_eq!(of(("obl", "x")), None, "nor is what comes after it");
        for change in [("fd=9", "fd=x"), ("flags=U", "flags=UP"), ("oll=0", "oll=1"), ("resp=2", "resp=3")] {
            assert!(matches!(of(change), Some(Sent { descriptor: None, .. })), "{change:?}");
        }
    }
}
