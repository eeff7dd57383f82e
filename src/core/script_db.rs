//! The database that a script's commands run in.

/// The database that a script's commands run in. No event shows whether a SELECT of the script has run or was refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScriptDb {
    /// Where it is known: what was shown is looked for there only.
    proved: Option<u32>,
    /// Where it is taken to be.
    likely: Option<u32>,
}

impl ScriptDb {
    /// It is known.
    pub fn known(db: Option<u32>) -> ScriptDb {
        ScriptDb { proved: db, likely: db }
    }

    /// The script has sent a SELECT, which by the server's rules leads to this database; `None` if it is refused.
    pub fn announce_select(&mut self, db: Option<u32>) {
        *self = ScriptDb { proved: None, likely: db.or(self.likely) };
    }

    /// Where it is known.
    pub fn proved(self) -> Option<u32> {
        self.proved
    }

    /// Where it is taken to be.
    pub fn likely(self) -> Option<u32> {
        self.likely
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_select_of_a_script_proves_nothing() {
        let mut db = ScriptDb::known(Some(3));
        assert_eq!((db.proved(), db.likely()), (Some(3), Some(3)));
        db.announce_select(None);
        assert_eq!((db.proved(), db.likely()), (None, Some(3)));
        db.announce_select(Some(1));
        assert_eq!((db.proved(), db.likely()), (None, Some(1)));
    }
}
