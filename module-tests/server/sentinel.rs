//! Nodes that Sentinels watch, restarted, killed and replaced under load: no acknowledged write is lost, and replicas
//! equal their primary.

use crate::harness::{PATIENCE, Sentinels, Server, ServerBuilder, Version, Writers, each_version, wait_until};

const REPLICAS: usize = 2;

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
        // Each fail-over goes to another node, and the old primary comes back as a replica.
        let mut primary = group.wait_primary();
        for end in [Server::kill9, Server::stop] {
            group.wait_watched();
            end(&mut group.nodes[primary]);
            wait_until("another node takes over", PATIENCE, || {
                (0..=REPLICAS).any(|node| node != primary && group.is_primary(node))
            });
            start(&mut group, primary);
            let before = std::mem::replace(&mut primary, group.wait_primary());
            group.wait_linked(before);
            more();
        }
        group.wait_watched();
        // The primary first: what replicas hold that come back before it is only what their last dump had.
        group.nodes.iter_mut().for_each(Server::kill9);
        start(&mut group, primary);
        wait_until("the log is active", PATIENCE, || group.nodes[primary].wbl_info("wbl_state") == "active");
        for replica in (0..=REPLICAS).filter(|node| *node != primary) {
            start(&mut group, replica);
        }
        more();
        let count = writers.stop_and_check();
        assert!(count > 600, "{count}");
        group.assert_replicas_equal("at the end");
    }
}

fn start(group: &mut Sentinels, node: usize) {
    group.nodes[node].launch();
    group.nodes[node].wait_answers();
}

fn builder(version: Version) -> ServerBuilder {
    let builder = ServerBuilder::with_module(version).in_memory().only_own_warnings();
    builder.allow_warning("takes the place of the data")
}
