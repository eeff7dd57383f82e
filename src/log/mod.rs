//! The log engine: a folder of segments and a base, a writer, its threads, recovery.
//!
//! It knows no server, has no statics and never asks a wall clock. How the files look and in which order they change is
//! in `docs/design.md`; "what if it crashes here" is answered step by step in `open/prepare.rs`, `write/writer.rs`,
//! `write/checkpoint.rs`, `write/writer/go_on.rs` and `open/repair.rs`.
//!
//! The states of a folder are types: [`open()`] gives an [`Opened`], which becomes a [`Prepared`] and then a
//! [`LogWriter`], or a [`Folder`], in which another log can begin. A [`Flusher`] runs a writer; closing it gives the
//! [`Folder`] back.

#![forbid(unsafe_code)]

mod error;
mod format;
mod format1;
mod lsn;
mod open;
pub mod sim;
mod storage;
mod thread;
mod write;

pub use error::LogError;
pub use format::names::{MANIFEST_NAME, base_name, segment_name};
pub use format::standing::{Left, Standing};
pub use format::{FormatError, Generation, resp};
pub use lsn::Lsn;
pub use open::{
    Base, BaseReader, CheckBase, Damage, Frame, Frames, Gone, LogView, Opened, Options, Prepared, SeenLog, Segment,
    Unit, UnitCommand, Verdict, Walk, open,
};
pub use open::{is_marked_behind, mark_behind, unmark_behind};
pub use storage::{DirectWrites, FileStatus, FolderLock, FolderStorage, Storage, StorageFile};
pub use thread::{Flusher, Peaks, SLOW_SYNC_US, Statistics, Steps};
pub use write::{Backup, KeptLog, backup_name, kept_logs};
pub use write::{Batch, Begin, Flush, Folder, LogState, LogWriter, NewBase, NotBegun, PreparedBase, WantedReserve};
