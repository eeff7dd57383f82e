//! Every command of a table on both servers, with chosen keys dirty.

use super::commands::{Case, Reads};
use super::dirty::{Touch, all_keys, keys_of};
use super::raw::HUNG;
use super::resp::decode;
use super::twins::{Expect, HANG, Shown, Trial};
use super::{Lever, RawConnection, Server, Twins, Value, Version};

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
    let mut twins = Twins::start(version, lever);
    let mut findings = Vec::new();
    for case in cases.iter().filter(|case| case.excluded.is_none()) {
        let last = if way == Dirty::Each { usize::MAX } else { 0 };
        let held = way != Dirty::Other && case.reads != Some(Reads::Never);
        let expect = if held { Expect::Silence } else { Expect::Answer };
        for index in 0..=last {
            let prepare = |server: &Server, control: &mut RawConnection| {
                let client = client(server, control, protocol);
                prepare(client, control, case, way, index)
            };
            let Some(shown) = twins.run(prepare, expect) else { break };
            if let Err(finding) = shown.and_then(|shown| check(case, expect, &shown)) {
                let setup = case.setup.join("; ");
                findings.push(format!("{protocol}: {} ({setup}), dirty key {index}: {finding}", case.call));
            }
        }
    }
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}

/// A new client, with nothing but the key that no case reads in the dataset.
fn client(server: &Server, control: &mut RawConnection, protocol: &str) -> RawConnection {
    for command in ["FLUSHALL", "FUNCTION FLUSH", "SCRIPT FLUSH", "SET other value"] {
        control.run(command);
    }
    let mut client = server.raw().with_patience(HANG);
    client.run(protocol);
    client
}

/// `None` when there is no such key for `Dirty::Each`.
fn prepare<'a>(
    mut client: RawConnection,
    control: &mut RawConnection,
    case: &Case,
    way: Dirty,
    index: usize,
) -> Option<Trial<'a>> {
    let words = case.prepare(&mut client);
    let mut keys = all_keys(control);
    keys.retain(|key| key != OTHER);
    keys.extend(keys_of(control, &words));
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
        Dirty::All | Dirty::Each if keys.is_empty() || case.reads == Some(Reads::Keyspace) => keys.push(OTHER.into()),
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
    let mut touches: Vec<Touch> = if elsewhere {
        vec![Touch::in_database(9)]
    } else {
        keys.iter().map(|key| Touch::plan(control, key)).collect()
    };
    if functions {
        touches.push(Touch::functions(control));
    }
    Some(Trial { touches, enter: Box::new(move |_, _| client), words, end: &[] })
}

fn check(case: &Case, expect: Expect, shown: &Shown) -> Result<(), String> {
    if shown.touch_was_early {
        return Err("what makes the key dirty is answered at once".into());
    }
    match (&shown.early, expect) {
        (Some(early), Expect::Silence) => return Err(early.clone()),
        (None, Expect::Answer) => return Err("is not answered".into()),
        _ if shown.stalled => return Err(HUNG.into()),
        _ => {}
    }
    let (reply, model) = (decoded(&shown.found), decoded(&shown.expected));
    let same = match (case.random, case.reads) {
        (false, _) => shown.found == shown.expected,
        // What they say about the server itself differs between any two servers.
        (true, Some(Reads::Never)) => reply.is_error() == model.is_error(),
        (true, _) => reply.shape() == model.shape(),
    };
    let [found, expected] = [&shown.found, &shown.expected].map(|bytes| bytes.escape_ascii());
    same.then_some(()).ok_or_else(|| format!("sent {found}, a stock server {expected}"))
}

fn decoded(reply: &[u8]) -> Value {
    decode(reply).expect("a whole reply").0
}
