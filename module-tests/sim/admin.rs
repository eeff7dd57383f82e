//! The fake server's commands and questions about itself.

use crate::data::Bytes;
use crate::exec::{self, reply};
use crate::resp::{self, OK};
use crate::server::{Canary, Client, User, Waits, server};
use crate::table::{self, Command, SUBCOMMANDS};
use std::collections::HashMap;
use std::rc::Rc;

fn is(arg: Option<&Bytes>, word: &str) -> bool {
    arg.is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
}

pub fn run(client: &Rc<Client>, argv: &[Bytes]) {
    let sub = argv.get(1);
    match argv[0].to_ascii_lowercase().as_slice() {
        b"client" if is(sub, "list") => client_list(client, argv),
        b"client" if is(sub, "unblock") => unblock(client, argv),
        b"client" if is(sub, "pause") => {
            let s = server();
            s.paused_until_ms.set(s.unit_ms.get() + number(argv.get(2)).unwrap_or(0));
            s.pause_is_for_all.set(!is(argv.get(3), "write"));
            reply(client, OK);
        }
        b"client" if is(sub, "tracking") => {
            client.tracked.replace(is(argv.get(2), "on").then(Default::default));
            reply(client, OK);
        }
        b"client" if is(sub, "unpause") => {
            server().paused_until_ms.set(0);
            reply(client, OK);
        }
        b"config" if is(sub, "get") => config_get(client, argv),
        b"config" => reply(client, OK),
        b"module" => reply(client, &modules()),
        b"command" if is(sub, "info") => command_info(client, argv),
        b"command" => commands(client),
        _ => reply(client, &resp::error("ERR unknown subcommand")),
    }
}

/// MODULE LIST, which need not name the module that asks.
fn modules() -> Vec<u8> {
    let s = server();
    if !s.has_other_module || s.canary.get() == Canary::HiddenModule {
        return resp::header(0);
    }
    [resp::header(1), resp::array(&[b"name".to_vec(), b"other".to_vec()])].concat()
}

fn client_list(client: &Rc<Client>, argv: &[Bytes]) {
    let id = is(argv.get(2), "id").then(|| number(argv.get(3))).flatten();
    let clients = server().clients.borrow();
    let shown = clients.values().filter(|client| id.is_none_or(|id| client.id as i64 == id));
    let text: String = shown.map(|client| line(client)).collect();
    reply(client, &resp::bulk(text.as_bytes()));
}

fn config_get(client: &Rc<Client>, argv: &[Bytes]) {
    let value = match argv[2].as_slice() {
        b"io-threads" if server().io_threads => "2",
        b"io-threads" => "1",
        b"maxmemory" if server().is_limited => "1",
        b"maxmemory" => "0",
        b"maxmemory-policy" => "allkeys-lru",
        b"dbfilename" => "no-such-file.rdb",
        b"busy-reply-threshold" => "5000",
        b"import-mode" => "no",
        _ => "",
    };
    reply(client, &resp::array(&[argv[2].clone(), value.as_bytes().to_vec()]));
}

fn command_info(client: &Rc<Client>, argv: &[Bytes]) {
    let mut out = resp::header(argv.len() - 2);
    for name in &argv[2..] {
        match table::present().find(|command| name.eq_ignore_ascii_case(command.name.as_bytes())) {
            Some(command) => out.extend(entry(command)),
            None => out.extend(resp::NULL_ARRAY),
        }
    }
    reply(client, &out);
}

fn commands(client: &Rc<Client>) {
    let own: Vec<String> = server().registered.borrow().commands.keys().cloned().collect();
    let mut out = resp::header(table::present().count() + own.len());
    table::present().for_each(|command| out.extend(entry(command)));
    for name in own {
        let name: &'static str = Box::leak(name.into_boxed_str());
        out.extend(entry(&Command { name, arity: -1, flags: "module", keys: (0, 0, 0) }));
    }
    reply(client, &out);
}

fn number(arg: Option<&Bytes>) -> Option<i64> {
    std::str::from_utf8(arg?).ok()?.parse().ok()
}

