//! Why there is no log, which decides whether one is tried again by itself.

use crate::log::LogError;
use std::fmt;

/// Why there is no log.
#[derive(Clone, Debug)]
pub(super) enum Cause {
    /// The disk: it may be back at any time, or have room.
    Disk(String),
    /// Somebody has to mend it.
    Other(String),
}

impl Cause {
    /// The same, told as part of this.
    pub(super) fn told(self, tell: impl FnOnce(&str) -> String) -> Cause {
        match self {
            Cause::Disk(text) => Cause::Disk(tell(&text)),
            Cause::Other(text) => Cause::Other(tell(&text)),
        }
    }
}

impl From<LogError> for Cause {
    fn from(error: LogError) -> Cause {
        let text = error.to_string();
        if error.is_of_disk() { Cause::Disk(text) } else { Cause::Other(text) }
    }
}

impl From<String> for Cause {
    fn from(text: String) -> Cause {
        Cause::Other(text)
    }
}

impl From<&str> for Cause {
    fn from(text: &str) -> Cause {
        Cause::Other(text.into())
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Cause::Disk(text) | Cause::Other(text)) = self;
        formatter.write_str(text)
    }
}

impl From<Cause> for String {
    fn from(cause: Cause) -> String {
        match cause {
            Cause::Disk(text) | Cause::Other(text) => text,
        }
    }
}
