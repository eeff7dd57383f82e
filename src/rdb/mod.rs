//! A walker over RDB files, for recovery: pure, bounded memory, one pass.
//!
//! A primary that loads an RDB file drops keys whose expiry lies in the past and, from 9.0 on, such hash fields. A log
//! that continues the file may touch them, so [`splice`] hands the server a stream in which such expiries never come,
//! passes them on as [`Deferred`], and puts a sentinel key at the very end: when the server reports that key as loaded,
//! it still counts as loading, nothing expires, and what was deferred can be applied before the log is replayed.
#![forbid(unsafe_code)]

mod error;
mod format;
mod head;
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
pub use head::begun_s;

use std::collections::BTreeSet;
use std::io::{self, Read, Write};

/// The window over the input: what is read, checked and written at once.
const WINDOW_BYTES: usize = 1 << 20;

/// Behind the header the stream has a field without a meaning, of so many bytes: more than a pipe and the loader's
/// buffer hold, so that the loader is after the header when all of it is written. There it has looked at the clock.
const PADDING_BYTES: usize = 256 << 10;

/// An expiry that never comes in the transformed stream; to be applied when the sentinel key is loaded, in order.
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
    /// `HPEXPIREAT key at_ms FIELDS 1 field`
    ExpireField {
        /// The key's database.
        db: u32,
        /// The key of the hash.
        key: Vec<u8>,
        /// The field.
        field: Vec<u8>,
        /// Its expiry, in Unix milliseconds.
        at_ms: i64,
    },
}

/// Which expiries are deferred, and what becomes of them.
pub trait Strip {
    /// Expiries before this time, in Unix milliseconds, are deferred. Asked once, when the loader has looked at the
    /// clock.
    fn before_ms(&mut self) -> i64;

    /// Keeps what was deferred.
    ///
    /// # Errors
    ///
    /// Why it cannot be kept; the splice ends.
    fn defer(&mut self, deferred: Deferred) -> io::Result<()>;
}

/// What a walk found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Keys of the base, the sentinel not counted.
    pub keys: u64,
    /// Length of the base, its checksum included; 0 without a base.
    pub bytes: u64,
    /// Function libraries of the base.
    pub functions: u64,
    /// Whether the base carried a checksum. `rdbchecksum no` writes zeros instead, which servers take for "not
    /// checked".
    pub checked: bool,
    /// The CRC-64 of the base's bytes, whether it carried it or not.
    pub checksum: u64,
}

/// What a server must have to load a base. One that lacks it ends itself in the middle of loading.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Needs {
    /// The highest database that is selected.
    pub last_database: u32,
    /// The types of modules whose values or data there are.
    pub module_types: BTreeSet<TypeName>,
    /// The code of all function libraries.
    pub libraries: Vec<Vec<u8>>,
}

/// The name of a module's type.
pub type TypeName = [u8; 9];

/// Streams `base` (`None`: an empty dataset) to `out`, followed by the key `sentinel` (an empty string in database 0).
///
/// Keys and fields of hashes that expire before [`Strip::before_ms`] are sent with an expiry that never comes, and
/// theirs is deferred. The sentinel is only written after the base proved to be whole and its CRC-64 right. The stream
/// itself has no checksum (eight zero bytes mean "not checked"). A failure leaves `out` with a truncated stream, which
/// no server takes for a whole one.
///
/// # Errors
///
/// Any [`RdbError`]; each names the byte offset in the base.
pub fn splice(
    base: Option<&mut dyn Read>,
    out: &mut dyn Write,
    sentinel: &[u8],
    strip: &mut dyn Strip,
) -> Result<Summary, RdbError> {
    match base {
        Some(base) => walk::Walker::new(base, out, WINDOW_BYTES, Some(walk::Splice::new(sentinel, strip)))
            .run()
            .map(|(summary, _)| summary),
        None => {
            write_empty(out, sentinel).map_err(|source| RdbError::Write { offset: 0, source })?;
            Ok(Summary::default())
        }
    }
}

/// Writes an empty dataset, followed by the key `sentinel`. It is short: a pipe holds it.
///
/// # Errors
///
/// Those of writing.
pub fn write_empty(out: &mut dyn Write, sentinel: &[u8]) -> io::Result<()> {
    out.write_all(format::EMPTY_HEADER)?;
    out.write_all(&format::tail(sentinel))?;
    out.flush()
}

/// Whether files of this version can be walked.
pub fn is_known_version(version: u16) -> bool {
    format::REDIS_VERSIONS.contains(&version) || format::VALKEY_VERSIONS.contains(&version)
}

/// Checks that `base` is a whole RDB file of a version we know, with a right CRC-64 and nothing after it.
///
/// # Errors
///
/// Any [`RdbError`]; each names the byte offset in the base.
pub fn verify(base: &mut dyn Read) -> Result<Summary, RdbError> {
    examine(base).map(|(summary, _)| summary)
}

/// The same, and finds what a server must have to load it.
///
/// # Errors
///
/// Any [`RdbError`]; each names the byte offset in the base.
pub fn examine(base: &mut dyn Read) -> Result<(Summary, Needs), RdbError> {
    walk::Walker::new(base, &mut io::sink(), WINDOW_BYTES, None).run()
}
