//! What happens to whole databases.

use super::Capture;
use crate::core::unit::Unit;

impl Capture {
    /// The dataset (or one database) was emptied.
    pub fn flushed(&mut self, db: Option<u32>, now_ms: Option<i64>) {
        self.trimmed = None;
        let unit = self.unit.get_or_insert_with(|| Unit::at(now_ms));
        match db {
            Some(db) => unit.command(db, &[b"FLUSHDB"]),
            None => {
                unit.command(0, &[b"FLUSHALL"]);
                // FLUSHALL itself keeps the functions; what else empties all databases (CLUSTER RESET, DEBUG) removes
                // them, too, and its event doesn't say so.
                unit.functions = true;
                unit.functions_changed = true;
            }
        }
        unit.emptied.push(db);
    }

    /// The whole dataset was replaced from outside: what the unit has done before is void. What clients have queued,
    /// delayed or wait in is what it was. `has_expiring_fields`: a hash of the new one may have a field that expires.
    pub fn replaced(&mut self, has_expiring_fields: bool, now_ms: Option<i64>) {
        self.trimmed = None;
        self.fields_expire |= has_expiring_fields;
        self.blocked.databases_changed(|_| true);
        self.blocked.pops.all_may_fail();
        let mut unit = Unit::at(now_ms);
        unit.emptied.push(None);
        self.unit = Some(unit);
    }

    /// Two databases changed places.
    pub fn databases_swapped(&mut self, first: u32, second: u32, now_ms: Option<i64>) {
        self.blocked.databases_changed(|db| [first, second].contains(&db));
        self.trimmed = None;
        let unit = self.unit.get_or_insert_with(|| Unit::at(now_ms));
        unit.swap_databases(first, second);
        unit.emptied.extend([Some(first), Some(second)]);
        unit.command(0, &[b"SWAPDB", first.to_string().as_bytes(), second.to_string().as_bytes()]);
    }
}
