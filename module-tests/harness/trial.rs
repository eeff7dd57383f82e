//! One command on a server with the module and on one without, while chosen keys are dirty and the durable offset
//! stands still.

use super::commands::{Case, Reads};
use super::dirty::{Touch, all_keys, keys_of, settle};
use super::raw::HUNG;
use super::resp::decode;
use super::{FrozenDisk, Lever, RawConnection, Server, ServerBuilder, Value, Version};
use std::time::Duration;

/// A server that is silent for so long hangs.
const HANG: Duration = Duration::from_secs(5);
/// The key that no case reads.
const OTHER: &[u8] = b"other";

/// What is dirty when the command runs.
#[derive(Clone, Copy, PartialEq)]
pub enum Dirty {
    /// All that it reads.
    All,
    /// One after the other of all that it reads.
    Each,
    /// Only what it does not read.
    Other,
    /// Nothing: it is held for what it changes.
    Nothing,
}

/// Runs all cases and fails with what is wrong.
pub fn sweep(version: Version, lever: Lever, protocol: &str, way: Dirty, cases: &[Case]) {
    let mut bench = Bench::start(version, lever, protocol);
    let mut findings = Vec::new();
    for case in cases.iter().filter(|case| case.excluded.is_none()) {
        for finding in bench.check(case, way) {
            findings.push(format!("{protocol}: {} ({}): {finding}", case.call, case.setup.join("; ")));
            if finding.contains(HUNG) {
                bench = Bench::start(version, lever, protocol);
            }
        }
    }
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}

/// A server and its model.
struct Bench {
    server: Server,
    stock: Server,
    lever: Lever,
    protocol: String,
}

impl Bench {
    fn start(version: Version, lever: Lever, protocol: &str) -> Bench {
        let server = ServerBuilder::with_module(version).in_memory().start();
        let stock = ServerBuilder::stock(version).in_memory().start();
        Bench { server, stock, lever, protocol: protocol.into() }
    }

    fn check(&self, case: &Case, way: Dirty) -> Vec<String> {
        let held = way != Dirty::Other && case.reads != Some(Reads::Never);
        let last = if way == Dirty::Each { usize::MAX } else { 0 };
        let mut findings = Vec::new();
        for index in 0..=last {
            let expected = Trial::prepare(&self.stock, &self.protocol, case, way, index).and_then(Trial::run);
            let Some(expected) = expected else { break };
            let trial = Trial::prepare(&self.server, &self.protocol, case, way, index).expect("the same as with stock");
            let dirty = trial.dirty.clone();
            if let Err(finding) = trial.run_frozen(self.lever, case, held, &expected) {
                findings.push(format!("with {dirty} dirty: {finding}"));
            }
        }
        findings
    }
}

/// One command, about to be run on one server.
struct Trial<'a> {
    server: &'a Server,
    control: RawConnection,
    client: RawConnection,
    words: Vec<Vec<u8>>,
    touches: Vec<Touch>,
    dirty: String,
}

