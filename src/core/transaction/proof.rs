//! Whether events show that every command of an EXEC has run without an error.

use crate::core::hash::Map;
use crate::core::leaf::Leaf;
use crate::core::table::Rule;
use foldhash::fast::RandomState;
use std::collections::VecDeque;
use std::hash::BuildHasher;

/// Whether each command has raised its event.
///
/// Such a command raises its event for its key once, or does nothing, or fails, and nothing else that they do raises
/// that event. So if each event was raised as often as there are commands that raise it, none has failed.
#[derive(Debug, Default)]
pub struct Proof {
    /// How many commands there are.
    commands: usize,
    /// Each of them is known to raise its own event.
    possible: bool,
    raised: Raised,
    exceeded: bool,
}

/// What they have raised.
#[derive(Debug)]
enum Raised {
    /// So many of the commands have raised their only events, each in its turn, and nothing else was raised: it is that
    /// simple in most transactions.
    InTurn(usize),
    Counted(Counted),
}

impl Default for Raised {
    fn default() -> Raised {
        Raised::InTurn(0)
    }
}

/// How many more times each event must be raised.
#[derive(Debug, Default)]
struct Counted {
    /// By a hash of event and key. Negative where an event was raised more often.
    missing: Map<u64, i64>,
    /// How many of those are not 0.
    open: usize,
    hasher: RandomState,
}

/// Options of SET that give the key an expiry, so that it raises `expire`, too.
const EXPIRY_OPTIONS: [&[u8]; 4] = [b"EX", b"PX", b"EXAT", b"PXAT"];

/// The event that a command raises for its key, the key, and whether it raises `expire` for that, too.
fn expected(leaf: &Leaf) -> Option<(&[u8], &[u8], bool)> {
    let spec = leaf.spec.filter(|spec| !spec.event.is_empty())?;
    let mut options = (3..leaf.args.len()).filter_map(|index| leaf.args.get(index));
    let expires = match spec.rule {
        Rule::SetWithExpiry(_) => true,
        Rule::Set => options.any(|word| EXPIRY_OPTIONS.iter().any(|option| word.eq_ignore_ascii_case(option))),
        _ => false,
    };
    Some((spec.event.as_bytes(), leaf.args.get(1)?, expires))
}

impl Proof {
    /// What would prove it for these commands.
    pub fn of(leaves: &VecDeque<Box<Leaf>>) -> Proof {
        let possible = leaves.iter().all(|leaf| expected(leaf).is_some());
        Proof { commands: leaves.len(), possible, ..Proof::default() }
    }

    /// An event was raised. Returns whether it was expected. `del` shows nothing: a list that becomes empty raises it,
    /// too.
    pub fn event(&mut self, leaves: &VecDeque<Box<Leaf>>, event: &[u8], key: &[u8]) -> bool {
        if !self.possible || event == b"del" {
            return false;
        }
        let counted = match &mut self.raised {
            Raised::InTurn(before) => {
                let next = leaves.get(*before).and_then(|leaf| expected(leaf));
                if next.is_some_and(|next| next == (event, key, false)) {
                    *before += 1;
                    return true;
                }
                let counted = Counted::of(leaves, *before);
                self.raised = Raised::Counted(counted);
                return self.event(leaves, event, key);
            }
            Raised::Counted(counted) => counted,
        };
        let before = counted.count(event, key, -1);
        self.exceeded |= before == Some(0);
        before.is_some_and(|before| before > 0)
    }

    /// Whether an event was raised more often than the commands do: another module has written the key, too.
    pub fn is_exceeded(&self) -> bool {
        self.exceeded
    }

    /// Whether the proof is complete.
    pub fn is_complete(&self) -> bool {
        let is_raised = match &self.raised {
            Raised::InTurn(count) => *count == self.commands,
            Raised::Counted(counted) => counted.open == 0,
        };
        self.possible && is_raised
    }
}

impl Counted {
    /// The events of these commands, of which so many at the front have raised theirs.
    fn of(leaves: &VecDeque<Box<Leaf>>, raised: usize) -> Counted {
        let mut counted = Counted::default();
        for (event, key, expires) in leaves.iter().filter_map(|leaf| expected(leaf)) {
            counted.count(event, key, 1);
            if expires {
                counted.count(b"expire", key, 1);
            }
        }
        for (event, key, _) in leaves.iter().take(raised).filter_map(|leaf| expected(leaf)) {
            counted.count(event, key, -1);
        }
        counted
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
}
