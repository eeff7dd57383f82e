//! Where the server's calls arrive.

use crate::ffi::{
    ChildResult, CommandResult, Ctx, DurableListener, EventListener, Filter, Handlers, InfoWriter, LoadingPhase, Reply,
};
use crate::module::config::Setting;
use crate::module::{
    announce, arguments, blocking, commands, config, hooks, info, iteration, life, listening, looking, wrappers,
};
use std::ffi::c_int;

/// The module.
pub(crate) struct Callbacks;

impl Handlers for Callbacks {
    fn version(&self) -> c_int {
        config::MODULE_VERSION
    }

    fn load(&self, ctx: Ctx<'_>, args: &[&[u8]]) -> bool {
        life::load(ctx, args)
    }

    fn unload(&self, ctx: Ctx<'_>) -> bool {
        life::unload(ctx)
    }

    fn command_filter(&self, ctx: Ctx<'_>, filter: Filter) {
        announce::command_filter(ctx, filter);
    }

    fn key_changed(&self, ctx: Ctx<'_>, class: u32, event: &[u8], key: &[u8], by_server: bool) {
        hooks::key_changed(ctx, class, event, key, by_server);
    }

    fn key_noted(&self, ctx: Ctx<'_>, class: u32, event: &[u8], key: &[u8]) {
        hooks::key_noted(ctx, class, event, key);
    }

    fn key_loaded(&self, ctx: Ctx<'_>, key: &[u8]) {
        hooks::key_loaded(ctx, key);
    }

    fn unit_end(&self, ctx: Ctx<'_>) {
        hooks::unit_end(ctx);
    }

    fn before_sleep(&self, ctx: Ctx<'_>) {
        iteration::before_sleep(ctx);
    }

    fn after_sleep(&self, ctx: Ctx<'_>) {
        looking::after_sleep(ctx);
    }

    fn flushed(&self, ctx: Ctx<'_>, db: Option<u32>) {
        hooks::flushed(ctx, db);
    }

    fn databases_swapped(&self, ctx: Ctx<'_>, first: u32, second: u32) {
        hooks::databases_swapped(ctx, first, second);
    }

    fn loading(&self, ctx: Ctx<'_>, phase: LoadingPhase) {
        hooks::loading(ctx, phase);
    }

    fn client_came(&self, client: u64) {
        hooks::client_came(client);
    }

    fn client_gone(&self, client: u64) {
        hooks::client_gone(client);
    }

    fn modules_changed(&self, ctx: Ctx<'_>, unloaded: Option<&[u8]>) {
        unloaded.into_iter().for_each(listening::module_gone);
        life::arrived();
        hooks::modules_changed(ctx);
    }

    fn positions(&self) -> Option<(u64, u64)> {
        listening::positions()
    }

    fn tell_when_durable(&self, owner: &[u8], position: Option<u64>, listener: DurableListener) -> Option<u64> {
        listening::tell_when_durable(owner, position, listener)
    }

    fn tell_of_events(&self, owner: &[u8], classes: u32, listener: EventListener) -> u64 {
        listening::tell_of_events(owner, classes, listener)
    }

    fn stop_telling(&self, token: u64) -> bool {
        listening::stop_telling(token)
    }

    fn command_done(&self, ctx: Ctx<'_>, result: &CommandResult<'_>) {
        hooks::command_done(ctx, result);
    }

    fn config_changed(&self, ctx: Ctx<'_>, names: &[&[u8]]) {
        life::config_changed(ctx, names);
    }

    fn save_begins(&self, ctx: Ctx<'_>) {
        life::save_begins(ctx);
    }

    fn child_gone(&self, ctx: Ctx<'_>) {
        life::settle_child(ctx);
    }

    fn primary_link_changed(&self, is_up: bool) {
        life::primary_link_changed(is_up);
    }

    fn role_changed(&self, ctx: Ctx<'_>, is_replica: bool) {
        life::role_changed(ctx, is_replica);
    }

    fn shut_down(&self, ctx: Ctx<'_>) {
        life::shut_down(ctx);
    }

    fn run_command(&self, ctx: Ctx<'_>, args: &[&[u8]]) {
        commands::run(ctx, args);
    }

    fn is_wrapper(&self, name: &[u8]) -> bool {
        wrappers::is_wrapper(name)
    }

    fn routing_argument(&self, name: &[u8]) -> Option<usize> {
        arguments::routing_argument(name)
    }

    fn untold_keys(&self, name: &[u8], first: &[u8], len: usize) -> Vec<usize> {
        arguments::untold_keys(name, first, len)
    }

    fn blocked_reply(&self, ctx: Ctx<'_>) {
        commands::blocked_reply(ctx);
    }

    fn blocked_timeout(&self, ctx: Ctx<'_>, args: &[&[u8]]) {
        commands::blocked_timeout(ctx, args);
    }

    fn client_left(&self, client: u64) {
        blocking::left(client);
    }

    fn promise_kept(&self, ctx: Ctx<'_>, call: u64, reply: Reply<'static>) {
        blocking::answered(ctx, call, reply);
    }

    fn write_info(&self, ctx: Ctx<'_>, writer: &mut InfoWriter<'_>) {
        info::write(ctx, writer);
    }

    fn child_done(&self, ctx: Ctx<'_>, result: ChildResult) {
        life::child_done(ctx, result);
    }

    fn setting(&self, index: usize) -> i64 {
        config::number(index)
    }

    fn set_setting(&self, index: usize, value: i64) -> Result<(), String> {
        if index == Setting::Enabled as usize {
            life::check_enabled()?;
        }
        config::set_number(index, value)
    }

    fn apply_setting(&self, ctx: Ctx<'_>, index: usize) -> Result<(), String> {
        if index == Setting::Enabled as usize { life::apply_enabled(ctx) } else { Ok(()) }
    }

    fn setting_text(&self, index: usize) -> String {
        config::text(index)
    }

    fn set_setting_text(&self, index: usize, value: String) -> Result<(), String> {
        config::set_text(index, value)
    }
}
