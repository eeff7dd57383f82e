//! How one command's effect becomes log commands, by its rule and its events.

mod fields;
mod lists;
mod restate;
mod streams;
mod times;

use crate::core::event::{EventKind, Outcome};
use crate::core::leaf::{Leaf, LeafEvent, Told};
use crate::core::options;
use crate::core::table::{Rule, TimeBase, TimeUnit};
use crate::core::unit::Unit;
use lists::{blocking_move, pop, trim};
pub use restate::restate;
use streams::{pending, stream};
use times::{absolute_ms, expiry_option, set_options};

/// Adds the leaf's effect to the unit. `false` when the rule cannot state it exactly: the caller then logs images.
pub fn rewrite(leaf: &Leaf, unit: &mut Unit) -> bool {
    let Some(spec) = leaf.spec.filter(|_| !leaf.may_have_missed_keys()) else { return false };
    if matches!(spec.rule, Rule::Pending(_)) {
        return pending(leaf, unit);
    }
    let Some(first) = leaf.events.first() else {
        // No event: nothing changed, except by commands that have none.
        return match spec.rule {
            Rule::Silent | Rule::CardinalityCache | Rule::Bits => leaf.db.is_some_and(|db| {
                unit.command_as_sent(db, &leaf.args);
                true
            }),
            Rule::Functions if leaf.wrapped => {
                unit.command_as_sent(0, &leaf.args);
                true
            }
            Rule::SilentImage | Rule::Pending(_) => false,
            _ => true,
        };
    };
    match spec.rule {
        Rule::Verbatim | Rule::FromOthers | Rule::Bits | Rule::Silent | Rule::CardinalityCache => {
            // MOVE raises events in two databases.
            unit.command_as_sent(leaf.db.unwrap_or(first.db), &leaf.args);
            true
        }
        Rule::Set => set(leaf, first, unit),
        Rule::SetWithExpiry(time_unit) => set_with_expiry(leaf, first, time_unit, unit),
        Rule::Expire(time_unit, base) => expire(leaf, first, time_unit, base, unit),
        Rule::GetEx => getex(leaf, first, unit),
        Rule::Restore => restore(leaf, first, unit),
        Rule::Pop => pop(leaf, unit),
        Rule::BlockingMove => blocking_move(leaf, first, unit),
        Rule::Copy => copy(leaf, first, unit),
        Rule::DeletedKeys => deleted_keys(leaf, unit),
        Rule::Stream => stream(leaf, unit),
        Rule::ByServerEvent | Rule::Functions | Rule::NoData => true,
        Rule::Float => float(leaf, first, unit),
        Rule::FieldFloat => fields::float(leaf, unit),
        Rule::FieldCounter => fields::counter(leaf, unit),
        Rule::NewField => fields::new_field(leaf, first, unit),
        Rule::FieldRemoval => fields::removal(leaf, first, unit),
        Rule::Trim => trim(leaf, first, unit),
        Rule::FieldExpiry => fields::expiry(leaf, unit),
        Rule::SetFields => fields::set(leaf, unit),
        Rule::MultiSet => multi_set(leaf, first, unit),
        Rule::RandomPop => random_pop(leaf, first, unit),
        Rule::Image | Rule::SilentImage | Rule::Pending(_) => false,
    }
}

fn del(event: &LeafEvent, unit: &mut Unit) -> bool {
    unit.command(event.db, &[b"DEL", &event.key]);
    true
}

fn set(leaf: &Leaf, first: &LeafEvent, unit: &mut Unit) -> bool {
    if leaf.has_event(EventKind::Del) {
        return del(first, unit);
    }
    if leaf.args.len() == 3
        && let (Some(key), Some(value)) = (leaf.args.get(1), leaf.args.get(2))
    {
        unit.command(first.db, &[b"SET", key, value]);
        return true;
    }
    let args = leaf.args.slices();
    let [_, key, value, options @ ..] = args.as_slice() else { return false };
    let Some(options) = set_options(options, options::SET, unit.now_ms) else { return false };
    let mut command: Vec<&[u8]> = vec![b"SET", key, value];
    command.extend(options.kept.iter().map(Vec::as_slice));
    unit.command(first.db, &command);
    true
}

/// MSETEX numkeys key value... [options]
fn multi_set(leaf: &Leaf, first: &LeafEvent, unit: &mut Unit) -> bool {
    let args = leaf.args.slices();
    let keys = args
        .get(1)
        .and_then(|count| std::str::from_utf8(count).ok()?.parse::<usize>().ok()?.checked_mul(2)?.checked_add(2));
    let Some((pairs, options)) = keys.and_then(|end| args.split_at_checked(end)) else { return false };
    let Some(options) = set_options(options, options::SET, unit.now_ms) else { return false };
    let mut command = pairs.to_vec();
    command.extend(options.kept.iter().map(Vec::as_slice));
    unit.command(first.db, &command);
    true
}

