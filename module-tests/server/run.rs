//! `scripts/run`, as a user starts a server with it.

use crate::harness::temp::TempDir;
use crate::harness::{PATIENCE, RawConnection, Value, Version, each_version, paths, wait_for};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A server that `scripts/run` started with a configuration file. Dropping it kills it.
struct Run {
    server: Child,
    socket: PathBuf,
}

/// Has `scripts/run` find the module that the tests use: it builds in the same place, where nothing is left to do,
/// or takes one that somebody has built otherwise.
fn with_module(command: &mut Command) -> &mut Command {
    let (module, target) = (paths::module(), paths::repository().join("target/module"));
    if module == target.join("release/libvalkey_wbl.so") {
        command.env_remove("WBL_MODULE").env("CARGO_TARGET_DIR", target)
    } else {
        command.env("WBL_MODULE", module)
    }
}

impl Run {
    fn start(version: Version, folder: &Path, config: &Path) -> Run {
        let server = with_module(&mut Command::new(paths::repository().join("scripts/run")))
            .arg(config)
            .env("VALKEY_SERVER", version.server())
            .env("VALKEY_WBL_DATA", folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("scripts/run starts");
        Run { server, socket: folder.join("socket") }
    }

    fn connect(&mut self) -> RawConnection {
        wait_for("the server answers PING", PATIENCE, || {
            let ended = self.server.try_wait().expect("the state of the process");
            assert_eq!(ended, None, "the server has ended");
            let mut connection = RawConnection::open(&self.socket).ok()?;
            connection.send_bytes(b"PING\r\n").ok()?;
            connection.try_reply().is_ok_and(|reply| !reply.is_error()).then_some(connection)
        })
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // The script becomes the server, so that its process id is the server's.
        let _ = self.server.kill();
        self.server.wait().expect("the killed server ends");
    }
}

each_version! {
    fn a_rewritten_configuration_file_starts_again(version: Version) {
        let folder = TempDir::new();
        let config = folder.path().join("my server.conf");
        let text = format!("port 0\nunixsocket {}\n", folder.path().join("socket").display());
        std::fs::write(&config, text).unwrap();
        let mut run = Run::start(version, folder.path(), &config);
        let mut client = run.connect();
        assert_eq!(client.run("SET key value"), Value::Simple("OK".into()));
        assert_eq!(client.run("CONFIG REWRITE"), Value::Simple("OK".into()));
        let rewritten = std::fs::read_to_string(&config).unwrap();
        assert!(rewritten.contains("libvalkey_wbl.so"), "no loadmodule line: {rewritten}");
        drop(run);

        let mut run = Run::start(version, folder.path(), &config);
        assert_eq!(run.connect().run("GET key"), Value::Bulk(b"value".to_vec()));
        drop(run);

        // The same where the line stands in a file that this one includes.
        let outer = folder.path().join("outer.conf");
        std::fs::write(&outer, format!("include \"{}\"\n", config.display())).unwrap();
        let mut run = Run::start(version, folder.path(), &outer);
        assert_eq!(run.connect().run("GET key"), Value::Bulk(b"value".to_vec()));
    }
}
