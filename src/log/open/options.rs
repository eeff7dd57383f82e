//! How a log is laid out and written.

use std::io::Read;

/// How the log is laid out and written.
#[derive(Clone, Debug)]
pub struct Options {
    /// A segment that has reached this many bytes is followed by a new one.
    pub segment_bytes: u64,
    /// How many flushes may be under way at a time; `None` to have that follow from how long they take.
    pub max_inflight_flushes: Option<usize>,
    /// Segments that are written ahead are written past the page cache, in blocks of this size: a power of two from 512
    /// to 4096. `None` to write them through the cache.
    pub direct_block_bytes: Option<u64>,
    /// Looks at a new base before the log relies on it.
    pub check_base: CheckBase,
}

/// Reads a whole base, which a start may have to recover; an error where it could not. Any thread.
pub type CheckBase = fn(&mut dyn Read) -> Result<(), String>;

impl Options {
    /// The size of segments where nothing else is set.
    pub const SEGMENT_BYTES_DEFAULT: u64 = 64 << 20;
}

impl Default for Options {
    fn default() -> Options {
        Options {
            segment_bytes: Options::SEGMENT_BYTES_DEFAULT,
            max_inflight_flushes: None,
            direct_block_bytes: None,
            check_base: |_| Ok(()),
        }
    }
}
