//! The same commands on a server with the module and on one without: nobody may be able to tell them apart by their
//! replies.

use super::raw::HUNG;
use super::scene::split;
use super::{FrozenDisk, Lever, PATIENCE, RawConnection, Server, ServerBuilder, Version, wait_until};
use std::time::Duration;

/// A server with the module and a stock server, started with the same settings.
pub struct Twins {
    lever: Lever,
    pub server: Server,
    pub stock: Server,
    pub control: RawConnection,
}

/// A server that is silent for so long hangs.
const HANG: Duration = Duration::from_secs(2);

/// What the administrator changes before and after a command.
#[derive(Clone, Copy, Default)]
pub struct Change {
    pub begin: &'static [&'static str],
    pub end: &'static [&'static str],
    /// The client connects after the first change.
    pub late: bool,
}

impl Change {
    fn client(&self, server: &Server, administrator: &mut RawConnection, before: &[&str]) -> RawConnection {
        if self.late {
            run_all(administrator, self.begin);
            return client(server, before);
        }
        let client = client(server, before);
        run_all(administrator, self.begin);
        client
    }
}

/// What a command did on the server with the module.
pub struct Shown {
    /// Some of the reply came while the durable offset stood still.
    pub early: bool,
    /// Another client that wanted nothing of the dataset waited.
    pub stalled: bool,
    /// What was sent in the end, on both servers.
    pub found: Vec<u8>,
    pub expected: Vec<u8>,
}

/// Writes every key again as it is.
const TOUCH_ALL: &str = r#"
for _, key in ipairs(redis.call('KEYS', '*')) do
    redis.call('RESTORE', key, math.max(0, redis.call('PEXPIRETIME', key)), redis.call('DUMP', key), 'REPLACE', 'ABSTTL')
end
return redis.call('SELECT', ARGV[1])"#;

impl Twins {
    pub fn start(version: Version, lever: Lever) -> Twins {
        Twins::of(version, lever, |builder| builder)
    }

    pub fn of(version: Version, lever: Lever, change: impl Fn(ServerBuilder) -> ServerBuilder) -> Twins {
        let server = change(ServerBuilder::with_module(version)).in_memory().start();
        let stock = change(ServerBuilder::stock(version)).in_memory().start();
        let control = server.raw().with_patience(HANG);
        Twins { lever, server, stock, control }
    }

    /// Runs the commands on both, as the administrator, and waits until they are durable.
    pub fn prepare(&mut self, commands: &[&str]) {
        for connection in [&mut self.control, &mut self.stock.raw()] {
            for command in commands {
                let reply = connection.call(&split(command));
                assert!(!reply.is_error(), "{command}: {reply:?}");
            }
        }
        self.control.run("WBL.WAIT");
    }

    /// Makes all keys of database 0 dirty while the disk stands still. The client waits for that.
    fn make_all_dirty(&mut self, frozen: &FrozenDisk) -> RawConnection {
        let mut toucher = self.server.raw();
        toucher.send(&["EVAL", TOUCH_ALL, "0", "0"]);
        frozen.settle(&self.server, &mut self.control);
        toucher
    }

    /// Lets the disk go on.
    fn thaw(&mut self, frozen: FrozenDisk) {
        frozen.thaw(&mut self.control);
        let control = &mut self.control;
        wait_until("the server is not busy", PATIENCE, || !control.call(&["PING"]).is_error());
    }

    /// Runs a command after these of the same client, with all keys dirty or with all durable, and the durable offset
    /// frozen.
    pub fn compare(&mut self, before: &[&str], command: &str, dirty: bool) -> Shown {
        self.compare_while(Change::default(), before, command, dirty)
    }

    /// The same between two changes of the administrator's. `late`: the client comes after the first.
    pub fn compare_while(&mut self, change: Change, before: &[&str], command: &str, dirty: bool) -> Shown {
        let words = split(command);
        let mut administrator = self.stock.raw();
        let mut model = change.client(&self.stock, &mut administrator, before);
        model.send(&words);
        model.try_reply().unwrap_or_else(|error| panic!("a stock server, {before:?}, {command}: {error}"));
        run_all(&mut administrator, change.end);

        self.control.run("WBL.WAIT");
        let frozen = FrozenDisk::freeze(self.lever, &self.server, &mut self.control);
        let toucher = dirty.then(|| self.make_all_dirty(&frozen));
        let (mut administrator, mut witness) = (self.server.raw(), self.server.raw().with_patience(HANG));
        let mut client = change.client(&self.server, &mut administrator, before);
        client.send(&words);
        let silent = frozen.silence(&self.server, &mut witness, &mut client);
        self.thaw(frozen);
        client.try_reply().unwrap_or_else(|error| panic!("{before:?}, {command}: {error}"));
        if let Some(mut toucher) = toucher {
            let reply = toucher.reply();
            assert!(!reply.is_error(), "{reply:?}");
        }
        run_all(&mut administrator, change.end);
        let stalled = silent.as_ref().is_err_and(|finding| finding.starts_with(HUNG));
        let early = silent.is_err() && !stalled;
        Shown { early, stalled, found: client.last_bytes().to_vec(), expected: model.last_bytes().to_vec() }
    }

    pub fn both(&self) -> [&Server; 2] {
        [&self.server, &self.stock]
    }
}

impl Shown {
    /// Says how the replies differ.
    pub fn difference(&self) -> Option<String> {
        if self.stalled {
            return Some("another client's PING waited for the disk".into());
        }
        let (found, expected) = (self.found.escape_ascii(), self.expected.escape_ascii());
        (self.found != self.expected).then(|| format!("sent {found}, a stock server {expected}"))
    }

    /// Says what was shown before it was durable, if it is no answer to the command as such.
    pub fn leak(&self) -> Option<String> {
        let refused = REFUSALS.iter().any(|text| self.found.starts_with(text.as_bytes()));
        (self.early && !refused).then(|| format!("{} was not held", self.found.escape_ascii()))
    }
}

/// How replies begin that tell nothing of the dataset.
const REFUSALS: &[&str] = &[
    "-NOPERM",
    "-NOAUTH",
    "-OOM",
    "-NOREPLICAS",
    "-CROSSSLOT",
    "-MOVED",
    "-CLUSTERDOWN",
    "-NOSCRIPT",
    "-ERR unknown command",
    "-ERR wrong number of arguments",
    "-ERR Number of keys can't be greater",
    "-ERR Can not execute a script with write flag using *_ro command",
    "-ERR Write commands are not allowed from read-only scripts",
    "-ERR Function not found",
    "-ERR Can't execute",
    "-EXECABORT",
    "-ERR Protocol error",
];

fn run_all(connection: &mut RawConnection, commands: &[&str]) {
    for command in commands {
        let reply = connection.call(&split(command));
        assert!(!reply.is_error(), "{command}: {reply:?}");
    }
}

/// A new client that has run these commands, whatever was answered.
fn client(server: &Server, before: &[&str]) -> RawConnection {
    let mut client = server.raw().with_patience(HANG);
    before.iter().for_each(|command| drop(client.call(&split(command))));
    client
}
