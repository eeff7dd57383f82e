//! Commands that are known to have run without an error, as they were sent: the same arguments have the same effect on
//! the same dataset, except for times that count from now.

use super::times::{absolute_ms, expiry_option};
use crate::core::leaf::Leaf;
use crate::core::options;
use crate::core::table::{Rule, TimeBase, TimeUnit};
use crate::core::unit::Unit;

/// Adds the command, run in `db` at the unit's time, with absolute times. `false` where its effect depends on more.
pub fn restate(leaf: &Leaf, db: u32, unit: &mut Unit) -> bool {
    let Some(spec) = leaf.spec else { return false };
    if is_as_sent(spec.rule) {
        unit.command_as_sent(db, &leaf.args);
        return true;
    }
    if let (Rule::Set, 3, Some(key), Some(value)) = (spec.rule, leaf.args.len(), leaf.args.get(1), leaf.args.get(2)) {
        unit.command(db, &[b"SET", key, value]);
        return true;
    }
    let args = leaf.args.slices();
    let restated = match spec.rule {
        Rule::Set => set(&args, unit.now_ms),
        Rule::SetWithExpiry(time_unit) => set_with_expiry(&args, time_unit, unit.now_ms),
        Rule::Expire(time_unit, base) => expire(&args, time_unit, base, unit.now_ms),
        Rule::GetEx => getex(&args, unit.now_ms),
        Rule::Restore => restore(&args, unit.now_ms),
        _ => None,
    };
    let Some(words) = restated else { return false };
    if !words.is_empty() {
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        unit.command(db, &words);
    }
    true
}

/// Whether such a command has the same effect as it was sent.
fn is_as_sent(rule: Rule) -> bool {
    // Those of fields while none has expired.
    matches!(
        rule,
        Rule::FieldCounter
            | Rule::NewField
            | Rule::FieldRemoval
            | Rule::FromOthers
            | Rule::Verbatim
            | Rule::Trim
            | Rule::Bits
            | Rule::Silent
            | Rule::CardinalityCache
            | Rule::Copy
    )
}

/// A command's words; none where it has no effect. `None` where it can't be restated.
type Words = Option<Vec<Vec<u8>>>;

fn words(words: &[&[u8]]) -> Words {
    Some(words.iter().map(|word| word.to_vec()).collect())
}

/// A time argument as milliseconds since the epoch; `None` when it has passed, because what happens then depends on the
/// server's settings.
fn future_ms(arg: &[u8], time_unit: TimeUnit, base: TimeBase, now_ms: Option<i64>) -> Option<i64> {
    absolute_ms(arg, time_unit, base, now_ms).filter(|at| now_ms.is_some_and(|now_ms| *at > now_ms))
}

/// `SET key value [NX | XX | IFEQ value] [GET] [KEEPTTL | EX seconds | ...]`
fn set(args: &[&[u8]], now_ms: Option<i64>) -> Words {
    let [_, key, value, options @ ..] = args else { return None };
    let mut restated = vec![b"SET".to_vec(), key.to_vec(), value.to_vec()];
    for (name, argument) in options::parse(options, options::SET)? {
        if let Some((time_unit, base)) = expiry_option(name.as_bytes()) {
            let at = future_ms(argument?, time_unit, base, now_ms)?;
            restated.extend([b"PXAT".to_vec(), at.to_string().into_bytes()]);
        } else if name != "GET" {
            restated.push(name.as_bytes().to_vec());
            restated.extend(argument.map(<[u8]>::to_vec));
        }
    }
    Some(restated)
}

/// SETEX key seconds value
fn set_with_expiry(args: &[&[u8]], time_unit: TimeUnit, now_ms: Option<i64>) -> Words {
    let [_, key, time, value] = args else { return None };
    let at = future_ms(time, time_unit, TimeBase::Relative, now_ms)?;
    words(&[b"SET", key, value, b"PXAT", at.to_string().as_bytes()])
}

/// EXPIRE key time [NX | XX | GT | LT]
fn expire(args: &[&[u8]], time_unit: TimeUnit, base: TimeBase, now_ms: Option<i64>) -> Words {
    let [_, key, time, conditions @ ..] = args else { return None };
    let known: [&[u8]; 4] = [b"NX", b"XX", b"GT", b"LT"];
    if !conditions.iter().all(|word| known.iter().any(|known| word.eq_ignore_ascii_case(known))) {
        return None;
    }
    let at = future_ms(time, time_unit, base, now_ms)?;
    let mut restated = words(&[b"PEXPIREAT", key, at.to_string().as_bytes()])?;
    restated.extend(conditions.iter().map(|word| word.to_vec()));
    Some(restated)
}

/// GETEX key [PERSIST | EX seconds | ...]
fn getex(args: &[&[u8]], now_ms: Option<i64>) -> Words {
    let [_, key, options @ ..] = args else { return None };
    match options::parse(options, options::GETEX)?.last() {
        None => words(&[]),
        Some(("PERSIST", _)) => words(&[b"PERSIST", key]),
        Some((name, time)) => {
            let (time_unit, base) = expiry_option(name.as_bytes())?;
            let at = future_ms((*time)?, time_unit, base, now_ms)?;
            words(&[b"PEXPIREAT", key, at.to_string().as_bytes()])
        }
    }
}

/// `RESTORE key ttl payload [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]`
fn restore(args: &[&[u8]], now_ms: Option<i64>) -> Words {
    let [_, key, ttl, payload, options @ ..] = args else { return None };
    let options = options::parse(options, options::RESTORE)?;
    let base = if options::has(&options, "ABSTTL") { TimeBase::Absolute } else { TimeBase::Relative };
    let at = if *ttl == b"0" { 0 } else { future_ms(ttl, TimeUnit::Milliseconds, base, now_ms)? };
    words(&[b"RESTORE", key, at.to_string().as_bytes(), payload, b"REPLACE", b"ABSTTL"])
}
