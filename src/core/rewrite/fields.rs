//! Commands of hashes whose effect depends on which fields have expired.
//!
//! An expired field is missing for a command, whether the server has removed it or not, and nothing in the log says
//! when it does: that a field is gone follows from the time. While the log is replayed nothing expires, so the replay
//! may have more fields than the server had, all of them expired. It has every field that had not expired, with its
//! value and time, and it has the key as long as the server had it. What is logged keeps it so: what a command did to
//! the fields that it names, DEL when the key has gone, and no removal that could leave the replay without the key
//! before.

use super::times::{SetOptions, set_options};
use crate::core::event::{EventKind, Outcome};
use crate::core::leaf::{Leaf, LeafEvent};
use crate::core::options;
use crate::core::unit::Unit;

/// A time that is past, in milliseconds since the epoch.
const PAST_MS: &[u8] = b"1";

/// The key has gone.
fn del(leaf: &Leaf, unit: &mut Unit) -> bool {
    leaf.events.iter().filter(|event| event.kind == EventKind::Del).for_each(|event| {
        unit.command(event.db, &[b"DEL", &event.key]);
    });
    true
}

/// The fields have gone. If the hash `survives`, the replay has another field of it. Else it may have none but these,
/// which stay, out of date.
fn remove(event: &LeafEvent, fields: &[impl AsRef<[u8]>], survives: bool, unit: &mut Unit) {
    if fields.is_empty() {
        return;
    }
    let count = fields.len().to_string();
    let mut command: Vec<&[u8]> = if survives {
        vec![b"HDEL", &event.key]
    } else {
        vec![b"HPEXPIREAT", &event.key, PAST_MS, b"FIELDS", count.as_bytes()]
    };
    command.extend(fields.iter().map(AsRef::as_ref));
    unit.command(event.db, &command);
}

/// Whether an event's answer says that the hash lives on with a field that has not expired.
fn survives(event: &LeafEvent) -> Option<bool> {
    match event.outcome {
        Some(Outcome::NoneExpired) => Some(true),
        Some(Outcome::Survives(survives)) => Some(survives),
        _ => None,
    }
}

/// HDEL, HGETDEL.
pub(super) fn removal(leaf: &Leaf, first: &LeafEvent, unit: &mut Unit) -> bool {
    if first.outcome != Some(Outcome::NoneExpired) && leaf.has_event(EventKind::Del) {
        return del(leaf, unit);
    }
    match (survives(first), leaf.named_fields()) {
        (Some(true), _) => unit.command(first.db, &leaf.args.slices()),
        (Some(false), Some(fields)) => remove(first, &fields, false, unit),
        _ => return false,
    }
    true
}

/// HSETNX key field value
pub(super) fn new_field(leaf: &Leaf, first: &LeafEvent, unit: &mut Unit) -> bool {
    let args = leaf.args.slices();
    let [_, key, field, value] = args.as_slice() else { return false };
    unit.command(first.db, &[b"HSET", key, field, value]);
    true
}

/// HINCRBY.
pub(super) fn counter(leaf: &Leaf, unit: &mut Unit) -> bool {
    match leaf.events.last() {
        Some(event) if event.outcome == Some(Outcome::NoneExpired) => {
            unit.command(event.db, &leaf.args.slices());
            true
        }
        _ => float(leaf, unit),
    }
}

/// HINCRBYFLOAT key field increment: the field as it is now.
pub(super) fn float(leaf: &Leaf, unit: &mut Unit) -> bool {
    let (Some(field), Some(event)) = (leaf.args.get(2), leaf.events.last()) else { return false };
    match &event.outcome {
        Some(Outcome::Field(value, None)) => unit.command(event.db, &[b"HSET", &event.key, field, value]),
        Some(Outcome::Field(value, Some(at))) => {
            unit.command(event.db, &[b"HSET", &event.key, field, value]);
            // HSETEX would take a key of that name for its word FIELDS.
            unit.command(event.db, &[b"HPEXPIREAT", &event.key, at.to_string().as_bytes(), b"FIELDS", b"1", field]);
        }
        _ => return false,
    }
    true
}

