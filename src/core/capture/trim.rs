//! LTRIM raises its event also where it had nothing to trim.

use super::{Capture, DbKey, Event, EventKind, Outcome};

impl Capture {
    /// Something else has happened to the key.
    pub(super) fn forget_trim(&mut self, db: u32, key: &[u8]) {
        self.trimmed.take_if(|((trimmed_db, trimmed), _)| *trimmed_db == db && **trimmed == *key);
    }

    /// An LTRIM that follows another one of the same list had nothing to trim when it left as much.
    pub(super) fn note_trim(&mut self, event: &mut Event<'_>, db_key: &DbKey) {
        let same_key = self.trimmed.as_ref().is_some_and(|(key, _)| key == db_key);
        match (&event.outcome, event.kind) {
            (Some(Outcome::Value(length)), EventKind::Trim) => {
                if same_key && self.trimmed.as_ref().is_some_and(|(_, before)| before == length) {
                    event.outcome = Some(Outcome::Unchanged);
                } else {
                    self.trimmed = Some((db_key.clone(), length.clone()));
                }
            }
            // The event does not always say where a key arrives.
            (_, EventKind::Arrived) => self.trimmed = None,
            _ if same_key => self.trimmed = None,
            _ => {}
        }
    }
}