fn entry(command: &Command) -> Vec<u8> {
    let mut out = resp::header(10);
    out.extend(resp::bulk(command.name.as_bytes()));
    out.extend(resp::int(command.arity));
    let flags: Vec<&str> = command.flags.split(' ').filter(|flag| !flag.is_empty()).collect();
    out.extend(resp::header(flags.len()));
    flags.iter().for_each(|flag| out.extend(format!("+{flag}\r\n").into_bytes()));
    let (first, last, step) = command.keys;
    [first, last, step].iter().for_each(|number| out.extend(resp::int(*number)));
    (0..3).for_each(|_| out.extend(resp::header(0)));
    let prefix = format!("{}|", command.name);
    let subcommands: Vec<&Command> = SUBCOMMANDS.iter().filter(|sub| sub.name.starts_with(&prefix)).collect();
    out.extend(resp::header(subcommands.len()));
    subcommands.iter().for_each(|sub| out.extend(entry(sub)));
    out
}

fn line(client: &Client) -> String {
    let mut flags = String::new();
    if client.queue.borrow().is_some() {
        flags.push('x');
    }
    if client.is_blocked() {
        flags.push('b');
    }
    if client.tracked.borrow().is_some() {
        flags.push('t');
    }
    if client.channels.get() > 0 {
        flags.push('P');
    }
    if client.dirty_cas.get() {
        flags.push('d');
    }
    if flags.is_empty() {
        flags.push('N');
    }
    let multi = client.queue.borrow().as_ref().map_or(-1, |queue| queue.len() as i64);
    let events = if client.handler.get() { "rw" } else { "r" };
    let command = client.command.borrow();
    let name = command.first().map_or("NULL".into(), |name| String::from_utf8_lossy(name).to_ascii_lowercase());
    let (db, watch, sub) = (client.db.get(), client.watched.borrow().len(), client.channels.get());
    let (read, rest) = (client.read_bytes.get(), client.read_bytes.get() - client.run_bytes.get());
    format!(
        "id={} fd={} flags={flags} db={db} sub={sub} psub=0 multi={multi} watch={watch} qbuf={rest} argv-mem=0 \
         events={events} cmd={name} user=default tot-net-in={read}\n",
        client.id, client.id
    )
}

/// CLIENT UNBLOCK id [TIMEOUT|ERROR]
fn unblock(client: &Rc<Client>, argv: &[Bytes]) {
    let target = number(argv.get(2)).and_then(|id| server().client(id as u64));
    let may = target.as_ref().is_some_and(|target| match &*target.waits.borrow() {
        Some(Waits::Keys { .. }) => true,
        // SAFETY: the client waits with it, so that it lives.
        Some(Waits::Module(blocked, _)) => unsafe { &**blocked }.timeout.is_some(),
        Some(Waits::Pause) => false,
        None => false,
    });
    let Some(target) = target.filter(|_| may) else { return reply(client, &resp::int(0)) };
    if is(argv.get(3), "error") {
        let (needs, bytes) =
            (exec::shown_in_vain(&target), resp::error("UNBLOCKED client unblocked via CLIENT UNBLOCK"));
        let own: [&[u8]; 2] = [b"wbl.wait", b"wbl.checkpoint"];
        if own.iter().any(|name| target.command.borrow()[0].eq_ignore_ascii_case(name)) {
            // That this has one reply is known already.
            exec::write(&target, &bytes);
        } else {
            exec::answer(&target, &bytes, needs);
        }
        target.pending.set(false);
        exec::unblock(&target, true);
    } else {
        exec::time_out(&target);
    }
    reply(client, &resp::int(1));
}

/// A section of INFO.
pub fn info(section: &str) -> HashMap<String, String> {
    let s = server();
    let mut fields = HashMap::new();
    let mut add = |name: String, value: String| fields.insert(name, value);
    match section {
        "keyspace" => {
            let data = s.data.borrow();
            for db in 0..crate::data::DATABASES {
                if data.len(db) > 0 {
                    add(format!("db{db}"), format!("keys={},expires=0", data.len(db)));
                }
            }
        }
        "memory" => drop(add("number_of_libraries".into(), "0".into())),
        "stats" => drop(add("total_error_replies".into(), s.error_replies.get().to_string())),
        "replication" => drop(add("master_repl_offset".into(), "0".into())),
        "persistence" => {
            for (name, value) in [("rdb_last_save_time", "1"), ("rdb_bgsave_in_progress", "0")] {
                add(name.into(), value.into());
            }
            for (name, value) in [("rdb_changes_since_last_save", "1"), ("aof_enabled", "0")] {
                add(name.into(), value.into());
            }
        }
        "commandstats" => {
            for (name, calls) in &*s.calls.borrow() {
                add(format!("cmdstat_{name}"), format!("calls={calls},usec=1"));
            }
        }
        _ => {}
    }
    let _ = (User::Default, table::find(b"get", b""));
    fields
}
