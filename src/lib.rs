//! A write-behind log for Valkey, as a loadable module.
//!
//! Replies to commands that changed the dataset are withheld until their effects are durable in a log that the module
//! owns; the main thread does not wait for the disk, except in the cases that `docs/design.md` names. That file has the
//! promise, the data flow and the file format.
//!
//! Where to look first:
//!
//! - the rule of acknowledgement: [`core::ack`]; the one way out for replies: `module/release.rs`
//! - the file format: `log/format/`, and what recovery makes of it: `log/open/`
//! - the command table: [`core::table`]
//! - where one SET goes: `docs/design.md`, "Four commands on their way"
//! - how to add a command: `CONTRIBUTING.md`, "Adding a command"
//!
//! Threads: the server's main thread runs hooks and commands (`module`), writer threads write, flush and release
//! (`log`), another installs bases and removes old files, and during a recovery two more read the base (`rdb`) and the
//! log ahead.

pub mod core;
mod ffi;
mod lock;
pub mod log;
pub mod machine;
mod module;
pub mod rdb;

ffi::entry_points!(&module::Callbacks);
