//! What XREADGROUP, XCLAIM and XAUTOCLAIM did, read from their replies and from what is pending now.

use crate::core::pending::{GroupChange, Moved, PendingEntry};
use crate::core::stream_reads::{StreamRead, asks_for_new};
use crate::core::table::Pending;
use crate::ffi::{Ctx, Reply, ReplyKind};
use std::collections::{HashMap, HashSet};

/// The changes of a command that has just run in this context's database; `None` where they cannot be determined
/// exactly.
pub(super) fn changes(
    ctx: Ctx<'_>,
    pending: Pending,
    args: &[&[u8]],
    reply: &Reply<'_>,
    created: bool,
) -> Option<Vec<GroupChange>> {
    match pending {
        Pending::Read => read_group(ctx, args, reply, created),
        Pending::Claim => {
            let ids = args.get(5..)?.iter().take_while(|arg| arg.first().is_some_and(u8::is_ascii_digit));
            let ids = ids.map(|id| whole_id(id)).collect();
            let last = args.iter().skip(5).rposition(|arg| arg.eq_ignore_ascii_case(b"LASTID"));
            let last = last.and_then(|index| args.get(5 + index + 1));
            let moved = last.map_or(Moved::No, |id| Moved::To(id.to_vec()));
            group_change(ctx, group_of(args, created, moved)?, ids).map(|change| vec![change])
        }
        Pending::AutoClaim => {
            let mut ids = entry_ids(&reply.element(1)?)?;
            let deleted = reply.element(2).map(|list| entry_ids(&list));
            ids.extend(deleted.flatten().unwrap_or_default());
            group_change(ctx, group_of(args, created, Moved::No)?, ids).map(|change| vec![change])
        }
    }
}

/// XCLAIM or XAUTOCLAIM key group consumer ...
fn group_of(args: &[&[u8]], created: bool, moved: Moved) -> Option<GroupChange> {
    let [_, key, group, consumer, ..] = args else { return None };
    let (key, group, consumer) = (key.to_vec(), group.to_vec(), consumer.to_vec());
    Some(GroupChange { key, group, consumer, is_new: created, moved, ..GroupChange::default() })
}

/// Whether an XCLAIM can change any entry: one that is pending now, or with FORCE or LASTID.
pub(super) fn may_claim(ctx: Ctx<'_>, args: &[&[u8]]) -> bool {
    let [_, key, group, _, _, rest @ ..] = args else { return false };
    let is_id = |arg: &&&[u8]| arg.first().is_some_and(u8::is_ascii_digit);
    let words: [&[u8]; 2] = [b"FORCE", b"LASTID"];
    if rest.iter().any(|arg| words.iter().any(|word| arg.eq_ignore_ascii_case(word))) {
        return true;
    }
    rest.iter().take_while(is_id).any(|id| {
        let id = whole_id(id);
        let found = ctx.ask("XPENDING", [*key, *group, &id, &id, b"1"]);
        found.is_none_or(|found| !found.is_empty())
    })
}

/// An id with its sequence number, which is 0 where XCLAIM is given none. In a range that would stand for all of them.
fn whole_id(id: &[u8]) -> Vec<u8> {
    let rest: &[u8] = if id.contains(&b'-') { b"" } else { b"-0" };
    [id, rest].concat()
}

/// XREADGROUP GROUP group consumer ... STREAMS key... id...
fn read_group(ctx: Ctx<'_>, args: &[&[u8]], reply: &Reply<'_>, created: bool) -> Option<Vec<GroupChange>> {
    let read = StreamRead::parse(args.iter().copied())?;
    let (group, consumer) = (args.get(read.group?)?, args.get(read.group? + 1)?);
    let ids = args.get(read.keys.end..)?;
    let keys = args.get(read.keys)?;
    if keys.iter().collect::<HashSet<_>>().len() < keys.len() {
        // It is unknown which of its entries belong to which of the names.
        return None;
    }
    let mut read = entries_by_stream(reply)?;
    let mut changes = Vec::new();
    for (key, id) in keys.iter().zip(ids) {
        let ids = read.remove(*key).unwrap_or_default();
        if ids.is_empty() && !created {
            continue;
        }
        let moved = if !ids.is_empty() && asks_for_new(id)? { Moved::Past(ids.len()) } else { Moved::No };
        let (key, group, consumer) = (key.to_vec(), group.to_vec(), consumer.to_vec());
        let change = GroupChange { key, group, consumer, is_new: created, moved, ..GroupChange::default() };
        changes.push(group_change(ctx, change, ids)?);
    }
    Some(changes)
}

/// The ids of the entries that a reply of XREADGROUP has for each stream: an array of pairs, or a map in RESP3.
fn entries_by_stream(reply: &Reply<'_>) -> Option<HashMap<Vec<u8>, Vec<Vec<u8>>>> {
    let stream = |index| {
        if let Some((name, entries)) = reply.map_element(index) {
            return Some((name.bytes().to_vec(), entry_ids(&entries)?));
        }
        let pair = reply.element(index)?;
        Some((pair.element(0)?.bytes().to_vec(), entry_ids(&pair.element(1)?)?))
    };
    (0..reply.len()).map(stream).collect()
}

/// The ids of a list of entries or of plain ids. `None` when an entry has been deleted: it is pending and cannot be
/// claimed again.
fn entry_ids(entries: &Reply<'_>) -> Option<Vec<Vec<u8>>> {
    (0..entries.len())
        .map(|index| {
            let entry = entries.element(index)?;
            match entry.kind() {
                ReplyKind::String => Some(entry.bytes().to_vec()),
                ReplyKind::Array if entry.element(1)?.kind() == ReplyKind::Array => {
                    Some(entry.element(0)?.bytes().to_vec())
                }
                _ => None,
            }
        })
        .collect()
}

/// The change with what these entries are now.
fn group_change(ctx: Ctx<'_>, mut change: GroupChange, ids: Vec<Vec<u8>>) -> Option<GroupChange> {
    for id in ids {
        let found = ctx.ask("XPENDING", [change.key.as_slice(), &change.group, &id, &id, b"1"])?;
        match found.element(0) {
            Some(entry) => change.pending.push(PendingEntry {
                id,
                consumer: entry.element(1)?.bytes().to_vec(),
                delivered_ms: ctx.unit_time_us() / 1000 - entry.element(2)?.integer(),
                deliveries: entry.element(3)?.integer(),
            }),
            None => change.gone.push(id),
        }
    }
    Some(change)
}
