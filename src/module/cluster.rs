//! Cluster mode. The server refuses a module's calls for keys of slots that other nodes own, and for all keys while the
//! cluster is down, as it is at every start; so a node of a cluster cannot replay a log.
//!
//! Instead, a second server outside the cluster replays it and leaves a base that holds it all
//! ([`super::second_server`]). The base goes through the server's loader, which does not check slots.

use crate::ffi::{CallMode, Ctx, Level, Reply, ReplyKind, key_slot, log};
use crate::log::{LogError, Opened};
use crate::module::gate::GatedStorage;
use crate::module::role::{Role, role_at_start};
use crate::module::{own_aof, server};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

/// Slots of a cluster.
const SLOT_COUNT: u16 = 16384;

/// Keys that are asked for at once.
const KEYS_AT_ONCE: &[u8] = b"1000";

/// Whether the log holds any command.
///
/// # Errors
/// Of reading it.
pub(super) fn has_commands(opened: &Opened<GatedStorage>) -> Result<bool, LogError> {
    let mut frames = opened.frames();
    let mut payload = Vec::new();
    while frames.next_frame(&mut payload)?.is_some() {
        if !payload.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn text(reply: &Reply<'_>) -> String {
    String::from_utf8_lossy(reply.bytes()).into_owned()
}

/// What the cluster's configuration says of slots.
#[derive(Debug, Default, PartialEq, Eq)]
struct Slots {
    /// Owned by other nodes. Those of the own primary are not.
    foreign: Vec<RangeInclusive<u16>>,
    /// Owned by this node, or by its primary.
    own: Vec<RangeInclusive<u16>>,
    /// Being imported key by key (`CLUSTER SETSLOT ... IMPORTING`): keys are here though another node owns the slot.
    importing: Vec<u16>,
    /// Being given away key by key (`CLUSTER SETSLOT ... MIGRATING`): keys may have gone though this node owns the
    /// slot.
    migrating: Vec<u16>,
}

impl Slots {
    /// Nobody owns it.
    fn is_free(&self, slot: u16) -> bool {
        !self.foreign.iter().chain(&self.own).any(|range| range.contains(&slot)) && !self.importing.contains(&slot)
    }
}

/// The words of a node's line of CLUSTER NODES that name slots: from the ninth on.
fn slot_words(line: &str) -> impl Iterator<Item = &str> {
    line.split(' ').skip(8)
}

/// The slots that the node of this line owns.
fn ranges(line: &str) -> impl Iterator<Item = RangeInclusive<u16>> {
    slot_words(line).filter_map(|word| {
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        Some(first.parse().ok()?..=last.parse().ok()?)
    })
}

/// Reads the reply of CLUSTER NODES: a line per node, with the node's id, flags, and primary's id in the first, third
/// and fourth word, and then its slots.
fn parse(nodes: &str) -> Slots {
    let word = |line: &str, index| line.split(' ').nth(index).unwrap_or_default().to_string();
    let is_myself = |line: &&str| word(line, 2).split(',').any(|flag| flag == "myself");
    let own_primary = nodes.lines().find(is_myself).map(|line| word(line, 3)).filter(|id| id != "-");
    let mut slots = Slots::default();
    for line in nodes.lines() {
        let is_own = is_myself(&line) || own_primary.as_ref() == Some(&word(line, 0));
        (if is_own { &mut slots.own } else { &mut slots.foreign }).extend(ranges(line));
        for moving in slot_words(line).filter(|_| is_own).filter_map(|word| word.strip_prefix('[')) {
            let slot = |mark| moving.split_once(mark).and_then(|(slot, _)| slot.parse::<u16>().ok());
            slots.importing.extend(slot("-<-"));
            slots.migrating.extend(slot("->-"));
        }
    }
    slots
}

/// Where clients that want this slot are sent, by the reply of CLUSTER NODES, whose lines have
/// `address:port@bus-port[,hostname]` in their second word. `preferred` is the server's setting
/// `cluster-preferred-endpoint-type` (`clusterNodePreferredEndpoint`, cluster_legacy.c).
fn endpoint(nodes: &str, slot: u16, preferred: &[u8]) -> Option<String> {
    let owner = nodes.lines().find(|line| ranges(line).any(|range| range.contains(&slot)))?;
    let (address, rest) = owner.split(' ').nth(1)?.split_once('@')?;
    let (host, port) = address.rsplit_once(':')?;
    let hostname = rest.split(',').nth(1).filter(|name| !name.is_empty()).unwrap_or("?");
    let host = match preferred {
        b"hostname" => hostname,
        b"unknown-endpoint" => "",
        _ => host,
    };
    Some(format!("{host}:{port}"))
}

/// What `CLUSTER NODES` says.
///
/// # Errors
/// The server has no such command, or not under this name.
fn slots(ctx: Ctx<'_>) -> Result<Slots, String> {
    let nodes = ctx.own().call(CallMode::Internal, "CLUSTER", [&b"NODES"[..]]);
    match nodes.map(|nodes| text(&nodes)) {
        Some(nodes) if nodes.contains("myself") => Ok(parse(&nodes)),
        _ => Err("the server does not answer CLUSTER NODES, without which slots and keys can't be compared".into()),
    }
}

/// Slots of this node's own that move away, or that arrive here.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum MovingSlots {
    /// These.
    These {
        /// Moving away: the server refuses a command for a key that has gone.
        leaving: Vec<u16>,
        /// Arriving: it refuses only one of several keys, because others are run or go to the owner whatever is here.
        arriving: Vec<u16>,
    },
    /// The server does not say.
    Any,
}

impl MovingSlots {
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, MovingSlots::These { leaving, arriving } if leaving.is_empty() && arriving.is_empty())
    }

    /// Whether the server may refuse a command for this key, or for it among several, if it has gone.
    pub(super) fn have(&self, key: &[u8], among_several: bool) -> bool {
        match self {
            MovingSlots::These { leaving, arriving } => {
                let slot = key_slot(key);
                leaving.contains(&slot) || among_several && arriving.contains(&slot)
            }
            MovingSlots::Any => true,
        }
    }
}

