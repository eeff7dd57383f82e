//! What operators do on a node that has less in memory than its log holds: nothing of that makes the log count as the
//! older one, unless they say so.

use super::own_aof::aof_is_written;
use crate::harness::lacking::{KEYS, keys, killed_shard, promote, promote_alone};
use crate::harness::server::info_field;
use crate::harness::{PATIENCE, RawConnection, Server, ServerBuilder, Version, each_version, wait_until};

/// What is done on such a node, which may end by it.
pub type Door = fn(&mut Server);

/// What saves its dataset, which is less.
pub const SAVES: [(&str, Door); 7] = [
    ("SAVE", |node| drop(node.raw().run("SAVE"))),
    ("BGSAVE", |node| save_beside(node, "BGSAVE", "rdb_bgsave_in_progress")),
    ("BGREWRITEAOF", |node| save_beside(node, "BGREWRITEAOF", "aof_rewrite_in_progress")),
    ("SHUTDOWN SAVE", |node| shut_down(node, "SHUTDOWN SAVE")),
    ("SIGTERM", |node| {
        node.raw().call(&["CONFIG", "SET", "save", "3600 1"]);
        node.signal("TERM");
        assert!(node.wait_exit().success());
    }),
    ("DEBUG RELOAD", |node| drop(node.raw().call(&["DEBUG", "RELOAD"]))),
    ("DEBUG LOADAOF", |node| drop(node.raw().call(&["DEBUG", "LOADAOF"]))),
];

each_version! {
    fn what_a_node_saves_that_lacks_its_logs_data_is_no_newer(version: Version) {
        for aof in ["no", "yes"] {
            for (what, save) in SAVES {
                let mut node = lacking(version, aof);
                promote_alone(&mut node);
                assert_lacks(&node);
                save(&mut node);
                restarted_has_all(node, &format!("{what}, appendonly {aof}"));
            }
        }
    }

    fn neither_is_what_it_saves_before_its_promotion(version: Version) {
        for (what, save) in SAVES {
            let mut node = lacking(version, "no");
            node.launch();
            node.wait_answers();
            save(&mut node);
            if node.is_running() {
                node.kill9();
            }
            promote_alone(&mut node);
            restarted_has_all(node, what);
        }
    }

    fn a_log_that_has_more_is_not_left_by_settings(version: Version) {
        let mut node = lacking(version, "no");
        promote_alone(&mut node);
        let mut client = node.raw();
        assert_refused(&mut client, "CONFIG SET wbl.enabled no");
        client.run("CONFIG SET wbl.replica-log no");
        client.run("CONFIG SET wbl.replica-log yes");
        assert_eq!(client.run("CONFIG GET wbl.enabled").items()[1].text(), "yes");
        assert_eq!(node.wbl_info("wbl_state"), "failing");
        restarted_has_all(node, "settings");
    }

    fn a_replica_without_its_data_does_not_leave_its_log_either(version: Version) {
        let mut node = lacking(version, "no");
        node.launch();
        let mut client = node.wait_answers();
        assert_refused(&mut client, "CONFIG SET wbl.enabled no");
        assert!(client.call(&["MODULE", "UNLOAD", "wbl"]).is_error());
        promote(&node);
        restarted_has_all(node, "settings of a replica");
    }

    fn the_module_is_not_unloaded_from_a_server_that_has_less_than_its_log(version: Version) {
        let mut node = lacking(version, "no");
        promote_alone(&mut node);
        assert!(node.raw().call(&["MODULE", "UNLOAD", "wbl"]).is_error());
        assert!(node.log().contains("the module is not unloaded: "), "{}", node.log());
        restarted_has_all(node, "MODULE UNLOAD");
    }

    fn a_server_that_has_less_than_its_log_shows_none_of_it(version: Version) {
        let mut node = lacking(version, "no");
        promote_alone(&mut node);
        let mut client = node.raw();
        let reads = ["GET k1", "EXISTS k1", "DBSIZE", "SCAN 0", "EVAL return{} 0", "RANDOMKEY", "FUNCTION LIST"];
        for command in reads.into_iter().chain(["SET k1 v", "FLUSHALL"]) {
            let refused = client.call(&command.split(' ').collect::<Vec<_>>());
            assert!(format!("{refused:?}").contains("MISCONF Reads and writes"), "{command}: {refused:?}");
        }
        client.run("MULTI");
        client.call(&["GET", "k1"]);
        let shown = format!("{:?}", client.call(&["EXEC"]));
        assert!(shown.contains("MISCONF") || shown.contains("EXECABORT"), "{shown}");
        for command in ["PING", "INFO", "CONFIG GET save", "CLUSTER NODES", "CLIENT LIST", "COMMAND COUNT", "SELECT 0"] {
            client.run(command);
        }
        restarted_has_all(node, "reads");
    }

    fn a_log_that_has_more_is_given_up_where_that_is_said(version: Version) {
        let mut node = lacking(version, "no");
        promote_alone(&mut node);
        let mut client = node.raw();
        client.run("CONFIG SET wbl.enabled no wbl.on-existing-log replace");
        assert_eq!(node.wbl_info("wbl_state"), "disabled");
        client.run("CONFIG SET wbl.enabled yes");
        wait_until("it logs", PATIENCE, || node.wbl_info("wbl_state") == "active");
        client.run("SET {k1}more v");
        client.run("WBL.WAIT");
        node.kill9_and_restart();
        assert_eq!(keys(&node), 2);
    }
}

/// A killed replica with an older file of its own that has one key.
fn lacking(version: Version, aof: &str) -> Server {
    let configure = |own: ServerBuilder| {
        let own = own.set("enable-module-command", "yes").allow_warning("the module is not unloaded");
        own.allow_warning("the log is not brought back")
    };
    let mut shards = killed_shard(version, configure, |replica| {
        // Its files of this moment are what a start loads.
        let mut client = replica.raw();
        client.run("SAVE");
        client.run("CONFIG SET appendonly yes");
        wait_until("the file is written", PATIENCE, || aof_is_written(&mut client));
        client.run("CONFIG SET appendonly no");
    });
    let mut node = shards.nodes.remove(1);
    node.reconfigure(|own| own.set("appendonly", aof));
    node
}

fn assert_lacks(node: &Server) {
    assert!(node.log().contains("Done loading RDB, keys loaded: 1,"), "{}", node.log());
}

/// Runs what a child saves, to its end.
fn save_beside(node: &mut Server, command: &str, field: &str) {
    let mut client = node.raw();
    client.run(command);
    wait_until("the child has ended", PATIENCE, || {
        info_field(&mut client, "persistence", field).as_deref() == Some("0")
    });
}

fn shut_down(node: &mut Server, command: &str) {
    node.raw().send_text(command);
    let status = node.wait_exit();
    assert!(status.success(), "{status}: {}", node.log());
}

fn assert_refused(client: &mut RawConnection, command: &str) {
    let refused = client.call(&command.split(' ').collect::<Vec<_>>());
    assert!(refused.is_error() && format!("{refused:?}").contains("wbl.on-existing-log"), "{command}: {refused:?}");
}

/// Kills the node, unless it has ended, and starts it again.
fn restarted_has_all(mut node: Server, what: &str) {
    if node.is_running() {
        node.kill9();
    }
    node.start();
    assert_eq!(keys(&node), KEYS, "{what}: {}", node.log());
}
