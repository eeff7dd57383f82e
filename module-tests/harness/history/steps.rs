//! The single operations of clients: how they are sent, and what their replies say.

use super::{Effect, Reply};
use crate::harness::conditions::Conditions;
use crate::harness::{Names, Random, Value};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Registers that may be evicted and that clients still use.
const VOLATILE: usize = 24;
/// Digits of the number that such a register holds: it is worth evicting.
const VOLATILE_DIGITS: usize = 2000;

/// Moments, values and names that all clients share.
pub struct Shared {
    clock: AtomicU64,
    values: AtomicU64,
    pub registers: Vec<String>,
    pub lists: Vec<String>,
    /// What goes on around the operations.
    pub conditions: Conditions,
    pub names: Names,
    /// Registers that may be evicted. They are set once, so that what has gone stays away.
    volatile: Mutex<Vec<String>>,
    /// Held by whoever has a command run in a thread: while WBL.DEBUG PAUSE is on, a second one at a time would meet an
    /// assertion of the server. Taken for good before the crash.
    threads: Mutex<()>,
    /// How often commands were refused, by the first words of the errors, and how many keys were evicted.
    seen: Mutex<BTreeMap<String, u64>>,
}

impl Shared {
    pub fn new(registers: Vec<String>, lists: Vec<String>, conditions: Conditions, names: Names) -> Shared {
        let (clock, values) = (AtomicU64::new(0), AtomicU64::new(1));
        let (volatile, threads, seen) = Default::default();
        Shared { clock, values, registers, lists, conditions, names, volatile, threads, seen }
    }

    pub fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// A value that nobody has written yet.
    pub fn value(&self) -> u64 {
        self.values.fetch_add(1, Ordering::SeqCst)
    }

    /// Notes an error that the conditions must explain.
    pub fn note_refusal(&self, step: &Step, text: &str) {
        assert!(step.form == Form::Wrong || self.explains(text), "{:?}: {text}", step.words());
        self.note(text);
    }

    /// Whether a right command may be refused with this error.
    pub fn explains(&self, error: &str) -> bool {
        // Where the durable position stands still, some units keep the server busy until it moves on.
        Conditions { runs_long: true, ..self.conditions }.explain(error)
    }

    pub fn note(&self, error: &str) {
        self.count(error.split(' ').next().unwrap_or_default(), 1);
    }

    pub fn count(&self, what: &str, count: u64) {
        *lock(&self.seen).entry(what.into()).or_default() += count;
    }

    /// What was refused, and how much was evicted.
    pub fn seen(&self) -> BTreeMap<String, u64> {
        lock(&self.seen).clone()
    }

