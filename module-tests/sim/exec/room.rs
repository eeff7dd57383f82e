//! Keys that the server removes by itself.

use super::*;

/// `performEvictions`; whether there is no room.
pub fn make_room() -> bool {
    let s = server();
    while s.data.borrow().total() > s.keys_max.get() {
        if !s.evicts.get() {
            return true;
        }
        let places: Vec<(usize, Bytes)> = {
            let data = s.data.borrow();
            (0..crate::data::DATABASES).flat_map(|db| data.keys(db).map(move |(key, _)| (db, key.clone()))).collect()
        };
        let (db, key) = places[s.below(places.len())].clone();
        enter(true);
        s.data.borrow_mut().remove(db, &key);
        touch_watched(db, &key);
        notify(commands::EVICTED, "evicted", &key, db);
        leave();
        end_unit();
        if s.frames.borrow().is_empty() {
            // Also where a command that waited runs again, within a unit.
            close_truth(true);
        }
    }
    false
}

/// Removes keys whose time is over, as the server's timer does.
pub fn expire_some() {
    let s = server();
    for db in 0..crate::data::DATABASES {
        let due: Vec<Bytes> = {
            let data = s.data.borrow();
            let now = s.now_ms.get();
            let due = data.keys(db).filter(|(_, entry)| entry.expires_ms.is_some_and(|at| at <= now));
            due.map(|(key, _)| key.clone()).collect()
        };
        for key in due {
            if s.chance(50) {
                enter(true);
                expire_key(db, &key);
                leave();
                end_unit();
            }
        }
    }
}

pub fn expire_key(db: usize, key: &[u8]) {
    let s = server();
    s.data.borrow_mut().remove(db, key);
    s.truth.borrow_mut().note_expired(db, key);
    touch_watched(db, key);
    notify(commands::EXPIRED, "expired", key, db);
}

/// `touchWatchedKey`.
pub fn touch_watched(db: usize, key: &[u8]) {
    let clients: Vec<Rc<Client>> = server().clients.borrow().values().cloned().collect();
    for client in clients {
        if client.watched.borrow().iter().any(|(at, watched)| *at == db && watched == key) {
            client.dirty_cas.set(true);
        }
    }
}
