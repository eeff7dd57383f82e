//! The clients that are there when logging begins (MODULE LOAD, `wbl.enabled yes`, a promotion): what the filter would
//! know of them is asked from the server, and what that does not say is taken for the worst.

use crate::core::capture::Class;
use crate::core::output::ReplySize;
use crate::core::table::{self, Blocks};
use crate::ffi::Ctx;
use crate::module::Module;
use crate::module::known::is_own_command;
use crate::module::moving::Moving;

/// What CLIENT LIST shows of a client.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) id: u64,
    /// The command that it has sent last.
    command: String,
    blocked: bool,
    /// How many commands it has queued since a MULTI; `None` outside of one.
    queued: Option<u64>,
    watches: bool,
    tracks: bool,
}

/// A field of a client's line in CLIENT LIST.
pub(super) fn field_of<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
}

impl Listed {
    /// Reads a line; `None` where it is not of the known form.
    pub(super) fn parse(line: &str) -> Option<Listed> {
        let field = |name| field_of(line, name);
        Some(Listed {
            id: field("id")?.parse().ok()?,
            command: field("cmd")?.into(),
            blocked: field("flags")?.contains('b'),
            queued: field("multi")?.parse().ok(),
            watches: field("watch")? != "0",
            tracks: field("flags")?.contains('t'),
        })
    }
}

impl Listed {
    /// Whether the server may look at a command of the module for it, without a word to anybody.
    pub(super) fn may_point_to_own_command(&self) -> bool {
        is_own_command(&self.command) || self.queued.is_some_and(|queued| queued > 0)
    }
}

impl Module {
    /// Logging begins while clients are doing this.
    pub(super) fn take_clients_in(&mut self, ctx: Ctx<'_>, listed: &[Listed]) {
        self.clients.forget();
        listed.iter().for_each(|client| self.take_in(client));
        // What a pause made wait before is not known.
        self.pause.postponed = ctx.writes_are_paused();
        self.moving = Moving::begin(ctx.flags().in_cluster());
    }

    /// What the client has queued was not seen.
    pub(super) fn take_queue_in(&mut self, listed: &Listed) {
        self.clients.insert(listed.id).has_unseen_queue = listed.queued.is_some_and(|queued| queued > 0);
    }

    fn take_in(&mut self, listed: &Listed) {
        let client = self.clients.insert(listed.id);
        if listed.watches {
            client.transaction.watch_anything();
        }
        if listed.tracks {
            self.clients.may_track(listed.id);
        }
        self.take_queue_in(listed);
        if listed.queued.is_some() {
            self.capture.command(listed.id, Class::Multi, None, std::iter::empty());
            self.clients.replies(listed.id, ReplySize::Multi);
        }
        // The server serves it without an event when its streams change.
        let waits_for_streams = table::find(&listed.command).is_some_and(|row| row.blocks == Blocks::WithOption);
        if listed.blocked && waits_for_streams {
            self.capture.blocked.wait_for_anything(listed.id);
        }
        if listed.blocked && self.server.other_modules {
            self.clients.blocked_by_module(listed.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_client_list_are_read() {
        let line = "id=7 addr=/s:0 name=multi=3 flags=bx db=0 multi=2 watch=1 cmd=xread user=default";
        let listed =
            Listed { id: 7, command: "xread".into(), blocked: true, queued: Some(2), watches: true, tracks: false };
        assert_eq!(Listed::parse(line), Some(listed));
        let outside = Listed::parse("id=8 flags=N multi=-1 watch=0 cmd=NULL").expect("of the known form");
        assert_eq!((outside.queued, outside.watches, outside.blocked), (None, false, false));
        assert_eq!(Listed::parse("id=8 flags=N"), None);
    }
}