/// The slots that move from or to this node key by key.
pub(super) fn moving_slots(ctx: Ctx<'_>) -> MovingSlots {
    slots(ctx)
        .map_or(MovingSlots::Any, |slots| MovingSlots::These { leaving: slots.migrating, arriving: slots.importing })
}

/// Slots, in the order in which the server says them.
pub(super) type SlotRanges = Vec<RangeInclusive<u16>>;

/// The slots that this node, or its primary, owns; none outside a cluster. Asked at the load: what a node must be asked
/// when it recovers is answered.
///
/// # Errors
/// What is missing.
pub(super) fn own_slots(ctx: Ctx<'_>) -> Result<SlotRanges, String> {
    if ctx.flags().in_cluster() { Ok(slots(ctx)?.own) } else { Ok(Vec::new()) }
}

/// How the server refuses a module's call in cluster mode, and what it answers instead when it refuses a client's own
/// command.
const NOT_LOCAL: &[u8] = b"ERR Attempted to access a non local key in a cluster node";
const DOWN: [(&str, &str); 2] = [
    (" while the cluster is down", "CLUSTERDOWN The cluster is down"),
    (" while the cluster is down and readonly", "CLUSTERDOWN The cluster is down and only accepts read commands"),
];

/// What a client gets if the server refuses its command when the module is to run it, after it had passed the server's
/// own check: the slot has moved to another node in between, or the cluster is down. `None` for all other errors.
///
/// It goes by the text, so it must not be one that a script has made up.
pub(super) fn redirection<'a>(
    ctx: Ctx<'_>,
    mut command: impl Iterator<Item = &'a [u8]> + Clone,
    refusal: &Reply<'_>,
) -> Option<String> {
    if refusal.kind() != ReplyKind::Error || !ctx.flags().in_cluster() {
        return None;
    }
    if refusal.bytes() == NOT_LOCAL {
        let first = *ctx.command_keys(command.clone()).first()?;
        return moved(ctx, command.nth(first)?);
    }
    let text = String::from_utf8_lossy(refusal.bytes());
    let is_refusal = text.starts_with("ERR Can not execute a ");
    DOWN.iter().find(|(end, _)| is_refusal && text.ends_with(end)).map(|(_, told)| (*told).into())
}

