//! The fake server's event loop: who is read from and written to, and when.

use crate::checks::check;
use crate::exec::{self, serve_ready, time_out};
use crate::held;
use crate::server::{Client, User, Waits, server, violated};
use crate::{api, other};
use std::rc::Rc;
use valkey_module::raw;

pub fn connect(user: User) -> Rc<Client> {
    let s = server();
    let id = s.next_id.get();
    s.next_id.set(id + 1);
    let client = s.make_client(id, false, user);
    s.clients.borrow_mut().insert(id, Rc::clone(&client));
    s.note(|| format!("connected: {id} {user:?}"));
    api::client_changed(&client, raw::VALKEYMODULE_SUBEVENT_CLIENT_CHANGE_CONNECTED);
    client
}

/// `freeClient`.
pub fn disconnect(client: &Rc<Client>) {
    let s = server();
    if client.gone.replace(true) {
        return;
    }
    s.note(|| format!("disconnected: {}", client.id));
    api::client_changed(client, raw::VALKEYMODULE_SUBEVENT_CLIENT_CHANGE_DISCONNECTED);
    if client.is_blocked() {
        exec::unblock(client, false);
    }
    s.unblocked.borrow_mut().retain(|other| !Rc::ptr_eq(other, client));
    s.scripts.borrow_mut().retain(|(id, _)| *id != client.id);
    s.clients.borrow_mut().remove(&client.id);
}

pub fn clients() -> Vec<Rc<Client>> {
    server().clients.borrow().values().cloned().collect()
}

/// `processInputBuffer`.
pub fn process_input(client: &Rc<Client>) {
    client.read();
    while !client.is_blocked() && !client.close.get() && !client.gone.get() {
        let Some(argv) = client.take_input() else { break };
        exec::process(client, argv, false);
    }
}

/// Sends what a client's socket takes: all of it, or a part.
fn send(client: &Client) {
    let s = server();
    if crate::process::power_is_lost() {
        return;
    }
    if client.close.get() {
        // Its socket is shut.
        client.out.borrow_mut().clear();
    }
    let len = client.out.borrow().len();
    if len == 0 {
        return client.handler.set(false);
    }
    let count = if s.chance(80) { len } else { 1 + s.below(len) };
    let bytes: Vec<u8> = client.out.borrow_mut().drain(..count).collect();
    s.note(|| format!("sent to {}: {}", client.id, bytes.escape_ascii()));
    client.handler.set(count < len);
    check(client, &bytes);
}

/// The server reads that the client sends nothing more: it is freed at the end of the iteration (`freeClientAsync`),
/// and nothing more is written to it. What the server had read before has run, and has been answered, unless the client
/// is held or its socket takes no more.
fn see_end(client: &Rc<Client>) {
    if client.close.get() || !client.out.borrow().is_empty() && !client.handler.get() {
        // What was written in this iteration leaves at its end, before the next read.
        return;
    }
    server().note(|| format!("its input has ended: {}", client.id));
    let is_done = !client.is_blocked() && !client.pending.get() && client.input.borrow().is_empty();
    if is_done && client.out.borrow().is_empty() && !client.expected.borrow().is_empty() {
        violated(&format!("client {} is freed and has not got {:?}", client.id, client.expected.borrow()));
    }
    client.close.set(true);
}

/// `handleClientsWithPendingWrites`.
fn write_pending(protected: u64) {
    for client in clients() {
        if client.id != protected && !client.handler.get() && !client.out.borrow().is_empty() {
            send(&client);
        }
    }
}

/// File events: of each client first what it has sent, then its write handler.
pub fn file_events(chance: u64) {
    let s = server();
    let mut ready = clients();
    // In any order.
    for at in (1..ready.len()).rev() {
        ready.swap(at, s.below(at + 1));
    }
    for client in ready {
        if client.gone.get() {
            continue;
        }
        if s.chance(chance) {
            match () {
                () if client.ended.get() && client.is_read() => see_end(&client),
                () if !client.is_blocked() => process_input(&client),
                () if client.ended.get() => client.read(),
                () => {}
            }
        }
        if client.handler.get() && s.chance(70) {
            send(&client);
        }
        crate::life::writer_may_step();
    }
}

/// `processEventsWhileBlocked`: a script runs long.
///
/// The server protects the script's client: it is neither read from nor written to.
pub fn process_while_blocked(owner: u64) {
    let s = server();
    s.note(|| "  yields".into());
    let busy = s.busy.replace(true);
    write_pending(owner);
    let executing = s.executing.take();
    let in_script = s.in_script.get();
    for client in clients().into_iter().filter(|client| client.id != owner) {
        // One whose command has waited and is still to run is read from no further (`pending_command`).
        let is_read = !client.is_blocked() && !client.pending.get() && client.queue.borrow().is_none();
        // WBL.DEBUG PAUSE would end the unit of a command amid which another module yields.
        let pauses = s.yields.get() && client.input.borrow().front().is_some_and(|argv| argv[1..] == [b"PAUSE"]);
        if s.chance(30) && is_read && !pauses {
            client.read();
            let next = client.take_input();
            if let Some(argv) = next {
                exec::process(&client, argv, false);
            }
        }
        if client.handler.get() {
            send(&client);
        }
    }
    write_pending(owner);
    s.in_script.set(in_script);
    s.executing.replace(executing);
    s.busy.set(busy);
}

