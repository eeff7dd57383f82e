//! The same command on a server with the module and on one without, while keys are dirty and the durable offset stands
//! still: nobody may be shown those keys, and nobody may be able to tell the servers apart by their replies.

use super::dirty::{Touch, settle};
use super::raw::HUNG;
use super::scene::split;
use super::{FrozenDisk, Lever, PATIENCE, RawConnection, Server, ServerBuilder, Value, Version, wait_until};
use std::time::Duration;

/// A server with the module and a stock server, started with the same settings.
pub struct Twins {
    lever: Lever,
    pub server: Server,
    pub stock: Server,
    control: RawConnection,
}

/// A server that is silent for so long hangs.
pub const HANG: Duration = Duration::from_secs(5);

/// Makes the client that runs the command, with the keys dirty. The connection is the administrator's.
type Enter<'a> = Box<dyn FnOnce(&Server, &mut RawConnection) -> RawConnection + 'a>;

/// One command of one client, prepared on one of the servers while everything is durable.
pub struct Trial<'a> {
    /// What makes keys dirty.
    pub touches: Vec<Touch>,
    pub enter: Enter<'a>,
    pub words: Vec<Vec<u8>>,
    /// What the administrator runs in the end.
    pub end: &'a [&'a str],
}

/// What a test expects while the disk stands still.
#[derive(Clone, Copy, PartialEq)]
pub enum Expect {
    Silence,
    Answer,
}

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
    /// What came of the reply while the durable offset stood still.
    pub early: Option<String>,
    /// Another client that wanted nothing of the dataset waited.
    pub stalled: bool,
    /// What had made the keys dirty was answered before it was durable.
    pub touch_was_early: bool,
    /// What was sent in the end, on both servers.
    pub found: Vec<u8>,
    pub expected: Vec<u8>,
}

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
        run_all(&mut self.stock.raw(), commands);
        run_all(&mut self.control, commands);
        self.control.run("WBL.WAIT");
    }

    /// Runs a command after these of the same client, with all keys dirty or with all durable, and the durable offset
    /// frozen.
    pub fn compare(&mut self, before: &[&str], command: &str, dirty: bool) -> Shown {
        self.compare_while(Change::default(), before, command, dirty)
    }

    /// The same between two changes of the administrator's. `late`: the client comes after the first.
    pub fn compare_while(&mut self, change: Change, before: &[&str], command: &str, dirty: bool) -> Shown {
        let trial = |_: &Server, _: &mut RawConnection| {
            Some(Trial {
                touches: dirty.then(Touch::all).into_iter().collect(),
                enter: Box::new(|server, administrator| change.client(server, administrator, before)),
                words: split(command),
                end: change.end,
            })
        };
        self.run(trial, Expect::Silence)
            .expect("a trial")
            .unwrap_or_else(|error| panic!("{before:?}, {command}: {error}"))
    }

    /// Runs a trial on both servers, with the disk of the one standing still. `None` where there is none.
    ///
    /// # Errors
    ///
    /// A server that does not answer in the end.
    pub fn run<'a>(
        &mut self,
        trial: impl Fn(&Server, &mut RawConnection) -> Option<Trial<'a>>,
        expect: Expect,
    ) -> Option<Result<Shown, String>> {
        let mut administrator = self.stock.raw().with_patience(HANG);
        let model = trial(&self.stock, &mut administrator)?;
        let expected = run_stock(&self.stock, &mut administrator, model);
        let trial = trial(&self.server, &mut self.control).expect("the same as with the stock server");
        Some(expected.and_then(|expected| self.run_frozen(trial, expect, expected)))
    }

    fn run_frozen(&mut self, trial: Trial<'_>, expect: Expect, expected: Vec<u8>) -> Result<Shown, String> {
        self.control.run("WBL.WAIT");
        let frozen = FrozenDisk::freeze(self.lever, &self.server, &mut self.control);
        let mut touchers = touch(&self.server, &trial.touches, || frozen.settle(&self.server, &mut self.control));
        let mut client = (trial.enter)(&self.server, &mut self.control);
        client.send(&trial.words);

        let mut witness = self.server.raw().with_patience(HANG);
        let answered = expect == Expect::Answer && client.try_reply().is_ok();
        let silent = if answered { Ok(()) } else { frozen.silence(&self.server, &mut witness, &mut client) };
        let touched: Vec<Option<Value>> = touchers.iter_mut().map(RawConnection::ready_reply).collect();
        self.thaw(frozen);
        if !answered {
            client.try_reply().map_err(|error| format!("no answer: {error}"))?;
        }
        let touch_was_early = touched.iter().any(Option::is_some);
        for (mut toucher, reply) in touchers.into_iter().zip(touched) {
            let reply = match reply {
                Some(reply) => reply,
                None => toucher.try_reply().map_err(|error| format!("{HUNG} in the end: {error}"))?,
            };
            assert!(!reply.is_error(), "what makes keys dirty fails: {reply:?}");
        }
        run_all(&mut self.control, trial.end);
        let stalled = silent.as_ref().is_err_and(|finding| finding.starts_with(HUNG));
        let early = if answered { Some("the answer".into()) } else { silent.err().filter(|_| !stalled) };
        Ok(Shown { early, stalled, touch_was_early, found: client.last_bytes().to_vec(), expected })
    }

    /// Lets the disk go on.
    fn thaw(&mut self, frozen: FrozenDisk) {
        frozen.thaw(&mut self.control);
        let control = &mut self.control;
        wait_until("the server is not busy", PATIENCE, || !control.call(&["PING"]).is_error());
    }

    pub fn both(&self) -> [&Server; 2] {
        [&self.server, &self.stock]
    }
}

/// The bytes of the reply of a server that holds nothing.
fn run_stock(server: &Server, administrator: &mut RawConnection, trial: Trial<'_>) -> Result<Vec<u8>, String> {
    for mut toucher in touch(server, &trial.touches, || settle(administrator)) {
        assert!(!toucher.reply().is_error());
    }
    let mut client = (trial.enter)(server, administrator);
    client.send(&trial.words);
    client.try_reply().map_err(|error| format!("a stock server: {error}"))?;
    run_all(administrator, trial.end);
    Ok(client.last_bytes().to_vec())
}

fn touch(server: &Server, touches: &[Touch], mut settle: impl FnMut()) -> Vec<RawConnection> {
    touches.iter().flat_map(|touch| touch.run(server, &mut settle)).collect()
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
        (self.early.is_some() && !refused).then(|| format!("{} was not held", self.found.escape_ascii()))
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
