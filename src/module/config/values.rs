//! The values of the settings, which the server reads and sets by their numbers.

use super::table::{Default, ENTRIES, Setting};
use crate::core::notices::EventClasses;
use crate::ffi::ConfigKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{PoisonError, RwLock};

/// The server's words for a letter that `notify-keyspace-events` does not know.
pub(super) const BAD_EVENT_CLASS: &str = "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.";

static NUMBERS: [AtomicI64; ENTRIES.len()] = [const { AtomicI64::new(0) }; ENTRIES.len()];
static DIR: RwLock<Dir> = RwLock::new(Dir { value: String::new(), folder: None });

/// `wbl.dir`.
struct Dir {
    value: String,
    /// Where it leads, once the module is loaded with this value.
    folder: Option<PathBuf>,
}

/// The value of a setting that is not a text: a number, 0 or 1, or the index of a name.
pub fn number(index: usize) -> i64 {
    NUMBERS.get(index).map_or(0, |number| number.load(Ordering::Relaxed))
}

/// A setting's value.
pub fn value(setting: Setting) -> i64 {
    number(setting as usize)
}

/// The value of a setting that is a text.
pub fn text(index: usize) -> String {
    if index == Setting::NotifyKeyspaceEvents as usize {
        return EventClasses::from_bits(u32::try_from(number(index)).unwrap_or(0)).letters();
    }
    let Dir { value, folder } = &*DIR.read().unwrap_or_else(PoisonError::into_inner);
    folder.as_deref().and_then(|folder| path_elsewhere(value, folder)).unwrap_or_else(|| value.clone())
}

fn set_dir(value: String) {
    *DIR.write().unwrap_or_else(PoisonError::into_inner) = Dir { value, folder: None };
}

/// The folder of the log, an absolute path. `wbl.dir` leads there even if the server's `dir` changes: CONFIG REWRITE
/// writes both, and the next start must find it.
pub fn set_folder(folder: &Path) {
    DIR.write().unwrap_or_else(PoisonError::into_inner).folder = Some(folder.to_path_buf());
}

/// The folder's path, where this relative one now leads elsewhere.
fn path_elsewhere(dir: &str, folder: &Path) -> Option<String> {
    let here = std::env::current_dir().ok()?;
    if here.join(dir) == folder { None } else { folder.to_str().map(String::from) }
}

/// All settings, by name without `wbl.`, with their values as the configuration takes them.
pub(in crate::module) fn values() -> impl Iterator<Item = (String, String)> {
    ENTRIES.iter().map(|entry| {
        let number = value(entry.setting);
        let value = match entry.default {
            Default::Bool(_) => if number != 0 { "yes" } else { "no" }.into(),
            Default::Bytes { .. } | Default::Count { .. } => number.to_string(),
            Default::Text(_) => text(entry.setting as usize),
            Default::Names { names, .. } => {
                let name = usize::try_from(number).ok().and_then(|index| names.get(index));
                name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
            }
        };
        (entry.name.to_string_lossy().into_owned(), value)
    })
}

/// Sets a value that is not a text. The server has checked its bounds.
///
/// # Errors
/// There is no such setting.
pub fn set_number(index: usize, value: i64) -> Result<(), String> {
    let Some(number) = NUMBERS.get(index) else { return Err("no such setting".into()) };
    number.store(value, Ordering::Relaxed);
    Ok(())
}

/// Sets a value that is a text.
///
/// # Errors
/// Why the value was refused, for the client.
pub fn set_text(index: usize, value: String) -> Result<(), String> {
    if index == Setting::NotifyKeyspaceEvents as usize {
        let classes = EventClasses::parse(&value).ok_or(BAD_EVENT_CLASS)?;
        return set_number(index, i64::from(classes.bits()));
    }
    if value.is_empty() || value.contains('\0') {
        return Err("wbl.dir must name a folder".into());
    }
    set_dir(value);
    Ok(())
}

/// Takes over the value of an argument, or the default.
pub(super) fn set_default(index: usize, kind: &ConfigKind) {
    let value = match kind {
        ConfigKind::Bool(value) => i64::from(*value),
        ConfigKind::Number { default, .. } => *default,
        ConfigKind::Enum { default, .. } => i64::try_from(*default).unwrap_or(0),
        ConfigKind::Text(value) if index == Setting::NotifyKeyspaceEvents as usize => {
            EventClasses::parse(value).map_or(0, |classes| i64::from(classes.bits()))
        }
        ConfigKind::Text(value) => {
            set_dir(value.clone());
            0
        }
    };
    if let Some(number) = NUMBERS.get(index) {
        number.store(value, Ordering::Relaxed);
    }
}
