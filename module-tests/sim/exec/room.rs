//! Keys that the server removes by itself.

use super::*;
use std::collections::BTreeSet;

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

/// `signalModifiedKey`.
pub fn touch_watched(db: usize, key: &[u8]) {
    let s = server();
    let tracking: Vec<Rc<Client>> = s.clients.borrow().values().cloned().collect();
    for client in tracking {
        let tracks = client.tracked.borrow_mut().as_mut().is_some_and(|keys| keys.remove(key));
        if tracks {
            invalidate(&client, Some(key));
        }
    }
    let clients: Vec<Rc<Client>> = server().clients.borrow().values().cloned().collect();
    for client in clients {
        if client.watched.borrow().iter().any(|(at, watched)| *at == db && watched == key) {
            client.abort_exec();
        }
    }
}

fn invalidate(client: &Client, key: Option<&[u8]>) {
    let s = server();
    if !client.resp3.get() {
        return;
    }
    if client.id == s.current.get() {
        s.invalidated.borrow_mut().push(key.map(<[u8]>::to_vec));
    } else {
        answer(client, &resp::invalidation(key), 0);
    }
}

/// `trackingInvalidateKeysOnFlush`.
pub fn invalidate_all() {
    let tracking: Vec<Rc<Client>> = server().clients.borrow().values().cloned().collect();
    for client in tracking {
        let tracks = client.tracked.borrow_mut().as_mut().map(BTreeSet::clear).is_some();
        if tracks {
            invalidate(&client, None);
        }
    }
}

/// `trackingHandlePendingKeyInvalidations`.
pub fn send_invalidations() {
    let s = server();
    if s.busy.get() {
        // Those of the client whose command runs come after that.
        return;
    }
    let keys = s.invalidated.take();
    if let Some(client) = s.client(s.current.get()) {
        keys.iter().for_each(|key| answer(&client, &resp::invalidation(key.as_deref()), 0));
    }
}

/// `trackingRememberKeys`: what the current client has read.
pub fn remember_read(argv: &[Bytes]) {
    let s = server();
    let Some(command) = table::find(&argv[0], b"").filter(|command| command.has("readonly")) else { return };
    if argv[0].eq_ignore_ascii_case(b"eval_ro") {
        return;
    }
    if let Some(client) = s.client(s.current.get())
        && let Some(tracked) = &mut *client.tracked.borrow_mut()
    {
        tracked.extend(commands::key_positions(argv, command.keys).into_iter().map(|at| argv[at].clone()));
    }
}
