//! A write-behind log for Valkey, as a loadable module.
//!
//! Replies to commands that changed the dataset are withheld until their effects are durable in a log that the module
//! owns; the main thread does not wait for the disk. `docs/design.md` tells the promise, the data flow and the file
//! format.
//!
//! Threads: the server's main thread runs hooks and commands (`module`), one writer thread writes, syncs and releases
//! (`log`), and during a recovery two more read the base (`rdb`) and the log ahead.
//!
//! The acknowledgement rule has one home, `module/release.rs`: a reply leaves only with the durable position, from the
//! writer thread.

pub mod core;
mod ffi;
pub mod log;
mod module;
pub mod rdb;