/// `MOVED slot endpoint:port`, as the server sends it; `None` while nobody owns the slot.
///
/// CLUSTER SLOTS cannot be used: called by a module, it may crash an 8.1 server, which looks for the client's
/// connection.
fn moved(ctx: Ctx<'_>, key: &[u8]) -> Option<String> {
    let slot = key_slot(key);
    let nodes = text(&ctx.own().call(CallMode::Internal, "CLUSTER", [&b"NODES"[..]])?);
    let preferred = server::setting(ctx, "cluster-preferred-endpoint-type").unwrap_or_default();
    Some(format!("MOVED {slot} {}", endpoint(&nodes, slot, &preferred)?))
}

/// Gives back the slots that the server has claimed at its start for keys of a file of its own, if the dataset that has
/// taken their place has none of these keys. `before`: the slots that were the node's before that.
///
/// # Errors
/// The server does not say whose the slots are.
pub(super) fn give_up_claims(ctx: Ctx<'_>, before: &SlotRanges) -> Result<(), String> {
    if !ctx.flags().in_cluster() || role_at_start(ctx)? == Role::Replica {
        return Ok(());
    }
    let is_new = |slot: &u16| !before.iter().any(|range| range.contains(slot));
    let mut claimed: Vec<u16> = slots(ctx)?.own.into_iter().flatten().filter(is_new).collect();
    if claimed.is_empty() {
        return Ok(());
    }
    let own = ctx.own();
    for db in server::databases_with_keys(ctx) {
        if own.select_db(db) {
            claimed.retain(|slot| !has_keys(own, *slot));
        }
    }
    if !claimed.is_empty() {
        log(
            Level::Notice,
            &format!("giving back {} slots, which the server had claimed for keys that are not here", claimed.len()),
        );
        if !change_slots(own, b"DELSLOTS", claimed) {
            log(Level::Warning, "the slots could not be given back; CLUSTER DELSLOTS does it");
        }
    }
    Ok(())
}

/// Makes slots and recovered keys fit, as the server does with data that it has loaded at its start: keys of slots that
/// other nodes own are deleted (left by a slot that was moving when this node crashed; the deletions are logged like
/// others), and slots that nobody owns but that have keys here become this node's (its `nodes.conf` was lost).
///
/// # Errors
/// The server does not say whose the slots are.
pub(super) fn fit_slots(ctx: Ctx<'_>) -> Result<(), String> {
    // The primary takes care of a replica's keys.
    if !ctx.flags().in_cluster() || role_at_start(ctx)? == Role::Replica {
        return Ok(());
    }
    let own = ctx.own();
    let slots = slots(ctx)?;
    let foreign = || slots.foreign.iter().cloned().flatten().filter(|slot| !slots.importing.contains(slot));
    let (mut deleted, mut kept) = (0_usize, BTreeSet::new());
    for db in server::databases_with_keys(ctx) {
        if own.select_db(db) {
            deleted += foreign().map(|slot| delete_slot(own, slot)).sum::<usize>();
            kept.extend((0..SLOT_COUNT).filter(|slot| slots.is_free(*slot)).filter(|slot| has_keys(own, *slot)));
        }
    }
    if deleted > 0 {
        log(Level::Notice, &format!("deleted {deleted} recovered keys of slots that belong to other nodes"));
    }
    if !kept.is_empty() {
        log(
            Level::Notice,
            &format!("taking responsibility for {} slots that nobody owns: their keys are here", kept.len()),
        );
        if !change_slots(own, b"ADDSLOTS", kept) {
            log(Level::Warning, "the slots could not be added; CLUSTER ADDSLOTS or `valkey-cli --cluster fix` does it");
        }
    }
    Ok(())
}

