//! Registering commands, settings and hooks with the server.

use super::api;
use super::context::Ctx;
use super::handlers::handlers;
use super::{events, settings, shells};
use std::cell::Cell;
use std::ffi::{CStr, CString, c_void};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use valkey_module::raw;

/// The class of the module's private events: a bit that no class of the server uses, so neither clients nor other
/// modules get them.
pub(super) const PRIVATE_EVENT: i32 = 1 << 29;

/// The classes that report changed data, and `loaded`, which recovery needs.
const SUBSCRIBED_EVENTS: i32 = raw::VALKEYMODULE_NOTIFY_GENERIC
    | raw::VALKEYMODULE_NOTIFY_STRING
    | raw::VALKEYMODULE_NOTIFY_LIST
    | raw::VALKEYMODULE_NOTIFY_SET
    | raw::VALKEYMODULE_NOTIFY_HASH
    | raw::VALKEYMODULE_NOTIFY_ZSET
    | raw::VALKEYMODULE_NOTIFY_EXPIRED
    | raw::VALKEYMODULE_NOTIFY_EVICTED
    | raw::VALKEYMODULE_NOTIFY_STREAM
    | raw::VALKEYMODULE_NOTIFY_MODULE
    | raw::VALKEYMODULE_NOTIFY_LOADED
    | PRIVATE_EVENT;

const _: () = assert!(
    PRIVATE_EVENT & (raw::VALKEYMODULE_NOTIFY_ALL | raw::VALKEYMODULE_NOTIFY_LOADED | raw::VALKEYMODULE_NOTIFY_NEW)
        == 0
);

/// A command's flags and ACL categories, in the server's words.
pub struct CommandFlags {
    /// Flags as ValkeyModule_CreateCommand takes them.
    pub flags: &'static CStr,
    /// ACL categories, separated by spaces.
    pub acl_categories: &'static CStr,
}

/// What COMMAND DOCS says of a command.
pub struct CommandDocs {
    /// One line.
    pub summary: &'static CStr,
    /// Complexity in O notation.
    pub complexity: &'static CStr,
    /// The module version that introduced it.
    pub since: &'static CStr,
    /// Number of arguments with the name; negative: at least that many.
    pub arity: i32,
    /// Arguments: name, token (empty for none), optional.
    pub args: &'static [(&'static CStr, Option<&'static CStr>, bool)],
}

/// Registers a command; it arrives in [`super::Handlers::run_command`]. `false` when the server refused.
pub fn register_command(ctx: Ctx<'_>, name: &'static CStr, flags: &CommandFlags, docs: &CommandDocs) -> bool {
    let ok = raw::VALKEYMODULE_OK as i32;
    // SAFETY: the context is valid (type invariant); all strings are NUL-terminated; the callback has the server's
    // signature.
    let created = unsafe {
        api!(ValkeyModule_CreateCommand)(
            ctx.as_raw(),
            name.as_ptr(),
            Some(shells::command as _),
            flags.flags.as_ptr(),
            0,
            0,
            0,
        )
    };
    if created != ok {
        return false;
    }
    // SAFETY: as above; the command exists now.
    let command = unsafe { api!(ValkeyModule_GetCommand)(ctx.as_raw(), name.as_ptr()) };
    // SAFETY: `command` is the one just made.
    if unsafe { api!(ValkeyModule_SetCommandACLCategories)(command, flags.acl_categories.as_ptr()) } != ok {
        return false;
    }
    let mut args: Vec<raw::ValkeyModuleCommandArg> =
        docs.args.iter().map(|(name, token, optional)| command_arg(name, *token, *optional)).collect();
    // SAFETY: an all-zero entry ends the list; the structure holds pointers and integers only.
    args.push(unsafe { std::mem::zeroed() });
    // The header's constant of this is static to C code.
    let info_version = raw::ValkeyModuleCommandInfoVersion {
        version: 1,
        sizeof_historyentry: size_of::<raw::ValkeyModuleCommandHistoryEntry>(),
        sizeof_keyspec: size_of::<raw::ValkeyModuleCommandKeySpec>(),
        sizeof_arg: size_of::<raw::ValkeyModuleCommandArg>(),
    };
    let info = raw::ValkeyModuleCommandInfo {
        version: &raw const info_version,
        summary: docs.summary.as_ptr(),
        complexity: docs.complexity.as_ptr(),
        since: docs.since.as_ptr(),
        history: std::ptr::null_mut(),
        tips: std::ptr::null(),
        arity: docs.arity,
        key_specs: std::ptr::null_mut(),
        args: if docs.args.is_empty() { std::ptr::null_mut() } else { args.as_mut_ptr() },
    };
    // SAFETY: `command` is live; `info` and what it points to live over the call, and the server copies them.
    unsafe { api!(ValkeyModule_SetCommandInfo)(command, &raw const info) == ok }
}

