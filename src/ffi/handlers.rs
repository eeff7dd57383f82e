//! What a module does when the server calls. The callbacks of this folder call nothing else.

use super::context::Ctx;
use super::events::{CommandResult, LoadingPhase};
use super::filter::Filter;
use super::info::InfoWriter;
use super::load::ChildResult;
use super::reply::Reply;
use super::shared::{DurableListener, EventListener};
use std::ffi::c_int;
use std::sync::OnceLock;

/// What a module does when the server calls. All of it under the server's global lock.
pub trait Handlers: Sync {
    /// The module's version, as the server shows it.
    fn version(&self) -> c_int;
    /// `loadmodule` or MODULE LOAD. `false` refuses.
    fn load(&self, ctx: Ctx<'_>, args: &[&[u8]]) -> bool;
    /// MODULE UNLOAD. `false` refuses.
    fn unload(&self, ctx: Ctx<'_>) -> bool;
    /// A command is about to run or to be queued.
    fn command_filter(&self, ctx: Ctx<'_>, filter: Filter);
    /// A key changed. `class` is the event's, as the server's bit; `by_server`: it has expired or was evicted.
    fn key_changed(&self, ctx: Ctx<'_>, class: u32, event: &[u8], key: &[u8], by_server: bool);
    /// An event that reports no change.
    fn key_noted(&self, ctx: Ctx<'_>, class: u32, event: &[u8], key: &[u8]);
    /// A key was loaded from an RDB file.
    fn key_loaded(&self, ctx: Ctx<'_>, key: &[u8]);
    /// The unit whose end was asked for ([`Ctx::ask_for_unit_end`]) has ended.
    fn unit_end(&self, ctx: Ctx<'_>);
    /// The event loop is about to send replies and to sleep.
    fn before_sleep(&self, ctx: Ctx<'_>);
    /// The event loop has slept, and has read from no client yet.
    fn after_sleep(&self, ctx: Ctx<'_>);
    /// A database, or all of them, was emptied.
    fn flushed(&self, ctx: Ctx<'_>, db: Option<u32>);
    /// Two databases changed places.
    fn databases_swapped(&self, ctx: Ctx<'_>, first: u32, second: u32);
    /// The whole dataset is being replaced.
    fn loading(&self, ctx: Ctx<'_>, phase: LoadingPhase);
    /// A client has connected.
    fn client_came(&self, client: u64);
    /// A client has gone.
    fn client_gone(&self, client: u64);
    /// A module was loaded, or that of this name unloaded.
    fn modules_changed(&self, ctx: Ctx<'_>, unloaded: Option<&[u8]>);
    /// For another module: the appended and the durable position; `None` where no log protects the server.
    fn positions(&self) -> Option<(u64, u64)>;
    /// Another module wants a call when a position, or everything executed, is durable. Returns a token.
    fn tell_when_durable(&self, owner: &[u8], position: Option<u64>, listener: DurableListener) -> Option<u64>;
    /// Another module wants calls for events of these classes. Returns a token.
    fn tell_of_events(&self, owner: &[u8], classes: u32, listener: EventListener) -> u64;
    /// It no longer does; `false` where nothing has this token.
    fn stop_telling(&self, token: u64) -> bool;
    /// A command has run, while that is asked for.
    fn command_done(&self, ctx: Ctx<'_>, result: &CommandResult<'_>);
    /// Settings of the server changed.
    fn config_changed(&self, ctx: Ctx<'_>, names: &[&[u8]]);
    /// The server begins to save its own file, or has forked a child that may.
    fn save_begins(&self, ctx: Ctx<'_>);
    /// A child of the server's, forked for any purpose, has ended.
    fn child_gone(&self, ctx: Ctx<'_>);
    /// The link to the primary is up, or down.
    fn primary_link_changed(&self, is_up: bool);
    /// The server became a replica or a primary.
    fn role_changed(&self, ctx: Ctx<'_>, is_replica: bool);
    /// The server shuts down.
    fn shut_down(&self, ctx: Ctx<'_>);
    /// One of the module's commands, with its name as the first argument.
    fn run_command(&self, ctx: Ctx<'_>, args: &[&[u8]]);
    /// Whether one of the module's commands runs another, which its arguments begin with.
    fn is_wrapper(&self, name: &[u8]) -> bool;
    /// The index of the argument that decides which node serves a command, though it is no key.
    fn routing_argument(&self, name: &[u8]) -> Option<usize>;
    /// The indices of the keys of a command whose keys the server's API does not report.
    fn untold_keys(&self, name: &[u8], first: &[u8], len: usize) -> Vec<usize>;
    /// The reply of a command whose wait is over ([`Ctx::block_command`]).
    fn blocked_reply(&self, ctx: Ctx<'_>);
    /// The reply of a command whose wait took too long.
    fn blocked_timeout(&self, ctx: Ctx<'_>, args: &[&[u8]]);
    /// A blocked client has left its wait ([`super::Held::on_leave`]).
    fn client_left(&self, client: u64);
    /// A command that waits has an answer; `call` is the number that it was given ([`super::Promise::on_answer`]).
    fn promise_kept(&self, ctx: Ctx<'_>, call: u64, reply: Reply<'static>);
    /// INFO.
    fn write_info(&self, ctx: Ctx<'_>, writer: &mut InfoWriter<'_>);
    /// A forked child has ended.
    fn child_done(&self, ctx: Ctx<'_>, result: ChildResult);
    /// The value of a setting.
    fn setting(&self, index: usize) -> i64;
    /// Sets it, which has no effect yet: the server may undo it. The error is for the client.
    ///
    /// # Errors
    /// Why the value is refused.
    fn set_setting(&self, index: usize, value: i64) -> Result<(), String>;
    /// All settings of a CONFIG SET have been accepted, or undone: a setting's value is to take effect. The error is
    /// for the client.
    ///
    /// # Errors
    /// Why it can't. The server takes the values back.
    fn apply_setting(&self, ctx: Ctx<'_>, index: usize) -> Result<(), String>;
    /// The text of a setting.
    fn setting_text(&self, index: usize) -> String;
    /// Sets it; the error is for the client.
    ///
    /// # Errors
    /// Why the value is refused.
    fn set_setting_text(&self, index: usize, value: String) -> Result<(), String>;
}

static HANDLERS: OnceLock<&'static dyn Handlers> = OnceLock::new();

/// At load: whose handlers are called. A module that is loaded again has the same.
pub(super) fn set_handlers(handlers: &'static dyn Handlers) {
    HANDLERS.get_or_init(|| handlers);
}

/// The handlers; no callback is registered before they are set.
pub(super) fn handlers() -> &'static dyn Handlers {
    match HANDLERS.get() {
        Some(handlers) => *handlers,
        None => super::missing_api("handlers"),
    }
}
