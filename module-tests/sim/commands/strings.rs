//! Strings.

use super::*;

pub fn run<E: Env>(env: &E, name: &str, argv: &[Bytes]) -> bool {
    let key: &[u8] = argv.get(1).map_or(b"", |key| key.as_slice());
    match name {
        "get" => {
            env.look(key);
            miss(env, key);
            if let Ok(found) = string(env, key) {
                env.reply(&found.map_or(NULL.to_vec(), |bytes| resp::bulk(&bytes)));
            }
        }
        "mget" => mget(env, argv),
        "set" => set(env, argv),
        "getset" => getset(env, key, argv),
        "mset" => mset(env, argv),
        "append" => append(env, key, argv),
        "incr" => incr(env, key),
        "strlen" => {
            env.look(key);
            miss(env, key);
            if let Ok(found) = string(env, key) {
                env.reply(&resp::int(found.map_or(0, |bytes| bytes.len() as i64)));
            }
        }
        _ => return false,
    }
    true
}

fn mget<E: Env>(env: &E, argv: &[Bytes]) {
    let mut reply = resp::header(argv.len() - 1);
    for key in &argv[1..] {
        env.look(key);
        miss(env, key);
        let found = env.with(|data| match data.get(env.db(), key).map(|entry| &entry.value) {
            Some(Value::String(bytes)) => Some(bytes.clone()),
            _ => None,
        });
        let null = || resp::null_for(NULL, env.is_resp3()).to_vec();
        reply.extend(found.map_or_else(null, |bytes| resp::bulk(&bytes)));
    }
    env.reply(&reply);
}

fn getset<E: Env>(env: &E, key: &[u8], argv: &[Bytes]) {
    env.defer();
    env.look(key);
    miss(env, key);
    // The server leaves the deferral as it is after this error.
    if let Ok(found) = string(env, key) {
        env.reply(&found.map_or(NULL.to_vec(), |bytes| resp::bulk(&bytes)));
        make(env, key, Value::String(argv[2].clone()), None);
        env.event(STRING, "set", key);
        env.end_defer();
    }
}

fn mset<E: Env>(env: &E, argv: &[Bytes]) {
    for pair in argv[1..].chunks(2) {
        env.look(&pair[0]);
        make(env, &pair[0], Value::String(pair[1].clone()), None);
        env.event(STRING, "set", &pair[0]);
    }
    env.reply(OK);
}

fn append<E: Env>(env: &E, key: &[u8], argv: &[Bytes]) {
    env.look(key);
    if let Ok(found) = string(env, key) {
        let mut bytes = found.clone().unwrap_or_default();
        bytes.extend(&argv[2]);
        let len = bytes.len() as i64;
        let expires_ms = env.with(|data| data.get(env.db(), key).and_then(|entry| entry.expires_ms));
        make(env, key, Value::String(bytes), expires_ms);
        env.event(STRING, "append", key);
        env.reply(&resp::int(len));
    }
}

fn incr<E: Env>(env: &E, key: &[u8]) {
    env.look(key);
    let Ok(found) = string(env, key) else { return };
    let Some(value) = found.map_or(Some(0), |bytes| number(&bytes)) else {
        wrong_number(env);
        return;
    };
    let expires_ms = env.with(|data| data.get(env.db(), key).and_then(|entry| entry.expires_ms));
    make(env, key, Value::String((value + 1).to_string().into_bytes()), expires_ms);
    env.event(STRING, "incrby", key);
    env.reply(&resp::int(value + 1));
}

fn set<E: Env>(env: &E, argv: &[Bytes]) {
    let key = argv[1].as_slice();
    let options = &argv[3..];
    let has = |word: &str| options.iter().any(|option| is(option, word));
    let after =
        |word: &str| options.iter().position(|option| is(option, word)).and_then(|at| number(options.get(at + 1)?));
    let (get, keep) = (has("get"), has("keepttl"));
    let at = after("pxat").or_else(|| after("px").map(|ms| ms + env.now_ms()));
    let at = at.or_else(|| after("ex").map(|seconds| seconds * 1000 + env.now_ms()));
    if get {
        env.defer();
    }
    env.look(key);
    if get {
        miss(env, key);
        match string(env, key) {
            Ok(found) => env.reply(&found.map_or(NULL.to_vec(), |bytes| resp::bulk(&bytes))),
            Err(()) => return env.end_defer(),
        }
    }
    let found = kind(env, key) != b'-';
    if has("nx") && found || has("xx") && !found {
        if !get {
            env.reply(NULL);
        }
        return if get {
            env.end_defer()
        };
    }
    if at.is_some_and(|at| at <= env.now_ms()) && !env.takes_past_times() {
        if found {
            env.with(|data| data.remove(env.db(), key));
            env.event(GENERIC, "del", key);
        }
        if !get {
            env.reply(OK);
        }
        return if get {
            env.end_defer()
        };
    }
    let kept = env.with(|data| data.get(env.db(), key).and_then(|entry| entry.expires_ms)).filter(|_| keep);
    make(env, key, Value::String(argv[2].clone()), at.or(kept));
    env.event(STRING, "set", key);
    if at.is_some() {
        env.event(GENERIC, "expire", key);
    }
    if !get {
        env.reply(OK);
    }
    if get {
        env.end_defer();
    }
}
