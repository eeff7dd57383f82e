//! Servers that are killed while many clients write: all that was acknowledged must be there afterwards.
//!
//! `WBL_TIMES` multiplies the seeds per server version, `WBL_SEED` sets the choices.

use crate::harness::conditions::Conditions;
use crate::harness::crash::link::Opener;
use crate::harness::crash::maintenance::Maintenance;
use crate::harness::crash::{self, Group};
use std::fs::OpenOptions;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::harness::{PATIENCE, Random, Server, ServerBuilder, Version, each_version, wait_for};
use redis::Commands;
use valkey_wbl::log::sim::seeds;

/// Of each version. Between them they have all conditions.
const SEEDS: u64 = 4;
const FIRST_SEED: u64 = 19_300;
const ROUNDS: u64 = 4;
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
        for seed in seeds(FIRST_SEED, SEEDS) {
            let conditions = Conditions::of_seed(seed);
            println!("{version:?} {conditions:?} WBL_SEED={seed}");
            let mut rng = Random::new(seed);
            let mut groups = crash::all_groups(&mut rng, READS_ARE_HELD, conditions);
            groups.push(Box::new(Maintenance::new(&mut rng)));
            let server = conditions.apply(ServerBuilder::with_module(version), version).start();
            run(server, conditions, ROUNDS, groups, rng, vary_module);
        }
    }

    fn kills_under_load_of_a_stock_server_with_appendfsync_always_lose_nothing(version: Version) {
        let mut rng = Random::of_test(&format!("stock crash of {}", version.text()));
        let groups = crash::all_groups(&mut rng, true, Conditions::default());
        run(stock(version), Conditions::default(), STOCK_ROUNDS, groups, rng, |builder, _| builder);
    }

    // The canary: a check that cannot fail would prove nothing.
    fn the_loss_of_the_end_of_a_stock_log_is_noticed(version: Version) {
        let mut rng = Random::of_test(&format!("canary of {}", version.text()));
        let mut server = stock(version);
        let conditions = Conditions::default();
        let mut groups = crash::all_groups(&mut rng, true, conditions);
        prepare(&server, conditions, &mut groups);
        crash::load_and_kill(&mut server, &mut groups, 3000, conditions);

        let path = server.folder().join("appendonlydir/appendonly.aof.1.incr.aof");
        let log = OpenOptions::new().write(true).open(path).unwrap();
        log.set_len(log.metadata().unwrap().len() - LOST_BYTES).unwrap();
        let verified = catch_unwind(AssertUnwindSafe(|| {
            crash::restart_and_verify(&mut server, &mut groups, conditions);
        }));
        assert!(server.is_running() && verified.is_err(), "nobody missed what was cut off");
    }

    // The same for what the conditions bring along. Where SADD has another name, the other module can't call it.
    fn what_must_not_come_of_the_conditions_is_noticed(version: Version) {
        let mut rng = Random::of_test(&format!("canary of the conditions, {}", version.text()));
        let conditions = Conditions { renames: false, ..Conditions::ALL };
        let mut server = conditions.apply(ServerBuilder::with_module(version), version).start();
        let mut groups = crash::all_groups(&mut rng, READS_ARE_HELD, conditions);
        prepare(&server, conditions, &mut groups);
        let there = wait_for("a key that may be evicted is there", PATIENCE, || {
            crash::round(&mut server, &mut groups, 1500, conditions);
            let keys: Vec<String> = Opener::new(&server, conditions).link(6).unwrap().keys("evictions:*").unwrap();
            keys.first().cloned()
        });
        let opener = Opener::new(&server, conditions);
        for (name, wrong, undo) in WRONG {
            let group = groups.iter_mut().find(|group| group.name() == *name).expect("a group");
            let mut link = opener.link(group.database()).unwrap();
            let mut run = |command: &str| {
                let command = command.replace("THERE", &there);
                let mut words = command.split(' ');
                redis::cmd(words.next().expect("a name")).arg(words.collect::<Vec<_>>()).exec(&mut link).unwrap();
            };
            run(wrong);
            let verified = catch_unwind(AssertUnwindSafe(|| group.verify(&mut opener.link(group.database()).unwrap())));
            assert!(verified.is_err(), "{name} did not notice {wrong}");
            run(undo);
            group.verify(&mut opener.link(group.database()).unwrap());
        }
    }
}

/// What must not come of a condition: the group that is to notice it, the command that does it, and one that undoes it.
/// `THERE` is a key that may be evicted and is there.
const WRONG: &[(&str, &str, &str)] = &[
    ("evictions", "SET evictions:99999999 back", "DEL evictions:99999999"),
    ("evictions", "RENAME THERE other", "RENAME other THERE"),
    ("lists", "RPUSH lists:shared refused", "RPOP lists:shared"),
    ("lists", "RPUSH lists:0 refused", "RPOP lists:0"),
    ("pipelines", "RENAME pipeline:0:3 other", "RENAME other pipeline:0:3"),
    ("pipelines", "INCRBY pipeline:0:3 100", "DECRBY pipeline:0:3 100"),
    ("scripts", "RPUSH script:0:list refused", "RPOP script:0:list"),
    ("modules", "RPUSH modules:0 100000", "RPOP modules:0"),
    ("modules", "RENAME modules:1:last other", "RENAME other modules:1:last"),
    ("modules", "SADD echoes echo:alone", "SREM echoes echo:alone"),
];

#[test]
fn the_seeds_of_crashes_have_all_conditions() {
    Conditions::assert_all(FIRST_SEED..FIRST_SEED + SEEDS);
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
    conditions: Conditions,
    rounds: u64,
    mut groups: Vec<Box<dyn Group>>,
    mut rng: Random,
    vary: fn(ServerBuilder, &mut Random) -> ServerBuilder,
) {
    prepare(&server, conditions, &mut groups);
    for round in 1..=rounds {
        let target = 200 + rng.below(OPERATIONS);
        println!("round {round} of {rounds}: {target} operations");
        server.reconfigure(|builder| vary(builder, &mut rng));
        crash::round(&mut server, &mut groups, target, conditions);
    }
    groups.iter().for_each(|group| group.assert_seen());
}

fn prepare(server: &Server, conditions: Conditions, groups: &mut [Box<dyn Group>]) {
    let opener = Opener::new(server, conditions);
    for group in groups {
        let mut connection = opener.link(group.database()).expect("a connection");
        group.prepare(&mut connection);
    }
}

/// Each round runs with another number of I/O threads, other sizes of segments and another way to
/// commit and to write.
fn vary_module(builder: ServerBuilder, rng: &mut Random) -> ServerBuilder {
    let threads = if rng.one_in(3) { "3" } else { "1" };
    let segment_bytes = ["65536", "1048576", "67108864"][rng.below(3) as usize];
    let mode = ["auto", "async", "inline"][rng.below(3) as usize];
    let io_mode = ["buffered", "direct"][rng.below(2) as usize];
    let builder = builder.set("io-threads", threads).set("wbl.segment-bytes", segment_bytes);
    builder.set("wbl.commit-mode", mode).set("wbl.io-mode", io_mode)
}
