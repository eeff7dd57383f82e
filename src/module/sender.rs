//! Who sends a command.

use crate::ffi::{Ctx, Filter};
use crate::module::settle::belongs_to_running;
use crate::module::with;

/// Who sends a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    /// A connected client.
    Client,
    /// A connected client, while another one's script runs long or waits for a RESUME: the server refuses all but a few
    /// commands.
    Bystander,
    /// A script or another module, inside of a client's command or by itself. It has no record: nothing that it sends
    /// counts as what a client queues or watches.
    Inner,
}

/// The sender of the command that the filter sees.
pub(super) fn sender_of(ctx: Ctx<'_>, filter: &Filter) -> Sender {
    let client = filter.client_id();
    let flags = ctx.flags();
    let (is_connection, inside, is_let_in) = with(|module| {
        let is_known = module.clients.contains(client);
        let is_connection = is_known && !module.clients.shares_id(client);
        // Nothing runs then whose commands could come under its id, nor can the end of a unit be waited for.
        let is_let_in = is_known && module.iteration.lets_others_in;
        (is_connection, module.running.is_wrapped() || !is_known, is_let_in)
    })
    .unwrap_or((false, true, false));
    match () {
        () if is_let_in || flags.in_script() && is_connection => Sender::Bystander,
        // The commands of an EXEC have passed the filter before.
        () if inside || flags.in_script() || flags.in_exec() || belongs_to_running(ctx, client) => Sender::Inner,
        () => Sender::Client,
    }
}
