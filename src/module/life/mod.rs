//! The module's life: how a log begins, is replaced and ends. See the state diagram in `docs/design.md`.
//!
//! Whatever is to begin a log where the folder holds one already goes through [`rest::Rest::may_begin`], which asks
//! whether memory descends from it.

mod arrival;
mod base;
mod before_sleep;
mod begin;
pub(super) mod behind;
mod beside;
mod checkpoint;
mod closing;
mod descent;
mod enable;
mod end;
mod failing;
mod failure;
mod follow;
mod load;
mod marking;
mod method;
mod newer;
mod opening;
mod own_file;
mod relief;
mod replaced;
mod rest;
mod role;
mod speed;
mod start;
mod state;
mod unload;

pub use before_sleep::before_sleep;
pub use checkpoint::child_done;
pub use end::{shut_down, unload};
pub use follow::lose_primary;
pub use load::{dataset_changed, load, save_begins, settle_child};
pub use role::{emptied, primary_link_changed, role_changed};

pub(crate) use arrival::Arrival;
pub(super) use arrival::arrived;
pub(super) use base::Bases;
pub(super) use checkpoint::request_checkpoint;
pub(super) use enable::{apply_enabled, check_enabled};
pub(super) use failure::end_if_failed;
pub(super) use replaced::dataset_loading;
pub(crate) use state::{Life, State};

use crate::ffi::Ctx;
use crate::module::{notify, own_aof, server, with};

/// Settings of the server changed.
pub fn config_changed(ctx: Ctx<'_>, names: &[&[u8]]) {
    enable::disable_if_unwanted(ctx);
    if names.contains(&&b"io-threads"[..]) {
        let io_threads = server::has_io_threads(ctx);
        with(|module| module.server.io_threads = io_threads);
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
