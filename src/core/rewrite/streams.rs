//! Commands of streams.

use crate::core::event::{EventKind, Outcome};
use crate::core::leaf::{Leaf, Told};
use crate::core::unit::Unit;

pub(super) fn pending(leaf: &Leaf, unit: &mut Unit) -> bool {
    let (Some(Told::Groups(changes)), Some(db)) = (&leaf.told, leaf.db) else { return false };
    changes.iter().for_each(|change| change.log(db, unit));
    true
}

/// `XADD [NOMKSTREAM] [MAXLEN|MINID ...] id field value...` becomes XADD key ID field value...; trimming becomes XTRIM
/// key MAXLEN = LENGTH.
///
/// An id that the client has chosen is the one that the entry got, whatever the stream seems to end with: servers up to
/// 9.1.2 may lose sight of an entry where `stream-node-max-bytes` was lowered.
pub(super) fn stream(leaf: &Leaf, unit: &mut Unit) -> bool {
    // All or nothing: an outcome that could not be read makes the whole leaf an image.
    if leaf.events.iter().any(|event| event.outcome.is_none()) {
        return false;
    }
    let args = leaf.args.slices();
    for event in &leaf.events {
        let Some(Outcome::Value(outcome)) = &event.outcome else { return false };
        match event.kind {
            EventKind::XAdd => {
                let Some((sent, fields)) = xadd_entry(&args) else { return false };
                let id = if sent.contains(&b'*') { outcome } else { sent };
                let mut command: Vec<&[u8]> = vec![b"XADD", &event.key, id];
                command.extend_from_slice(fields);
                unit.command(event.db, &command);
            }
            EventKind::XTrim => unit.command(event.db, &[b"XTRIM", &event.key, b"MAXLEN", b"=", outcome]),
            _ => return false,
        }
    }
    true
}

/// The id and the field-value part of an XADD's arguments.
fn xadd_entry<'a, 'b>(args: &'a [&'b [u8]]) -> Option<(&'b [u8], &'a [&'b [u8]])> {
    let mut index = 2;
    loop {
        let token = args.get(index)?;
        if token.eq_ignore_ascii_case(b"NOMKSTREAM") {
            index += 1;
        } else if token.eq_ignore_ascii_case(b"MAXLEN") || token.eq_ignore_ascii_case(b"MINID") {
            index += 1;
            let sign = args.get(index)?;
            index += if *sign == b"=" || *sign == b"~" { 2 } else { 1 };
        } else if token.eq_ignore_ascii_case(b"LIMIT") {
            index += 2;
        } else {
            return Some((token, args.get(index + 1..)?));
        }
    }
}
