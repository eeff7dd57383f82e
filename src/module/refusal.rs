//! Writes while the log cannot begin: each is refused, because none could be kept. If memory has less than the log
//! holds, reads are, too: they would show less than was acknowledged. So are commands that would have to wait for a
//! disk that fails (`disk.rs`), and settings that would make the server write files of its own to the log's folder.
//!
//! The filter turns such a command into one of the module's that answers with the reason, also in scripts, in
//! transactions that are queued meanwhile, and in what other modules call. Transactions that were queued before are
//! refused as a whole.

use crate::core::capture::Class;
use crate::core::client::Client;
use crate::core::quirk::Quirk;
use crate::core::reads::Reads;
use crate::ffi::{Ctx, Filter};
use crate::module::known::Known;
use crate::module::verdict::{Rewrite, Verdict};
use crate::module::{Module, errors, listed, with};
use std::ffi::CStr;

/// The command that refused writes become.
pub(super) const REFUSED: &CStr = c"wbl.refused";

impl Module {
    /// Writes may not run. What was queued after a MULTI before has passed the filter, so its EXEC is refused.
    pub(super) fn announce_without_log(&mut self, ctx: Ctx<'_>, filter: &Filter, known: Known) -> Verdict {
        let client = filter.client_id();
        let in_multi = |module: &Module| module.info_of(ctx, client).is_some_and(|info| info.in_multi);
        match known.class {
            Class::Multi if !in_multi(self) => {
                self.clients.get_mut(client).into_iter().for_each(Client::drop_queue);
                Verdict::PASS
            }
            Class::Exec if in_multi(self) => {
                let client = self.clients.get_mut(client);
                let has_queue = client.is_some_and(|client| std::mem::take(&mut client.has_unseen_queue));
                Verdict::rewrite(if has_queue { Rewrite::Refuse } else { Rewrite::None })
            }
            _ if known.writes => Verdict::rewrite(Rewrite::Wrap(REFUSED)),
            // A replica of this server would replace its data with less.
            _ if (known.row.quirk == Quirk::Copies || known.reads != Reads::Nothing) && self.life.lacks_data() => {
                Verdict::rewrite(Rewrite::Wrap(REFUSED))
            }
            _ => Verdict::PASS,
        }
    }
}

/// From here on writes are refused: notes who has queued some.
pub(super) fn begin(ctx: Ctx<'_>) {
    let listed = listed::clients(ctx);
    with(|module| match listed {
        Ok(listed) => listed.iter().for_each(|client| module.take_queue_in(client)),
        // Where the server does not say, each may have.
        Err(_) => module.clients.all_have_unseen_queues(),
    });
}

/// WBL.REFUSED command...
pub(super) fn refused(ctx: Ctx<'_>, args: &[&[u8]]) {
    match args {
        [_, command, ..] if command.eq_ignore_ascii_case(b"config") => ctx.reply_error(errors::AOF_IN_FOLDER),
        [_, command, ..] if command.eq_ignore_ascii_case(b"psync") => ctx.reply_error(errors::LACKS_DATA),
        _ => ctx.reply_error(&text()),
    }
}

/// The error that a client gets.
pub(super) fn text() -> String {
    let reason = with(|module| module.life.failure().map(String::from)).flatten();
    let trouble = || with(|module| module.disk_trouble()).flatten();
    let no_room = || with(|module| module.no_room_for_last()).flatten();
    let lacks_data = with(|module| module.life.lacks_data()) == Some(true);
    match (reason, trouble().or_else(no_room)) {
        (Some(reason), _) if lacks_data => errors::lacks_data(&reason),
        (Some(reason), _) => errors::no_log(&reason),
        (None, Some(trouble)) => errors::disk_fails(&trouble),
        (None, None) if with(|module| module.paused) == Some(true) => errors::PAUSED.into(),
        // The cause has passed since.
        (None, None) => errors::no_log("the log could not be written when the command came"),
    }
}

/// The error for a client whose command needs a log.
pub(super) fn no_log_text() -> String {
    let reason = with(|module| module.life.failure().map(String::from)).flatten();
    reason.map_or_else(|| errors::NOT_ENABLED.into(), |reason| errors::without_log(&reason))
}
