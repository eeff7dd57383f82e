//! The border to the server: the only folder that holds `unsafe`.
//!
//! [`Ctx`] is a callback's context and the main-thread token: it can be neither made elsewhere nor sent to another
//! thread, so whatever takes one runs on the server's main thread. [`Held`] is the one thing that crosses threads: a
//! client whose reply is withheld.
//!
//! [`Handlers`] hides what the module does when the server calls: this folder does not know the module.
//!
//! All functions are the server's public module API (`valkeymodule.h`); nothing relies on symbols or layouts of the
//! server itself.
#![allow(unsafe_code)]

/// The function behind an API name, inside an `unsafe` block. Reading the pointer is sound: the table is written once,
/// by ValkeyModule_Init on the main thread before anything else of the module runs. A server without the function is
/// refused at load, so a missing one is a broken invariant.
macro_rules! api {
    ($name:ident) => {
        match valkey_module::raw::$name {
            Some(function) => function,
            None => $crate::ffi::missing_api(stringify!($name)),
        }
    };
}

/// What `build.rs` makes of `api.h`.
mod api {
    #![allow(dead_code, missing_docs, reason = "generated; not all of it is used")]
    include!(concat!(env!("OUT_DIR"), "/api.rs"));
}

mod answer;
mod call;
mod client;
mod cluster;
mod context;
mod entry;
mod errors;
mod events;
mod filter;
mod fork;
mod handlers;
mod info;
mod keys;
mod latency;
mod load;
mod logging;
mod names;
mod optional;
mod process;
mod registration;
mod reply;
mod settings;
mod shared;
mod shells;
mod signals;
mod socket;

pub use call::CallMode;
pub use client::{ClientInfo, Held, client_info, may_run_all};
pub use cluster::{NodeRole, declare_options, key_slot};
pub use context::{ContextFlags, Ctx, wake_event_loop};
pub(crate) use entry::entry_points;
pub use entry::{load, unload};
pub use events::{CommandResult, LoadingPhase};
pub use filter::{Filter, Rights};
pub use fork::close_in_children;
pub use handlers::Handlers;
pub use info::{InfoWriter, ServerInfo};
pub use keys::KeyKind;
pub use latency::{LatencyEvent, add_latency};
pub use load::{
    ChildResult, check_descriptor_paths, descriptor_path, forget_child, fork_child, has_module_type, kill_child,
    load_rdb, save_rdb,
};
pub use logging::{Level, log};
pub use names::{own_name, set_names};
pub use process::{ask_for_short_slices, be_nice, end_with_parent, library_file, this_library, this_program};
pub use registration::{
    CommandDocs, CommandFlags, ConfigKind, filter_last, follow_all_events, follow_events, load_configs,
    register_command, register_config, register_hooks, server_version, unregister_hooks, watch_results,
};
pub use reply::{Kept, Promise, Reply, ReplyKind};
pub use shared::{DurableListener, EventListener, offer_api};
pub use signals::{exit_now, forget_file_size_limit, kill_process, stop_process, survive_file_size_limit};
pub use socket::{Sockets, empty_socket_bytes, peek, shut_socket};

/// Ends the server: an API function that existed when the module was loaded is gone, so no promise can be kept.
fn missing_api(name: &str) -> ! {
    logging::log(Level::Warning, &format!("the server lacks {name}; ending the process"));
    std::process::abort()
}
