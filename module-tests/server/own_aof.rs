//! The log's folder is never that of the server's own append-only file, which would remove the log's files; and what
//! the module needs of the system is looked for before it acknowledges anything.

use crate::harness::{Server, ServerBuilder, Version, each_version};
use std::os::unix::fs::symlink;
use std::path::Path;

each_version! {
    fn a_log_in_the_servers_append_only_folder_is_refused(version: Version) {
        for (appends, is_link) in [("yes", false), ("no", false), ("yes", true), ("no", true)] {
            let builder = ServerBuilder::with_module(version).set("appenddirname", "own").allow_warning("not loaded");
            let mut server = builder.start();
            server.raw().run("SET key value");
            server.stop();
            if is_link {
                symlink("wbl", server.folder().join("own")).unwrap();
            }
            let same = if is_link { "own" } else { "wbl" };
            server.reconfigure(|builder| {
                builder.set("appenddirname", same).set("appendonly", appends).allow_warning("").only_own_warnings()
            });
            server.launch();
            assert!(!server.wait_exit().success(), "appendonly {appends}, {same}");
            assert!(server.log().contains("own append-only file (appenddirname)"), "appendonly {appends}, {same}");

            // With another folder all is there, and the module takes no folder later that is the server's.
            server.reconfigure(|builder| builder.set("appenddirname", "other").set("appendonly", "no"));
            server.start();
            assert_eq!(server.raw().run("GET key").text(), "value");
            server.stop();
            server.reconfigure(|builder| builder.set("appenddirname", same).set("wbl.enabled", "no"));
            server.start();
            let refused = format!("{:?}", server.raw().call(&["CONFIG", "SET", "wbl.enabled", "yes"]));
            assert!(refused.contains("appenddirname"), "{refused}");
        }
    }

    fn no_setting_brings_the_servers_append_only_file_into_the_log(version: Version) {
        let builder = ServerBuilder::with_module(version)
            .set("wbl.dir", "below/own")
            .set("appenddirname", "own")
            .set("enable-protected-configs", "yes")
            .rename("CONFIG", "SETTINGS")
            .only_own_warnings();
        let mut server = builder.start();
        let folder = server.folder();
        symlink("below", folder.join("link")).unwrap();
        let below = folder.join("below");
        let mut client = server.raw();
        client.run("SET key value");
        for dir in [below.to_str().unwrap(), "below", "link"] {
            assert_refused(&mut client, &["CONFIG", "SET", "dir", dir]);
            assert_refused(&mut client, &["CONFIG", "SET", "maxmemory", "1gb", "DIR", dir, "appendonly", "yes"]);
        }
        let script = r#"return redis.call("SETTINGS", "SET", "dir", ARGV[1])"#;
        assert!(client.call(&["EVAL", script, "0", "below"]).is_error());
        // What the folder's name stands for may change, too.
        symlink("below/own", folder.join("own")).unwrap();
        assert_refused(&mut client, &["CONFIG", "SET", "appendonly", "yes"]);
        std::fs::remove_file(folder.join("own")).unwrap();
        assert_eq!(Path::new(&client.run("CONFIG GET dir").items()[1].text()), folder);

        client.run("CONFIG SET appendonly yes");
        client.run("CONFIG SET appendonly no");
        client.run("CONFIG SET wbl.enabled no");
        assert_refused(&mut client, &["CONFIG", "SET", "dir", "below"]);
        client.run("CONFIG SET wbl.enabled yes");
        client.run("WBL.WAIT");
        client.run("SET later value");
        drop(client);
        server.kill9_and_restart();
        assert_eq!(server.raw().run("EXISTS key later").integer(), 2);
    }

    fn the_module_is_not_loaded_where_no_start_could_bring_data_back(version: Version) {
        let without_proc = "mount -t tmpfs none /proc && exec \"$0\" \"$@\"";
        let builder = ServerBuilder::with_module(version).allow_warning("");
        let mut server: Server =
            builder.run_by(&["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", without_proc]).prepare();
        server.launch();
        assert!(!server.wait_exit().success());
        let log = server.log();
        assert!(log.contains("the module is not loaded") && log.contains("/proc/self/fd"), "{log}");
        assert!(!server.log_folder().exists());
    }
}

fn assert_refused(client: &mut crate::harness::RawConnection, command: &[&str]) {
    let reply = format!("{:?}", client.call(command));
    assert!(reply.starts_with("-ERR the server's own append-only file"), "{command:?}: {reply}");
}