fn command_arg(name: &'static CStr, token: Option<&'static CStr>, optional: bool) -> raw::ValkeyModuleCommandArg {
    raw::ValkeyModuleCommandArg {
        name: name.as_ptr(),
        type_: if token.is_some() {
            raw::ValkeyModuleCommandArgType_VALKEYMODULE_ARG_TYPE_PURE_TOKEN
        } else {
            raw::ValkeyModuleCommandArgType_VALKEYMODULE_ARG_TYPE_INTEGER
        },
        key_spec_index: -1,
        token: token.map_or(std::ptr::null(), CStr::as_ptr),
        summary: std::ptr::null(),
        since: std::ptr::null(),
        flags: if optional { raw::VALKEYMODULE_CMD_ARG_OPTIONAL as i32 } else { 0 },
        deprecated_since: std::ptr::null(),
        subargs: std::ptr::null_mut(),
        display_text: std::ptr::null(),
    }
}

/// For a command with the flag `getkeys-api`: whether the server only asks for key positions, and if so answers with
/// those of the wrapped command that begins at `argv[1]`.
///
/// # Safety
/// `argv` holds `argc` valid strings, as the server passes them to a command.
pub(super) unsafe fn answer_key_positions(ctx: Ctx<'_>, argv: *mut *mut raw::ValkeyModuleString, argc: i32) -> bool {
    // SAFETY: the context is valid (type invariant).
    if unsafe { api!(ValkeyModule_IsKeysPositionRequest)(ctx.as_raw()) } == 0 {
        return false;
    }
    let (mut count, mut flags) = (0, std::ptr::null_mut());
    // SAFETY: argv[1..argc] are valid strings (caller); `count` and `flags` are live.
    let positions = unsafe {
        api!(ValkeyModule_GetCommandKeysWithFlags)(ctx.as_raw(), argv.add(1), argc - 1, &raw mut count, &raw mut flags)
    };
    if positions.is_null() && argc > 2 {
        // SAFETY: argv[1] and argv[2] are valid strings (caller), and nothing changes them here.
        let (name, first) = unsafe { (shells::bytes(*argv.add(1)), shells::bytes(*argv.add(2))) };
        let written = raw::VALKEYMODULE_CMD_KEY_OW | raw::VALKEYMODULE_CMD_KEY_UPDATE;
        let keys = handlers().untold_keys(name, first, usize::try_from(argc - 1).unwrap_or(0));
        let routing = handlers().routing_argument(name).map(|index| (index, raw::VALKEYMODULE_CMD_KEY_NOT_KEY));
        for (index, access) in keys.into_iter().map(|index| (index, written)).chain(routing) {
            // SAFETY: the context is valid (type invariant); the position is that of an argument.
            unsafe {
                api!(ValkeyModule_KeyAtPosWithFlags)(
                    ctx.as_raw(),
                    i32::try_from(index + 1).unwrap_or(0),
                    access.cast_signed(),
                )
            };
        }
    }
    if !positions.is_null() {
        for index in 0..usize::try_from(count).unwrap_or(0) {
            // SAFETY: the server returned `count` positions and flags; each position is one to the right here.
            unsafe {
                let access = if flags.is_null() { 0 } else { *flags.add(index) };
                api!(ValkeyModule_KeyAtPosWithFlags)(ctx.as_raw(), *positions.add(index) + 1, access);
            }
        }
        // SAFETY: the caller of GetCommandKeysWithFlags owns both arrays, allocated with the server's allocator, which
        // takes a null, too.
        unsafe {
            api!(ValkeyModule_Free)(positions.cast());
            api!(ValkeyModule_Free)(flags.cast());
        }
    }
    true
}

/// The type, default and bounds of a setting.
pub enum ConfigKind {
    /// yes or no.
    Bool(bool),
    /// A number within bounds; `memory` takes units (mb, gb).
    Number {
        /// Default.
        default: i64,
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
        /// Takes units like `64mb`.
        memory: bool,
    },
    /// A text.
    Text(String),
    /// One of some names; the value is the index.
    Enum {
        /// Index of the default.
        default: usize,
        /// Names.
        names: &'static [&'static CStr],
    },
}

