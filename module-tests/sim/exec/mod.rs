//! How the fake server executes commands, in the order of the real one: units and their ends, events, transactions,
//! scripts, clients that wait for keys.

mod blocking;
mod live;
mod past;
mod room;
mod script;
mod unit;

pub use blocking::*;
pub use live::*;
pub use room::*;
pub use script::*;
pub use unit::*;

use crate::api::{self, Context};
use crate::commands::{self, Env};
use crate::data::{Bytes, Data};
use crate::resp::{self, NULL_ARRAY, OK, QUEUED};
use crate::server::{
    Argv, CALL_CLIENT, Client, Frame, OTHER_CLIENT, SCRIPT_CLIENT, Server, User, Waits, server, violated,
};
use crate::table::{self, Command};
use crate::truth::{Expected, UnitNumber};
use crate::{admin, event_loop, held, other};
use std::rc::Rc;

pub const OOM: &str = "OOM command not allowed when used memory > 'maxmemory'.";
const BUSY: &str = "BUSY Valkey is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.";

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
    let allowed: [&[u8]; 3] = [b"subscribe", b"unsubscribe", b"ping"];
    let is_subscriber = client.channels.get() > 0 && !client.resp3.get();
    if is_subscriber && !allowed.iter().any(|allowed| argv[0].eq_ignore_ascii_case(allowed)) {
        return Some(format!("ERR Can't execute '{}': only SUBSCRIBE etc. are allowed", name.to_ascii_lowercase()));
    }
    if !may_run(client.user, argv) {
        return Some(format!("NOPERM this user has no permissions to run the '{}' command", name.to_ascii_lowercase()));
    }
    None
}

/// `processCommand`. `again`: it has passed the filter before.
pub fn process(client: &Rc<Client>, argv: Argv, again: bool) {
    let before = server().current.replace(client.id);
    process_current(client, argv, again);
    send_invalidations();
    server().current.set(before);
}

fn process_current(client: &Rc<Client>, argv: Argv, again: bool) {
    let s = server();
    let argv = if again { argv } else { filtered(client, argv) };
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
        send_invalidations();
        if s.is_full.get() && is_denied_memory {
            return reject(client, OOM);
        }
    } else {
        let bounds: [&[u8]; 5] = [b"multi", b"discard", b"watch", b"unwatch", b"wbl.debug"];
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
    let ends: [&[u8]; 2] = [b"exec", b"discard"];
    if client.queue.borrow().is_some() && !ends.iter().any(|name| argv[0].eq_ignore_ascii_case(name)) {
        return queue(client, argv);
    }
    *client.command.borrow_mut() = argv.clone();
    call(client, &argv);
    send_invalidations();
    if !s.ready.borrow().is_empty() && !s.busy.get() {
        serve_ready();
    }
}

/// The command as the module's filter has it run. What is refused must be what a stock server refuses.
fn filtered(client: &Rc<Client>, argv: Argv) -> Argv {
    let s = server();
    s.note(|| format!("  {} {}", client.id, show(&argv)));
    let filtered = api::filter(client, &argv);
    if filtered == argv {
        return filtered;
    }
    s.note(|| format!("    becomes {}", show(&filtered)));
    let (stock, now) = (refusal(client, &argv), refusal(client, &filtered));
    let is_refused_queue = filtered.last().is_some_and(|arg| arg == b"queued-before-the-log-began");
    // What would have to wait for a disk that fails is an error, whatever a stock server says.
    let is_refused = filtered[0] == b"wbl.refused";
    if stock != now && !is_refused_queue && !is_refused {
        violated(&format!("{:?} is answered {now:?} and a stock server answers {stock:?}", show(&argv)));
    }
    filtered
}

/// A command comes between MULTI and EXEC.
fn queue(client: &Rc<Client>, argv: Argv) {
    let refused: [&[u8]; 3] = [b"multi", b"watch", b"reset"];
    if refused.iter().any(|name| argv[0].eq_ignore_ascii_case(name)) {
        return reject(client, "ERR Command not allowed inside a transaction");
    }
    client.queue.borrow_mut().iter_mut().for_each(|queue| queue.push(argv.clone()));
    answer(client, QUEUED, 0);
}

