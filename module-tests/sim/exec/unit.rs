//! Units and their ends, and what is answered within.

use super::*;

/// `enterExecutionUnit` and `exitExecutionUnit`.
pub fn enter(update_time: bool) {
    let s = server();
    if s.nesting.get() == 0 && update_time {
        s.unit_ms.set(s.now_ms.get());
    }
    s.nesting.set(s.nesting.get() + 1);
}

pub fn leave() {
    let s = server();
    s.nesting.set(s.nesting.get() - 1);
}

/// `postExecutionUnitOperations`.
pub fn end_unit() {
    let s = server();
    if s.nesting.get() > 0 {
        return;
    }
    enter(false);
    loop {
        let Some(job) = s.jobs.borrow_mut().pop_front() else { break };
        let context = Context::temporary(job.db);
        // SAFETY: the module registered the callback with this data.
        context.run(|ctx| unsafe { (job.callback)(ctx, job.data) });
    }
    leave();
    if s.frames.borrow().is_empty() {
        close_truth(true);
    }
}

pub fn close_truth(by_server: bool) -> Option<UnitNumber> {
    let s = server();
    s.truth.borrow_mut().close_unit(&mut s.data.borrow_mut(), by_server)
}

pub fn begin_frame(owner: u64, detached: bool) {
    server().frames.borrow_mut().push(Frame { owner, reads: 0, detached });
}

/// A top-level command, or one inside of it, has ended: what its client must get is known.
pub fn end_frame(client: &Client) {
    let s = server();
    let frame = s.frames.borrow_mut().pop().expect("a frame was begun");
    if client.behalf.get() != 0
        && !frame.detached
        && !client.is_blocked()
        && let Some(owner) = s.client(frame.owner)
    {
        owner.answering.borrow_mut().extend(client.out.borrow().iter());
    }
    let is_outermost = s.frames.borrow().is_empty();
    let closed = if is_outermost { close_truth(false) } else { None };
    let is_owners = !s.frames.borrow().iter().any(|other| other.owner == frame.owner);
    if is_owners
        && !frame.detached
        && let Some(owner) = s.client(frame.owner)
    {
        let bytes = std::mem::take(&mut *owner.answering.borrow_mut());
        let durable = if closed.is_none() { past::durable_answers(&owner, frame.reads) } else { Vec::new() };
        match bytes.is_empty() || durable.is_empty() {
            true => expect(&owner, bytes, closed.unwrap_or(frame.reads)),
            false => {
                let all = std::iter::once((bytes, frame.reads)).chain(durable).collect();
                owner.expected.borrow_mut().push_back(Expected::OneOf(all));
            }
        }
    }
    if let Some(outer) = s.frames.borrow_mut().last_mut().filter(|_| !frame.detached) {
        outer.reads = outer.reads.max(frame.reads);
    }
}

pub fn expect(client: &Client, bytes: Vec<u8>, needs: UnitNumber) {
    if !bytes.is_empty() {
        client.expected.borrow_mut().push_back(Expected::Bytes(bytes.into(), needs));
    }
}

/// The reply depends on what the key was changed by last.
pub fn note_key(db: usize, key: &[u8]) {
    let version = server().truth.borrow().version(db, key);
    note_read(version);
}

pub fn note_read(version: UnitNumber) {
    if let Some(frame) = server().frames.borrow_mut().last_mut() {
        frame.reads = frame.reads.max(version);
    }
}

/// `notifyKeyspaceEvent`.
pub fn notify(class: i32, name: &str, key: &[u8], db: usize) {
    let s = server();
    let executing = s.executing.borrow().clone();
    let home = executing.as_ref().map(|client| client.db.get());
    s.note(|| format!("    event {name} {db}:{}", key.escape_ascii()));
    enter(false);
    if s.other_is_first {
        other::sees_event(class, db);
    }
    let subscribers = s.registered.borrow().keyspace.clone();
    for (mask, callback, active) in subscribers {
        if mask & class == 0 || active.replace(true) {
            continue;
        }
        let context = match &executing {
            Some(client) => {
                client.db.set(db);
                Context::of_event(client)
            }
            None => Context::temporary_event(db),
        };
        s.no_expiry.set(s.no_expiry.get() + 1);
        context.run(|ctx| api::keyspace_callback(callback, ctx, class, name, key));
        s.no_expiry.set(s.no_expiry.get() - 1);
        active.set(false);
    }
    if let (Some(client), Some(home)) = (&executing, home) {
        client.db.set(home);
    }
    if !s.other_is_first {
        other::sees_event(class, db);
    }
    leave();
    if let Some(client) = executing {
        commit_deferred(&client, true);
    }
}

/// `commitDeferredReplyBuffer`.
pub fn commit_deferred(client: &Client, skip_if_blocked: bool) {
    if skip_if_blocked && client.is_blocked() {
        return;
    }
    if let Some(bytes) = client.deferred.borrow_mut().take() {
        client.out.borrow_mut().extend(bytes);
    }
}

/// `addReply`: bytes that a stock server sends, too.
pub fn reply(client: &Client, bytes: &[u8]) {
    let bytes = resp::null_for(bytes, client.resp3.get());
    if !client.fake {
        client.answering.borrow_mut().extend(bytes);
    }
    write(client, bytes);
    // `afterErrorReply`, which does nothing for a module's call.
    if bytes.first() == Some(&b'-') && client.id < CALL_CLIENT {
        server().error_replies.set(server().error_replies.get() + 1);
        commit_deferred(client, true);
    }
}

/// The same for what the module answers.
pub fn write(client: &Client, bytes: &[u8]) {
    match &mut *client.deferred.borrow_mut() {
        Some(deferred) => deferred.extend(bytes),
        None => client.out.borrow_mut().extend(bytes),
    }
}

/// An answer outside of a command.
pub fn answer(client: &Client, bytes: &[u8], needs: UnitNumber) {
    let bytes = resp::null_for(bytes, client.resp3.get());
    if !client.fake {
        expect(client, bytes.to_vec(), needs);
    }
    write(client, bytes);
}