/// Registers a setting as `wbl.NAME`; the module keeps its value under `index`.
pub fn register_config(ctx: Ctx<'_>, index: usize, name: &'static CStr, immutable: bool, kind: &ConfigKind) -> bool {
    let mut flags = if immutable { raw::VALKEYMODULE_CONFIG_IMMUTABLE } else { raw::VALKEYMODULE_CONFIG_DEFAULT };
    let data = index as *mut c_void;
    let (context, name) = (ctx.as_raw(), name.as_ptr());
    let status = match kind {
        // SAFETY: context valid, name NUL-terminated and static, callbacks have the server's signatures, private data
        // is an index only.
        ConfigKind::Bool(default) => unsafe {
            let (get, set) = (Some(settings::config_get_bool as _), Some(settings::config_set_int as _));
            let apply = Some(settings::config_apply as _);
            api!(ValkeyModule_RegisterBoolConfig)(context, name, i32::from(*default), flags, get, set, apply, data)
        },
        ConfigKind::Number { default, min, max, memory } => {
            if *memory {
                flags |= raw::VALKEYMODULE_CONFIG_MEMORY;
            }
            // SAFETY: as above.
            unsafe {
                let (get, set) = (Some(settings::config_get_number as _), Some(settings::config_set_number as _));
                api!(ValkeyModule_RegisterNumericConfig)(
                    context, name, *default, flags, *min, *max, get, set, None, data,
                )
            }
        }
        ConfigKind::Text(default) => {
            let default = CString::new(default.as_str()).unwrap_or_default();
            // SAFETY: as above; the server copies the default.
            unsafe {
                let (get, set) = (Some(settings::config_get_text as _), Some(settings::config_set_text as _));
                api!(ValkeyModule_RegisterStringConfig)(context, name, default.as_ptr(), flags, get, set, None, data)
            }
        }
        ConfigKind::Enum { default, names } => {
            let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
            let values: Vec<i32> = (0..names.len()).map(|value| i32::try_from(value).unwrap_or(0)).collect();
            let default = i32::try_from(*default).unwrap_or(0);
            let count = i32::try_from(names.len()).unwrap_or(0);
            // SAFETY: as above; both arrays have `count` entries and are copied by the server.
            unsafe {
                let (get, set) = (Some(settings::config_get_enum as _), Some(settings::config_set_int as _));
                let (names, values) = (pointers.as_mut_ptr(), values.as_ptr());
                api!(ValkeyModule_RegisterEnumConfig)(
                    context, name, default, flags, names, values, count, get, set, None, data,
                )
            }
        }
    };
    status == raw::VALKEYMODULE_OK as i32
}

thread_local! {
    static FILTER: Cell<Option<NonNull<raw::ValkeyModuleCommandFilter>>> = const { Cell::new(None) };
}

/// Ids of the server events that the module follows, all with data version 1.
const SERVER_EVENTS: [u64; 12] = [
    raw::VALKEYMODULE_EVENT_PERSISTENCE,
    raw::VALKEYMODULE_EVENT_FORK_CHILD,
    raw::VALKEYMODULE_EVENT_REPLICATION_ROLE_CHANGED,
    raw::VALKEYMODULE_EVENT_PRIMARY_LINK_CHANGE,
    raw::VALKEYMODULE_EVENT_FLUSHDB,
    raw::VALKEYMODULE_EVENT_LOADING,
    raw::VALKEYMODULE_EVENT_CLIENT_CHANGE,
    raw::VALKEYMODULE_EVENT_SHUTDOWN,
    raw::VALKEYMODULE_EVENT_SWAPDB,
    raw::VALKEYMODULE_EVENT_EVENTLOOP,
    raw::VALKEYMODULE_EVENT_CONFIG,
    raw::VALKEYMODULE_EVENT_MODULE_CHANGE,
];

/// Registers the command filter, the callbacks of server events and the INFO section. `false` when the server refused
/// one.
pub fn register_hooks(ctx: Ctx<'_>) -> bool {
    FOLLOWS.store(false, Ordering::Relaxed);
    // SAFETY: the context is valid (type invariant); the callback has the server's signature and lives as long as the
    // module.
    let informs = unsafe { api!(ValkeyModule_RegisterInfoFunc)(ctx.as_raw(), Some(shells::info as _)) };
    let informs = informs == raw::VALKEYMODULE_OK as i32;
    informs && register_filter(ctx) && SERVER_EVENTS.iter().all(|id| subscribe_server_event(ctx, *id))
}

fn register_filter(ctx: Ctx<'_>) -> bool {
    // SAFETY: the context is valid (type invariant); the callback has the server's signature and lives as long as the
    // module.
    let filter = unsafe { api!(ValkeyModule_RegisterCommandFilter)(ctx.as_raw(), Some(shells::filter as _), 0) };
    FILTER.set(NonNull::new(filter));
    !filter.is_null()
}

fn unregister_filter(ctx: Ctx<'_>) {
    if let Some(filter) = FILTER.take() {
        // SAFETY: the filter was registered by this module and is taken back once.
        unsafe { api!(ValkeyModule_UnregisterCommandFilter)(ctx.as_raw(), filter.as_ptr()) };
    }
}