fn float(leaf: &Leaf, first: &LeafEvent, unit: &mut Unit) -> bool {
    let (Some(Outcome::Value(value)), 1) = (&first.outcome, leaf.events.len()) else { return false };
    unit.command(first.db, &[b"SET", &first.key, value, b"KEEPTTL"]);
    true
}

/// How many members an SREM takes.
const MEMBERS_PER_COMMAND: usize = 1024;

fn random_pop(leaf: &Leaf, first: &LeafEvent, unit: &mut Unit) -> bool {
    if leaf.has_event(EventKind::Del) {
        return del(first, unit);
    }
    let Some(Told::Members(members)) = &leaf.told else { return false };
    if members.is_empty() {
        // The event says that something was removed.
        return false;
    }
    for members in members.chunks(MEMBERS_PER_COMMAND) {
        let mut command: Vec<&[u8]> = vec![b"SREM", &first.key];
        command.extend(members.iter().map(Vec::as_slice));
        unit.command(first.db, &command);
    }
    true
}

fn set_with_expiry(leaf: &Leaf, first: &LeafEvent, time_unit: TimeUnit, unit: &mut Unit) -> bool {
    if leaf.has_event(EventKind::Del) {
        return del(first, unit);
    }
    let args = leaf.args.slices();
    let [_, key, time, value] = args.as_slice() else { return false };
    let Some(at) = absolute_ms(time, time_unit, TimeBase::Relative, unit.now_ms) else { return false };
    unit.command(first.db, &[b"SET", key, value, b"PXAT", at.to_string().as_bytes()]);
    true
}

fn expire(leaf: &Leaf, first: &LeafEvent, time_unit: TimeUnit, base: TimeBase, unit: &mut Unit) -> bool {
    match first.kind {
        EventKind::Del => del(first, unit),
        EventKind::Expire => {
            leaf.args.get(2).and_then(|time| absolute_ms(time, time_unit, base, unit.now_ms)).is_some_and(|at| {
                // A negative basis is stored as 0 by the server.
                unit.command(first.db, &[b"PEXPIREAT", &first.key, at.max(0).to_string().as_bytes()]);
                true
            })
        }
        _ => false,
    }
}

fn getex(leaf: &Leaf, first: &LeafEvent, unit: &mut Unit) -> bool {
    match first.kind {
        EventKind::Del => del(first, unit),
        EventKind::Persist => {
            unit.command(first.db, &[b"PERSIST", &first.key]);
            true
        }
        EventKind::Expire => {
            let args = leaf.args.slices();
            getex_expiry(args.get(2..).unwrap_or_default(), unit.now_ms).is_some_and(|at| {
                unit.command(first.db, &[b"PEXPIREAT", &first.key, at.to_string().as_bytes()]);
                true
            })
        }
        _ => false,
    }
}

/// When a key expires after a GETEX with these options, milliseconds since the epoch.
fn getex_expiry(options: &[&[u8]], now_ms: Option<i64>) -> Option<i64> {
    let options = options::parse(options, options::GETEX)?;
    let (name, time) = options.last()?;
    let (time_unit, base) = expiry_option(name.as_bytes())?;
    absolute_ms((*time)?, time_unit, base, now_ms)
}

fn restore(leaf: &Leaf, first: &LeafEvent, unit: &mut Unit) -> bool {
    if leaf.has_event(EventKind::Del) && !leaf.has_event(EventKind::Restore) {
        return del(first, unit);
    }
    let args = leaf.args.slices();
    let [_, key, ttl, payload, options @ ..] = args.as_slice() else { return false };
    let Some(options) = options::parse(options, options::RESTORE) else { return false };
    let base = if options::has(&options, "ABSTTL") || *ttl == b"0" { TimeBase::Absolute } else { TimeBase::Relative };
    let Some(at) = absolute_ms(ttl, TimeUnit::Milliseconds, base, unit.now_ms) else { return false };
    unit.command(first.db, &[b"RESTORE", key, at.to_string().as_bytes(), payload, b"REPLACE", b"ABSTTL"]);
    true
}

fn copy(leaf: &Leaf, first: &LeafEvent, unit: &mut Unit) -> bool {
    let args = leaf.args.slices();
    let Some(options) = args.get(3..).and_then(|options| options::parse(options, options::COPY)) else { return false };
    let names_db = options::has(&options, "DB");
    // The event names the destination's database only.
    let Some(db) = leaf.db.or((!names_db).then_some(first.db)) else { return false };
    unit.command(db, &args);
    true
}

fn deleted_keys(leaf: &Leaf, unit: &mut Unit) -> bool {
    if leaf.events.iter().any(|event| event.kind != EventKind::Del) {
        return false;
    }
    leaf.events.iter().for_each(|event| unit.command(event.db, &[b"DEL", &event.key]));
    true
}
