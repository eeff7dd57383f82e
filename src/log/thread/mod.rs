//! The log's threads: one writes and syncs, one does what may take long and nobody waits for.

mod files;
mod flusher;
mod published;
mod statistics;
mod worker;

pub use flusher::Flusher;
pub use statistics::Statistics;
