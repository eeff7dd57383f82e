//! A walker over RDB files, for recovery: pure, bounded memory, one pass.
//!
//! A primary that loads an RDB file drops keys whose expiry lies in the past and, from 9.0 on, such hash fields. A log
//! that continues the file may touch them, so [`splice`] hands the server a stream in which such expiries never come,
//! passes them on as [`Deferred`], and puts a sentinel key at the very end: when the server reports that key as loaded,
//! it still counts as loading, nothing expires, and what was deferred can be applied before the log is replayed.
#![forbid(unsafe_code)]

mod error;
mod format;
mod found;
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
pub(crate) use format::library_payload;
pub use found::{Before, Deferred, EarlyFields, Needs, Strip, Summary, TypeName};
pub use head::{begun_s, holds_nothing};

use std::io::{self, Read, Write};

/// The window over the input: what is read, checked and written at once.
const WINDOW_BYTES: usize = 1 << 20;

/// Streams `base` (`None`: an empty dataset) to `out`, followed by the key `sentinel` (an empty string in database 0).
///
/// Keys and fields of hashes that expire early ([`Strip::before`]) are sent with an expiry that never comes, and theirs
/// is deferred. The sentinel is written only after the base has proved to be whole and its CRC-64 right. The
/// stream itself has no checksum (eight zero bytes mean "not checked"). After a failure `out` has a truncated stream,
/// which no server takes for a whole one.
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
