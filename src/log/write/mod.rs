//! Writing a log: segments, the manifest, bases.

mod ahead;
mod backup;
mod begin;
mod checkpoint;
mod direct;
mod expendable;
mod flush;
pub(super) mod folder;
mod history;
mod reserve;
pub(super) mod segment;
mod writer;

pub(super) use ahead::{AheadJob, AheadSlot, AheadStep, WantedAhead};
pub use backup::{Backup, backup_name};
pub(super) use backup::{backups, remove_backup, remove_shared};
pub use begin::{Begin, NotBegun};
pub(super) use checkpoint::{BaseJob, create_base};
pub use checkpoint::{NewBase, PreparedBase};
pub(super) use expendable::Expendable;
pub use flush::Flush;
pub use folder::{Folder, LogState};
pub(super) use history::remove_oldest as remove_oldest_kept;
pub use history::{KeptLog, kept_logs};
pub use reserve::WantedReserve;
pub use writer::{Batch, LogWriter};
