//! Looks at what clients that pipeline have sent before the server reads it (`core/input.rs`), right after the event
//! loop has slept: nothing is read there between the look and the question how much the server has read.

use crate::core::hash::Map;
use crate::core::leaf::ClientId;
use crate::ffi::{Ctx, Sockets};
use crate::machine;
use crate::module::config::{self, Setting, value};
use crate::module::listed::{self, Received};
use crate::module::{Module, with};
use std::cell::Cell;

/// How much of what a client has sent is looked at: more than the server reads at a time.
const LOOK_BYTES: usize = 64 * 1024;

/// The server reads at least this much of a client of which it has nothing, if there is as much (`PROTO_IOBUF_LEN`).
const READ_BYTES_MIN: usize = 16 * 1024;

/// Which clients are looked at, and how.
#[derive(Default)]
pub(super) struct Looks {
    sockets: Option<Sockets>,
    /// Those who are looked at.
    looked: Map<ClientId, Looked>,
    /// Those who are to be looked at from the next iteration on.
    wanted: Vec<ClientId>,
    /// Memory for what is seen.
    bytes: Vec<u8>,
    /// All are looked at, in whatever mode the log is made durable (WBL.DEBUG COLLECT).
    forced: bool,
    /// Whether what is known of them is up to date: they were looked at in this iteration, and in each before.
    is_up_to_date: bool,
}

/// A client that is looked at.
struct Looked {
    descriptor: i32,
    /// What the server said when it was asked last, if that still holds when the client's commands up to its position
    /// have run: those that the module may run do not change what is special about a client.
    standing: Cell<Option<Received>>,
    /// The server had nothing of the client in this iteration, and reads at least that before the next command comes,
    /// which begins at this position.
    fresh: Option<(u64, Received)>,
}

/// For tests that cannot send the command: `all`.
const VARIABLE: &str = "WBL_DEBUG_COLLECT";

impl Looks {
    /// Nobody is looked at yet.
    pub(super) fn at_start() -> Looks {
        let is_forced = value(Setting::DebugCommands) != 0 && std::env::var(VARIABLE).is_ok_and(|text| text == "all");
        Looks { forced: is_forced, ..Looks::default() }
    }

    /// This client is to be looked at.
    pub(super) fn want(&mut self, client: ClientId) {
        if !self.looked.contains_key(&client) && !self.wanted.contains(&client) {
            self.wanted.push(client);
        }
    }

    /// The client has gone, or does nothing for which it needs to be looked at.
    pub(super) fn forget(&mut self, client: ClientId) {
        if let (Some(looked), Some(sockets)) = (self.looked.remove(&client), &self.sockets) {
            sockets.remove(looked.descriptor);
        }
    }

    /// What the server has received of the client, as far as that is known without a question; `at` is where the
    /// command that has just come begins. Once after each look.
    pub(super) fn take_fresh(&mut self, client: ClientId, at: Option<u64>) -> Option<Received> {
        let (began, received) = self.looked.get_mut(&client)?.fresh.take()?;
        (Some(began) == at).then_some(received)
    }

    /// What the server said of the client still holds when its commands up to this position have run.
    pub(super) fn stands(&self, client: ClientId, at: u64, received: Received) {
        if let Some(looked) = self.looked.get(&client) {
            looked.standing.set(Some(Received { bytes: at, is_drained: true, ..received }));
        }
    }

    /// Has all clients collected, or no longer.
    pub(super) fn force(&mut self, forced: bool) {
        self.forced = forced;
    }

    pub(super) fn is_forced(&self) -> bool {
        self.forced
    }

    /// Whether what is known of clients is up to date.
    pub(super) fn is_up_to_date(&self) -> bool {
        self.is_up_to_date
    }

    /// Those who have sent something.
    fn with_input(&self) -> Vec<ClientId> {
        match &self.sockets {
            Some(sockets) => sockets.with_input(),
            // A simulated machine has no sockets.
            None => self.looked.keys().copied().collect(),
        }
    }