/// `VM_Yield`: the server protects the client whose command runs, if one does. It does not yield within itself.
pub fn yield_to_clients() {
    let s = server();
    if !s.yields.replace(true) {
        process_while_blocked(s.current.get());
        s.yields.set(false);
    }
}

/// The module waits for the end of WBL.DEBUG PAUSE, and yields again and again. Somebody ends it sooner or later.
pub fn wait_for_resume() {
    let s = server();
    // What has changed is in the log by now, and may become durable before its command has ended here.
    if let Some(unit) = exec::close_truth(false) {
        s.frames.borrow_mut().iter_mut().for_each(|frame| frame.reads = frame.reads.max(unit));
    }
    yield_to_clients();
    s.yields_while_paused.set(s.yields_while_paused.get() + 1);
    if s.yields_while_paused.get() > 1000 {
        violated("the module waits for a RESUME, and has had it");
    }
    if s.truth.borrow().is_frozen() && (s.yields_while_paused.get() > 20 || s.chance(30)) {
        resume();
    }
}

/// A client comes and ends WBL.DEBUG PAUSE.
pub fn resume() {
    let s = server();
    let busy = s.busy.replace(true);
    if s.is_paused(false) {
        crate::process::advance(s.paused_until_ms.get() - s.now_ms.get());
    }
    let client = connect(User::Default);
    exec::process(&client, vec![b"WBL.DEBUG".to_vec(), b"RESUME".to_vec()], false);
    s.busy.set(busy);
}

/// `processUnblockedClients`.
fn process_unblocked() {
    let s = server();
    loop {
        let Some(client) = s.unblocked.borrow_mut().pop_front() else { break };
        if client.is_blocked() || client.gone.get() {
            continue;
        }
        if client.fake {
            held::promise_kept(&client);
            continue;
        }
        if client.pending.replace(false) {
            let argv = client.command.borrow().clone();
            exec::process(&client, argv, true);
        }
        process_input(&client);
        if s.io_threads && !client.handler.get() {
            // `beforeNextClient`
            send(&client);
        }
    }
}

/// The end of an iteration.
pub fn before_sleep() {
    let s = server();
    s.note(|| "before sleep".into());
    handle_timeouts();
    serve_ready();
    held::handle_released();
    process_unblocked();
    if s.chance(30) {
        exec::expire_some();
    }
    if s.other_is_first {
        other::runs_by_itself(10);
    }
    let before = raw::VALKEYMODULE_SUBEVENT_EVENTLOOP_BEFORE_SLEEP;
    api::server_event(raw::VALKEYMODULE_EVENT_EVENTLOOP, before, std::ptr::null_mut(), None);
    if !s.other_is_first {
        other::runs_by_itself(10);
    }
    crate::life::writer_may_step();
    write_pending(0);
    if s.io_threads {
        file_events(30);
        write_pending(0);
    }
    for client in clients() {
        if client.close.get() {
            disconnect(&client);
        }
    }
}

/// The event loop has slept.
pub fn after_sleep() {
    let after = raw::VALKEYMODULE_SUBEVENT_EVENTLOOP_AFTER_SLEEP;
    api::server_event(raw::VALKEYMODULE_EVENT_EVENTLOOP, after, std::ptr::null_mut(), None);
}

/// All clients, and those of the module's calls that wait.
fn all_waiting() -> Vec<Rc<Client>> {
    let mut all = clients();
    all.extend(server().waiting.borrow().iter().filter(|client| client.fake).cloned());
    all
}

/// `handleBlockedClientsTimeout`.
fn handle_timeouts() {
    let s = server();
    let now = s.now_ms.get();
    for client in all_waiting() {
        let due = match &*client.waits.borrow() {
            Some(Waits::Keys { deadline_ms, .. } | Waits::Module(_, deadline_ms)) => {
                deadline_ms.is_some_and(|at| at <= now)
            }
            _ => false,
        };
        if due {
            time_out(&client);
        }
    }
}

/// The server's timer: a child's end is told, another module's timer runs, pauses end.
pub fn timer() {
    let s = server();
    other::runs_by_itself(15);
    if s.child.get().is_some()
        && s.chance(25)
        && let Some(child) = s.child.take()
    {
        s.note(|| format!("the child has ended: {} {}", child.status, child.signal));
        // SAFETY: the module registered the callback, without data.
        unsafe { (child.callback)(child.status, child.signal, std::ptr::null_mut()) };
    }
    if s.now_ms.get() < s.paused_until_ms.get() {
        return;
    }
    for client in all_waiting() {
        let waits = matches!(&*client.waits.borrow(), Some(Waits::Pause));
        if waits {
            s.note(|| format!("resumed: {}", client.id));
            exec::unblock(&client, true);
        }
    }
}
