//! The pure core: how a command's effect becomes log commands ([`capture`], by the rules of [`table`]), what is not
//! durable yet ([`dirty`]), what a reply can show of that ([`reads`]), when it may leave ([`ack`]) and who waits for
//! what ([`waiters`]). Nothing here knows the server's API or the disk.
#![forbid(unsafe_code)]

pub mod ack;
pub mod answer;
pub mod args;
pub mod blocked;
pub mod calls;
pub mod capture;
pub mod client;
pub mod collecting;
pub mod commit;
pub mod deadlines;
pub mod delayed;
pub mod dirty;
pub mod event;
pub mod exact;
pub mod execution;
pub mod followed;
pub mod hash;
pub mod homes;
pub mod input;
pub mod lag;
pub mod leaf;
pub mod leaving;
pub mod listeners;
pub mod logged;
pub mod loop_waits;
pub mod names;
pub mod notices;
pub mod options;
pub mod output;
pub mod pending;
pub mod pipelining;
pub mod pops;
pub mod portion;
pub mod quirk;
pub mod reads;
pub mod rewrite;
mod row;
pub mod script_db;
pub mod silent;
pub mod stream_reads;
pub mod table;
#[cfg(test)]
mod tests;
pub mod time_outs;
pub mod touched;
pub mod transaction;
pub mod unit;
pub mod versions;
pub mod waiters;
