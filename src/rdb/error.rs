//! Why a file could not be walked.

use std::{error, fmt, io};

use super::format::VALKEY_VERSIONS;

/// Why a file could not be walked; `offset` is the position in the base of the first byte concerned.
#[derive(Debug)]
pub enum RdbError {
    /// Reading the base failed.
    Read {
        /// Where in the base.
        offset: u64,
        /// The system's error.
        source: io::Error,
    },
    /// Writing the stream failed.
    Write {
        /// Where in the base.
        offset: u64,
        /// The system's error.
        source: io::Error,
    },
    /// What the stream leaves out cannot be kept.
    Defer {
        /// Where in the base.
        offset: u64,
        /// The system's error.
        source: io::Error,
    },
    /// The base is of a newer version than we know.
    Newer {
        /// Always 0: the header comes first.
        offset: u64,
        /// Its version.
        version: u16,
    },
    /// The base ends early.
    Truncated {
        /// The length of what is there.
        offset: u64,
    },
    /// The base is not an RDB file of a version we know.
    Version {
        /// Always 0: the header comes first.
        offset: u64,
        /// The first nine bytes.
        magic: [u8; 9],
    },
    /// A type, opcode or encoding that we don't know.
    Unknown {
        /// Where in the base.
        offset: u64,
        /// The byte at that place.
        byte: u8,
    },
    /// Bytes that cannot be what a server wrote.
    Corrupt {
        /// Where in the base.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// The CRC-64 at the end is not that of the file.
    Checksum {
        /// Where in the base the checksum is.
        offset: u64,
        /// The checksum in the file.
        stored: u64,
        /// The checksum of the file's bytes.
        computed: u64,
    },
    /// Bytes follow the end of the RDB file.
    Trailing {
        /// Where in the base they begin.
        offset: u64,
    },
    /// The base has a key with the sentinel's name; a server would abort on the duplicate.
    SentinelExists {
        /// Where in the base that key is.
        offset: u64,
    },
}

impl RdbError {
    /// Where in the base.
    pub fn offset(&self) -> u64 {
        match self {
            Self::Read { offset, .. }
            | Self::Write { offset, .. }
            | Self::Defer { offset, .. }
            | Self::Newer { offset, .. }
            | Self::Truncated { offset }
            | Self::Version { offset, .. }
            | Self::Unknown { offset, .. }
            | Self::Corrupt { offset, .. }
            | Self::Checksum { offset, .. }
            | Self::Trailing { offset }
            | Self::SentinelExists { offset } => *offset,
        }
    }
}

impl fmt::Display for RdbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { offset, source } => {
                write!(f, "cannot read the RDB file at offset {offset}: {source}")
            }
            Self::Write { offset, source } => {
                write!(f, "cannot pass the RDB file on (at its offset {offset}): {source}")
            }
            Self::Defer { offset, source } => {
                write!(f, "cannot keep what expires (at offset {offset} of the RDB file): {source}")
            }
            Self::Newer { version, .. } => {
                let known = VALKEY_VERSIONS.end();
                write!(f, "the RDB file is of version {version}, and this module knows versions up to {known}")
            }
            Self::Truncated { offset } => write!(f, "the RDB file ends early, at offset {offset}"),
            Self::Version { offset, magic } => {
                write!(f, "not an RDB file of a known version (offset {offset}): \"{}\"", magic.escape_ascii())
            }
            Self::Unknown { offset, byte } => {
                write!(f, "unknown type, opcode or encoding {byte} at offset {offset} of the RDB file")
            }
            Self::Corrupt { offset, what } => {
                write!(f, "damaged RDB file at offset {offset}: {what}")
            }
            Self::Checksum { offset, stored, computed } => write!(
                f,
                "wrong checksum at offset {offset} of the RDB file: {stored:016x} is stored, {computed:016x} computed"
            ),
            Self::Trailing { offset } => write!(f, "bytes after the end of the RDB file, at offset {offset}"),
            Self::SentinelExists { offset } => {
                write!(f, "the RDB file has the reserved key of recovery, at offset {offset}")
            }
        }
    }
}

impl error::Error for RdbError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Read { source, .. } | Self::Write { source, .. } | Self::Defer { source, .. } => Some(source),
            _ => None,
        }
    }
}
