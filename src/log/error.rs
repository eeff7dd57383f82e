//! What can go wrong with a log.

use super::lsn::Lsn;
use std::fmt;
use std::io;

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
        /// The lock file.
        file: String,
    },
    /// The folder holds something that is no log of ours; nothing in it was touched.
    ForeignFolder {
        /// The file that tells.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// The log is damaged at a place no crash could damage.
    Damaged {
        /// The damaged file.
        file: String,
        /// The first byte that cannot be trusted.
        offset: u64,
        /// What is wrong there.
        why: String,
    },
    /// A frame with a good checksum stands where it does not belong.
    NonMonotonic {
        /// The file of the frame.
        file: String,
        /// The frame's first byte.
        offset: u64,
        /// The position a frame there must have.
        expected: Lsn,
        /// The position the frame has.
        found: Lsn,
    },
    /// The log was written by a later version.
    UnsupportedVersion {
        /// The file that tells.
        file: String,
    },
    /// The caller asked for something the log cannot do now; nothing was changed.
    Refused {
        /// What is wrong with the request.
        why: &'static str,
    },
    /// An earlier failure closed the log to writing.
    Failed {
        /// The earlier failure.
        first: String,
    },
    /// The writer thread panicked.
    Panicked {
        /// What the panic said.
        what: String,
    },
    /// The log was closed.
    Closed,
}

impl LogError {
    /// Makes the error of a refused operation.
    pub fn io(operation: &'static str, file: impl Into<String>, source: io::Error) -> LogError {
        LogError::Io { operation, file: file.into(), source }
    }

    /// The error number of the operating system, where there is one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            LogError::Io { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// Whether the disk or the quota is full.
    pub fn is_no_space(&self) -> bool {
        matches!(self.errno(), Some(libc::ENOSPC | libc::EDQUOT))
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
            LogError::NonMonotonic { file, offset, expected, found } => write!(
                formatter,
                "the log is not contiguous: {file} at byte {offset}: a frame has position {found} instead of {expected}"
            ),
            LogError::UnsupportedVersion { file } => {
                write!(formatter, "the log was written by a later version: {file}")
            }
            LogError::Refused { why } => write!(formatter, "refused: {why}"),
            LogError::Failed { first } => write!(formatter, "the log takes no more writes, it failed before: {first}"),
            LogError::Panicked { what } => {
                write!(formatter, "the log's writer thread panicked: {what}")
            }
            LogError::Closed => formatter.write_str("the log is closed"),
        }
    }
}

impl std::error::Error for LogError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LogError::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_known_by_its_number() {
        let full = LogError::io("write", "a", io::Error::from_raw_os_error(libc::ENOSPC));
        assert!(full.is_no_space());
        let broken = LogError::io("write", "a", io::Error::from_raw_os_error(libc::EIO));
        assert!(!broken.is_no_space());
        assert!(!LogError::Closed.is_no_space());
    }

    #[test]
    fn damage_names_file_and_byte() {
        let error = LogError::Damaged { file: "x.aof".into(), offset: 12, why: "wrong checksum".into() };
        assert_eq!(error.to_string(), "the log is damaged: x.aof at byte 12: wrong checksum");
    }
}
