//! Clients that wait for keys.

use super::*;

/// `handleClientsBlockedOnKeys`.
pub fn serve_ready() {
    let s = server();
    if s.serving.replace(true) {
        return;
    }
    loop {
        let Some((db, key)) = s.ready.borrow_mut().pop_front() else { break };
        let waiting: Vec<Rc<Client>> = s.waiting.borrow().clone();
        for client in waiting {
            let waits = match &*client.waits.borrow() {
                Some(Waits::Keys { keys, db: at, .. }) => *at == db && keys.contains(&key),
                _ => false,
            };
            let wanted = if client.command.borrow()[0].eq_ignore_ascii_case(b"blpop") { b'l' } else { b'x' };
            let is_there = s.data.borrow().get(db, &key).is_some_and(|entry| {
                matches!(
                    (&entry.value, wanted),
                    (crate::data::Value::List(_), b'l') | (crate::data::Value::Stream(_), b'x')
                )
            });
            if waits && is_there {
                serve(&client);
            }
        }
    }
    s.serving.set(false);
}

/// `unblockClientOnKey`.
pub fn serve(client: &Rc<Client>) {
    let s = server();
    s.note(|| format!("  served: {} {}", client.id, show(&client.command.borrow())));
    unblock(client, false);
    if !client.pending.replace(false) {
        return;
    }
    // Until its unit has ended (`afterCommand`).
    let before = s.current.replace(client.id);
    enter(true);
    let argv = client.command.borrow().clone();
    let may_replicate = matches!(lookup(&argv), Some(Kind::Own(command)) if command.may_replicate());
    match client.fake {
        true if s.is_paused(may_replicate) => postpone_call(client),
        true => call(client, &argv),
        false => process(client, argv, true),
    }
    if !client.is_blocked() {
        if client.fake {
            held::promise_kept(client);
        } else {
            s.unblocked.borrow_mut().push_back(Rc::clone(client));
        }
    }
    leave();
    end_unit();
    s.current.set(before);
}

/// `blockPostponeClient`: a call of the module's waits for the end of a pause, after which it is not run.
fn postpone_call(client: &Rc<Client>) {
    let s = server();
    s.note(|| format!("    postponed a call for {}", client.behalf.get()));
    client.pending.set(true);
    *client.waits.borrow_mut() = Some(Waits::Pause);
    s.waiting.borrow_mut().push(Rc::clone(client));
}

/// `unblockClient`.
pub fn unblock(client: &Rc<Client>, reprocess: bool) {
    let s = server();
    let waits = client.waits.borrow_mut().take();
    match waits {
        Some(Waits::Keys { .. } | Waits::Pause) => s.waiting.borrow_mut().retain(|other| !Rc::ptr_eq(other, client)),
        Some(Waits::Module(blocked, _)) => held::left(client, blocked),
        None => {}
    }
    if reprocess {
        s.unblocked.borrow_mut().push_back(Rc::clone(client));
    }
}

/// What a client is shown that waits for keys in vain: that they were not there when it began.
pub fn shown_in_vain(client: &Client) -> UnitNumber {
    match &*client.waits.borrow() {
        Some(Waits::Keys { shown, .. }) => *shown,
        _ => 0,
    }
}

/// `unblockClientOnTimeout`.
pub fn time_out(client: &Rc<Client>) {
    let s = server();
    s.note(|| format!("  timed out: {}", client.id));
    let module = match &*client.waits.borrow() {
        Some(Waits::Module(blocked, _)) => Some(*blocked),
        _ => None,
    };
    if let Some(blocked) = module {
        if held::is_released(blocked) {
            return;
        }
        held::timed_out(client, blocked);
    } else {
        let needs = shown_in_vain(client);
        answer(client, NULL_ARRAY, needs);
        client.timed_out.set(client.fake.then_some(needs));
    }
    client.pending.set(false);
    unblock(client, true);
}
