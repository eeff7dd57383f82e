//! Sequences that once were not logged exactly, and corner cases that random commands seldom meet.

use super::Step;
use super::words::Words;
use crate::harness::Version;
use crate::harness::commands::words as split;
use std::collections::BTreeMap;

/// Blocks parted by empty lines. The first line of each is `# name`, or `# 9.1 name` where older servers lack the
/// commands; then commands, and:
/// - `wait MS`
/// - `other COMMAND`: of another client
/// - `blocked DB COMMAND` lines, then `by COMMAND` lines: what may serve them
/// - `restore SOURCE TARGET TTL OPTIONS`: RESTORE of what DUMP gives
const TABLE: &str = include_str!("regressions.txt");

pub struct Regression {
    pub name: String,
    since_9_1: bool,
    lines: Vec<String>,
}

/// Those of the table.
pub fn all(version: Version) -> Vec<Regression> {
    let blocks = TABLE.split("\n\n").map(str::trim).filter(|block| !block.is_empty());
    blocks.map(Regression::parse).filter(|regression| version == Version::V9_1 || !regression.since_9_1).collect()
}

impl Regression {
    fn parse(block: &str) -> Regression {
        let mut lines = block.lines();
        let name = lines.next().and_then(|line| line.strip_prefix("# ")).expect("a block begins with `# name`");
        let since_9_1 = name.starts_with("9.1 ");
        let name = name.trim_start_matches("9.1 ").into();
        Regression { name, since_9_1, lines: lines.map(str::to_string).collect() }
    }

    pub fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for line in &self.lines {
            let mut words = split(line, &BTreeMap::new());
            let number = |word: &[u8]| String::from_utf8_lossy(word).parse().expect("a number");
            match (words[0].as_slice(), steps.last_mut()) {
                (b"wait", _) => steps.push(Step::Wait(number(&words[1]))),
                (b"blocked", Some(Step::Blocked { blocked, serving })) if serving.is_empty() => {
                    blocked.push((number(&words[1]) as u32, words.split_off(2)));
                }
                (b"blocked", _) => {
                    let blocked = vec![(number(&words[1]) as u32, words.split_off(2))];
                    steps.push(Step::Blocked { blocked, serving: Vec::new() });
                }
                (b"by", Some(Step::Blocked { serving, .. })) => serving.push(words.split_off(1)),
                (b"other", _) => steps.push(Step::Other(words.split_off(1))),
                (b"restore", _) => steps.push(restore(&words)),
                _ => steps.push(Step::Send(vec![words])),
            }
        }
        steps
    }
}

fn restore(words: &Words) -> Step {
    let [_, source, target, ttl, options @ ..] = words.as_slice() else { panic!("restore: {words:?}") };
    Step::Restore { source: source.clone(), target: target.clone(), ttl: ttl.clone(), options: options.to_vec() }
}
