//! Commands on keys of any type, and on databases.

use super::*;

pub fn run<E: Env>(env: &E, name: &str, argv: &[Bytes]) -> bool {
    let key: &[u8] = argv.get(1).map_or(b"", |key| key.as_slice());
    match name {
        "del" | "unlink" => del(env, argv),
        "exists" => {
            argv[1..].iter().for_each(|key| env.look(key));
            let count = argv[1..].iter().filter(|key| kind(env, key) != b'-').count();
            env.reply(&resp::int(count as i64));
        }
        "type" => type_(env, key),
        "expire" | "pexpire" | "pexpireat" => expire(env, name, argv),
        "persist" => persist(env, key),
        "pttl" => pttl(env, key),
        "keys" => keys(env),
        "dbsize" => {
            env.look_all();
            env.reply(&resp::int(env.with(|data| data.len(env.db())) as i64));
        }
        "flushall" | "flushdb" => flushall(env, name),
        // It never has any.
        "function" if is(&argv[1], "dump") => env.reply(&resp::bulk(b"no functions")),
        "function" => env.reply(OK),
        "dump" => {
            env.look(key);
            let dumped = env.with(|data| data.get(env.db(), key).map(|entry| dump(&entry.value)));
            env.reply(&dumped.map_or(NULL.to_vec(), |bytes| resp::bulk(&bytes)));
        }
        "restore" => restore(env, key, argv),
        "select" => match number(key).and_then(|db| usize::try_from(db).ok()) {
            Some(db) if db < crate::data::DATABASES => {
                env.set_db(db);
                env.reply(OK);
            }
            _ => error(env, "ERR DB index is out of range"),
        },
        "ping" => env.reply(b"+PONG\r\n"),
        _ => return false,
    }
    true
}

fn del<E: Env>(env: &E, argv: &[Bytes]) {
    let mut count = 0;
    for key in &argv[1..] {
        env.look(key);
        if env.with(|data| data.get(env.db(), key).is_some() && data.remove(env.db(), key)) {
            env.event(GENERIC, "del", key);
            count += 1;
        }
    }
    env.reply(&resp::int(count));
}

fn type_<E: Env>(env: &E, key: &[u8]) {
    env.look(key);
    let name = match kind(env, key) {
        b's' => "string",
        b'l' => "list",
        b'e' => "set",
        b'x' => "stream",
        _ => "none",
    };
    env.reply(format!("+{name}\r\n").as_bytes());
}

fn persist<E: Env>(env: &E, key: &[u8]) {
    env.look(key);
    let done = env.with(|data| {
        let has = data.get(env.db(), key).is_some_and(|entry| entry.expires_ms.is_some());
        if has && let Some(entry) = data.get_mut(env.db(), key) {
            entry.expires_ms = None;
        }
        has
    });
    if done {
        env.event(GENERIC, "persist", key);
    }
    env.reply(&resp::int(i64::from(done)));
}

fn pttl<E: Env>(env: &E, key: &[u8]) {
    env.look(key);
    let ttl = env.with(|data| match data.get(env.db(), key) {
        None => -2,
        Some(Entry { expires_ms: None, .. }) => -1,
        Some(Entry { expires_ms: Some(at), .. }) => at - env.now_ms(),
    });
    env.reply(&resp::int(ttl));
}

fn keys<E: Env>(env: &E) {
    env.look_all();
    let now = env.now_ms();
    let keys: Vec<Bytes> = env.with(|data| {
        let alive = data.keys(env.db()).filter(|(_, entry)| entry.expires_ms.is_none_or(|at| at > now));
        alive.map(|(key, _)| key.clone()).collect()
    });
    env.reply(&resp::array(&keys));
}

fn flushall<E: Env>(env: &E, name: &str) {
    let one = (name == "flushdb").then_some(env.db());
    env.with(|data| {
        (0..crate::data::DATABASES).for_each(|db| {
            if one.is_none_or(|one| one == db) {
                data.clear(db);
            }
        })
    });
    env.flushed(one);
    env.reply(OK);
}

fn restore<E: Env>(env: &E, key: &[u8], argv: &[Bytes]) {
    let (Some(at), Some(value)) = (number(&argv[2]), undump(&argv[3])) else {
        error(env, "ERR Bad data format");
        return;
    };
    let replace = argv[4..].iter().any(|arg| is(arg, "replace"));
    let absolute = argv[4..].iter().any(|arg| is(arg, "absttl"));
    env.look(key);
    if !replace && kind(env, key) != b'-' {
        error(env, "BUSYKEY Target key name already exists.");
        return;
    }
    let expires_ms = (at > 0).then(|| if absolute { at } else { at + env.now_ms() });
    make(env, key, value, expires_ms);
    env.event(GENERIC, "restore", key);
    env.reply(OK);
}

fn expire<E: Env>(env: &E, name: &str, argv: &[Bytes]) {
    let key = argv[1].as_slice();
    let Some(time) = number(&argv[2]) else { return wrong_number(env) };
    let at = match name {
        "expire" => env.now_ms() + time * 1000,
        "pexpire" => env.now_ms() + time,
        _ => time,
    };
    env.look(key);
    if kind(env, key) == b'-' {
        return env.reply(&resp::int(0));
    }
    if !env.takes_past_times() && at <= env.now_ms() {
        env.with(|data| data.remove(env.db(), key));
        env.event(GENERIC, "del", key);
    } else {
        env.with(|data| {
            if let Some(entry) = data.get_mut(env.db(), key) {
                entry.expires_ms = Some(at);
            }
        });
        env.event(GENERIC, "expire", key);
    }
    env.reply(&resp::int(1));
}
