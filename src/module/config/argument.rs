//! The arguments of `loadmodule`.

use super::table::{ENTRIES, MEGABYTE};
use super::values::BAD_EVENT_CLASS;
use crate::core::notices::EventClasses;
use crate::ffi::ConfigKind;

/// `--wbl.NAME VALUE`, `wbl.NAME VALUE` or `NAME VALUE`.
pub(super) fn apply(kinds: &mut [ConfigKind], argument: &str, value: &str) -> Result<(), String> {
    let name = argument.strip_prefix("--").unwrap_or(argument);
    let name = name.strip_prefix("wbl.").unwrap_or(name).to_ascii_lowercase();
    let found = ENTRIES.iter().zip(kinds).find(|(entry, _)| entry.name.to_bytes() == name.as_bytes());
    let Some((_, kind)) = found else { return Err(format!("unknown argument '{argument}'")) };
    let bad = |want: String| format!("bad value '{value}' for wbl.{name}: {want}");
    match kind {
        ConfigKind::Bool(place) => {
            *place = match value.to_ascii_lowercase().as_str() {
                "yes" => true,
                "no" => false,
                _ => return Err(bad("yes or no".into())),
            };
        }
        ConfigKind::Number { default, min, max, memory } => {
            let number = if *memory { parse_bytes(value) } else { value.parse().ok() };
            let what = if *memory { "a number of bytes" } else { "a number" };
            let number = number.filter(|number| (*min..=*max).contains(number));
            *default = number.ok_or_else(|| bad(format!("{what} between {min} and {max}")))?;
        }
        ConfigKind::Text(place) if name == "notify-keyspace-events" => {
            *place = EventClasses::parse(value).ok_or_else(|| bad(BAD_EVENT_CLASS.into()))?.letters();
        }
        ConfigKind::Text(place) => {
            if value.is_empty() {
                return Err(bad("a folder".into()));
            }
            *place = value.to_string();
        }
        ConfigKind::Enum { default, names } => {
            let found = names.iter().position(|name| name.to_bytes().eq_ignore_ascii_case(value.as_bytes()));
            let all: Vec<_> = names.iter().map(|name| name.to_string_lossy()).collect();
            *default = found.ok_or_else(|| bad(format!("must be one of {}", all.join(", "))))?;
        }
    }
    Ok(())
}

/// A number of bytes with the server's units: `64mb`, `1g` (decimal), `100`.
fn parse_bytes(text: &str) -> Option<i64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let factor: i64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1024,
        "m" => 1_000_000,
        "mb" => MEGABYTE,
        "g" => 1_000_000_000,
        "gb" => 1024 * MEGABYTE,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::config::kind_of;

    fn applied(argument: &str, value: &str) -> Result<Vec<ConfigKind>, String> {
        let mut kinds: Vec<ConfigKind> = ENTRIES.iter().map(|entry| kind_of(entry.default)).collect();
        apply(&mut kinds, argument, value).map(|()| kinds)
    }

    #[test]
    fn entries_stand_in_the_order_of_their_indexes() {
        assert!(ENTRIES.iter().enumerate().all(|(index, entry)| entry.setting as usize == index));
    }

    #[test]
    fn arguments_are_taken_in_each_spelling() {
        for name in ["--wbl.enabled", "wbl.enabled", "enabled", "--enabled", "ENABLED"] {
            let kinds = applied(name, "no").expect("taken");
            assert!(matches!(kinds[0], ConfigKind::Bool(false)), "{name}");
        }
    }

    #[test]
    fn bad_arguments_are_refused_with_the_reason() {
        for (name, value, reason) in [
            ("enabled", "maybe", "yes or no"),
            ("segment-bytes", "1", "between 4096"),
            ("segment-bytes", "64 apples", "between 4096"),
            ("max-inflight-flushes", "17", "a number between 0 and 16"),
            ("max-inflight-flushes", "1kb", "a number between 0 and 16"),
            ("on-existing-log", "merge", "must be one of refuse, replace, keep"),
            ("on-replay-error", "replace", "must be one of refuse, skip"),
            ("io-mode", "odirect", "must be one of auto, buffered, direct"),
            ("checkpoint-percentage", "-1", "a number between 0"),
            ("no-such", "1", "unknown argument"),
        ] {
            let error = applied(name, value).err().expect("refused");
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn byte_units_are_the_servers() {
        assert_eq!(parse_bytes("64mb"), Some(64 * MEGABYTE));
        assert_eq!(parse_bytes("1k"), Some(1000));
        assert_eq!(parse_bytes("9223372036854775807gb"), None);
        assert_eq!(parse_bytes("mb"), None);
    }
}
