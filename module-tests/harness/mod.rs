//! Starts real servers, kills them, talks to them and watches what they log.

pub mod builder;
pub mod cluster;
pub mod commands;
pub mod conditions;
pub mod confined;
pub mod crash;
pub mod dataset;
pub mod differential;
pub mod dirty;
pub mod group;
pub mod history;
pub mod labels;
pub mod lacking;
pub mod lever;
pub mod log_watch;
pub mod names;
pub mod paths;
pub mod points;
pub mod ports;
pub mod printed;
pub mod process;
pub mod raw;
pub mod recorded_disk;
pub mod resp;
pub mod samples;
pub mod scene;
pub mod sentinels;
pub mod server;
pub mod shards;
pub mod strace;
pub mod system;
pub mod temp;
pub mod tool;
pub mod trial;
pub mod twins;
pub mod wait;
pub mod writers;

pub use builder::ServerBuilder;
pub use cluster::Cluster;
pub use lever::{FrozenDisk, Lever};
pub use names::Names;
pub use paths::Version;
pub use raw::RawConnection;
pub use resp::Value;
pub use scene::Scene;
pub use sentinels::Sentinels;
pub use server::Server;
pub use shards::Shards;
pub use strace::{Injection, Strace};
pub use system::System;
pub use twins::Twins;
pub use valkey_wbl::log::sim::Random;
pub use wait::{wait_for, wait_until};
pub use writers::Writers;

/// How long a test waits for something that should take milliseconds before it fails.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// Makes one test per server version of `fn name(version: Version) { .. }`.
macro_rules! each_version {
    ($($(#[$attribute:meta])* fn $name:ident($version:ident: Version) $body:block)+) => {$(
        $(#[$attribute])*
        mod $name {
            use super::*;

            fn on($version: Version) $body

            #[test]
            fn valkey_8_1() {
                on(Version::V8_1);
            }

            #[test]
            fn valkey_9_1() {
                on(Version::V9_1);
            }
        }
    )+};
}
pub(crate) use each_version;

/// Makes one test per server version and way to stop the disk of `fn name(version: Version, lever: Lever) { .. }`.
macro_rules! each_lever {
    ($($(#[$attribute:meta])* fn $name:ident($version:ident: Version, $lever:ident: Lever) $body:block)+) => {$(
        $(#[$attribute])*
        mod $name {
            use super::*;

            fn on($version: Version, $lever: Lever) $body

            #[test]
            fn paused_valkey_8_1() {
                on(Version::V8_1, Lever::Pause);
            }

            #[test]
            fn paused_valkey_9_1() {
                on(Version::V9_1, Lever::Pause);
            }

            #[test]
            fn gated_valkey_8_1() {
                on(Version::V8_1, Lever::Sync);
            }

            #[test]
            fn gated_valkey_9_1() {
                on(Version::V9_1, Lever::Sync);
            }
        }
    )+};
}
pub(crate) use each_lever;
