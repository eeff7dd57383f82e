//! How a log begins, is replaced and ends, with the process stopped or killed at named points of the module's code.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod harness;

use harness::points::VARIABLE;
use harness::temp::TempDir;
use harness::{PATIENCE, Scene, ServerBuilder, Value, Version, each_version};
use std::fs;
use std::time::Duration;

each_version! {
    fn held_syncs_hold_writes_back_and_not_clean_reads(version: Version) {
        let mut scene = Scene::start(version);
        scene.prepare(&["SET clean v"]);
        scene.control.run("WBL.DEBUG SYNC HOLD");
        let mut writer = scene.held("SET dirty v");
        assert_eq!(scene.answer("GET clean").text(), "v");
        scene.control.run("WBL.DEBUG SYNC RELEASE");
        assert_eq!(writer.reply(), Value::Simple("OK".into()));
        // What the main thread waits for ends with a file.
        let folder = TempDir::new();
        let file = folder.path().join("exists");
        fs::write(&file, "").unwrap();
        scene.control.run(&format!("WBL.DEBUG SYNC HOLD {}", file.display()));
        let mut transaction = scene.server.raw();
        ["MULTI", "INCR n"].iter().for_each(|command| drop(transaction.run(command)));
        transaction.send_text("EXEC");
        let mut transaction = transaction.with_patience(Duration::from_millis(300));
        assert!(transaction.try_reply().is_err(), "EXEC was answered while its sync was held");
        fs::remove_file(&file).unwrap();
        let mut transaction = transaction.with_patience(PATIENCE);
        assert_eq!(transaction.reply(), Value::Array(vec![Value::Integer(1)]));
        assert!(scene.control.call(&["WBL.DEBUG", "SYNC"]).is_error());
        scene.end();
    }

    fn a_named_point_stops_or_kills_the_process(version: Version) {
        let mut server = ServerBuilder::with_module(version).start();
        server.raw().run("SET k v");
        assert!(server.raw().call(&["WBL.DEBUG", "POINT", "nowhere", "STOP"]).is_error());
        server.point("base-fork", "STOP");
        let mut client = server.raw();
        client.send_text("WBL.CHECKPOINT");
        server.wait_stopped();
        server.go_on();
        assert_eq!(client.reply(), Value::Simple("OK".into()));
        server.point("base-fork", "STOP");
        server.point("base-fork", "CLEAR");
        assert_eq!(client.run("WBL.CHECKPOINT"), Value::Simple("OK".into()));
        server.point("base-fork", "KILL");
        client.send_text("WBL.CHECKPOINT");
        server.wait_exit();
        server.reconfigure(|builder| builder.variable(VARIABLE, "recovered:kill"));
        server.launch();
        server.wait_exit();
        server.reconfigure(ServerBuilder::no_variables);
        server.start();
        assert_eq!(server.raw().run("GET k").text(), "v");
    }
}
