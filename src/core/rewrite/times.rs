//! Arguments and options that say when a key or field expires, with absolute times.

use crate::core::options;
use crate::core::table::{TimeBase, TimeUnit};

/// A time argument as milliseconds since the epoch; `None` when it is not a number (the server then refused the
/// command), or relative to an unknown time.
pub(super) fn absolute_ms(arg: &[u8], unit: TimeUnit, base: TimeBase, now_ms: Option<i64>) -> Option<i64> {
    let value: i64 = std::str::from_utf8(arg).ok()?.parse().ok()?;
    let value = match unit {
        TimeUnit::Seconds => value.checked_mul(1000)?,
        TimeUnit::Milliseconds => value,
    };
    match base {
        TimeBase::Relative => value.checked_add(now_ms?),
        TimeBase::Absolute => Some(value),
    }
}

/// An expiry option (`EX seconds` etc.): its token's unit and base.
pub(super) fn expiry_option(token: &[u8]) -> Option<(TimeUnit, TimeBase)> {
    let options: [(&[u8], TimeUnit, TimeBase); 4] = [
        (b"EX", TimeUnit::Seconds, TimeBase::Relative),
        (b"PX", TimeUnit::Milliseconds, TimeBase::Relative),
        (b"EXAT", TimeUnit::Seconds, TimeBase::Absolute),
        (b"PXAT", TimeUnit::Milliseconds, TimeBase::Absolute),
    ];
    options.iter().find(|(name, ..)| token.eq_ignore_ascii_case(name)).map(|(_, unit, base)| (*unit, *base))
}

/// The options of SET, HSETEX and MSETEX that outlive the command: conditions were met, so they are dropped.
pub(super) struct SetOptions {
    /// PXAT with its time, or KEEPTTL, or nothing.
    pub(super) kept: Vec<Vec<u8>>,
}

/// `None` when a time is not a number.
pub(super) fn set_options(options: &[&[u8]], known: &[options::Known], now_ms: Option<i64>) -> Option<SetOptions> {
    let mut kept = Vec::new();
    for (name, argument) in options::parse(options, known)? {
        if name == "KEEPTTL" {
            kept = vec![b"KEEPTTL".to_vec()];
        } else if let Some((time_unit, base)) = expiry_option(name.as_bytes()) {
            let at = absolute_ms(argument?, time_unit, base, now_ms)?;
            kept = vec![b"PXAT".to_vec(), at.to_string().into_bytes()];
        }
    }
    Some(SetOptions { kept })
}
