//! A server whose durable offset a test freezes and frees, and the clients that wait for it.

use super::commands::words;
use super::resp::encode;
use super::server::info_field;
use super::{FrozenDisk, Lever, PATIENCE, RawConnection, Server, ServerBuilder, Value, Version, wait_until};
use std::collections::BTreeMap;

pub struct Scene {
    pub server: Server,
    pub control: RawConnection,
    lever: Lever,
    frozen: Option<FrozenDisk>,
}

impl Scene {
    pub fn start(version: Version) -> Scene {
        Scene::of(ServerBuilder::with_module(version))
    }

    pub fn of(builder: ServerBuilder) -> Scene {
        let server = builder.in_memory().start();
        let control = server.raw();
        Scene { server, control, lever: Lever::Pause, frozen: None }
    }

    /// Runs commands one after the other and waits until they are durable.
    pub fn prepare(&mut self, commands: &[&str]) {
        for command in commands {
            let reply = self.control.call(&split(command));
            assert!(!reply.is_error(), "{command}: {reply:?}");
        }
        self.control.run("WBL.WAIT");
    }

    /// The same, but for the way in which the disk is stopped.
    pub fn with_lever(mut self, lever: Lever) -> Scene {
        self.lever = lever;
        self
    }

    /// Stops the disk, until [`Scene::thaw`].
    pub fn freeze(&mut self) {
        self.frozen = Some(FrozenDisk::freeze(self.lever, &self.server, &mut self.control));
    }

    /// The same in this way, which stays that of the scene.
    pub fn freeze_by(&mut self, lever: Lever) {
        self.lever = lever;
        self.freeze();
    }

    /// Lets the disk go on, also where the main thread waits for it.
    pub fn thaw(&mut self) {
        self.frozen.take().expect("a frozen disk").thaw(&mut self.control);
    }

    /// Says which bytes arrive at the client, be it that only it waits or that the loop does.
    pub fn silence(&mut self, client: &mut RawConnection) -> Result<(), String> {
        match &self.frozen {
            Some(frozen) => frozen.silence(&self.server, &mut self.control, client),
            None => client.silent(&mut self.control),
        }
    }

    /// Fails when the client gets anything, be it that only it waits or that the loop does.
    pub fn assert_withheld(&mut self, client: &mut RawConnection, what: &str) {
        if let Err(finding) = self.silence(client) {
            panic!("{what}: {finding}");
        }
    }

    /// A new client that uses this database.
    pub fn client_of(&self, database: u32) -> RawConnection {
        let mut client = self.server.raw();
        client.run(&format!("SELECT {database}"));
        client
    }

    /// Fails unless the command gets no answer.
    pub fn hold(&mut self, client: &mut RawConnection, command: &str) {
        client.send(&split(command));
        self.assert_withheld(client, command);
    }

    /// The same for a new client, which waits now.
    pub fn held(&mut self, command: &str) -> RawConnection {
        let mut client = self.server.raw();
        self.hold(&mut client, command);
        client
    }

    /// The answer of a command that need not wait for anything.
    pub fn answer(&self, command: &str) -> Value {
        self.server.raw().call(&split(command))
    }

    /// Fails when the command shows anything: it is held, or refused as the server is busy.
    pub fn hidden(&mut self, client: &mut RawConnection, command: &str) {
        client.send(&split(command));
        if let Err(finding) = self.silence(client) {
            assert!(finding.contains("BUSY"), "{command}: {finding}");
            client.reply();
        }
    }

    pub fn gauge(&mut self, field: &str) -> i64 {
        let text = info_field(&mut self.control, "wbl", field).unwrap_or_else(|| panic!("INFO wbl has no {field}"));
        text.parse().unwrap_or_else(|_| panic!("{field}:{text}"))
    }

    /// Waits until the server has executed what was sent before, or its loop waits.
    pub fn settle(&mut self) {
        if let Some(frozen) = &self.frozen {
            frozen.settle(&self.server, &mut self.control);
        }
    }

    /// Runs this while the disk stands still until the loop waits for it, so that no disk is too quick for that.
    pub fn until_loop_waits(&mut self, act: impl FnOnce(&mut Server)) {
        let disk = FrozenDisk::freeze(Lever::Sync, &self.server, &mut self.control);
        act(&mut self.server);
        disk.wait_loop_waits(&self.server);
        disk.thaw(&mut self.control);
    }

    /// Has the client known for one that pipelines.
    pub fn make_pipeline(&mut self, client: &mut RawConnection) {
        const WRITES: usize = 10;
        let bytes = encode(&["SET", "k", "0"]).repeat(WRITES);
        let before = self.gauge("wbl_waits_pipelining");
        wait_until("the client is known to pipeline", PATIENCE, || {
            // A disk that is quicker than the loop hides it.
            let disk = FrozenDisk::freeze(Lever::Sync, &self.server, &mut self.control);
            self.server.in_one_iteration(|| client.send_bytes(&bytes).expect("the server takes the commands"));
            disk.settle(&self.server, &mut self.control);
            disk.thaw(&mut self.control);
            (0..WRITES).for_each(|_| drop(client.reply()));
            self.gauge("wbl_waits_pipelining") > before
        });
    }

    /// Frees the durable offset, and fails unless the module forgets everything and everybody.
    pub fn end(mut self) -> Server {
        if self.frozen.is_some() {
            self.thaw();
        }
        self.assert_idle();
        self.server
    }

    pub fn assert_idle(&mut self) {
        for field in ["wbl_clients_waiting_ack", "wbl_uncommitted_keys", "wbl_pending_bytes"] {
            wait_until(&format!("{field} is 0"), PATIENCE / 6, || self.gauge(field) == 0);
        }
        wait_until("everything is durable", PATIENCE / 6, || {
            self.gauge("wbl_previous_acked_offset") == self.gauge("wbl_appended_offset")
        });
    }

    /// Waits until so many clients are blocked.
    pub fn wait_blocked(&mut self, count: usize) {
        let count = count.to_string();
        wait_until("the clients are blocked", PATIENCE, || {
            info_field(&mut self.control, "clients", "blocked_clients").as_deref() == Some(&count)
        });
    }
}

/// The words of a command; `"..."` is one word.
pub fn split(command: &str) -> Vec<Vec<u8>> {
    words(command, &BTreeMap::new())
}
