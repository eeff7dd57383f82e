//! Arguments of commands, as the command filter sees them.

use crate::core::leaf::ClientId;
use crate::core::reads::{self, Reads};
use crate::core::stream_reads::StreamRead;
use crate::core::table::{CommandSpec, Rule};
use crate::ffi::{Ctx, Filter};

/// Longest command name that the table knows, with room for subcommands.
pub(super) const NAME_BYTES_MAX: usize = 64;

/// Whose wait a CLIENT UNBLOCK is to end.
pub(super) fn unblocked_client(filter: &Filter) -> Option<ClientId> {
    let is_unblock = filter.arg(0).eq_ignore_ascii_case(b"client") && filter.arg(1).eq_ignore_ascii_case(b"unblock");
    if is_unblock { std::str::from_utf8(filter.arg(2)).ok()?.parse().ok() } else { None }
}

/// Whether it is CLIENT PAUSE.
pub(super) fn is_client_pause(filter: &Filter) -> bool {
    filter.arg(0).eq_ignore_ascii_case(b"client") && filter.arg(1).eq_ignore_ascii_case(b"pause")
}

/// The database that a SELECT chooses.
pub(super) fn selected_db(ctx: Ctx<'_>, filter: &Filter) -> Option<u32> {
    if !filter.arg(0).eq_ignore_ascii_case(b"select") {
        return None;
    }
    let db = std::str::from_utf8(filter.arg(1)).ok()?.parse().ok()?;
    ctx.own().select_db(db).then_some(db)
}

/// The indices of the command's keys.
pub(super) fn key_positions(ctx: Ctx<'_>, filter: &Filter, reads: Reads) -> Vec<usize> {
    match reads {
        Reads::Range { first, last, step } => reads::range(first, last, step, filter.len()).collect(),
        Reads::Pairs => reads::pairs(filter.arg(1), filter.len()).collect(),
        Reads::Movable | Reads::Sort | Reads::TwoDatabases => {
            ctx.command_keys((0..filter.len()).map(|index| filter.arg(index)))
        }
        _ => Vec::new(),
    }
}

/// Whether an XREAD or XREADGROUP waits when there is nothing to read. One with options that are not known may.
pub(super) fn read_blocks(filter: &Filter) -> bool {
    let args = (0..filter.len()).map(|index| filter.arg(index));
    StreamRead::parse(args).map_or_else(|| has_arg(filter, b"BLOCK"), |read| read.blocks)
}

/// Whether it is BITFIELD with OVERFLOW FAIL, which may lengthen a string without an event.
pub(super) fn is_failing_bitfield(filter: &Filter, spec: &CommandSpec) -> bool {
    spec.rule == Rule::Bits && (2..filter.len()).any(|index| filter.arg(index).eq_ignore_ascii_case(b"FAIL"))
}

/// Whether a word stands among the arguments.
fn has_arg(filter: &Filter, wanted: &[u8]) -> bool {
    (1..filter.len()).any(|index| filter.arg(index).eq_ignore_ascii_case(wanted))
}

/// Writes the lower-case name behind `start`; `None` when it is too long to be one.
pub(super) fn lower_case(name: &[u8], out: &mut [u8; NAME_BYTES_MAX], start: usize) -> Option<usize> {
    let end = start + name.len();
    // One byte stays free for the `|` of a subcommand.
    if end >= NAME_BYTES_MAX {
        return None;
    }
    out.get_mut(start..end)?.copy_from_slice(name);
    out.get_mut(start..end)?.make_ascii_lowercase();
    Some(end)
}
