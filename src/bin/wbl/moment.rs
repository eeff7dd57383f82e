//! Moments in a log, as people write them: a time or a position.

use std::fmt;
use std::str::FromStr;
use valkey_wbl::log::Lsn;

const DAY_S: i64 = 86_400;

/// A place in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    Position(Lsn),
    UnixMs(u64),
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Moment, String> {
        if let Some(position) = position(text) {
            return Ok(Moment::Position(position));
        }
        unix_ms(text).map(Moment::UnixMs).ok_or_else(|| {
            "neither a position (digits) nor a time (2026-11-27T04:05:49Z, 2026-11-27 06:05:49.250+02:00, @1795752349)"
                .to_string()
        })
    }
}

/// From a position up to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub start: Lsn,
    pub end: Lsn,
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Span, String> {
        let ends = text.split_once("..").and_then(|(start, end)| Some((position(start)?, position(end)?)));
        match ends {
            Some((start, end)) if start < end => Ok(Span { start, end }),
            _ => Err("not of the form POSITION..POSITION, the smaller one first, as `wbl dump` shows it".into()),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}..{}", self.start, self.end)
    }
}

fn position(text: &str) -> Option<Lsn> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number).map(Lsn::new).filter(|position| *position <= Lsn::LIMIT)
}

/// Milliseconds since the Unix epoch of a time as people write it; UTC where it has no offset.
fn unix_ms(text: &str) -> Option<u64> {
    if let Some(seconds) = text.strip_prefix('@') {
        let (whole, rest) = seconds.split_once('.').unwrap_or((seconds, ""));
        return whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(milliseconds(rest)?);
    }
    let (date, time) = text.split_once(['T', ' '])?;
    let parts: Vec<&str> = date.split('-').collect();
    let [year, month, day] = parts[..] else { return None };
    let days = days_since_epoch(number(year, 4)?, number(month, 2)?, number(day, 2)?)?;
    let zone_at = time.find(['Z', '+', '-']).unwrap_or(time.len());
    let (clock, zone) = time.split_at_checked(zone_at)?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let parts: Vec<&str> = clock.split(':').collect();
    let (hour, minute, second) = match parts[..] {
        [hour, minute] => (number(hour, 2)?, number(minute, 2)?, 0),
        [hour, minute, second] => (number(hour, 2)?, number(minute, 2)?, number(second, 2)?),
        _ => return None,
    };
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = days * DAY_S + hour * 3600 + minute * 60 + second - offset_s(zone)?;
    u64::try_from(seconds).ok()?.checked_mul(1000)?.checked_add(milliseconds(fraction)?)
}

fn number(digits: &str, count: usize) -> Option<i64> {
    let is_plain = digits.len() == count && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_plain)
}

/// Of the digits after the point.
fn milliseconds(digits: &str) -> Option<u64> {
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    let padded = format!("{digits}000");
    padded.get(..3)?.parse().ok().filter(|_| is_plain)
}

fn offset_s(zone: &str) -> Option<i64> {
    let (sign, rest) = match zone.split_at_checked(1) {
        None | Some(("Z", "")) => return Some(0),
        Some(("+", rest)) => (1, rest),
        Some(("-", rest)) => (-1, rest),
        Some(_) => return None,
    };
    let (hours, minutes) = rest.split_once(':').or_else(|| rest.split_at_checked(2))?;
    Some(sign * (number(hours, 2)? * 3600 + number(minutes, 2)? * 60))
}

/// Days from 1970-01-01 to a day of the Gregorian calendar; `None` where there is no such day.
fn days_since_epoch(year: i64, month: i64, day: i64) -> Option<i64> {
    // The year is assumed to begin in March, so that a leap day is its last day.
    let shifted = if month > 2 { year } else { year - 1 };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = shifted * 365 + shifted / 4 - shifted / 100 + shifted / 400 + of_year - 719_468;
    (1..=12).contains(&month).then_some(days).filter(|days| day >= 1 && date(*days) == (year, month, day))
}

/// Year, month and day, this many days after 1970-01-01.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// A time as ISO 8601 has it, in UTC.
pub fn time(unix_ms: u64) -> String {
    let seconds = i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX);
    let (year, month, day) = date(seconds.div_euclid(DAY_S));
    let (of_day, ms) = (seconds.rem_euclid(DAY_S), unix_ms % 1000);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_come_back_as_they_went() {
        for unix_ms in [0, 951_782_400_000, 1_709_164_800_123, 1_795_752_349_999, 4_102_444_800_000] {
            assert_eq!(time(unix_ms).parse(), Ok(Moment::UnixMs(unix_ms)), "{}", time(unix_ms));
        }
        assert_eq!(time(951_782_400_000), "2000-02-29T00:00:00.000Z");
        for day in 0..60_000 {
            let (year, month, day_of_month) = date(day);
            assert_eq!(days_since_epoch(year, month, day_of_month), Some(day));
        }
    }

    #[test]
    fn moments_are_positions_or_times() {
        let of = |text: &str| text.parse::<Moment>();
        assert_eq!(of("1700"), Ok(Moment::Position(Lsn::new(1700))));
        assert_eq!(of("@1700"), Ok(Moment::UnixMs(1_700_000)));
        assert_eq!(of("@1700.5"), Ok(Moment::UnixMs(1_700_500)));
        let expected = of("2026-11-27T04:05:49Z");
        for text in ["2026-11-27 04:05:49", "2026-11-27T06:05:49+02:00", "2026-11-26T23:35:49.000-0430"] {
            assert_eq!(of(text), expected, "{text}");
        }
        for text in
            ["", "-1", "2026-11-27", "2026-02-29T00:00:00Z", "2026-11-27T24:00:00Z", "@x", "now", "2026-1-1T00:00Z"]
        {
            assert!(of(text).is_err(), "{text}");
        }
    }

    #[test]
    fn spans_go_forward() {
        assert_eq!("5..17".parse(), Ok(Span { start: Lsn::new(5), end: Lsn::new(17) }));
        for text in ["17..5", "5..5", "5", "5..", "..5", "a..b"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
