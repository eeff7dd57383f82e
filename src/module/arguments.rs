//! Arguments of commands, as the command filter sees them.

use crate::core::dirty::DbKey;
use crate::core::leaf::ClientId;
use crate::core::reads::{self, ReadSet, Reads};
use crate::core::stream_reads::StreamRead;
use crate::core::table::{self, Quirk, Shows};
use crate::ffi::{Ctx, Filter};
use crate::module::known::Known;

/// The client whose wait a CLIENT UNBLOCK is to end.
pub(super) fn unblocked_client(filter: &Filter, known: Known) -> Option<ClientId> {
    if known.row.quirk != Quirk::Unblocks {
        return None;
    }
    std::str::from_utf8(filter.arg(2)).ok()?.parse().ok()
}

/// The database that a SELECT chooses; `None` where the server refuses its arguments.
pub(super) fn selected_db(ctx: Ctx<'_>, filter: &Filter, known: Known) -> Option<u32> {
    if known.row.quirk != Quirk::Selects || known.refuses(filter.len()) {
        return None;
    }
    let db: u32 = std::str::from_utf8(filter.arg(1)).ok()?.parse().ok()?;
    // The server takes no sign and no leading zeros.
    let is_number = db.to_string().as_bytes() == filter.arg(1);
    (is_number && ctx.own().select_db(db)).then_some(db)
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

/// Adds what the command can show, which depends on its arguments only.
pub(super) fn add_reads(set: &mut ReadSet, ctx: Ctx<'_>, filter: &Filter, known: Known) {
    match known.reads {
        Reads::Keyspace | Reads::Sort => set.keyspace(),
        Reads::Functions => set.functions(),
        Reads::Anything => {
            set.functions();
            set.anything();
        }
        Reads::Script => {
            set.functions();
            set.runs_others();
        }
        _ if known.row.quirk == Quirk::Selects => set.anything(),
        Reads::TwoDatabases => set.anything(),
        reads => key_positions(ctx, filter, reads).into_iter().for_each(|index| set.key(filter.arg(index))),
    }
}

/// The keys of a command that runs in this database.
pub(super) fn keys_in(ctx: Ctx<'_>, command: &[&[u8]], db: u32) -> Vec<DbKey> {
    let positions = ctx.command_keys(command.iter().copied());
    positions.into_iter().filter_map(|index| Some((db, (*command.get(index)?).into()))).collect()
}

/// The index of the argument that decides which node serves a command, though it is no key.
pub fn routing_argument(name: &[u8]) -> Option<usize> {
    let row = table::COMMANDS.iter().find(|row| row.quirk == Quirk::RoutesByCursor);
    row.filter(|row| row.name.as_bytes().eq_ignore_ascii_case(name)).map(|_| 1)
}

/// The indices of the keys of a command whose keys the server's API does not report, by its name and first argument.
pub fn untold_keys(name: &[u8], first: &[u8], len: usize) -> Vec<usize> {
    let row = table::COMMANDS.iter().find(|row| row.shows == Shows::Pairs);
    let is_it = row.is_some_and(|row| row.name.as_bytes().eq_ignore_ascii_case(name));
    if is_it { reads::pairs(first, len).collect() } else { Vec::new() }
}

/// Whether an XREAD or XREADGROUP waits when there is nothing to read. One with unknown options may.
pub(super) fn read_blocks(filter: &Filter) -> bool {
    let args = (0..filter.len()).map(|index| filter.arg(index));
    StreamRead::parse(args).map_or_else(|| has_arg(filter, b"BLOCK"), |read| read.timeout.is_some())
}

/// Whether a word is among the arguments.
fn has_arg(filter: &Filter, wanted: &[u8]) -> bool {
    (1..filter.len()).any(|index| filter.arg(index).eq_ignore_ascii_case(wanted))
}
