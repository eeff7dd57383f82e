//! A walker over RDB files, for recovery: pure, bounded memory, one pass.
//!
//! A primary that loads an RDB file drops keys whose expiry lies in the past and, from 9.0 on, such hash fields. A log
//! that continues the file may touch them, so [`splice`] hands the server a stream without those expiries, remembers
//! them as [`Deferred`], and puts a sentinel key at the very end: when the server reports that key as loaded, it still
//! counts as loading, nothing expires, and what was deferred can be applied before the log is replayed.
#![forbid(unsafe_code)]

mod error;
mod format;
mod lzf;
mod stream;
mod value;
mod walk;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_damage;

pub use error::RdbError;

use std::io::{self, Read, Write};

/// The window over the input: what is read, checked and written at once.
const WINDOW_BYTES: usize = 1 << 20;

/// What the transformed stream left out; to be applied when the sentinel key is loaded, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deferred {
    /// `PEXPIREAT key at_ms`
    Expire {
        /// The key's database.
        db: u32,
        /// The key.
        key: Vec<u8>,
        /// Its expiry, in Unix milliseconds.
        at_ms: i64,
    },
    /// `RESTORE key (at_ms or 0) payload ABSTTL`: a hash with fields that could count as expired, kept out of the stream.
    Restore {
        /// The key's database.
        db: u32,
        /// The key.
        key: Vec<u8>,
        /// The expiry of the key itself, in Unix milliseconds.
        at_ms: Option<i64>,
        /// As DUMP would give it: type byte, value, RDB version in two bytes, CRC-64.
        payload: Vec<u8>,
    },
}

/// What a walk found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Keys of the base, deferred ones included, the sentinel not.
    pub keys: u64,
    /// What the transformed stream left out, in the order of the base.
    pub deferred: Vec<Deferred>,
    /// Length of the base, its checksum included; 0 without a base.
    pub bytes: u64,
    /// Function libraries of the base.
    pub functions: u64,
    /// Whether the base carried a checksum. `rdbchecksum no` writes zeros instead, which servers take for "not checked".
    pub checked: bool,
}

/// Streams `base` (`None`: an empty dataset) to `out`, followed by the key `sentinel` (an empty string in database 0).
///
/// Keys that expire before `strip_before_ms` are sent without their expiry; hashes with a field that does are not sent at
/// all; both are in [`Summary::deferred`]. The sentinel is only written after the base proved to be whole and its CRC-64
/// right. The stream itself has no checksum (eight zero bytes mean "not checked"). A failure leaves `out` with a
/// truncated stream, which no server takes for a whole one.
///
/// # Errors
///
/// Any [`RdbError`]; each names the byte offset in the base.
pub fn splice(
    base: Option<&mut dyn Read>,
    out: &mut dyn Write,
    sentinel: &[u8],
    strip_before_ms: i64,
) -> Result<Summary, RdbError> {
    match base {
        Some(base) => {
            walk::Walker::new(base, out, WINDOW_BYTES, Some(walk::Splice { sentinel, strip_before_ms })).run()
        }
        None => {
            let write = |out: &mut dyn Write| {
                out.write_all(format::EMPTY_HEADER)?;
                out.write_all(&format::tail(sentinel))?;
                out.flush()
            };
            write(out).map_err(|source| RdbError::Write { offset: 0, source })?;
            Ok(Summary::default())
        }
    }
}

/// Checks that `base` is a whole RDB file of a version we know, with a right CRC-64 and nothing behind it.
///
/// # Errors
///
/// Any [`RdbError`]; each names the byte offset in the base.
pub fn verify(base: &mut dyn Read) -> Result<Summary, RdbError> {
    walk::Walker::new(base, &mut io::sink(), WINDOW_BYTES, None).run()
}