    /// Whether the client's socket is reported from now on.
    fn add(&mut self, client: ClientId, descriptor: i32) {
        if self.sockets.is_none() && !machine::is_simulated() {
            self.sockets = Sockets::new();
        }
        let is_added = match &self.sockets {
            Some(sockets) => sockets.add(descriptor, client),
            None => machine::is_simulated(),
        };
        if is_added {
            self.looked.insert(client, Looked { descriptor, standing: Cell::new(None), fresh: None });
        }
    }
}

/// The event loop has slept, and has read from no client yet.
pub(super) fn after_sleep(ctx: Ctx<'_>) {
    with(|module| module.look_at_inputs(ctx));
}

impl Module {
    /// Whether the module may run pipelines for their clients.
    pub(super) fn may_collect(&self) -> bool {
        let is_wanted = (config::collects_pipelines() || config::collects_transactions()) && !self.commits_inline();
        self.life.withholds()
            && (is_wanted || self.looks.forced)
            && !self.server.io_threads.may_send()
            && !self.server.other_modules
            && !self.server.in_cluster
            && !self.server.loses_cut_commands
    }

    fn look_at_inputs(&mut self, ctx: Ctx<'_>) {
        let may_collect = self.may_collect();
        if !may_collect && self.looks.is_up_to_date {
            let Module { looks, clients, .. } = self;
            looks.looked.keys().for_each(|client| {
                clients.get_mut(*client).and_then(|client| client.input.as_mut()).into_iter().for_each(|input| {
                    input.forget();
                });
            });
        }
        self.looks.is_up_to_date = may_collect;
        self.looks.looked.values_mut().for_each(|looked| looked.fresh = None);
        if !may_collect {
            self.looks.wanted.clear();
            return;
        }
        if self.looks.forced {
            let all: Vec<ClientId> = self.clients.ids().collect();
            all.into_iter().for_each(|client| self.looks.want(client));
        }
        self.look_at_wanted(ctx);
        if self.looks.looked.is_empty() {
            return;
        }
        let mut unknown = self.looks.with_input();
        unknown.retain(|client| match self.standing(*client) {
            Some(received) => {
                self.look_at(&received);
                false
            }
            None => true,
        });
        if !unknown.is_empty() {
            listed::received_of(ctx, &unknown).iter().for_each(|received| self.look_at(received));
        }
    }

    /// What the server has received of the client, if that is known without a question: nothing that was seen has yet
    /// to run.
    fn standing(&mut self, client: ClientId) -> Option<Received> {
        let standing = self.looks.looked.get(&client)?.standing.get()?;
        let input = self.clients.input(client)?;
        (input.has_run_all() && input.position() == Some(standing.bytes)).then_some(standing)
    }

    fn look_at_wanted(&mut self, ctx: Ctx<'_>) {
        let wanted = std::mem::take(&mut self.looks.wanted);
        if !wanted.is_empty() {
            listed::received_of(ctx, &wanted)
                .iter()
                .for_each(|received| self.looks.add(received.client, received.descriptor));
        }
    }

    fn look_at(&mut self, received: &Received) {
        let client = received.client;
        let Some(input) = self.clients.input(client) else { return self.looks.forget(client) };
        if !input.is_known() && received.is_drained {
            input.begin(received.bytes);
        }
        if !input.is_known() {
            return;
        }
        self.looks.bytes.resize(LOOK_BYTES, 0);
        let len = machine::peek(client, received.descriptor, &mut self.looks.bytes);
        if let Some(input) = self.clients.input(client) {
            input.saw(received.bytes, self.looks.bytes.get(..len).unwrap_or_default());
            let read = len.min(READ_BYTES_MIN) as u64;
            if received.is_drained && input.position() == Some(received.bytes) {
                let received_then = Received { bytes: received.bytes + read, ..*received };
                if let Some(looked) = self.looks.looked.get_mut(&client) {
                    looked.fresh = Some((received.bytes, received_then));
                }
            }
        }
    }

    /// The client pipelines, or sends transactions.
    pub(super) fn look_from_now_on(&mut self, client: ClientId) {
        if self.looks.is_up_to_date {
            self.looks.want(client);
        }
    }
}
