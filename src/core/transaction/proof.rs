//! Whether events show that every command of an EXEC has run without an error.

use crate::core::hash::Map;
use crate::core::leaf::Leaf;
use crate::core::table::Rule;
use foldhash::fast::RandomState;
use std::collections::VecDeque;
use std::hash::BuildHasher;

/// How many more times each event must be raised for that.
///
/// Such a command raises its event for its key once, or does nothing, or fails, and nothing else that they do raises
/// that event. So if each event was raised as often as there are commands that raise it, none has failed.
#[derive(Debug, Default)]
pub struct Proof {
    /// By a hash of event and key. Negative where an event was raised more often.
    missing: Map<u64, i64>,
    /// How many of those are not 0.
    open: usize,
    hasher: RandomState,
    /// Each command is known to raise its own event.
    possible: bool,
    exceeded: bool,
}

/// Options of SET that give the key an expiry, so that it raises `expire`, too.
const EXPIRY_OPTIONS: [&[u8]; 4] = [b"EX", b"PX", b"EXAT", b"PXAT"];

impl Proof {
    /// What would prove it for these commands.
    pub fn of(leaves: &VecDeque<Box<Leaf>>) -> Proof {
        let mut proof = Proof { possible: true, ..Proof::default() };
        proof.possible = leaves.iter().all(|leaf| proof.expect(leaf));
        proof
    }

    fn expect(&mut self, leaf: &Leaf) -> bool {
        let Some((spec, key)) = leaf.spec.filter(|spec| !spec.event.is_empty()).zip(leaf.args.get(1)) else {
            return false;
        };
        self.count(spec.event.as_bytes(), key, 1);
        let mut options = (3..leaf.args.len()).filter_map(|index| leaf.args.get(index));
        let expires = match spec.rule {
            Rule::SetWithExpiry(_) => true,
            Rule::Set => options.any(|word| EXPIRY_OPTIONS.iter().any(|option| word.eq_ignore_ascii_case(option))),
            _ => false,
        };
        if expires {
            self.count(b"expire", key, 1);
        }
        true
    }

    /// An event was raised. Returns whether it was expected. `del` shows nothing: a list that becomes empty raises it,
    /// too.
    pub fn event(&mut self, event: &[u8], key: &[u8]) -> bool {
        if !self.possible || event == b"del" {
            return false;
        }
        let before = self.count(event, key, -1);
        self.exceeded |= before == Some(0);
        before.is_some_and(|before| before > 0)
    }

    /// Returns how many were missing before, if that was counted.
    fn count(&mut self, event: &[u8], key: &[u8], more: i64) -> Option<i64> {
        let hash = self.hasher.hash_one((event, key));
        let before = self.missing.get(&hash).copied();
        let missing = before.unwrap_or(0) + more;
        self.missing.insert(hash, missing);
        self.open = self.open + usize::from(missing != 0) - usize::from(before.is_some_and(|before| before != 0));
        before
    }

    /// Whether an event was raised more often than the commands do: another module has written the key, too.
    pub fn is_exceeded(&self) -> bool {
        self.exceeded
    }

    /// Whether the proof is complete.
    pub fn is_complete(&self) -> bool {
        self.possible && self.open == 0
    }
}
