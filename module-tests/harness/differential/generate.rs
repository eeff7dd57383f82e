//! Random commands of all types over few keys.

mod circumstances;
mod collections;
mod fields;
mod hashes;
mod keys;
mod names;
mod streams;
mod strings;
mod waiting;

use super::words::{NOW_MS, NOW_S, Word, Words, words};
use super::{LIBRARY, SCRIPT, Step};
use crate::harness::conditions::{Conditions, RUNS_LONG};
use crate::harness::{Random, Version};
use std::collections::VecDeque;

/// Names of each type, and of those that all types share.
const KEYS_PER_TYPE: u64 = 8;
const SHARED_KEYS: u64 = 4;
/// Ids of the clock are far above those that are given: most streams only see one kind.
const STREAMS: [&str; 5] = ["x0", "x1", "x2", "x6", "x7"];
const CLOCK_STREAMS: [&str; 2] = ["x6", "x7"];
const ODD_NAMES: [&[u8]; 4] = [b"", b"\r\n", b"\0nul", b"odd\xff\r\n$3\r\n"];

const LONGEST_SHORT_MS: u64 = 200;

/// Where a command will run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Top,
    Transaction,
    Script,
}

pub struct Generator {
    rng: Random,
    version: Version,
    /// Leave out what the server's own AOF does not log exactly.
    only_exact_in_aof: bool,
    conditions: Conditions,
    /// The ids of stream entries rise with this.
    next_id: u64,
    /// Ids that XADD was given lately.
    ids: Vec<String>,
    /// Steps that come next.
    planned: VecDeque<Step>,
}

/// Steps of about so many commands.
pub fn steps(
    seed: u64,
    version: Version,
    only_exact_in_aof: bool,
    conditions: Conditions,
    commands: usize,
) -> Vec<Step> {
    let rng = Random::new(seed);
    let (ids, planned) = (vec!["1-1".into()], VecDeque::new());
    let mut generator = Generator { rng, version, only_exact_in_aof, conditions, next_id: 1, ids, planned };
    let (mut steps, mut count) = (Vec::new(), 0);
    while count < commands {
        let step = generator.planned.pop_front().unwrap_or_else(|| generator.step());
        count += step.commands();
        steps.push(step);
    }
    steps
}

impl Generator {
    fn step(&mut self) -> Step {
        if let Some(step) = self.circumstance() {
            return step;
        }
        match self.rng.below(1000) {
            0..70 => {
                let place = Place::Transaction;
                let mut commands = self.some(1, 6, place);
                commands.insert(0, words!["MULTI"]);
                commands.push(if self.rng.one_in(12) { words!["DISCARD"] } else { words!["EXEC"] });
                Step::Send(commands)
            }
            70..75 => {
                let (key, change) = (self.any_key(), self.command(Place::Top));
                Step::Watched { key, change, commands: self.some(1, 4, Place::Transaction) }
            }
            75..130 => Step::Send(vec![self.script()]),
            130..150 => self.restore(),
            150..168 => self.blocked(),
            168..178 => Step::Wait(self.rng.below(60)),
            178..183 => Step::Send(vec![words!["SELECT", self.rng.below(2)]]),
            // The server's own AOF does not log these exactly.
            183..195 if self.version == Version::V9_1 && !self.only_exact_in_aof => self.expired_fields(),
            _ => Step::Send(vec![self.command(Place::Top)]),
        }
    }

    fn some(&mut self, least: u64, most: u64, place: Place) -> Vec<Words> {
        (0..least + self.rng.below(most + 1 - least)).map(|_| self.command(place)).collect()
    }

    fn restore(&mut self) -> Step {
        let source = if self.rng.one_in(2) { self.key("h") } else { self.any_key() };
        let target = if self.rng.one_in(2) { source.clone() } else { self.any_key() };
        let (ttl, absolute) = match self.rng.below(4) {
            0 => (self.short_ms().word(), false),
            1 => (self.long_ms().word(), false),
            2 => (self.at_ms(), true),
            _ => ("0".word(), self.rng.one_in(2)),
        };
        let mut options = Vec::new();
        if absolute {
            options.push("ABSTTL".word());
        }
        if !self.rng.one_in(4) {
            options.push("REPLACE".word());
        }
        Step::Restore { source, target, ttl, options }
    }

    fn script(&mut self) -> Words {
        let commands = self.some(1, 5, Place::Script);
        if self.rng.one_in(4) {
            let mut words = words!["FCALL", format!("run{}", self.rng.below(2)), "0"];
            words.extend(self.script_args(&commands));
            return words;
        }
        self.run_script(&commands)
    }

    fn run_script(&mut self, commands: &[Words]) -> Words {
        let mut words = words!["EVAL", SCRIPT, "0"];
        words.extend(self.script_args(commands));
        words
    }

    fn script_args(&mut self, commands: &[Words]) -> Words {
        let mut args = Vec::new();
        for command in commands {
            args.extend(words![if self.rng.one_in(3) { "call" } else { "pcall" }, command.len()]);
            args.extend(command.iter().cloned());
        }
        args
    }

    fn command(&mut self, place: Place) -> Words {
        match self.rng.below(1000) {
            0..150 => self.string(),
            150..270 => self.list(),
            270..370 => self.set(),
            370..480 => self.sorted_set(),
            480..650 => self.hash(),
            650..820 => self.stream(),
            820..845 => self.geo(),
            845..885 => self.cardinality(),
            885..985 => self.key_command(),
            985..990 if place != Place::Script => self.function(),
            990..995 if place == Place::Transaction => self.script(),
            995..997 if place != Place::Top => words!["SELECT", self.rng.below(2)],
            997 if self.rng.one_in(3) => words!["FLUSHDB"],
            998 => words!["SWAPDB", self.rng.below(2), self.rng.below(2)],
            999 if self.rng.one_in(6) => words!["FLUSHALL"],
            _ => self.expire(),
        }
    }
}