/// Puts the command filter after those of all other modules: the server calls them in the order in which they were
/// registered. Not to be called while commands are filtered. `false` when the server refused it.
pub fn filter_last(ctx: Ctx<'_>) -> bool {
    unregister_filter(ctx);
    register_filter(ctx)
}

/// Subscribes to the events of keys; once is enough. `false` when the server refuses it.
///
/// Before 9.1.1 not before the server has loaded its own AOF: see `docs/design.md`, "The databases of clients".
pub fn follow_events(ctx: Ctx<'_>) -> bool {
    // It is asked at the end of each iteration.
    if FOLLOWS.load(Ordering::Relaxed) {
        return true;
    }
    FOLLOWS.store(true, Ordering::Relaxed);
    if WANTS_ALL.load(Ordering::Relaxed) {
        follow_events_without_change(ctx);
    }
    let callback = Some(shells::keyspace_event as _);
    // SAFETY: the context is valid (type invariant); the callback has the server's signature and lives as long as the
    // module.
    let told = unsafe { api!(ValkeyModule_SubscribeToKeyspaceEvents)(ctx.own().as_raw(), SUBSCRIBED_EVENTS, callback) };
    told == raw::VALKEYMODULE_OK as i32
}

/// Subscribes also to the events that report no change: `keymiss` and `new`. Once is enough.
pub fn follow_all_events(ctx: Ctx<'_>) {
    if !WANTS_ALL.swap(true, Ordering::Relaxed) && FOLLOWS.load(Ordering::Relaxed) {
        follow_events_without_change(ctx);
    }
}

fn follow_events_without_change(ctx: Ctx<'_>) {
    let classes = raw::VALKEYMODULE_NOTIFY_KEY_MISS | raw::VALKEYMODULE_NOTIFY_NEW;
    // SAFETY: the context is valid (type invariant); the callback has the server's signature and lives as long as the
    // module.
    unsafe {
        api!(ValkeyModule_SubscribeToKeyspaceEvents)(ctx.own().as_raw(), classes, Some(shells::noted_event as _));
    }
}

/// Whether `follow_events` was called.
static FOLLOWS: AtomicBool = AtomicBool::new(false);

/// Whether `follow_all_events` was called.
static WANTS_ALL: AtomicBool = AtomicBool::new(false);

/// Unregisters the command filter. Event subscriptions end with the module.
pub fn unregister_hooks(ctx: Ctx<'_>) {
    FOLLOWS.store(false, Ordering::Relaxed);
    WANTS_ALL.store(false, Ordering::Relaxed);
    unregister_filter(ctx);
}

fn subscribe_server_event(ctx: Ctx<'_>, id: u64) -> bool {
    set_server_event_callback(ctx, id, Some(events::server_event as _))
}

fn set_server_event_callback(ctx: Ctx<'_>, id: u64, callback: raw::ValkeyModuleEventCallback) -> bool {
    let event = raw::ValkeyModuleEvent { id, dataver: 1 };
    // SAFETY: the context is valid (type invariant); the callback has the server's signature.
    unsafe { api!(ValkeyModule_SubscribeToServerEvent)(ctx.as_raw(), event, callback) == raw::VALKEYMODULE_OK as i32 }
}

/// Makes the server report when each command has run ([`super::Handlers::command_done`]), or stops that. `false` where
/// it cannot (before 9.1).
///
/// The server must not be going through its listeners when one is taken back: call with `on` false only for a command
/// that a connected client has just sent.
pub fn watch_results(ctx: Ctx<'_>, on: bool) -> bool {
    let callback: raw::ValkeyModuleEventCallback = if on { Some(events::server_event as _) } else { None };
    let events = [api::WBL_EVENT_COMMAND_RESULT_SUCCESS, api::WBL_EVENT_COMMAND_RESULT_FAILURE];
    events.into_iter().all(|id| set_server_event_callback(ctx, u64::from(id), callback))
}

/// Makes the server apply the values of its configuration file to the registered settings. `false` when one was
/// refused.
pub fn load_configs(ctx: Ctx<'_>) -> bool {
    // SAFETY: the context is valid (type invariant).
    unsafe { api!(ValkeyModule_LoadConfigs)(ctx.as_raw()) == raw::VALKEYMODULE_OK as i32 }
}

/// The server's version as 0x00MMmmpp.
pub fn server_version(_ctx: Ctx<'_>) -> u32 {
    // SAFETY: takes no arguments.
    unsafe { api!(ValkeyModule_GetServerVersion)() }.cast_unsigned()
}
