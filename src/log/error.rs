//! What can go wrong with a log.

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::Arc;

/// Everything the log engine reports.
#[derive(Debug)]
#[non_exhaustive]
pub enum LogError {
    /// The operating system refused an operation.
    Io {
        /// What was tried, as a verb.
        operation: &'static str,
        /// The file it was tried on.
        file: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another server uses the folder.
    Locked {
        /// The folder.
        file: String,
    },
    /// The folder holds something that is not a log of ours; nothing in it was touched.
    ForeignFolder {
        /// The file that shows it.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// The log is damaged at a place no crash could damage, or its files do not belong together.
    Damaged {
        /// The damaged file.
        file: String,
        /// The first byte that cannot be trusted.
        offset: u64,
        /// What is wrong there.
        why: String,
    },
    /// The log was written by a later version.
    UnsupportedVersion {
        /// The file that shows it.
        file: String,
        /// The number of its format.
        format: u64,
    },
    /// Somebody else has removed or cut the file that is being written.
    TakenAway {
        /// The file.
        file: String,
        /// What was found.
        why: &'static str,
    },
    /// A start could not recover the new base; it was removed.
    BadBase {
        /// The file.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// The caller asked for something the log cannot do now; nothing was changed.
    Refused {
        /// What is wrong with the request.
        why: &'static str,
    },
    /// A folder is to be removed, and holds another one that is none of ours; nothing in it was touched.
    Occupied {
        /// The folder.
        file: String,
    },
    /// An earlier failure closed the log to writing.
    Failed(Arc<LogError>),
    /// The disk fails, and the log tries again until it does not.
    Failing(Arc<LogError>),
    /// A thread of the log panicked.
    Panicked {
        /// What the panic said.
        what: String,
    },
    /// The log was closed.
    Closed,
}

/// Whether there was no room on the disk.
pub(crate) fn is_no_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn is_of_disk(error: &io::Error) -> bool {
    let failed = [libc::EIO, libc::ENXIO, libc::ENODEV];
    let is_gone = matches!(error.kind(), io::ErrorKind::StaleNetworkFileHandle | io::ErrorKind::TimedOut);
    is_no_room(error)
        || is_gone
        || error.kind() == io::ErrorKind::ReadOnlyFilesystem
        || error.raw_os_error().is_some_and(|number| failed.contains(&number))
}

impl LogError {
    /// Makes the error of a refused operation.
    pub fn io(operation: &'static str, file: impl Into<String>, source: io::Error) -> LogError {
        LogError::Io { operation, file: file.into(), source }
    }

    /// Whether there was no room on the disk.
    pub(crate) fn is_no_room(&self) -> bool {
        matches!(self, LogError::Io { source, .. } if is_no_room(source))
    }

    /// Whether the disk is to blame, which may pass, and not what was asked of it.
    pub(crate) fn is_of_disk(&self) -> bool {
        match self {
            LogError::Io { source, .. } => is_of_disk(source),
            LogError::Failed(first) | LogError::Failing(first) => first.is_of_disk(),
            _ => false,
        }
    }

    /// What a caught panic said.
    pub(crate) fn panicked(panic: &(dyn Any + Send)) -> LogError {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        LogError::Panicked { what: text.unwrap_or("(no text)").to_string() }
    }

    pub(crate) fn damaged(file: impl Into<String>, offset: u64, why: impl Into<String>) -> LogError {
        LogError::Damaged { file: file.into(), offset, why: why.into() }
    }

    pub(crate) fn foreign(file: impl Into<String>, why: impl Into<String>) -> LogError {
        LogError::ForeignFolder { file: file.into(), why: why.into() }
    }
}

impl fmt::Display for LogError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogError::Io { operation, file, source } => write!(formatter, "cannot {operation} {file}: {source}"),
            LogError::Locked { file } => write!(formatter, "another server uses the folder: {file} is locked"),
            LogError::ForeignFolder { file, why } => {
                write!(formatter, "the folder holds no log of this module, nothing was touched: {file}: {why}")
            }
            LogError::Damaged { file, offset, why } => {
                write!(formatter, "the log is damaged: {file} at byte {offset}: {why}")
            }
            LogError::UnsupportedVersion { file, format } => {
                write!(
                    formatter,
                    "the log was written by a later version: {file} has format {format}; this module reads 1 and 2"
                )
            }
            LogError::TakenAway { file, why } => {
                write!(formatter, "the log was changed by somebody else while it was written: {file}: {why}")
            }
            LogError::BadBase { file, why } => write!(formatter, "no start could read the new base {file}: {why}"),
            LogError::Refused { why } => write!(formatter, "refused: {why}"),
            LogError::Occupied { file } => {
                write!(formatter, "cannot remove {file}: there is a folder in it that is no part of it; move that away")
            }
            LogError::Failed(first) => write!(formatter, "the log takes no more writes, it failed before: {first}"),
            LogError::Failing(last) => write!(formatter, "the disk fails: {last}"),
            LogError::Panicked { what } => write!(formatter, "a thread of the log panicked: {what}"),
            LogError::Closed => formatter.write_str("the log is closed"),
        }
    }
}

impl std::error::Error for LogError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LogError::Io { source, .. } => Some(source),
            LogError::Failed(first) | LogError::Failing(first) => Some(first),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_names_file_and_byte() {
        let error = LogError::damaged("x.aof", 12, "wrong checksum");
        assert_eq!(error.to_string(), "the log is damaged: x.aof at byte 12: wrong checksum");
    }

    #[test]
    fn a_later_refusal_names_the_first_failure() {
        let first = LogError::io("sync", "x.aof", io::Error::from_raw_os_error(libc::EIO));
        let later = LogError::Failed(Arc::new(first)).to_string();
        assert!(later.contains("cannot sync x.aof"), "{later}");
    }
}
