//! Settings of the server's that the module depends on.

use super::{enable, follow};
use crate::ffi::Ctx;
use crate::module::{notify, own_aof, server, with};

/// Settings of the server changed.
pub fn config_changed(ctx: Ctx<'_>, names: &[&[u8]]) {
    enable::disable_if_unwanted(ctx);
    if names.contains(&&b"io-threads"[..]) {
        let io_threads = server::has_io_threads(ctx);
        with(|module| module.server.io_threads = module.server.io_threads.set(io_threads));
    }
    if names.contains(&&b"hz"[..]) {
        let sleeps_max_ms = server::sleeps_max_ms(ctx);
        with(|module| module.server.sleeps_max_ms = sleeps_max_ms);
    }
    if names.contains(&server::BUSY_THRESHOLD.as_bytes()) || names.contains(&&b"lua-time-limit"[..]) {
        let busy_after_us = server::busy_after_us(ctx);
        with(|module| module.server.busy_after_us = busy_after_us);
    }
    if names.contains(&&b"replica-read-only"[..]) || names.contains(&&b"slave-read-only"[..]) {
        follow::setting_changed(ctx);
    }
    if names.contains(&&b"import-mode"[..]) {
        let imports = server::imports(ctx);
        with(|module| module.server.imports = imports);
    }
    if names.contains(&&b"appendonly"[..]) {
        let appends = server::appends(ctx);
        with(|module| module.server.appends = appends);
    }
    if names.contains(&&b"appendonly"[..]) && with(|module| module.life.logs()) == Some(true) {
        own_aof::log_goes_on(ctx);
    }
    if names.iter().any(|name| name.starts_with(b"maxmemory")) {
        let makes_room = server::makes_room(ctx);
        with(|module| module.server.makes_room = makes_room);
    }
    if names.iter().any(|name| name.ends_with(b"notify-keyspace-events")) {
        let notifies = server::may_notify(ctx);
        with(|module| module.server.notifies = notifies);
        notify::setting_changed(ctx);
    }
}
