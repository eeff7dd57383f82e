//! The database that a script's commands run in.

use crate::core::leaf::ClientId;

/// The database that a script's commands run in. No event shows whether a SELECT of the script has run or was refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScriptDb {
    /// Nothing is known of it.
    #[default]
    Unknown,
    /// The one that this client, whose script it is, has selected: the server knows it.
    Of(ClientId),
    /// It is known: what was shown is looked for there only.
    Proved(u32),
    /// It is taken to be this one.
    Likely(u32),
}

impl ScriptDb {
    /// The same, with the server asked what a client has selected.
    pub fn asked(self, selected_by: impl FnOnce(ClientId) -> Option<u32>) -> ScriptDb {
        match self {
            ScriptDb::Of(client) => selected_by(client).map_or(ScriptDb::Unknown, ScriptDb::Proved),
            known => known,
        }
    }

    /// The script has sent a SELECT, which by the server's rules leads to this database; `None` if it is refused.
    pub fn announce_select(&mut self, db: Option<u32>) {
        *self = db.or(self.likely()).map_or(ScriptDb::Unknown, ScriptDb::Likely);
    }

    /// Where it is known.
    pub fn proved(self) -> Option<u32> {
        match self {
            ScriptDb::Proved(db) => Some(db),
            ScriptDb::Unknown | ScriptDb::Of(_) | ScriptDb::Likely(_) => None,
        }
    }

    /// Where it is taken to be.
    pub fn likely(self) -> Option<u32> {
        match self {
            ScriptDb::Proved(db) | ScriptDb::Likely(db) => Some(db),
            ScriptDb::Unknown | ScriptDb::Of(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_select_of_a_script_proves_nothing() {
        let mut db = ScriptDb::Of(7).asked(|client| Some(if client == 7 { 3 } else { 0 }));
        assert_eq!((db.proved(), db.likely()), (Some(3), Some(3)));
        db.announce_select(None);
        assert_eq!((db.proved(), db.likely()), (None, Some(3)));
        db.announce_select(Some(1));
        assert_eq!((db.proved(), db.likely()), (None, Some(1)));
        assert_eq!(ScriptDb::Of(7).asked(|_| None), ScriptDb::Unknown);
    }
}
