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
            None => unit.command(0, &[b"FLUSHALL"]),
        }
        unit.emptied.push(db);
    }

    /// Two databases changed places.
    pub fn databases_swapped(&mut self, first: u32, second: u32, now_ms: Option<i64>) {
        self.blocked.databases_changed([first, second]);
        self.trimmed = None;
        let unit = self.unit.get_or_insert_with(|| Unit::at(now_ms));
        unit.swap_databases(first, second);
        unit.emptied.extend([Some(first), Some(second)]);
        unit.command(0, &[b"SWAPDB", first.to_string().as_bytes(), second.to_string().as_bytes()]);
    }
}
