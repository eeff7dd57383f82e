//! The RDB reader over dumps of real servers.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod dataset;
mod servers;
mod splice;
