//! What a primary's commands touch, so that images can stand for them in a replica's log.

use crate::core::dirty::DbKey;
use crate::core::hash::Set;
use crate::core::logged::{Databases, databases};
use crate::core::row::Rule;

/// What a write touches. Where it is logged as images, these must stand for all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touches {
    /// The keys that it names, and no others except those that its events name.
    NamedKeys,
    /// What it changes besides is named by events; it may read any keys.
    AnyKeys,
    /// The function library; no event says so.
    Functions,
    /// Whole databases, for which no images can stand.
    Databases(Databases),
}

impl Touches {
    /// What a write with this rule touches. Scripts and other modules' commands have none of their own.
    pub fn of(rule: Rule, args: &[&[u8]]) -> Touches {
        match rule {
            Rule::Functions => Touches::Functions,
            Rule::ByServerEvent => Touches::Databases(databases(args)),
            // SORT reads keys by patterns, CLUSTER FLUSHSLOT names a slot, and of unknown ones nothing is known.
            Rule::Image | Rule::SilentImage | Rule::DeletedKeys | Rule::NoData => Touches::AnyKeys,
            Rule::Verbatim
            | Rule::Set
            | Rule::SetWithExpiry(_)
            | Rule::Expire(..)
            | Rule::GetEx
            | Rule::Restore
            | Rule::Pop
            | Rule::BlockingMove
            | Rule::Copy
            | Rule::Stream
            | Rule::Silent
            | Rule::Pending(_)
            | Rule::CardinalityCache
            | Rule::Float
            | Rule::FieldFloat
            | Rule::FieldCounter
            | Rule::NewField
            | Rule::FieldRemoval
            | Rule::Trim
            | Rule::FieldExpiry
            | Rule::SetFields
            | Rule::MultiSet
            | Rule::Bits
            | Rule::RandomPop
            | Rule::FromOthers => Touches::NamedKeys,
        }
    }
}

/// What commands that run together touch, besides the keys that they name.
#[derive(Debug, Default)]
pub struct Touched {
    /// One of them may read any keys.
    pub reads_any: bool,
    /// The function library.
    pub functions: bool,
    /// Databases as a whole.
    pub databases: bool,
    /// Those that change places.
    swapped: Vec<u32>,
}

impl Touched {
    /// Adds a command.
    pub fn add(&mut self, touches: Touches) {
        match touches {
            Touches::NamedKeys => {}
            Touches::AnyKeys => self.reads_any = true,
            Touches::Functions => self.functions = true,
            Touches::Databases(which) => {
                self.databases = true;
                if let Databases::Swapped(first, second) = which {
                    self.swapped.extend([first, second]);
                }
            }
        }
    }

    /// Adds every key under the numbers that its database had before, or may have now.
    pub fn add_swapped(&self, keys: &mut Set<DbKey>) {
        let in_swapped = keys.iter().filter(|(db, _)| self.swapped.contains(db)).map(|(_, key)| key);
        let elsewhere = in_swapped.flat_map(|key| self.swapped.iter().map(|db| (*db, key.clone())));
        let elsewhere: Vec<DbKey> = elsewhere.collect();
        keys.extend(elsewhere);
    }
}
