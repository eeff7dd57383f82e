//! How a test stops the disk, and how it sees that nothing leaves meanwhile.

use super::raw::HUNG;
use super::{PATIENCE, RawConnection, Server, wait_until};
use std::path::PathBuf;
use std::time::Duration;

/// How a disk is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lever {
    /// WBL.DEBUG PAUSE, which the module knows of: it lets clients in while its main thread waits.
    Pause,
    /// Syncs wait, as on a disk that does not answer.
    Sync,
}

impl Lever {
    pub const ALL: [Lever; 2] = [Lever::Pause, Lever::Sync];
}

/// The gate of the log's syncs is closed while this file exists.
const GATE: &str = "gate";

/// A server that serves nobody for so long waits in its loop for the disk.
const LOOP_WAITS: Duration = Duration::from_millis(100);

/// A disk that stands still.
#[derive(Debug)]
pub struct FrozenDisk {
    lever: Lever,
    gate: PathBuf,
}

impl FrozenDisk {
    /// Stops the disk of this server.
    pub fn freeze(lever: Lever, server: &Server, control: &mut RawConnection) -> FrozenDisk {
        let gate = server.folder().join(GATE);
        match lever {
            Lever::Pause => drop(control.run("WBL.DEBUG PAUSE")),
            Lever::Sync => {
                std::fs::write(&gate, "").expect("a file in the data folder");
                control.run(&format!("WBL.DEBUG SYNC HOLD {}", gate.display()));
            }
        }
        FrozenDisk { lever, gate }
    }

    /// Lets the disk go on, also where the main thread waits for it.
    pub fn thaw(self, control: &mut RawConnection) {
        match self.lever {
            Lever::Pause => drop(control.run("WBL.DEBUG RESUME")),
            Lever::Sync => std::fs::remove_file(self.gate).expect("the gate's file"),
        }
    }

    /// Says which bytes have arrived at the client, or arrive while another one is served. A server whose loop waits
    /// for the gate serves nobody; a paused one always does.
    pub fn silence(
        &self,
        server: &Server,
        control: &mut RawConnection,
        client: &mut RawConnection,
    ) -> Result<(), String> {
        if self.lever == Lever::Pause {
            return client.silent(control);
        }
        match client.silent(&mut server.raw().with_patience(LOOP_WAITS)) {
            Err(finding) if finding.starts_with(HUNG) => client.received_nothing(),
            result => result,
        }
    }

    /// Fails when the client gets anything, be it that only it waits or that the loop does.
    pub fn assert_withheld(
        &self,
        server: &Server,
        control: &mut RawConnection,
        client: &mut RawConnection,
        what: &str,
    ) {
        if let Err(finding) = self.silence(server, control, client) {
            panic!("{what}: {finding}");
        }
    }

    /// Waits until the server has executed what other connections have sent before, or waits itself.
    pub fn settle(&self, server: &Server, control: &mut RawConnection) {
        if self.lever == Lever::Pause {
            return super::dirty::settle(control);
        }
        let mut witness = server.raw().with_patience(LOOP_WAITS);
        for _ in 0..2 {
            witness.send(&["PING"]);
            if witness.try_reply().is_err() {
                return;
            }
        }
    }

    /// Waits until the loop of the server waits for the gate, and serves nobody.
    pub fn wait_loop_waits(&self, server: &Server) {
        wait_until("the loop waits for the disk", PATIENCE, || {
            let mut witness = server.raw().with_patience(LOOP_WAITS);
            witness.send(&["PING"]);
            witness.try_reply().is_err()
        });
    }
}
