//! A write-behind log for Valkey, as a loadable module.
//!
//! Replies to commands that changed the dataset are withheld until their effects are durable in a log that the module
//! owns; the main thread does not wait for the disk, but for the cases that `docs/design.md` names. That file has the
//! promise, the data flow and the file format.
//!
//! Where to look first:
//!
//! - when a reply may leave: `module/release.rs`, and the table "Withholding" of `docs/design.md`
//! - the file format: `log/format/`, and what recovery makes of it: `log/open/`
//! - what is known of each write command: `core/table.rs`; how its effect is put: `core/rewrite.rs`
//! - where one SET goes: `module/announce.rs` (filter), `module/hooks.rs` (event), `core/capture.rs`, `module/units.rs`
//!   (position), `log/thread/worker.rs` (disk), `module/release.rs`
//! - how to add a command: `CONTRIBUTING.md`
//!
//! Threads: the server's main thread runs hooks and commands (`module`), one writer thread writes, syncs and releases
//! (`log`), another installs bases and removes old files, and during a recovery two more read the base (`rdb`) and the
//! log ahead.

pub mod core;
mod ffi;
pub mod log;
mod module;
pub mod rdb;
