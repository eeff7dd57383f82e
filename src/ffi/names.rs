//! The border between the commands' own names and those by which the server knows them.

use crate::core::names::Names;
use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

static NAMES: RwLock<Option<Names>> = RwLock::new(None);

/// Most servers rename nothing, which is found out at no cost.
static CHANGED: AtomicBool = AtomicBool::new(false);

/// From here on commands are called and reported by these names.
pub fn set_names(names: Names) {
    CHANGED.store(!names.is_empty(), Ordering::Relaxed);
    *NAMES.write().unwrap_or_else(PoisonError::into_inner) = Some(names);
}

/// What a name is on the other side of the border.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Translated {
    /// The name itself.
    Same,
    /// Another name.
    Other(Box<[u8]>),
    /// There is no such command.
    Nothing,
}

impl Translated {
    /// The other side's name, where it differs; empty for none.
    pub(super) fn replacement(self) -> Option<Box<[u8]>> {
        match self {
            Translated::Same => None,
            Translated::Other(name) => Some(name),
            Translated::Nothing => Some(Box::default()),
        }
    }
}

/// The own name of the command that the server knows by this one; empty for none.
pub fn own_name(name: &[u8]) -> Cow<'_, [u8]> {
    own(name).replacement().map_or(Cow::Borrowed(name), |own| Cow::Owned(own.into()))
}

/// The own name of the command that the server knows by this one.
pub(super) fn own(name: &[u8]) -> Translated {
    translated(name, Names::own)
}

/// The name by which the server knows this command.
pub(super) fn present(own: &[u8]) -> Translated {
    translated(own, Names::present)
}

fn translated(name: &[u8], of: for<'n> fn(&'n Names, &'n [u8]) -> Option<&'n [u8]>) -> Translated {
    if !CHANGED.load(Ordering::Relaxed) {
        return Translated::Same;
    }
    let names = NAMES.read().unwrap_or_else(PoisonError::into_inner);
    match names.as_ref().map(|names| of(names, name)) {
        None => Translated::Same,
        Some(None) => Translated::Nothing,
        Some(Some(other)) if other == name => Translated::Same,
        Some(Some(other)) => Translated::Other(other.into()),
    }
}