/// `call`.
pub fn call(client: &Rc<Client>, argv: &[Bytes]) {
    let s = server();
    let before = s.executing.replace(Some(Rc::clone(client)));
    enter(true);
    let owner = if client.behalf.get() != 0 { client.behalf.get() } else { client.id };
    let owner = if client.fake && client.behalf.get() == 0 { 0 } else { owner };
    // What a script or another module calls is part of what runs.
    let is_inner = matches!(client.id, SCRIPT_CLIENT | OTHER_CLIENT);
    begin_frame(owner, client.fake && client.behalf.get() == 0 && !is_inner);
    let errors = s.error_replies.get();
    let dirty = s.dirty.get();
    run(client, argv);
    if owner != 0 || is_inner {
        remember_read(argv);
    }
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
        "hello" => {
            client.resp3.set(argv[1] == b"3");
            reply(client, OK);
        }
        "subscribe" | "unsubscribe" => subscribe(client, &name),
        "ping" if client.channels.get() > 0 && !client.resp3.get() => {
            reply(client, &resp::array(&[b"pong".to_vec(), Vec::new()]));
        }
        "watch" => {
            client.watched.borrow_mut().extend(argv[1..].iter().map(|key| (client.db.get(), key.clone())));
            reply(client, OK);
        }
        "unwatch" => {
            client.unwatch();
            reply(client, OK);
        }
        "eval" | "eval_ro" => script(client, argv),
        "client" | "config" | "command" | "module" => admin::run(client, argv),
        "wbl.collect" => collect(client, argv),
        "other.call" | "other.yield" => other::command(client, &name, argv),
        name if name.starts_with("wbl.") => api::module_command(client, argv),
        _ => {
            let known = commands::run(&Live { client: Rc::clone(client) }, argv);
            assert!(known, "a command of the table is not simulated: {name}");
        }
    }
}

/// The module runs a command of a pipeline, or of a transaction that the server does not know of. What a stock server
/// would answer for that is said here; for what the module calls it is said there.
fn collect(client: &Rc<Client>, argv: &[Bytes]) {
    let is = |name: &str| argv[1].eq_ignore_ascii_case(name.as_bytes());
    let say = |bytes: &[u8]| client.answering.borrow_mut().extend(bytes);
    match client.collected.get() {
        None if is("multi") => {
            client.collected.set(Some(0));
            client.refused_one.set(false);
            say(OK);
        }
        None => {}
        Some(_) if is("discard") => {
            client.collected.set(None);
            say(OK);
        }
        Some(count) if is("exec") => {
            client.collected.set(None);
            match client.refused_one.get() {
                true => say(&resp::error("EXECABORT Transaction discarded because of previous errors.")),
                false => say(&resp::header(count)),
            }
        }
        Some(count) => {
            client.collected.set(Some(count + 1));
            let command = table::find(&argv[1], argv.get(2).map_or(b"", |arg| arg));
            let is_refused = server().is_full.get() && command.is_some_and(|command| command.has("denyoom"));
            client.refused_one.set(client.refused_one.get() || is_refused);
            if is_refused { say(&resp::error(OOM)) } else { say(QUEUED) }
        }
    }
    api::module_command(client, argv);
}

/// To the only channel.
fn subscribe(client: &Rc<Client>, name: &str) {
    client.channels.set(u32::from(name == "subscribe"));
    let mut out = if client.resp3.get() { b">3\r\n".to_vec() } else { resp::header(3) };
    out.extend(resp::bulk(name.as_bytes()));
    out.extend(resp::bulk(b"channel"));
    out.extend(resp::int(i64::from(client.channels.get())));
    reply(client, &out);
}

fn discard(client: &Client) {
    client.queue.take();
    client.dirty_exec.set(false);
    client.unwatch();
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
    client.touched.borrow().iter().for_each(|(db, key)| note_key(*db, key));
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

/// All that the server's state holds on to, for its end.
pub fn forget(server: &Server) {
    server.waiting.borrow_mut().clear();
    server.clients.borrow_mut().clear();
}