    /// Has the steps run in no threads when these are not allowed any more; otherwise they are while this is held.
    pub fn may_have_threads(&self, steps: &mut [Step]) -> Option<MutexGuard<'_, ()>> {
        let allowed = self.threads.try_lock().ok();
        if allowed.is_none() {
            steps.iter_mut().filter(|step| step.form == Form::Thread).for_each(|step| step.form = Form::Called);
        }
        allowed
    }

    /// Waits for the commands that run in threads; while this is held there are no others.
    pub fn end_threads(&self) -> MutexGuard<'_, ()> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the use of the registers that may be evicted.
    pub fn forget_volatile(&self) {
        lock(&self.volatile).clear();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How operations reach the server.
#[derive(Clone, Copy, PartialEq)]
pub enum Way {
    Single,
    Pipeline,
    Transaction,
    Script,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Register,
    /// One that may be evicted.
    Volatile,
    List,
}

/// As which command an operation is sent.
#[derive(Clone, Copy, PartialEq)]
pub enum Form {
    Own,
    /// Another module runs the command.
    Called,
    /// Another module runs it in a thread.
    Thread,
    /// Another module does the same with the key API.
    LowLevel,
    /// As one that is refused, whoever sends it.
    Wrong,
}

pub struct Step {
    pub key: String,
    pub effect: Effect,
    pub form: Form,
    kind: Kind,
    /// In seconds.
    ttl: u64,
}

impl Step {
    pub fn random(shared: &Shared, way: Way, rng: &mut Random) -> Step {
        let mut step = match rng.below(4) {
            0 => Step::of_list(shared, rng),
            1 if shared.conditions.evicts => Step::of_volatile(shared, rng),
            _ => Step::of_register(shared, rng),
        };
        let changes = matches!(step.effect, Effect::Set(_) | Effect::Push(_) | Effect::Delete);
        if shared.conditions.refuses && rng.one_in(12) {
            step.form = Form::Wrong;
        } else if shared.conditions.other_module && step.kind != Kind::Volatile && rng.one_in(4) {
            step.form = match rng.below(3) {
                0 if changes => Form::LowLevel,
                1 if changes && matches!(way, Way::Single | Way::Pipeline) => Form::Thread,
                _ => Form::Called,
            };
        }
        step
    }

    fn new(key: String, kind: Kind, effect: Effect) -> Step {
        Step { key, effect, form: Form::Own, kind, ttl: 0 }
    }

    fn of_list(shared: &Shared, rng: &mut Random) -> Step {
        let effect = if rng.one_in(2) { Effect::Read } else { Effect::Push(shared.value()) };
        Step::new(one_of(&shared.lists, rng), Kind::List, effect)
    }

    fn of_register(shared: &Shared, rng: &mut Random) -> Step {
        let effect = match rng.below(10) {
            0..=4 => Effect::Read,
            5 | 6 => Effect::Set(shared.value()),
            7 => Effect::Replace(shared.value()),
            8 => Effect::SetIfAbsent(shared.value()),
            _ => Effect::Delete,
        };
        Step::new(one_of(&shared.registers, rng), Kind::Register, effect)
    }

    fn of_volatile(shared: &Shared, rng: &mut Random) -> Step {
        let mut known = lock(&shared.volatile);
        if known.is_empty() || rng.one_in(3) {
            let value = shared.value();
            let key = format!("e{value}");
            known.push(key.clone());
            if known.len() > VOLATILE {
                known.remove(0);
            }
            let ttl = 100_000 + rng.below(1000);
            return Step { ttl, ..Step::new(key, Kind::Volatile, Effect::Set(value)) };
        }
        let effect = if rng.one_in(10) { Effect::Delete } else { Effect::Read };
        Step::new(one_of(&known, rng), Kind::Volatile, effect)
    }

    pub fn words(&self) -> Vec<String> {
        let key = &self.key;
        let text = match (&self.effect, self.form) {
            (Effect::Set(value), Form::LowLevel) => format!("effects.string {key} {value}"),
            (Effect::Push(value), Form::LowLevel) => format!("effects.push {key} {value}"),
            (Effect::Delete, Form::LowLevel) => format!("effects.remove {key}"),
            (Effect::Set(value), Form::Wrong) => format!("NOSUCH {key} {value}"),
            (Effect::Delete, Form::Wrong) => "DEL".into(),
            (Effect::Read, _) if self.kind == Kind::List => format!("LRANGE {key} 0 -1"),
            (Effect::Read, _) => format!("GET {key}"),
            (Effect::Set(value), _) if self.kind == Kind::Volatile => {
                format!("SET {key} {value:0VOLATILE_DIGITS$} EX {}", self.ttl)
            }
            (Effect::Set(value), _) => format!("SET {key} {value}"),
            (Effect::Replace(value), _) => format!("SET {key} {value} GET"),
            (Effect::SetIfAbsent(value), _) => format!("SETNX {key} {value}"),
            (Effect::Delete, _) => format!("DEL {key}"),
            (Effect::Push(value), _) => format!("RPUSH {key} {value}"),
        };
        let first = match self.form {
            Form::Called => "effects.call ",
            Form::Thread => "effects.thread ",
            Form::Own | Form::LowLevel | Form::Wrong => "",
        };
        // Too many words for GET, SETNX and LRANGE, and no options of SET; too few for the others.
        let last = match (&self.effect, self.form) {
            (Effect::Push(_), Form::Wrong) => return vec!["RPUSH".into(), key.clone()],
            (_, Form::Wrong) if text != "DEL" => " surplus words",
            _ => "",
        };
        format!("{first}{text}{last}").split(' ').map(str::to_string).collect()
    }

    pub fn reply(&self, value: &Value) -> Reply {
        let number =
            |value: &Value| value.text().parse().unwrap_or_else(|_| panic!("{:?} gave {value:?}", self.effect));
        match (&self.effect, value) {
            (_, Value::Simple(text)) if self.form == Form::LowLevel && text == "OK" => Reply::Done,
            (_, Value::Simple(text)) if self.form == Form::Thread && text == "DONE" => Reply::Done,
            _ if !matches!(self.form, Form::Own | Form::Called) => panic!("{:?} gave {value:?}", self.words()),
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

fn one_of(keys: &[String], rng: &mut Random) -> String {
    keys[rng.below(keys.len() as u64) as usize].clone()
}
