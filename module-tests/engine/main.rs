//! The log engine on a simulated disk, and on real files.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod ahead;
mod backups;
mod bases;
mod crash;
mod direct;
mod flusher;
mod folder;
mod fuzz;
mod going_on;
mod history;
mod overlap;
mod positions;
mod recovery;
mod repairs;
mod room;
mod scenes;
mod support;
mod transitions;
mod views;
