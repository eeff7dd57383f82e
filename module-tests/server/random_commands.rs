//! What a server holds before it is killed and afterwards is the same, whatever commands led to it.
//!
//! `WBL_SEED` replays one seed, `WBL_TIMES` multiplies their number.

use crate::harness::conditions::Conditions;
use crate::harness::differential::regressions;
use crate::harness::differential::run::{Kind, Plan, Variant, seeds};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::harness::{ServerBuilder, Value, Version, each_version};

/// Of each variant and version.
const SEEDS: u64 = 4;
const STOCK_SEEDS: u64 = 1;

each_version! {
    fn random_commands_survive_a_kill(version: Version) {
        seeds(&plan(version, Kind::Module, Variant::AtOnce), SEEDS);
    }

    fn random_commands_survive_a_kill_that_outlasts_expiry_times(version: Version) {
        seeds(&plan(version, Kind::Module, Variant::Downtime), SEEDS);
    }

    fn random_commands_survive_checkpoints_and_a_kill(version: Version) {
        seeds(&plan(version, Kind::Module, Variant::Checkpoints), SEEDS);
    }

    fn random_commands_survive_two_kills(version: Version) {
        seeds(&plan(version, Kind::Module, Variant::TwoKills), SEEDS);
    }

    // Proves that the test is right.
    fn random_commands_survive_kills_of_a_stock_server(version: Version) {
        for variant in [Variant::AtOnce, Variant::Downtime, Variant::Checkpoints, Variant::TwoKills] {
            seeds(&plan(version, Kind::Stock, variant), STOCK_SEEDS);
        }
    }

    fn sequences_that_failed_once_survive_kills(version: Version) {
        let mut failures = Vec::new();
        for regression in regressions::all(version) {
            for variant in [Variant::AtOnce, Variant::Downtime] {
                let plan = plan(version, Kind::Module, variant);
                // A server that crashed fails the client; the others go on.
                let wrong = match catch_unwind(AssertUnwindSafe(|| plan.run(&regression.steps()))) {
                    Ok(Ok(())) => continue,
                    Ok(Err(failure)) => failure.text(),
                    Err(_) => "the server failed".into(),
                };
                failures.push(format!("{} ({variant:?}): {wrong}", regression.name));
            }
        }
        assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    }

    // Servers of 8.1 select the database of an event for the executing client when a module listens, and leave it
    // there.
    fn clients_stay_in_their_database(version: Version) {
        let server = ServerBuilder::with_module(version).in_memory().start();
        let mut connection = server.raw();
        let mut wrong = Vec::new();
        for unit in [
            &["SET a 1", "COPY a copied DB 1", "SET here 1"][..],
            &["SET a 1", "MOVE a 1", "SET here 1"],
            &["SET a 1", "MULTI", "COPY a copied DB 1", "SET here 1", "EXEC"],
            &["SET a 1", "MULTI", "MOVE a 1", "SET here 1", "EXEC"],
            &["SET a 1", "COPY a copied DB 1", "MULTI", "SET here 1", "EXEC"],
        ] {
            connection.run("FLUSHALL");
            connection.run("SELECT 0");
            unit.iter().for_each(|command| drop(connection.run(command)));
            connection.run("SELECT 0");
            if connection.run("GET here") != Value::Bulk(b"1".to_vec()) {
                wrong.push(unit.join("; "));
            }
        }
        // A script's client is another one.
        connection.run("FLUSHALL");
        let script = "redis.call('SET', 'a', 1) redis.call('COPY', 'a', 'b', 'DB', 1) redis.call('SET', 'here', 1)";
        connection.call(&["EVAL", script, "0"]);
        if connection.run("GET here") != Value::Bulk(b"1".to_vec()) {
            wrong.push(script.into());
        }
        assert!(wrong.is_empty(), "`here` is not in database 0 after:\n{}", wrong.join("\n"));
    }
}

fn plan(version: Version, kind: Kind, variant: Variant) -> Plan {
    Plan { version, kind, variant, conditions: Conditions::default() }
}
