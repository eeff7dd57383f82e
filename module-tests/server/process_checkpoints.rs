//! Checkpoints whose base a second server writes, which has the log to make it of.

use crate::harness::cluster::{lone_node, wait_up_alone};
use crate::harness::dataset::{self, assert_survives};
use crate::harness::points::VARIABLE;
use crate::harness::process::{children, niceness, runs, send_signal};
use crate::harness::samples::fill;
use crate::harness::{PATIENCE, Server, ServerBuilder, Value, Version, each_version, wait_until};
use std::fs;

const OK: &str = "OK";

each_version! {
    fn its_base_is_what_there_was(version: Version) {
        let mut server = builder(version).start();
        let mut client = server.raw();
        fill(&mut client, version);
        for round in 0..3 {
            client.run(&format!("SET round {round}"));
            assert_eq!(client.run("WBL.CHECKPOINT"), Value::Simple(OK.into()));
            assert_is_written(&server, round + 1);
            client.run("APPEND round more");
            assert_survives(&mut server, "after kill -9");
            client = server.raw();
        }
    }

    fn what_no_log_has_is_in_the_base_of_a_child(version: Version) {
        for commands in [&["DEBUG POPULATE 1000 made"][..], &["MULTI", "DEBUG POPULATE 1000 made", "EXEC"]] {
            let mut server = builder(version).start();
            let mut client = server.raw();
            client.run("SET k v");
            commands.iter().for_each(|command| drop(client.run(command)));
            assert_eq!(client.run("WBL.CHECKPOINT"), Value::Simple(OK.into()));
            client.run("SET after v");
            assert_survives(&mut server, "after kill -9");
            let mut client = server.raw();
            assert_eq!(client.run("EXISTS k made:0 made:999 after").integer(), 4, "{commands:?}");
            // From here on the log has all.
            assert!(!server.log().contains("a second server writes"));
            assert_eq!(client.run("WBL.CHECKPOINT"), Value::Simple(OK.into()));
            assert!(server.log().contains("a second server writes"));
        }
    }

    fn what_was_not_made_needs_no_child(version: Version) {
        let server = builder(version).start();
        let (mut client, mut nobody) = (server.raw(), server.raw());
        client.run("SET k v");
        ["MULTI", "DEBUG POPULATE 1000 made", "DISCARD"].iter().for_each(|command| drop(client.run(command)));
        client.run("ACL SETUSER nobody on nopass -@all +auth");
        nobody.run("AUTH nobody any");
        assert!(nobody.call(&["DEBUG", "POPULATE", "1000", "made"]).is_error());
        assert_eq!(client.run("WBL.CHECKPOINT"), Value::Simple(OK.into()));
        assert!(server.log().contains("a second server writes"));
    }

    fn a_node_of_a_cluster_has_one_too(version: Version) {
        let mut node = lone_node(builder(version).allow_warning("luster state"));
        let mut client = node.raw();
        ["SET k v", "RPUSH list a b"].iter().for_each(|command| drop(client.run(command)));
        assert_eq!(client.run("WBL.CHECKPOINT"), Value::Simple(OK.into()));
        assert_is_written(&node, 1);
        client.run("SET k more");
        let expected = dataset::read(&mut client);
        node.kill9_and_restart();
        wait_up_alone(&node, "CLUSTER");
        dataset::assert_same(&dataset::read(&mut node.raw()), &expected, "after kill -9");
    }

    fn the_server_goes_on_meanwhile(version: Version) {
        let mut server = builder(version).variable(VARIABLE, "base-child:stop").start();
        let mut client = server.raw();
        fill(&mut client, version);
        let mut asker = server.raw();
        asker.send_text("WBL.CHECKPOINT");
        let second = server.wait_child_stopped();
        assert_eq!(server.wbl_info("wbl_checkpoint_in_progress"), "1");
        for number in 0..100 {
            client.run(&format!("SET during:{number} v"));
        }
        client.run("DEL during:7");
        client.run("WBL.WAIT");
        // The server's own children are no hindrance.
        assert!(!client.run("BGSAVE").is_error());
        wait_until("the server has saved", PATIENCE, || server.log().contains("DB saved on disk"));
        // Nor a backup.
        assert!(!client.run("WBL.BACKUP START").is_error());
        send_signal(second, "CONT");
        assert_eq!(asker.reply(), Value::Simple(OK.into()));
        assert_is_written(&server, 1);
        assert_survives(&mut server, "after kill -9");
        assert_eq!(server.raw().run("EXISTS during:6 during:7 during:99").integer(), 2);
    }

    fn it_yields_the_processor_where_that_is_allowed(version: Version) {
        for (is_confined, yields) in [(false, !is_filtered()), (true, false)] {
            let builder = builder(version).variable(VARIABLE, "base-child:stop");
            let mut server = if is_confined { builder.confined() } else { builder }.start();
            let mut client = server.raw();
            client.run("SET k v");
            client.send_text("WBL.CHECKPOINT");
            let second = server.wait_child_stopped();
            assert_eq!(niceness(second) > niceness(server.process_id()), yields, "confined: {is_confined}");
            send_signal(second, "CONT");
            assert_eq!(client.reply(), Value::Simple(OK.into()), "confined: {is_confined}");
            assert_is_written(&server, 1);
        }
    }

    fn one_that_fails_leaves_the_log_as_it_was(version: Version) {
        let warning = "no new base: the second server failed";
        let mut server = builder(version).variable(VARIABLE, "base-child:stop").allow_warning(warning).start();
        let mut client = server.raw();
        fill(&mut client, version);
        client.send_text("WBL.CHECKPOINT");
        send_signal(server.wait_child_stopped(), "KILL");
        let reply = format!("{:?}", client.reply());
        assert!(reply.starts_with("-ERR no checkpoint: the second server failed: signal: 9"), "{reply}");
        assert_eq!(server.wbl_info("wbl_last_checkpoint_status"), "err");
        assert_has_no_leftovers(&server);
        client.run("SET after v");
        assert_survives(&mut server, "after kill -9");
    }

    fn it_ends_with_the_log(version: Version) {
        type End = fn(&mut Server);
        let ends: [(&str, End); 4] = [
            ("kill -9", Server::kill9),
            ("SHUTDOWN", Server::stop),
            ("disabled", |server| drop(server.raw().run("CONFIG SET wbl.enabled no"))),
            ("DEBUG RELOAD", |server| drop(server.raw().run("DEBUG RELOAD"))),
        ];
        for (what, end) in ends {
            let builder = builder(version).variable(VARIABLE, "base-child:stop").set_words("save", &["3600", "100000"]);
            let mut server = builder.start();
            fill(&mut server.raw(), version);
            server.raw().send_text("WBL.CHECKPOINT");
            let second = server.wait_child_stopped();
            let expected = dataset::read(&mut server.raw());
            end(&mut server);
            wait_until("the second server has ended", PATIENCE, || !runs(second));
            if server.is_running() {
                server.kill9();
            }
            server.reconfigure(ServerBuilder::no_variables);
            server.start();
            dataset::assert_same(&dataset::read(&mut server.raw()), &expected, what);
            server.raw().run("SET after v");
            assert_has_no_leftovers(&server);
            assert_eq!(server.raw().run("WBL.CHECKPOINT"), Value::Simple(OK.into()), "{what}");
        }
    }

    fn a_small_dataset_is_forked_by_itself(version: Version) {
        let server = builder(version).set("wbl.checkpoint-method", "auto").start();
        let mut client = server.raw();
        client.run("SET k v");
        assert_eq!(client.run("WBL.CHECKPOINT"), Value::Simple(OK.into()));
        assert!(!server.log().contains("a second server writes"));
    }
}

