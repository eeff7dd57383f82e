//! Servers that are killed while many clients write: all that was acknowledged must be there afterwards.
//!
//! `WBL_TIMES` multiplies the kills per server version, `WBL_SEED` sets the choices.

use crate::harness::crash::maintenance::Maintenance;
use crate::harness::crash::{self, Group};
use std::fs::OpenOptions;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::harness::{Random, Server, ServerBuilder, Version, each_version};
use valkey_wbl::log::sim::times;

const ROUNDS: u64 = 12;
/// A stock server needs fewer to show that the clients and their models are right.
const STOCK_ROUNDS: u64 = 3;
/// The most acknowledged operations of a round.
const OPERATIONS: u64 = 12_000;
/// Whether the module holds back reads of changes that are not durable yet.
const READS_ARE_HELD: bool = true;
/// More than all clients together can have in flight.
const LOST_BYTES: u64 = 16 * 1024;

each_version! {
    fn kills_under_load_lose_nothing_that_was_acknowledged_and_tear_no_unit(version: Version) {
        let mut rng = Random::of_test(&format!("crash of {}", version.text()));
        let rounds = ROUNDS * times();
        let mut groups = crash::all_groups(&mut rng, READS_ARE_HELD);
        groups.push(Box::new(Maintenance::new(&mut rng)));
        run(ServerBuilder::with_module(version).start(), rounds, groups, rng, vary_module);
    }

    fn kills_under_load_of_a_stock_server_with_appendfsync_always_lose_nothing(version: Version) {
        let mut rng = Random::of_test(&format!("stock crash of {}", version.text()));
        let groups = crash::all_groups(&mut rng, true);
        run(stock(version), STOCK_ROUNDS, groups, rng, |builder, _| builder);
    }

    // The canary: a check that cannot fail would prove nothing.
    fn the_loss_of_the_end_of_a_stock_log_is_noticed(version: Version) {
        let mut rng = Random::of_test(&format!("canary of {}", version.text()));
        let mut server = stock(version);
        let mut groups = crash::all_groups(&mut rng, true);
        prepare(&server, &mut groups);
        crash::load_and_kill(&mut server, &mut groups, 3000);

        let path = server.folder().join("appendonlydir/appendonly.aof.1.incr.aof");
        let log = OpenOptions::new().write(true).open(path).unwrap();
        log.set_len(log.metadata().unwrap().len() - LOST_BYTES).unwrap();
        let verified = catch_unwind(AssertUnwindSafe(|| {
            crash::restart_and_verify(&mut server, &mut groups);
        }));
        assert!(server.is_running() && verified.is_err(), "nobody missed what was cut off");
    }
}

/// Its log may end in half a transaction, which the server cuts off and says so.
fn stock(version: Version) -> Server {
    ServerBuilder::stock_always(version)
        .allow_warning("Truncating the AOF")
        .allow_warning("short read while loading the AOF file")
        .allow_warning("Truncated")
        .allow_warning("truncated")
        .allow_warning("Unexpected end of file")
        .allow_warning("Revert incomplete MULTI/EXEC transaction")
        .start()
}

fn run(
    mut server: Server,
    rounds: u64,
    mut groups: Vec<Box<dyn Group>>,
    mut rng: Random,
    vary: fn(ServerBuilder, &mut Random) -> ServerBuilder,
) {
    prepare(&server, &mut groups);
    for round in 1..=rounds {
        let target = 200 + rng.below(OPERATIONS);
        println!("round {round} of {rounds}: {target} operations");
        server.reconfigure(|builder| vary(builder, &mut rng));
        crash::round(&mut server, &mut groups, target);
    }
}

fn prepare(server: &Server, groups: &mut [Box<dyn Group>]) {
    for group in groups {
        let mut connection = server.try_connect(group.database()).expect("a connection");
        group.prepare(&mut connection);
    }
}

/// Each round runs with another number of I/O threads, other sizes of segments and another way to commit.
fn vary_module(builder: ServerBuilder, rng: &mut Random) -> ServerBuilder {
    let threads = if rng.one_in(3) { "3" } else { "1" };
    let segment_bytes = ["65536", "1048576", "67108864"][rng.below(3) as usize];
    let mode = ["auto", "async", "inline"][rng.below(3) as usize];
    builder.set("io-threads", threads).set("wbl.segment-bytes", segment_bytes).set("wbl.commit-mode", mode)
}
