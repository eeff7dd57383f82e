//! A command of a client in the server that runs.

use super::*;

/// A command of a client in the server that runs.
pub struct Live {
    pub client: Rc<Client>,
}

impl Env for Live {
    fn db(&self) -> usize {
        self.client.db.get()
    }

    fn set_db(&self, db: usize) {
        self.client.db.set(db);
    }

    fn now_ms(&self) -> i64 {
        server().unit_ms.get()
    }

    fn with<T>(&self, work: impl FnOnce(&mut Data) -> T) -> T {
        work(&mut server().data.borrow_mut())
    }

    fn look(&self, key: &[u8]) {
        let s = server();
        let db = self.db();
        note_key(db, key);
        let is_due =
            s.data.borrow().get(db, key).is_some_and(|entry| entry.expires_ms.is_some_and(|at| at <= s.unit_ms.get()));
        if is_due && s.no_expiry.get() == 0 && !s.loading.get() {
            expire_key(db, key);
        }
    }

    fn takes_past_times(&self) -> bool {
        server().loading.get()
    }

    fn look_all(&self) {
        let version = server().truth.borrow().database_version(self.db());
        note_read(version);
    }

    fn event(&self, class: i32, name: &str, key: &[u8]) {
        if class & (commands::MISS | commands::NEW) == 0 {
            touch_watched(self.db(), key);
            self.dirty();
        }
        notify(class, name, key, self.db());
    }

    fn flushed(&self, db: Option<usize>) {
        let s = server();
        let clients: Vec<Rc<Client>> = s.clients.borrow().values().cloned().collect();
        for client in clients {
            if client.watched.borrow().iter().any(|(at, _)| db.is_none_or(|db| *at == db)) {
                client.abort_exec();
            }
        }
        invalidate_all();
        self.dirty();
        api::flushed(db);
    }

    fn dirty(&self) {
        server().dirty.set(server().dirty.get() + 1);
    }

    fn reply(&self, bytes: &[u8]) {
        reply(&self.client, bytes);
    }

    fn is_resp3(&self) -> bool {
        self.client.resp3.get()
    }

    fn random(&self, below: usize) -> usize {
        server().below(below)
    }

    fn ready(&self, key: &[u8]) {
        let s = server();
        if !s.waiting.borrow().is_empty() {
            s.ready.borrow_mut().push_back((self.db(), key.to_vec()));
        }
    }

    fn block(&self, keys: Vec<Bytes>, timeout_ms: i64) -> bool {
        let (s, client) = (server(), &self.client);
        if client.deny_blocking.get() || s.in_exec.get() || s.in_script.get() > 0 {
            return false;
        }
        let deadline_ms = (timeout_ms > 0).then(|| s.now_ms.get() + timeout_ms);
        let (db, truth) = (client.db.get(), s.truth.borrow());
        let shown = keys.iter().map(|key| truth.version(db, key)).max().unwrap_or(0);
        *client.waits.borrow_mut() = Some(Waits::Keys { keys, db, deadline_ms, shown });
        client.pending.set(true);
        s.waiting.borrow_mut().push(Rc::clone(client));
        true
    }

    fn defer(&self) {
        self.client.deferred.borrow_mut().get_or_insert_default();
    }

    fn end_defer(&self) {
        commit_deferred(&self.client, true);
    }
}
