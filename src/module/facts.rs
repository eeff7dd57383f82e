//! What the rule of acknowledgement asks, answered by the server and the module's state.

use crate::core::ack::{Author, Facts, Kind, Reason, Rights, Wrapper};
use crate::core::capture::Class;
use crate::core::leaf::ClientId;
use crate::core::reads::Reads;
use crate::core::table::{Blocks, Quirk, Rule};
use crate::ffi::{self, ClientInfo, ContextFlags, Ctx, Filter};
use crate::module::arguments::read_blocks;
use crate::module::known::Known;
use crate::module::listed::Sent;
use crate::module::wrappers::name_of;
use crate::module::{Module, listed};

/// Asks about the reply of one client. What costs a question to the server is asked once.
pub(super) struct Asked<'a> {
    module: &'a mut Module,
    ctx: Ctx<'a>,
    client: ClientId,
    author: Author,
    /// The command in the filter.
    filter: Option<&'a Filter>,
    /// It has an ASKING before it.
    has_asked: bool,
    /// It names a key that has gone from a slot that moves.
    names_gone_key: bool,
    /// The worst is assumed where only a server command would show what is so.
    without_commands: bool,
    flags: Option<ContextFlags>,
    info: Option<Option<ClientInfo>>,
    rights: Option<Rights>,
}

impl<'a> Asked<'a> {
    /// About a reply of this client's.
    pub(super) fn new(module: &'a mut Module, ctx: Ctx<'a>, client: ClientId) -> Asked<'a> {
        Asked {
            module,
            ctx,
            client,
            author: Author::Command,
            filter: None,
            has_asked: false,
            names_gone_key: false,
            without_commands: false,
            flags: None,
            info: None,
            rights: None,
        }
    }

    /// The same, in a context whose flags are known.
    pub(super) fn with_flags(self, flags: ContextFlags) -> Asked<'a> {
        Asked { flags: Some(flags), ..self }
    }

    /// The same about a change that this one has made.
    pub(super) fn made_by(self, author: Author) -> Asked<'a> {
        Asked { author, ..self }
    }

    /// The same, where no server command is called: what only that would show is assumed to be the worst.
    pub(super) fn without_commands(self) -> Asked<'a> {
        Asked { without_commands: true, ..self }
    }

    /// The same about a command that its client wants to have run.
    pub(super) fn in_filter(self, filter: &'a Filter, has_asked: bool, info: Option<ClientInfo>) -> Asked<'a> {
        Asked { filter: Some(filter), has_asked, info: info.map(Some), ..self }
    }

    /// The same about a command that does, or does not, name a key which has gone from a slot that moves.
    pub(super) fn about_gone_key(self, names_gone_key: bool) -> Asked<'a> {
        Asked { names_gone_key, ..self }
    }

    fn flags(&mut self) -> ContextFlags {
        *self.flags.get_or_insert_with(|| self.ctx.flags())
    }

    fn info(&mut self) -> Option<ClientInfo> {
        *self.info.get_or_insert_with(|| self.module.info_of(self.ctx, self.client))
    }
}

