//! Clients that do random things and write down what they were told.

use super::{Effect, Operation, Reply};
use crate::harness::Random;
use crate::harness::{RawConnection, Value};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Operations by key.
pub type Histories = BTreeMap<String, Vec<Operation>>;

/// Moments, values and names that all clients share.
pub struct Shared {
    clock: AtomicU64,
    values: AtomicU64,
    pub registers: Vec<String>,
    pub lists: Vec<String>,
}

impl Shared {
    pub fn new(registers: Vec<String>, lists: Vec<String>) -> Shared {
        Shared { clock: AtomicU64::new(0), values: AtomicU64::new(1), registers, lists }
    }

    pub fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// A value that nobody has written yet.
    fn value(&self) -> u64 {
        self.values.fetch_add(1, Ordering::SeqCst)
    }
}

/// How operations reach the server.
#[derive(Clone, Copy, PartialEq)]
pub enum Way {
    Single,
    Pipeline,
    Transaction,
    Script,
}

struct Step {
    key: String,
    effect: Effect,
    is_list: bool,
}

impl Step {
    fn words(&self) -> Vec<String> {
        let key = &self.key;
        let text = match &self.effect {
            Effect::Read if self.is_list => format!("LRANGE {key} 0 -1"),
            Effect::Read => format!("GET {key}"),
            Effect::Set(value) => format!("SET {key} {value}"),
            Effect::Replace(value) => format!("SET {key} {value} GET"),
            Effect::SetIfAbsent(value) => format!("SETNX {key} {value}"),
            Effect::Delete => format!("DEL {key}"),
            Effect::Push(value) => format!("RPUSH {key} {value}"),
        };
        text.split(' ').map(str::to_string).collect()
    }

    fn reply(&self, value: &Value) -> Reply {
        let number =
            |value: &Value| value.text().parse().unwrap_or_else(|_| panic!("{:?} gave {value:?}", self.effect));
        match (&self.effect, value) {
            (Effect::Read | Effect::Replace(_), Value::Null) => Reply::Contents(Vec::new()),
            (Effect::Read, Value::Array(items)) => Reply::Contents(items.iter().map(number).collect()),
            (Effect::Read | Effect::Replace(_), Value::Bulk(_)) => Reply::Contents(vec![number(value)]),
            (Effect::Set(_), Value::Simple(text)) if text == "OK" => Reply::Done,
            (Effect::SetIfAbsent(_) | Effect::Delete, Value::Integer(count)) => Reply::Changed(*count == 1),
            (Effect::Push(_), Value::Integer(length)) => Reply::Length(*length as usize),
            (effect, value) => panic!("{effect:?} of {} gave {value:?}", self.key),
        }
    }
}

/// Works until the server is gone.
pub fn run(socket: &Path, client: usize, shared: &Shared, ways: &[Way], mut rng: Random) -> Histories {
    let mut histories = Histories::new();
    let Ok(mut connection) = RawConnection::open(socket) else { return histories };
    if client % 2 == 1 {
        connection.send_text("HELLO 3");
        if connection.try_reply().is_err() {
            return histories;
        }
    }
    loop {
        let way = ways[rng.below(ways.len() as u64) as usize];
        let count = match way {
            Way::Single => 1,
            Way::Pipeline => 2 + rng.below(5),
            Way::Transaction | Way::Script => 1 + rng.below(3),
        };
        let steps: Vec<Step> = (0..count).map(|_| step(shared, &mut rng)).collect();
        let invoked: Vec<u64> = steps.iter().map(|_| shared.now()).collect();
        let outcome = attempt(&mut connection, way, &steps);
        let completed = shared.now();
        let gone = outcome.is_err();
        // What was refused did not happen; what got no reply may have.
        let mut replies = outcome.unwrap_or_else(|some| some).into_iter();
        for (step, invoked) in steps.iter().zip(invoked) {
            let reply = match replies.next() {
                Some(Value::Error(_)) => continue,
                Some(value) => Some(step.reply(&value)),
                None if gone && step.effect != Effect::Read => None,
                None => continue,
            };
            let operation = Operation { client, effect: step.effect.clone(), reply, invoked, completed };
            histories.entry(step.key.clone()).or_default().push(operation);
        }
        if gone {
            return histories;
        }
    }
}

fn step(shared: &Shared, rng: &mut Random) -> Step {
    let is_list = rng.one_in(4);
    let keys = if is_list { &shared.lists } else { &shared.registers };
    let key = keys[rng.below(keys.len() as u64) as usize].clone();
    let effect = match rng.below(10) {
        0..=4 => Effect::Read,
        _ if is_list => Effect::Push(shared.value()),
        5 | 6 => Effect::Set(shared.value()),
        7 => Effect::Replace(shared.value()),
        8 => Effect::SetIfAbsent(shared.value()),
        _ => Effect::Delete,
    };
    Step { key, effect, is_list }
}

/// The replies, or those that came before the server was gone.
fn attempt(connection: &mut RawConnection, way: Way, steps: &[Step]) -> Result<Vec<Value>, Vec<Value>> {
    match way {
        Way::Single | Way::Pipeline => {
            let bytes: Vec<u8> = steps.iter().flat_map(|step| crate::harness::resp::encode(&step.words())).collect();
            if connection.send_bytes(&bytes).is_err() {
                return Err(Vec::new());
            }
            let mut replies = Vec::new();
            for _ in steps {
                match connection.try_reply() {
                    Ok(reply) => replies.push(reply),
                    Err(_) => return Err(replies),
                }
            }
            Ok(replies)
        }
        Way::Transaction => {
            let began = ask(connection, &["MULTI".into()])?;
            if began.is_error() {
                return Ok(vec![began; steps.len()]);
            }
            for step in steps {
                ask(connection, &step.words())?;
            }
            ask(connection, &["EXEC".into()]).map(|reply| each(reply, steps.len()))
        }
        Way::Script => {
            let call = |step: &Step| format!("redis.call('{}')", step.words().join("','"));
            let calls: Vec<String> = steps.iter().map(call).collect();
            let mut words =
                vec!["EVAL".to_string(), format!("return {{{}}}", calls.join(",")), steps.len().to_string()];
            words.extend(steps.iter().map(|step| step.key.clone()));
            ask(connection, &words).map(|reply| each(reply, steps.len()))
        }
    }
}

fn ask(connection: &mut RawConnection, words: &[String]) -> Result<Value, Vec<Value>> {
    connection.send_bytes(&crate::harness::resp::encode(words)).map_err(|_| Vec::new())?;
    connection.try_reply().map_err(|_| Vec::new())
}

/// An error of the whole is one of each.
fn each(reply: Value, count: usize) -> Vec<Value> {
    match reply {
        Value::Array(items) => items,
        error => vec![error; count],
    }
}
