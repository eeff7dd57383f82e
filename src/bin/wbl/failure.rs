//! Why a command of the tool ended early, and with which status.

use std::fmt;
use std::io;
use std::process::ExitCode;
use valkey_wbl::log::LogError;

/// The log is damaged.
pub const DAMAGED: u8 = 1;
/// Wrong arguments, no log, an error of the system.
pub const FAILED: u8 = 2;

/// Why a command ended early.
#[derive(Debug)]
pub enum Failure {
    Log(LogError),
    /// Something was tried on something.
    Io(String, io::Error),
    Text(String),
    /// The reader of the output has closed it.
    NobodyReads,
}

impl Failure {
    pub fn text(text: impl Into<String>) -> Failure {
        Failure::Text(text.into())
    }

    /// For `map_err`: what was tried.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Failure {
        |error| Failure::Io(what.into(), error)
    }

    /// Of writing the output.
    pub fn output(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::NobodyReads,
            _ => Failure::Io("cannot write the output".into(), error),
        }
    }

    /// Whether it says that a log is damaged.
    pub fn is_damage(&self) -> bool {
        matches!(self, Failure::Log(LogError::Damaged { .. }))
    }

    pub fn status(&self) -> u8 {
        match self {
            Failure::NobodyReads => 0,
            _ if self.is_damage() => DAMAGED,
            _ => FAILED,
        }
    }

    /// Says on stderr what is wrong.
    pub fn report(&self) -> ExitCode {
        if !matches!(self, Failure::NobodyReads) {
            eprintln!("wbl: {self}");
        }
        ExitCode::from(self.status())
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Failure {
        Failure::Log(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Log(LogError::Locked { file }) => {
                write!(formatter, "a server uses {file}: stop it first, or work on a backup (WBL.BACKUP START)")
            }
            Failure::Log(error) => error.fmt(formatter),
            Failure::Io(what, error) => write!(formatter, "{what}: {error}"),
            Failure::Text(text) => formatter.write_str(text),
            Failure::NobodyReads => formatter.write_str("nobody reads the output"),
        }
    }
}
