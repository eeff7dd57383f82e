//! Writing a log: segments, the manifest, bases.

mod checkpoint;
pub(super) mod folder;
pub(super) mod segment;
mod writer;

pub use checkpoint::NewBase;
pub(super) use checkpoint::{BaseJob, PreparedBase, remove_files};
pub use folder::{Begin, Folder, NotBegun};
pub use writer::{Batch, LogWriter};