/// HSETEX key [options] FIELDS numfields field value...
pub(super) fn set(leaf: &Leaf, unit: &mut Unit) -> bool {
    if leaf.has_event(EventKind::Del) {
        return del(leaf, unit);
    }
    let (Some(last), Some(names)) = (leaf.events.last(), leaf.named_fields()) else { return false };
    if last.kind == EventKind::FieldsExpired {
        // The time had passed.
        return survives(last).is_some_and(|survives| {
            remove(last, &names, survives, unit);
            true
        });
    }
    let args = leaf.args.slices();
    let Some((head, pairs)) = leaf.first_field().and_then(|first| args.split_at_checked(first)) else { return false };
    let (Some(key), Some(options)) = (head.get(1), head.get(2..head.len() - 2)) else { return false };
    let Some(options) = set_options(options, options::SET_FIELDS, unit.now_ms) else { return false };
    let set = leaf.events.iter().find(|event| event.kind == EventKind::FieldsSet);
    match set.and_then(|event| event.outcome.as_ref()) {
        Some(Outcome::FieldExpiries(expiries)) => return set_each(last, pairs, expiries, unit),
        outcome if leaf.keeps_ttl() && outcome != Some(&Outcome::NoneExpired) => return false,
        _ => {}
    }
    set_pairs(last, key, &options, pairs, unit);
    true
}

fn set_pairs(event: &LeafEvent, key: &[u8], options: &SetOptions, pairs: &[&[u8]], unit: &mut Unit) {
    let count = (pairs.len() / 2).to_string();
    let mut command: Vec<&[u8]> = vec![b"HSETEX", key];
    command.extend(options.kept.iter().map(Vec::as_slice));
    command.extend_from_slice(&[b"FIELDS", count.as_bytes()]);
    command.extend_from_slice(pairs);
    unit.command(event.db, &command);
}

/// HSETEX ... KEEPTTL: each field with the time that it has. One that had expired has none.
fn set_each(event: &LeafEvent, pairs: &[&[u8]], expiries: &[(Vec<u8>, i64)], unit: &mut Unit) -> bool {
    let mut timed: Vec<(i64, &[&[u8]])> = expiries.iter().map(|(_, at)| *at).zip(pairs.chunks(2)).collect();
    if timed.len() * 2 != pairs.len() || timed.iter().any(|(at, _)| *at < -1) {
        return false;
    }
    timed.sort_by_key(|(at, _)| *at);
    for same in timed.chunk_by(|(one, _), (other, _)| one == other) {
        let Some((at, _)) = same.first() else { continue };
        let kept = if *at < 0 { Vec::new() } else { vec![b"PXAT".to_vec(), at.to_string().into_bytes()] };
        let pairs: Vec<&[u8]> = same.iter().flat_map(|(_, pair)| pair.iter().copied()).collect();
        set_pairs(event, &event.key, &SetOptions { kept }, &pairs, unit);
    }
    true
}

/// HEXPIRE and the like, HGETEX, HPERSIST: HPEXPIREAT for the fields that expire, HPERSIST for those that do not;
/// others (missing fields) are left out. Fields whose time had passed have gone.
pub(super) fn expiry(leaf: &Leaf, unit: &mut Unit) -> bool {
    if leaf.has_event(EventKind::Del) {
        return del(leaf, unit);
    }
    leaf.events.iter().all(|event| match &event.outcome {
        Some(Outcome::FieldExpiries(fields)) => {
            expire_each(event, fields, unit);
            true
        }
        Some(Outcome::RemovedFields(fields, survives)) => {
            remove(event, fields, *survives, unit);
            true
        }
        _ => false,
    })
}

fn expire_each(event: &LeafEvent, fields: &[(Vec<u8>, i64)], unit: &mut Unit) {
    let mut present: Vec<&(Vec<u8>, i64)> = fields.iter().filter(|(_, at)| *at >= -1).collect();
    present.sort_by_key(|(_, at)| *at);
    for same in present.chunk_by(|(_, one), (_, other)| one == other) {
        let Some((_, at)) = same.first() else { continue };
        let (at_text, count) = (at.to_string(), same.len().to_string());
        let mut command: Vec<&[u8]> =
            if *at < 0 { vec![b"HPERSIST", &event.key] } else { vec![b"HPEXPIREAT", &event.key, at_text.as_bytes()] };
        command.extend_from_slice(&[b"FIELDS", count.as_bytes()]);
        command.extend(same.iter().map(|(field, _)| field.as_slice()));
        unit.command(event.db, &command);
    }
}
