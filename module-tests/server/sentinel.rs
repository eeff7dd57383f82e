//! Nodes that Sentinels watch, restarted, killed and replaced under load: no acknowledged write is lost, and replicas
//! equal their primary.

use crate::harness::{PATIENCE, Random, Sentinels, Server, ServerBuilder, Version, Writers, each_version, wait_until};
use std::collections::BTreeSet;
use valkey_wbl::log::sim::seeds;

const REPLICAS: usize = 2;

/// So long no Sentinel takes a node for down that is restarted.
const WITHOUT_FAILOVER_MS: u64 = 600_000;

each_version! {
    fn nothing_that_replicas_confirmed_is_lost_under_sentinel(version: Version) {
        let mut group = Sentinels::start(&builder(version), version, REPLICAS);
        let writers = Writers::start(&group.nodes, group.ports(), REPLICAS);
        let more = || writers.wait_more(100);
        more();
        for replica in 1..=REPLICAS {
            let end = if replica == 1 { Server::kill9 } else { Server::stop };
            end(&mut group.nodes[replica]);
            start(&mut group, replica);
            group.wait_linked(replica);
            more();
        }
        // Each fail-over goes to a node that has not been the primary, and the old one comes back as a replica.
        let mut primary = group.wait_primary();
        let mut been = BTreeSet::from([primary]);
        for end in [Server::kill9, Server::stop] {
            group.wait_watched();
            let next = (0..=REPLICAS).find(|node| !been.contains(node)).expect("a node that has not been the primary");
            group.prefer(next);
            end(&mut group.nodes[primary]);
            wait_until("another node takes over", PATIENCE, || {
                (0..=REPLICAS).any(|node| node != primary && group.is_primary(node))
            });
            start(&mut group, primary);
            // Until all Sentinels know of the fail-over, the old primary is one, too.
            let before = primary;
            primary = group.wait_other_primary(before);
            been.insert(primary);
            group.wait_linked(before);
            more();
        }
        assert_eq!(been.len(), 1 + REPLICAS, "not all nodes have been the primary: {been:?}");
        let count = writers.stop_and_check();
        assert!(count >= 500, "{count}");
        group.assert_replicas_equal("at the end");
    }

    fn a_primary_that_is_restarted_in_place_stays_the_primary(version: Version) {
        let mut group = Sentinels::start(&builder(version), version, REPLICAS);
        group.set_down_after_ms(WITHOUT_FAILOVER_MS);
        let writers = Writers::start(&group.nodes, group.ports(), REPLICAS);
        let mut count = 0;
        for end in [Server::kill9, Server::stop, Server::kill9] {
            writers.wait_more(100);
            count += 100;
            end(&mut group.nodes[0]);
            start(&mut group, 0);
            (1..=REPLICAS).for_each(|replica| group.wait_linked(replica));
            group.wait_watched();
            assert_eq!(group.wait_primary(), 0);
            assert_eq!(group.nodes[0].wbl_info("wbl_state"), "active");
        }
        writers.wait_more(100);
        assert_eq!(group.downs(), 0, "a fail-over was possible");
        let acknowledged = writers.stop_and_check();
        assert!(acknowledged >= count + 100, "{acknowledged}");
        group.assert_replicas_equal("at the end");
    }

    fn nothing_is_lost_when_all_nodes_are_killed_in_any_order(version: Version) {
        let mut group = Sentinels::start(&builder(version), version, REPLICAS);
        let writers = Writers::start(&group.nodes, group.ports(), REPLICAS);
        for seed in seeds(0, 4) {
            let mut random = Random::new(seed);
            writers.wait_more(100);
            let primary = group.wait_primary();
            let order = shuffled((0..=REPLICAS).collect(), &mut random);
            // The primary is the first to start: what replicas hold that come back before it is only what their last
            // dump had.
            let replicas = shuffled((0..=REPLICAS).filter(|node| *node != primary).collect(), &mut random);
            println!("{version:?} WBL_SEED={seed}: {order:?} killed, {primary} started, then {replicas:?}");
            order.iter().for_each(|node| group.nodes[*node].kill9());
            start(&mut group, primary);
            wait_until("the log is active", PATIENCE, || group.nodes[primary].wbl_info("wbl_state") == "active");
            for replica in replicas {
                start(&mut group, replica);
                group.wait_linked(replica);
            }
            group.wait_watched();
        }
        writers.wait_more(100);
        let count = writers.stop_and_check();
        assert!(count >= 200, "{count}");
        group.assert_replicas_equal("at the end");
    }
}

/// The numbers in an order that the seed chooses.
fn shuffled(mut numbers: Vec<usize>, random: &mut Random) -> Vec<usize> {
    let mut order = Vec::new();
    while !numbers.is_empty() {
        let place = random.below(u64::try_from(numbers.len()).expect("few numbers"));
        order.push(numbers.swap_remove(usize::try_from(place).expect("a place")));
    }
    order
}

fn start(group: &mut Sentinels, node: usize) {
    group.nodes[node].launch();
    group.nodes[node].wait_answers();
}

fn builder(version: Version) -> ServerBuilder {
    let builder = ServerBuilder::with_module(version).in_memory().only_own_warnings();
    builder.allow_warning("takes the place of the data")
}
