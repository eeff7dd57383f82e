//! A start brings back the newest data that there are: the log's, or those of the server's own append-only file, which
//! may have been rewritten or begun anew. See `newest.rs`.

use crate::harness::labels::fill;
use crate::harness::process::send_signal;
use crate::harness::{PATIENCE, ServerBuilder, Version, each_version, wait_until};
use crate::newest::{Leave, assert_goes_on_with, builder, take_leave, wait_rewritten};
use std::fs;

each_version! {
    fn an_aof_that_was_begun_anew_under_the_same_names_stands(version: Version) {
        for preamble in ["yes", "no"] {
            let with_aof = |version| builder(version, true).set("aof-use-rdb-preamble", preamble);
            let mut server = with_aof(version).start();
            let mut client = server.raw();
            for _ in 0..20 {
                fill(&mut client, "acknowledged");
            }
            wait_rewritten(&mut client);
            drop(client);
            server.stop();
            fs::rename(server.folder().join("appendonlydir"), server.folder().join("away")).unwrap();
            server.reconfigure(ServerBuilder::without_module);
            server.launch();
            let mut client = server.wait_answers();
            fill(&mut client, "new");
            drop(client);
            server.kill9();
            server.reconfigure(|_| with_aof(version));
            assert_goes_on_with(&mut server, "new", preamble);
        }
    }

    fn a_rewrite_of_the_aof_that_ran_when_the_log_was_left_is_older(version: Version) {
        for leave in [Leave::Unload, Leave::Disable, Leave::Demote] {
            let mut server = builder(version, false).start();
            let mut client = server.raw();
            client.run("SET older v");
            client.run("CONFIG SET rdb-key-save-delay 300000");
            client.run("BGREWRITEAOF");
            let child = server.wait_child();
            let file = server.folder().join(format!("temp-rewriteaof-{child}.aof"));
            wait_until("the child has its file", PATIENCE, || file.exists());
            send_signal(child, "STOP");
            fill(&mut client, "acknowledged");
            take_leave(&mut client, leave);
            send_signal(child, "CONT");
            wait_rewritten(&mut server.raw());
            server.kill9();
            server.reconfigure(|_| builder(version, true));
            assert_goes_on_with(&mut server, "acknowledged", &format!("{leave:?}"));
        }
    }

    // A start gives the AOF a file to append to, and another manifest, whatever becomes of it.
    fn an_aof_to_which_nothing_was_appended_is_as_old_as_its_base(version: Version) {
        let mut server = builder(version, false).start();
        let mut client = server.raw();
        fill(&mut client, "older");
        client.run("BGREWRITEAOF");
        wait_rewritten(&mut client);
        fill(&mut client, "acknowledged");
        drop(client);
        server.raw().send_text("SHUTDOWN NOSAVE");
        assert!(server.wait_exit().success());
        server.reconfigure(|_| builder(version, true).without_module());
        server.launch();
        drop(server.wait_answers());
        server.kill9();
        server.reconfigure(|_| builder(version, true));
        assert_goes_on_with(&mut server, "acknowledged", "nothing was appended");
    }
}
