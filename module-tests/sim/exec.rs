//! How the fake server executes commands, in the order of the real one: units and their ends, events, transactions,
//! scripts, clients that wait for keys.

use crate::api::{self, Context};
use crate::commands::{self, Env};
use crate::data::{Bytes, Data};
use crate::resp::{self, NULL_ARRAY, OK, QUEUED};
use crate::server::{Argv, CALL_CLIENT, Client, Frame, SCRIPT_CLIENT, Server, User, Waits, server, violated};
use crate::table::{self, Command};
use crate::truth::{Expected, UnitNumber};
use crate::{admin, event_loop};
use std::rc::Rc;

pub const OOM: &str = "OOM command not allowed when used memory > 'maxmemory'.";
const BUSY: &str = "BUSY Valkey is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.";

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

fn close_truth(by_server: bool) -> Option<UnitNumber> {
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
        expect(&owner, bytes, closed.unwrap_or(frame.reads));
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
fn note_key(db: usize, key: &[u8]) {
    let version = server().truth.borrow().version(db, key);
    note_read(version);
}

fn note_read(version: UnitNumber) {
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
    if !client.fake {
        client.answering.borrow_mut().extend(bytes);
    }
    write(client, bytes);
    // `afterErrorReply`, which does nothing for a module's call.
    if bytes.first() == Some(&b'-') && client.id != CALL_CLIENT {
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
    if !client.fake {
        expect(client, bytes.to_vec(), needs);
    }
    write(client, bytes);
}

fn reject(client: &Client, text: &str) {
    let s = server();
    if client.queue.borrow().is_some() {
        client.dirty_exec.set(true);
    }
    s.error_replies.set(s.error_replies.get() + 1);
    s.note(|| format!("    refused {}: {text}", client.id));
    answer(client, &resp::error(text), 0);
}

pub fn show(argv: &[Bytes]) -> String {
    argv.iter().map(|arg| arg.escape_ascii().to_string()).collect::<Vec<_>>().join(" ")
}

pub fn may_run(user: User, argv: &[Bytes]) -> bool {
    let is_own = argv[0].len() > 4 && argv[0][..4].eq_ignore_ascii_case(b"wbl.");
    let found = table::find(&argv[0], argv.get(1).map_or(b"", |arg| arg));
    match user {
        User::Default => true,
        User::Plain => !is_own,
        User::Reader => !is_own && found.is_none_or(|command| !command.has("write")),
        User::Nobody => false,
    }
}

/// What a command is, whoever brought it.
enum Kind {
    Own(&'static Command),
    Module { is_write: bool },
}

fn lookup(argv: &[Bytes]) -> Option<Kind> {
    let name = String::from_utf8_lossy(&argv[0]).to_ascii_lowercase();
    if let Some((_, flags)) = server().registered.borrow().commands.get(&name) {
        return Some(Kind::Module {
            is_write: flags.split(' ').any(|flag| flag == "write" || flag == "may-replicate"),
        });
    }
    table::find(&argv[0], argv.get(1).map_or(b"", |arg| arg)).map(Kind::Own)
}

/// Why the server refuses a command before it looks at memory and pauses.
fn refusal(client: &Client, argv: &[Bytes]) -> Option<String> {
    let name = argv[0].escape_ascii().to_string();
    if client.user == User::Nobody {
        return Some("NOAUTH Authentication required.".into());
    }
    let Some(kind) = lookup(argv) else { return Some(format!("ERR unknown command '{name}'")) };
    if matches!(kind, Kind::Own(command) if command.refuses(argv.len())) {
        let name = name.to_ascii_lowercase();
        return Some(format!("ERR wrong number of arguments for '{name}' command"));
    }
    if !may_run(client.user, argv) {
        return Some(format!("NOPERM this user has no permissions to run the '{}' command", name.to_ascii_lowercase()));
    }
    None
}

/// `processCommand`. `again`: it has passed the filter before.
pub fn process(client: &Rc<Client>, argv: Argv, again: bool) {
    let s = server();
    let argv = if again {
        argv
    } else {
        s.note(|| format!("  {} {}", client.id, show(&argv)));
        let filtered = api::filter(client, &argv);
        if filtered != argv {
            s.note(|| format!("    becomes {}", show(&filtered)));
            let (stock, now) = (refusal(client, &argv), refusal(client, &filtered));
            let is_refused_queue = filtered.last().is_some_and(|arg| arg == b"queued-before-the-log-began");
            if stock != now && !is_refused_queue {
                violated(&format!("{:?} is answered {now:?} and a stock server answers {stock:?}", show(&argv)));
            }
        }
        filtered
    };
    if !again && let Some(text) = refusal(client, &argv) {
        return reject(client, &text);
    }
    let Some(kind) = lookup(&argv) else { return };
    let is_exec = argv[0].eq_ignore_ascii_case(b"exec");
    let queued_flag = |flag: &str| {
        is_exec
            && client
                .queue
                .borrow()
                .iter()
                .flatten()
                .any(|queued| matches!(lookup(queued), Some(Kind::Own(command)) if command.has(flag)))
    };
    let is_denied_memory = matches!(kind, Kind::Own(command) if command.has("denyoom")) || queued_flag("denyoom");
    let may_replicate = match kind {
        Kind::Own(command) => command.may_replicate(),
        Kind::Module { is_write } => is_write,
    } || queued_flag("write")
        || queued_flag("may_replicate");
    if !s.busy.get() {
        s.is_full.set(make_room());
        if s.is_full.get() && is_denied_memory {
            return reject(client, OOM);
        }
    } else {
        let bounds: [&[u8]; 3] = [b"multi", b"discard", b"unwatch"];
        if !bounds.iter().any(|name| argv[0].eq_ignore_ascii_case(name)) {
            return reject(client, BUSY);
        }
    }
    if s.is_paused(may_replicate) {
        s.note(|| format!("    postponed {}", client.id));
        *client.command.borrow_mut() = argv;
        client.pending.set(true);
        *client.waits.borrow_mut() = Some(Waits::Pause);
        return;
    }
    let bounds: [&[u8]; 5] = [b"exec", b"discard", b"multi", b"watch", b"reset"];
    if client.queue.borrow().is_some() && !bounds[..2].iter().any(|name| argv[0].eq_ignore_ascii_case(name)) {
        if bounds[2..].iter().any(|name| argv[0].eq_ignore_ascii_case(name)) {
            return reject(client, "ERR Command not allowed inside a transaction");
        }
        client.queue.borrow_mut().iter_mut().for_each(|queue| queue.push(argv.clone()));
        return answer(client, QUEUED, 0);
    }
    *client.command.borrow_mut() = argv.clone();
    call(client, &argv);
    if !s.ready.borrow().is_empty() && !s.busy.get() {
        serve_ready();
    }
}

/// `performEvictions`; whether there is no room.
fn make_room() -> bool {
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

fn expire_key(db: usize, key: &[u8]) {
    let s = server();
    s.data.borrow_mut().remove(db, key);
    s.truth.borrow_mut().note_expired(db, key);
    touch_watched(db, key);
    notify(commands::EXPIRED, "expired", key, db);
}

/// `call`.
pub fn call(client: &Rc<Client>, argv: &[Bytes]) {
    let s = server();
    let before = s.executing.replace(Some(Rc::clone(client)));
    enter(true);
    let owner = if client.behalf.get() != 0 { client.behalf.get() } else { client.id };
    let owner = if client.fake && client.behalf.get() == 0 { 0 } else { owner };
    begin_frame(owner, client.fake && client.behalf.get() == 0 && client.id != SCRIPT_CLIENT);
    let errors = s.error_replies.get();
    let dirty = s.dirty.get();
    run(client, argv);
    leave();
    let failed = s.error_replies.get() != errors || client.out.borrow().front() == Some(&b'-') && client.fake;
    let changed = s.dirty.get() != dirty;
    if s.is_9_1 {
        api::command_result(client, argv, failed, changed);
    }
    if !client.is_blocked() {
        *s.calls.borrow_mut().entry(command_name(argv)).or_default() += 1;
    }
    end_frame(client);
    end_unit();
    s.executing.replace(before);
}

fn command_name(argv: &[Bytes]) -> String {
    let sub = argv.get(1).map_or(b"".as_slice(), |arg| arg);
    match table::find(&argv[0], sub) {
        Some(command) => command.name.to_string(),
        None => String::from_utf8_lossy(&argv[0]).to_ascii_lowercase(),
    }
}

fn run(client: &Rc<Client>, argv: &[Bytes]) {
    let name = String::from_utf8_lossy(&argv[0]).to_ascii_lowercase();
    match name.as_str() {
        "multi" => {
            *client.queue.borrow_mut() = Some(Vec::new());
            reply(client, OK);
        }
        "discard" => {
            if client.queue.borrow().is_none() {
                return reply(client, &resp::error("ERR DISCARD without MULTI"));
            }
            discard(client);
            reply(client, OK);
        }
        "exec" => exec(client),
        "watch" => {
            client.watched.borrow_mut().extend(argv[1..].iter().map(|key| (client.db.get(), key.clone())));
            reply(client, OK);
        }
        "unwatch" => {
            client.watched.borrow_mut().clear();
            client.dirty_cas.set(false);
            reply(client, OK);
        }
        "eval" | "eval_ro" => script(client, argv),
        "client" | "config" | "command" | "module" => admin::run(client, argv),
        name if name.starts_with("wbl.") => api::module_command(client, argv),
        _ => {
            let known = commands::run(&Live { client: Rc::clone(client) }, argv);
            assert!(known, "a command of the table is not simulated: {name}");
        }
    }
}

fn discard(client: &Client) {
    client.queue.take();
    client.dirty_exec.set(false);
    client.dirty_cas.set(false);
    client.watched.borrow_mut().clear();
}

fn exec(client: &Rc<Client>) {
    let s = server();
    if client.queue.borrow().is_none() {
        return reply(client, &resp::error("ERR EXEC without MULTI"));
    }
    if client.dirty_exec.get() {
        discard(client);
        return reply(client, &resp::error("EXECABORT Transaction discarded because of previous errors."));
    }
    for (db, key) in client.watched.borrow().iter() {
        note_key(*db, key);
        let now = s.unit_ms.get();
        if s.data.borrow().get(*db, key).is_some_and(|entry| entry.expires_ms.is_some_and(|at| at <= now)) {
            client.dirty_cas.set(true);
        }
    }
    if client.dirty_cas.get() {
        discard(client);
        return reply(client, NULL_ARRAY);
    }
    let queue = client.queue.borrow().clone().unwrap_or_default();
    let denied = client.deny_blocking.replace(true);
    client.watched.borrow_mut().clear();
    s.in_exec.set(true);
    reply(client, &resp::header(queue.len()));
    for argv in &queue {
        call(client, argv);
    }
    client.deny_blocking.set(denied);
    discard(client);
    s.in_exec.set(false);
}

/// EVAL "command;command" ...: answers with the last reply, or the first error. `YIELD` takes long.
fn script(client: &Rc<Client>, argv: &[Bytes]) {
    let s = server();
    let lua = s.make_client(SCRIPT_CLIENT, true, client.user);
    lua.deny_blocking.set(true);
    lua.db.set(client.db.get());
    s.in_script.set(s.in_script.get() + 1);
    let mut last = resp::NULL.to_vec();
    let mut has_written = false;
    for line in argv[1].split(|byte| *byte == b';').filter(|line| !line.is_empty()) {
        let command: Argv = line.split(|byte| *byte == b' ').map(<[u8]>::to_vec).collect();
        if command[0] == b"YIELD" {
            event_loop::process_while_blocked(client.id);
            continue;
        }
        last = script_call(&lua, &command, argv[0].len() == 7, &mut has_written);
        if last.first() == Some(&b'-') {
            break;
        }
    }
    s.in_script.set(s.in_script.get() - 1);
    reply(client, &last);
}

fn script_call(lua: &Rc<Client>, command: &Argv, read_only: bool, has_written: &mut bool) -> Vec<u8> {
    let s = server();
    s.note(|| format!("    script: {}", show(command)));
    let command = api::filter(lua, command);
    let Some(Kind::Own(known)) = lookup(&command) else {
        return resp::error("ERR Unknown command called from script");
    };
    if known.refuses(command.len()) {
        return resp::error("ERR Wrong number of args calling command from script");
    }
    if known.has("noscript") {
        return resp::error("ERR This command is not allowed from script");
    }
    if !may_run(lua.user, &command) {
        return resp::error("NOPERM User can't run the command");
    }
    if known.has("denyoom") && s.is_full.get() && !*has_written {
        return resp::error(OOM);
    }
    if read_only && known.may_replicate() {
        return resp::error("ERR Write commands are not allowed from read-only scripts.");
    }
    *has_written |= known.has("write");
    lua.out.borrow_mut().clear();
    *lua.command.borrow_mut() = command.clone();
    call(lua, &command);
    lua.out.borrow_mut().drain(..).collect()
}

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
fn serve(client: &Rc<Client>) {
    let s = server();
    s.note(|| format!("  served: {} {}", client.id, show(&client.command.borrow())));
    unblock(client, false);
    if !client.pending.replace(false) {
        return;
    }
    enter(true);
    let argv = client.command.borrow().clone();
    if client.fake {
        call(client, &argv);
    } else {
        process(client, argv, true);
    }
    if !client.is_blocked() {
        if client.fake {
            api::promise_kept(client);
        } else {
            s.unblocked.borrow_mut().push_back(Rc::clone(client));
        }
    }
    leave();
    end_unit();
}

/// `unblockClient`.
pub fn unblock(client: &Rc<Client>, reprocess: bool) {
    let s = server();
    let waits = client.waits.borrow_mut().take();
    match waits {
        Some(Waits::Keys { .. }) => s.waiting.borrow_mut().retain(|other| !Rc::ptr_eq(other, client)),
        Some(Waits::Module(blocked, _)) => api::left(client, blocked),
        Some(Waits::Pause) | None => {}
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
        if api::is_released(blocked) {
            return;
        }
        api::timed_out(client, blocked);
    } else {
        let needs = shown_in_vain(client);
        answer(client, NULL_ARRAY, needs);
        client.timed_out.set(client.fake.then_some(needs));
    }
    client.pending.set(false);
    unblock(client, true);
}

/// A command of a client in the server that runs.
struct Live {
    client: Rc<Client>,
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
                client.dirty_cas.set(true);
            }
        }
        self.dirty();
        api::flushed(db);
    }

    fn dirty(&self) {
        server().dirty.set(server().dirty.get() + 1);
    }

    fn reply(&self, bytes: &[u8]) {
        reply(&self.client, bytes);
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

/// `touchWatchedKey`.
fn touch_watched(db: usize, key: &[u8]) {
    let clients: Vec<Rc<Client>> = server().clients.borrow().values().cloned().collect();
    for client in clients {
        if client.watched.borrow().iter().any(|(at, watched)| *at == db && watched == key) {
            client.dirty_cas.set(true);
        }
    }
}

/// All that the server's state holds on to, for its end.
pub fn forget(server: &Server) {
    server.waiting.borrow_mut().clear();
    server.clients.borrow_mut().clear();
}
