//! Real servers of every supported version with the module loaded: one file for each promise or subject.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "../harness/mod.rs"]
mod harness;

mod announced;
mod basic;
mod beside;
mod blocked;
mod caching;
mod capture;
mod checkpoints;
mod clients;
mod cluster;
mod cluster_failover;
mod cluster_moving;
mod commands;
mod crash;
mod data;
mod demands;
mod descent;
mod dirty;
mod evictions;
mod fields;
mod first_base;
mod former_primary;
mod harness_checks;
mod homes;
mod hot_keys;
mod inline;
mod leaks;
mod life;
mod linearizability;
mod matrix;
mod modules;
mod newest;
mod notify;
mod outside;
mod own_aof;
mod pipelines;
mod random_commands;
mod reads;
mod reasons;
mod refusals;
mod renamed;
mod replay;
mod rights;
mod roles;
mod run;
mod scripts;
mod sentinel;
mod settings;
mod stream_readers;
mod transactions;
mod unload;
mod watch;
mod withhold;
