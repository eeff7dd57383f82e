//! Images: the present state of keys, and of the function library, in log commands.

use crate::core::dirty::DbKey;
use crate::core::hash::Set;
use crate::core::unit::Unit;
use crate::ffi::{Ctx, KeyKind, ReplyKind};
use crate::module::server::{database_count, databases_with_keys};
use crate::module::{Module, broken, with};
use std::sync::Arc;

/// Adds the key's present state: RESTORE with its absolute expiry, or DEL. It is dirty from now on.
pub(super) fn add_image(ctx: Ctx<'_>, unit: &mut Unit, (db, key): &DbKey) {
    unit.touch((*db, key.clone()));
    let own = ctx.own();
    if !own.select_db(*db) {
        broken("a key changed in a database that does not exist");
    }
    if !own.has_key(key) {
        if with(|module| module.server.imports) == Some(true) && is_kept(own, key) {
            // The client that brings data in still has the key, and no command shows its value.
            with(Module::request_base_now);
        }
        // Its slot may belong to another node by now, and the server would report no more of it.
        return unit.command(*db, &[b"DEL", key]);
    }
    if own.key_length(key, KeyKind::Hash) == Some(0) {
        return add_empty_hash(own, unit, *db, key);
    }
    match own.ask("DUMP", [&key[..]]) {
        Some(payload) if payload.kind() == ReplyKind::String => {
            // A time of 0 means none.
            let at = own.key_expiry_ms(key).map_or(0, |at| at.max(1)).to_string();
            unit.command(*db, &[b"RESTORE", key, at.as_bytes(), payload.bytes(), b"REPLACE", b"ABSTTL"]);
        }
        Some(reply) if reply.kind() == ReplyKind::Null => unit.command(*db, &[b"DEL", key]),
        _ if ctx.flags().in_cluster() => {
            // The slot is on its way here, and the server reports nothing of its keys until it has arrived.
            with(Module::request_base_now);
        }
        _ => broken("the server refused to dump a key that changed"),
    }
}

/// Whether a key that is missing because it has expired is still there. What the server does not say may be so.
fn is_kept(own: Ctx<'_>, key: &[u8]) -> bool {
    // Of all that shows a key this alone does not ask whether it has expired.
    let size = own.ask("MEMORY", [&b"USAGE"[..], key, b"SAMPLES", b"1"]);
    size.is_none_or(|size| size.kind() != ReplyKind::Null)
}

/// Adds a hash without fields, which is what COPY makes of one whose fields have all expired: no payload describes it.
/// It is logged with an expired field instead, so that the key is there.
fn add_empty_hash(own: Ctx<'_>, unit: &mut Unit, db: u32, key: &[u8]) {
    unit.command(db, &[b"DEL", key]);
    unit.command(db, &[b"HSET", key, b"", b""]);
    unit.command(db, &[b"HPEXPIREAT", key, b"1", b"FIELDS", b"1", b""]);
    if let Some(at) = own.key_expiry_ms(key) {
        unit.command(db, &[b"PEXPIREAT", key, at.max(1).to_string().as_bytes()]);
    }
}

/// Adds the keys' present states in every database that has them, except those that are logged already.
pub(super) fn add_images_everywhere(ctx: Ctx<'_>, unit: &mut Unit, keys: &[Arc<[u8]>], but: &Set<DbKey>) {
    if keys.is_empty() {
        return;
    }
    let own = ctx.own();
    // The server does not count keys of slots that arrive.
    let arrive = ctx.flags().in_cluster();
    let databases = if arrive { (0..database_count(ctx)).collect() } else { databases_with_keys(ctx) };
    for db in databases {
        own.select_db(db);
        for key in keys {
            let key = (db, key.clone());
            if !but.contains(&key) && own.has_key(&key.1) {
                add_image(ctx, unit, &key);
            }
        }
    }
}

/// Adds the whole function library.
pub(super) fn add_functions(ctx: Ctx<'_>, unit: &mut Unit) {
    match ctx.own().ask("FUNCTION", [&b"DUMP"[..]]) {
        Some(payload) if payload.kind() == ReplyKind::String => {
            unit.command(0, &[b"FUNCTION", b"RESTORE", payload.bytes(), b"FLUSH"]);
        }
        _ => broken("the server refused to dump its functions"),
    }
}