impl Facts for Asked<'_> {
    fn is_active(&mut self) -> bool {
        self.module.life.withholds()
    }

    fn any_change(&mut self) -> bool {
        !self.module.dirty.is_empty()
    }

    fn commits_inline(&mut self) -> bool {
        self.module.commits_inline()
    }

    fn in_exec(&mut self) -> bool {
        self.flags().in_exec()
    }

    fn in_script(&mut self) -> bool {
        self.flags().in_script()
    }

    fn author(&mut self) -> Author {
        self.author
    }

    fn script_reason(&mut self) -> Option<Reason> {
        self.module.running.as_sent
    }

    fn in_other_module(&mut self) -> bool {
        self.flags().denies_blocking() || !self.module.clients.contains(self.client)
    }

    fn has_replied_early(&mut self) -> bool {
        self.module.capture.may_have_replied(self.client)
    }

    fn is_slot_import(&mut self) -> bool {
        self.flags().is_slot_import()
    }

    fn names_gone_key(&mut self) -> bool {
        self.names_gone_key
    }

    fn has_postponed(&mut self) -> bool {
        !self.module.delayed.is_empty()
    }

    fn has_postponed_script(&mut self) -> bool {
        let scripts = self.module.delayed.scripts();
        !scripts.is_empty() && (self.without_commands || listed::any_waits(self.ctx, &scripts))
    }

    fn writes_are_paused(&mut self) -> bool {
        self.ctx.writes_are_paused()
    }

    fn is_cluster_with_modules(&mut self) -> bool {
        self.module.server.other_modules && self.flags().in_cluster()
    }

    fn shares_id(&mut self) -> bool {
        self.module.clients.shares_id(self.client)
    }

    fn tracks(&mut self) -> bool {
        // Most clients never turn it on; the server is asked about those that may have.
        self.module.clients.get(self.client).is_some_and(|client| client.may_track)
            && self.info().is_some_and(|info| info.tracking)
    }

    fn pipelines(&mut self) -> bool {
        if self.module.disk_fails() {
            // The loop waits for nobody.
            return false;
        }
        let Module { running, clients, .. } = &mut *self.module;
        let pipelines = match running.pipelines.filter(|_| running.client == self.client) {
            Some(pipelines) => pipelines,
            None => clients.is_pipelining(self.client),
        };
        if running.client == self.client {
            running.pipelines = Some(pipelines);
        }
        if pipelines {
            self.module.look_from_now_on(self.client);
        }
        pipelines
    }

    fn others_run_scripts(&mut self) -> bool {
        self.module.undurable(self.module.iteration.waits.newest_after_scripts(self.client)).is_some()
    }

    fn is_subscribed(&mut self) -> bool {
        // As with tracking.
        self.module.clients.get(self.client).is_none_or(|client| client.may_be_subscribed)
            && self.info().is_none_or(|info| info.subscribed)
    }

    fn has_asked(&mut self) -> bool {
        self.has_asked
    }

    fn debugs_scripts(&mut self) -> bool {
        self.module.clients.get(self.client).is_some_and(|client| client.debugs_scripts)
    }

    fn rights(&mut self, wrapper: Wrapper) -> Rights {
        if let Some(rights) = self.rights {
            return rights;
        }
        let db = self.module.selected_by(self.ctx, self.client);
        let rights = match self.filter.map(|filter| filter.rights(self.ctx, name_of(wrapper), db)) {
            Some(ffi::Rights::Both) => Rights::Both,
            Some(ffi::Rights::Own) => Rights::Own,
            Some(ffi::Rights::None) | None => Rights::None,
        };
        *self.rights.insert(rights)
    }

    fn debug_paused(&mut self) -> bool {
        self.module.paused
    }

    fn has_io_threads(&mut self) -> bool {
        self.module.server.io_threads.may_send()
    }

    fn has_other_modules(&mut self) -> bool {
        self.module.server.other_modules
    }

    fn has_output_left(&mut self) -> bool {
        let Module { clients, iteration, .. } = &mut *self.module;
        if clients.has_room(self.client) {
            return false;
        }
        // Within an iteration output is left only where the server yields: each client is asked about once.
        iteration.askers.comes(self.client);
        if iteration.without_output.contains(&self.client) {
            return false;
        }
        if self.without_commands {
            return true;
        }
        let asked = iteration.askers.with(self.client);
        for Sent { client, descriptor, reply_bytes } in listed::without_output(self.ctx, &asked) {
            iteration.without_output.insert(client);
            let socket_bytes = descriptor.filter(|_| clients.can_note_room(client)).and_then(ffi::empty_socket_bytes);
            if let Some(socket_bytes) = socket_bytes {
                clients.note_room(client, socket_bytes, reply_bytes);
            }
        }
        !iteration.without_output.contains(&self.client)
    }

    fn loses_cut_commands(&mut self) -> bool {
        self.module.server.loses_cut_commands
    }
}

/// What a command at top level is, for the rule.
pub(super) fn kind_of(filter: &Filter, known: Known, shows_change: bool) -> Kind {
    let args = || (0..filter.len()).map(|index| filter.arg(index));
    match known.class {
        _ if known.refuses(filter.len()) => Kind::Refused,
        Class::Write(spec) if spec.rule == Rule::CardinalityCache => Kind::Count { caches: filter.len() == 2 },
        Class::Write(spec) if spec.is_wrapped() => Kind::Unseen { waits: spec.may_block() && read_blocks(filter) },
        Class::Write(spec) if spec.is_failing_bitfield(args()) => Kind::Unseen { waits: false },
        Class::Write(spec) if spec.may_block() || spec.is_unknown() || spec.quirk == Quirk::NeverWrapped => {
            Kind::AsSent { blocks: spec.may_block() }
        }
        Class::Write(spec) => Kind::Write {
            replies_early: spec.may_reply_early(args()),
            is_effective: !shows_change || spec.is_effective(args()),
        },
        Class::Exec => Kind::Exec,
        Class::Opaque if known.reads == Reads::Script => Kind::Script { writes: true },
        Class::ReadOnly if known.reads == Reads::Script => Kind::Script { writes: false },
        Class::ReadOnly if known.row.blocks == Blocks::WithOption && read_blocks(filter) => Kind::WaitingRead,
        Class::ReadOnly => Kind::Read,
        _ => Kind::Other,
    }
}
