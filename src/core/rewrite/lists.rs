//! Commands of lists, and pops.

use crate::core::event::{EventKind, Outcome};
use crate::core::leaf::{Leaf, LeafEvent};
use crate::core::table::Blocks;
use crate::core::unit::Unit;

pub(super) fn trim(leaf: &Leaf, first: &LeafEvent, unit: &mut Unit) -> bool {
    let unchanged = match &first.outcome {
        Some(Outcome::Unchanged) => true,
        Some(Outcome::Value(length)) => is_idle_trim(leaf, length).unwrap_or(false),
        _ => false,
    };
    if !unchanged {
        unit.command(first.db, &leaf.args.slices());
    }
    true
}

/// Whether a list that has this length after LTRIM key start stop had it before, too: a longer one would have left
/// more.
fn is_idle_trim(leaf: &Leaf, length: &[u8]) -> Option<bool> {
    let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<i64>().ok();
    let (start, stop, length) = (number(leaf.args.get(2)?)?, number(leaf.args.get(3)?)?, number(length)?);
    let kept_at_most = match (start, stop) {
        (0, 0..) => stop.checked_add(1)?,
        (..0, -1) => start.checked_neg()?,
        _ => return None,
    };
    Some(length > 0 && length < kept_at_most)
}

/// How many elements BLMPOP, BZMPOP etc. may take: the COUNT after the keys.
fn pop_count(leaf: &Leaf) -> Option<Vec<u8>> {
    let args = leaf.args.slices();
    let takes_count = leaf.spec.is_some_and(|spec| spec.blocks == Blocks::TimeoutFirst);
    if !takes_count {
        return Some(b"1".to_vec());
    }
    // BLMPOP timeout numkeys key... LEFT|RIGHT [COUNT n]
    let keys: usize = std::str::from_utf8(args.get(2)?).ok()?.parse().ok()?;
    match args.get(keys.checked_add(4)?..)? {
        [] => Some(b"1".to_vec()),
        [_, count] => Some(count.to_vec()),
        _ => None,
    }
}

pub(super) fn pop(leaf: &Leaf, unit: &mut Unit) -> bool {
    let Some(count) = pop_count(leaf) else { return false };
    let mut done = false;
    for event in &leaf.events {
        let command: &[u8] = match event.kind {
            EventKind::LPop => b"LPOP",
            EventKind::RPop => b"RPOP",
            EventKind::ZPopMin => b"ZPOPMIN",
            EventKind::ZPopMax => b"ZPOPMAX",
            EventKind::Del => continue,
            _ => return false,
        };
        if count == b"1" {
            unit.command(event.db, &[command, &event.key]);
        } else {
            unit.command(event.db, &[command, &event.key, &count]);
        }
        done = true;
    }
    done
}

pub(super) fn blocking_move(leaf: &Leaf, first: &LeafEvent, unit: &mut Unit) -> bool {
    let args = leaf.args.slices();
    match args.as_slice() {
        [_, source, destination, from, to, _timeout] => {
            unit.command(first.db, &[b"LMOVE", source, destination, from, to])
        }
        [_, source, destination, _timeout] => unit.command(first.db, &[b"RPOPLPUSH", source, destination]),
        _ => return false,
    }
    true
}