impl<'a> Trial<'a> {
    /// `None` when there is no such key for `Dirty::Each`.
    fn prepare(server: &'a Server, protocol: &str, case: &Case, way: Dirty, index: usize) -> Option<Trial<'a>> {
        let mut control = server.raw().with_patience(HANG);
        for command in ["FLUSHALL", "FUNCTION FLUSH", "SCRIPT FLUSH", "SET other value"] {
            control.run(command);
        }
        let mut client = server.raw().with_patience(HANG);
        client.run(protocol);
        let words = case.prepare(&mut client);

        let mut keys = all_keys(&mut control);
        keys.retain(|key| key != OTHER);
        keys.extend(keys_of(&mut control, &words));
        keys.sort();
        keys.dedup();
        let (mut functions, mut elsewhere) = (case.reads == Some(Reads::Functions), false);
        match way {
            // The library alone: a function that reads a key is another case.
            Dirty::Nothing => {
                functions = false;
                keys.clear();
            }
            Dirty::All | Dirty::Each if functions => keys.clear(),
            Dirty::All | Dirty::Each if keys.is_empty() || case.reads == Some(Reads::Keyspace) => {
                keys.push(OTHER.into())
            }
            Dirty::All | Dirty::Each => {}
            Dirty::Other => {
                functions = false;
                elsewhere = case.reads == Some(Reads::Keyspace);
                keys = vec![OTHER.into()];
            }
        }
        if way == Dirty::Each {
            keys = keys.get(index).cloned().into_iter().collect();
            if keys.is_empty() && !(functions && index == 0) {
                return None;
            }
        }
        let mut dirty: Vec<String> = keys.iter().map(|key| key.escape_ascii().to_string()).collect();
        let mut touches: Vec<Touch> = if elsewhere {
            dirty = vec!["database 9".into()];
            vec![Touch::in_database(9)]
        } else {
            keys.iter().map(|key| Touch::plan(&mut control, key)).collect()
        };
        if functions {
            dirty.push("the functions".into());
            touches.push(Touch::functions(&mut control));
        }
        Some(Trial { server, control, client, words, touches, dirty: dirty.join(", ") })
    }

    fn touch(&mut self, settle: impl Fn(&mut RawConnection)) -> Vec<RawConnection> {
        let control = &mut self.control;
        self.touches.iter().flat_map(|touch| touch.run(self.server, || settle(control))).collect()
    }

    /// The bytes of the reply, with nothing held.
    fn run(mut self) -> Option<Vec<u8>> {
        self.touch(settle).into_iter().for_each(|mut toucher| assert!(!toucher.reply().is_error()));
        self.client.call(&self.words);
        Some(self.client.last_bytes().to_vec())
    }

    fn run_frozen(mut self, lever: Lever, case: &Case, held: bool, expected: &[u8]) -> Result<(), String> {
        self.control.run("WBL.WAIT");
        let frozen = FrozenDisk::freeze(lever, self.server, &mut self.control);
        let server = self.server;
        let mut touchers = self.touch(|control| frozen.settle(server, control));
        self.client.send(&self.words);
        let seen = if held {
            frozen.silence(self.server, &mut self.control, &mut self.client).map(|()| None)
        } else {
            self.answer().map(Some)
        };
        if seen.as_ref().is_err_and(|finding| finding.contains(HUNG)) {
            return seen.map(|_| ());
        }
        let early = touchers.iter_mut().any(|toucher| toucher.ready_reply().is_some());
        frozen.thaw(&mut self.control);
        if early {
            return Err(format!("what makes {} dirty is answered at once", self.dirty));
        }
        let reply = match seen? {
            Some(reply) => reply,
            None => self.answer()?,
        };
        for mut toucher in touchers {
            let reply = toucher.try_reply().map_err(|error| format!("{HUNG} after the resume: {error}"))?;
            assert!(!reply.is_error(), "what makes {} dirty fails: {reply:?}", self.dirty);
        }
        same(case, &reply, self.client.last_bytes(), expected)
    }

    fn answer(&mut self) -> Result<Value, String> {
        self.client.try_reply().map_err(|error| match self.client.silent(&mut self.control) {
            Err(finding) if finding.contains(HUNG) => finding,
            _ => format!("no answer: {error}"),
        })
    }
}

fn same(case: &Case, reply: &Value, found: &[u8], expected: &[u8]) -> Result<(), String> {
    let model = decode(expected).expect("a whole reply").0;
    let same = match (case.random, case.reads) {
        (false, _) => found == expected,
        // What they say about the server itself differs between any two servers.
        (true, Some(Reads::Never)) => reply.is_error() == model.is_error(),
        (true, _) => reply.shape() == model.shape(),
    };
    let differs = || format!("sent {}, a stock server {}", found.escape_ascii(), expected.escape_ascii());
    same.then_some(()).ok_or_else(differs)
}
