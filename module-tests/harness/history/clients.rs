//! Clients that do random things and write down what they were told.

use super::steps::{Form, Shared, Step, Way};
use super::{Effect, Operation};
use crate::harness::conditions::RUNS_LONG;
use crate::harness::{Random, RawConnection, Value};
use std::collections::BTreeMap;

/// Operations by key.
pub type Histories = BTreeMap<String, Vec<Operation>>;

/// Works until the server is gone.
pub fn run(mut connection: RawConnection, client: usize, shared: &Shared, ways: &[Way], mut rng: Random) -> Histories {
    let mut histories = Histories::new();
    loop {
        let way = ways[rng.below(ways.len() as u64) as usize];
        let count = match way {
            Way::Single => 1,
            Way::Pipeline => 2 + rng.below(5),
            Way::Transaction | Way::Script => 1 + rng.below(3),
        };
        let mut steps: Vec<Step> = (0..count).map(|_| Step::random(shared, way, &mut rng)).collect();
        let has_threads = steps.iter().any(|step| step.form == Form::Thread);
        let threads = has_threads.then(|| shared.may_have_threads(&mut steps));
        let invoked: Vec<u64> = steps.iter().map(|_| shared.now()).collect();
        let runs_long = shared.conditions.runs_long && rng.one_in(4);
        let outcome = attempt(&mut connection, shared, way, runs_long, &steps);
        drop(threads);
        let completed = shared.now();
        let gone = outcome.is_err();
        // What was refused did not happen; what got no reply may have.
        let mut replies = outcome.unwrap_or_else(|some| some).into_iter();
        for (step, invoked) in steps.iter().zip(invoked) {
            let reply = match replies.next() {
                Some(Value::Error(text)) => {
                    shared.note_refusal(step, &text);
                    continue;
                }
                Some(value) => Some(step.reply(&value)),
                None if gone && step.effect != Effect::Read && step.form != Form::Wrong => None,
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

/// A connection of either version of the protocol. Where commands are refused, one in three clients has few rights.
pub fn greet(mut connection: RawConnection, client: usize, shared: &Shared) -> RawConnection {
    let mut greetings = Vec::new();
    if client % 2 == 1 {
        greetings.push("HELLO 3");
    }
    if client % 3 == 2 && shared.conditions.refuses {
        greetings.push("AUTH few x");
    }
    for greeting in greetings {
        connection.run(greeting);
    }
    connection
}

/// Sends a command until it is not refused.
pub fn insist(connection: &mut RawConnection, shared: &Shared, command: &str) -> std::io::Result<Value> {
    let words: Vec<&str> = command.split(' ').collect();
    loop {
        connection.try_send(&words)?;
        match connection.try_reply()? {
            Value::Error(text) if shared.explains(&text) => shared.note(&text),
            Value::Error(text) => panic!("{command}: {text}"),
            reply => return Ok(reply),
        }
    }
}

/// The replies, or those that came before the server was gone.
fn attempt(
    connection: &mut RawConnection,
    shared: &Shared,
    way: Way,
    runs_long: bool,
    steps: &[Step],
) -> Result<Vec<Value>, Vec<Value>> {
    match way {
        Way::Single | Way::Pipeline => {
            let bytes: Vec<u8> = steps.iter().flat_map(|step| connection.encoded(&step.words())).collect();
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
            let call = |step: &Step| {
                let words = step.words();
                let words: Vec<_> = shared.names.words(&words).into_iter().map(String::from_utf8_lossy).collect();
                // What is refused must not end the script.
                let call = if step.form == Form::Wrong { "pcall" } else { "call" };
                format!("redis.{call}('{}')", words.join("','"))
            };
            let calls: Vec<String> = steps.iter().map(call).collect();
            let first = if runs_long { RUNS_LONG } else { "" };
            let script = format!("{first}return {{{}}}", calls.join(","));
            let mut words = vec!["EVAL".to_string(), script, steps.len().to_string()];
            words.extend(steps.iter().map(|step| step.key.clone()));
            ask(connection, &words).map(|reply| each(reply, steps.len()))
        }
    }
}

fn ask(connection: &mut RawConnection, words: &[String]) -> Result<Value, Vec<Value>> {
    connection.try_send(words).map_err(|_| Vec::new())?;
    connection.try_reply().map_err(|_| Vec::new())
}

/// An error of the whole is one of each.
fn each(reply: Value, count: usize) -> Vec<Value> {
    match reply {
        Value::Array(items) => items,
        error => vec![error; count],
    }
}