/// Whether the system calls of this test are filtered, and therefore its servers' too.
fn is_filtered() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    status.lines().any(|line| line.starts_with("Seccomp:") && !line.ends_with('0'))
}

fn builder(version: Version) -> ServerBuilder {
    let builder = ServerBuilder::with_module(version).set("wbl.checkpoint-method", "process");
    builder.allow_warning("Changing databases number").allow_warning("takes the place of the data").in_memory()
}

/// A second server has written so many bases, of which the last is in place, and nothing else is left of it.
fn assert_is_written(server: &Server, bases: usize) {
    assert_eq!(server.log().matches("a second server writes a new base").count(), bases);
    assert_eq!(server.log().matches("Module fork started").count(), 0, "{}", server.log());
    assert_eq!(server.wbl_info("wbl_last_checkpoint_status"), "ok");
    assert_has_no_leftovers(server);
}

fn assert_has_no_leftovers(server: &Server) {
    let names = || fs::read_dir(server.log_folder()).unwrap().map(|entry| entry.unwrap().file_name());
    let left = || {
        names().any(|name| {
            ["temp-shared", "temp-fold", "temp-base"].iter().any(|text| name.to_string_lossy().starts_with(text))
        })
    };
    wait_until("nothing is left of it", PATIENCE, || !left());
    assert!(children(server.process_id()).iter().all(|child| !runs(*child)));
}
