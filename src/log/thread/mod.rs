//! The log's threads: some write and flush, one does long work that nobody waits for.

mod answer;
mod files;
mod flusher;
mod histogram;
mod kept;
mod published;
mod queue;
mod statistics;
mod steps;
mod worker;

pub use flusher::Flusher;
pub use statistics::{Peaks, SLOW_SYNC_US, Statistics};
pub use steps::Steps;
