//! Commands of hashes: the fields that they name, and whether their effect depends on what has expired.

use super::Leaf;
use crate::core::table::{Quirk, Rule};

impl Leaf {
    /// The place of the first field or pair: of HDEL after the key, of others after FIELDS and their number.
    pub fn first_field(&self) -> Option<usize> {
        if self.spec?.quirk == Quirk::FieldsAfterKey {
            return Some(2);
        }
        Some((2..self.args.len()).find(|index| self.is_word(*index, b"FIELDS"))? + 2)
    }

    /// The fields that a command of hashes names, as often as it names them.
    pub fn named_fields(&self) -> Option<Vec<Vec<u8>>> {
        let step = if self.spec?.rule == Rule::SetFields { 2 } else { 1 };
        let places = (self.first_field()?..self.args.len()).step_by(step);
        Some(places.filter_map(|index| self.args.get(index)).map(<[u8]>::to_vec).collect())
    }

    /// HSETEX with KEEPTTL.
    pub fn keeps_ttl(&self) -> bool {
        self.first_field().is_some_and(|fields| (2..fields).any(|index| self.is_word(index, b"KEEPTTL")))
    }

    fn is_word(&self, index: usize, word: &[u8]) -> bool {
        self.args.get(index).is_some_and(|arg| arg.eq_ignore_ascii_case(word))
    }

    /// Whether its effect on the dataset depends on which fields of a hash have expired.
    pub fn depends_on_expired_fields(&self) -> bool {
        self.spec.is_some_and(|spec| matches!(spec.rule, Rule::FieldRemoval | Rule::FieldCounter | Rule::NewField))
    }
}