/// CLUSTER ADDSLOTS or DELSLOTS; returns whether the server has done it.
fn change_slots(own: Ctx<'_>, subcommand: &[u8], slots: impl IntoIterator<Item = u16>) -> bool {
    let slots: Vec<String> = slots.into_iter().map(|slot| slot.to_string()).collect();
    let words = std::iter::once(subcommand).chain(slots.iter().map(String::as_bytes));
    own.call(CallMode::Internal, "CLUSTER", words).is_some_and(|reply| reply.kind() != ReplyKind::Error)
}

/// Whether the slot has keys in the selected database.
fn has_keys(own: Ctx<'_>, slot: u16) -> bool {
    let count = own.call(CallMode::Internal, "CLUSTER", [&b"COUNTKEYSINSLOT"[..], slot.to_string().as_bytes()]);
    count.is_some_and(|count| count.integer() > 0)
}

/// Deletes the slot's keys in the selected database, also from the server's own append-only file; returns their number.
fn delete_slot(own: Ctx<'_>, slot: u16) -> usize {
    let slot = slot.to_string();
    let mut total = 0;
    loop {
        let keys = own.call(CallMode::Internal, "CLUSTER", [&b"GETKEYSINSLOT"[..], slot.as_bytes(), KEYS_AT_ONCE]);
        let Some(keys) = keys.filter(|keys| keys.kind() == ReplyKind::Array) else { return total };
        let keys = (0..keys.len()).filter_map(|index| keys.element(index));
        let deleted: Vec<_> = keys.filter(|key| own.delete_key(key.bytes())).collect();
        if deleted.is_empty() {
            return total;
        }
        own_aof::keys_deleted(own, deleted.iter().map(Reply::bytes));
        deleted.iter().for_each(|key| own.tell_deleted(key.bytes()));
        total += deleted.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_of_other_nodes_and_imported_slots_are_told_apart() {
        let nodes = "aa 127.0.0.1:7000@17000 myself,master - 0 0 1 connected 0-99 200 [201-<-bb] [5->-bb]\n\
                     bb 127.0.0.1:7001@17001,name master - 0 1 2 connected 100-199 201-300 400\n\
                     cc 127.0.0.1:7002@17002 slave bb 0 1 2 connected\n";
        let slots = parse(nodes);
        let foreign = vec![100..=199, 201..=300, 400..=400];
        assert_eq!(slots, Slots { foreign, own: vec![0..=99, 200..=200], importing: vec![201], migrating: vec![5] });
        assert_eq!([99, 201, 400, 401].map(|slot| slots.is_free(slot)), [false, false, false, true]);
        assert_eq!(parse(""), Slots::default());
    }

    #[test]
    fn clients_are_sent_to_the_owners_preferred_endpoint() {
        let nodes = "aa 127.0.0.1:7000@17000 myself,master - 0 0 1 connected 0-99 [201-<-bb]\n\
                     bb ::1:7001@17001,name,shard-id=x slave aa 0 1 2 connected\n\
                     cc ::1:7002@17002,name,shard-id=x master - 0 1 2 connected 100-199\n";
        assert_eq!(endpoint(nodes, 7, b"ip").as_deref(), Some("127.0.0.1:7000"));
        assert_eq!(endpoint(nodes, 199, b"ip").as_deref(), Some("::1:7002"));
        assert_eq!(endpoint(nodes, 199, b"hostname").as_deref(), Some("name:7002"));
        assert_eq!(endpoint(nodes, 7, b"hostname").as_deref(), Some("?:7000"));
        assert_eq!(endpoint(nodes, 7, b"unknown-endpoint").as_deref(), Some(":7000"));
        assert_eq!(endpoint(nodes, 201, b"ip"), None, "nobody owns it");
    }

    #[test]
    fn slots_of_the_own_primary_are_not_foreign() {
        let nodes = "aa 127.0.0.1:7000@17000 myself,slave bb 0 1 2 connected\n\
                     bb 127.0.0.1:7001@17001 master - 0 1 2 connected 0-99\n\
                     cc 127.0.0.1:7002@17002 master - 0 1 3 connected 100-199\n";
        assert_eq!(parse(nodes), Slots { foreign: vec![100..=199], own: vec![0..=99], ..Slots::default() });
    }
}
