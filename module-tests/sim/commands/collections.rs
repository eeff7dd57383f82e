//! Lists and sets.

use super::*;

pub fn run<E: Env>(env: &E, name: &str, argv: &[Bytes]) -> bool {
    let key: &[u8] = argv.get(1).map_or(b"", |key| key.as_slice());
    match name {
        "rpush" | "lpush" => rpush(env, name, key, argv),
        "lpop" | "rpop" => lpop(env, name, key),
        "blpop" => blpop(env, argv),
        "llen" => {
            env.look(key);
            if is_kind(env, key, b'l') {
                let len = if kind(env, key) == b'-' { 0 } else { with_list(env, key, |list| list.len()) };
                env.reply(&resp::int(len as i64));
            }
        }
        "lrange" => lrange(env, key),
        "sadd" | "srem" => sets(env, name, argv),
        "spop" => spop(env, key),
        "smembers" => smembers(env, key),
        _ => return false,
    }
    true
}

fn rpush<E: Env>(env: &E, name: &str, key: &[u8], argv: &[Bytes]) {
    env.look(key);
    if !is_kind(env, key, b'l') {
        return;
    }
    if kind(env, key) == b'-' {
        make(env, key, Value::List(VecDeque::new()), None);
    }
    let len = with_list(env, key, |list| {
        for item in &argv[2..] {
            if name == "rpush" { list.push_back(item.clone()) } else { list.push_front(item.clone()) }
        }
        list.len()
    });
    env.event(LIST, name, key);
    env.reply(&resp::int(len as i64));
    env.ready(key);
}

fn lpop<E: Env>(env: &E, name: &str, key: &[u8]) {
    env.look(key);
    if is_kind(env, key, b'l') {
        match pop(env, key, name == "lpop", name) {
            Some(item) => env.reply(&resp::bulk(&item)),
            None => env.reply(NULL),
        }
    }
}

fn lrange<E: Env>(env: &E, key: &[u8]) {
    env.look(key);
    if is_kind(env, key, b'l') {
        let items: Vec<Bytes> = if kind(env, key) == b'-' {
            Vec::new()
        } else {
            with_list(env, key, |list| list.iter().cloned().collect())
        };
        env.reply(&resp::array(&items));
    }
}

fn spop<E: Env>(env: &E, key: &[u8]) {
    env.look(key);
    if is_kind(env, key, b'e') {
        let members = members(env, key);
        if members.is_empty() {
            env.reply(NULL);
        } else {
            let member = members[env.random(members.len())].clone();
            with_set(env, key, |set| set.remove(&member));
            env.event(SET, "spop", key);
            remove_if_empty(env, key);
            env.reply(&resp::bulk(&member));
        }
    }
}

fn smembers<E: Env>(env: &E, key: &[u8]) {
    env.look(key);
    if is_kind(env, key, b'e') {
        let members = members(env, key);
        env.reply(&resp::set_header(members.len(), env.is_resp3()));
        members.iter().for_each(|member| env.reply(&resp::bulk(member)));
    }
}

fn with_list<E: Env, T>(env: &E, key: &[u8], work: impl FnOnce(&mut VecDeque<Bytes>) -> T) -> T {
    env.with(|data| match data.get_mut(env.db(), key).map(|entry| &mut entry.value) {
        Some(Value::List(list)) => work(list),
        _ => work(&mut VecDeque::new()),
    })
}

fn with_set<E: Env, T>(env: &E, key: &[u8], work: impl FnOnce(&mut BTreeSet<Bytes>) -> T) -> T {
    env.with(|data| match data.get_mut(env.db(), key).map(|entry| &mut entry.value) {
        Some(Value::Set(set)) => work(set),
        _ => work(&mut BTreeSet::new()),
    })
}

fn members<E: Env>(env: &E, key: &[u8]) -> Vec<Bytes> {
    env.with(|data| match data.get(env.db(), key).map(|entry| &entry.value) {
        Some(Value::Set(set)) => set.iter().cloned().collect(),
        _ => Vec::new(),
    })
}

fn remove_if_empty<E: Env>(env: &E, key: &[u8]) {
    let is_empty = env.with(|data| {
        let is_empty = match data.get(env.db(), key).map(|entry| &entry.value) {
            Some(Value::List(list)) => list.is_empty(),
            Some(Value::Set(set)) => set.is_empty(),
            _ => false,
        };
        if is_empty {
            data.remove(env.db(), key);
        }
        is_empty
    });
    if is_empty {
        env.event(GENERIC, "del", key);
    }
}

fn pop<E: Env>(env: &E, key: &[u8], left: bool, event: &str) -> Option<Bytes> {
    if kind(env, key) == b'-' {
        return None;
    }
    let item = with_list(env, key, |list| if left { list.pop_front() } else { list.pop_back() });
    env.event(LIST, event, key);
    remove_if_empty(env, key);
    item
}

fn blpop<E: Env>(env: &E, argv: &[Bytes]) {
    let keys = &argv[1..argv.len() - 1];
    let timeout = std::str::from_utf8(&argv[argv.len() - 1]).ok().and_then(|text| text.parse::<f64>().ok());
    let Some(timeout) = timeout.filter(|timeout| *timeout >= 0.0) else {
        return error(env, "ERR timeout is not a float or out of range");
    };
    for key in keys {
        env.look(key);
        if kind(env, key) == b'-' {
            continue;
        }
        if !is_kind(env, key, b'l') {
            return;
        }
        let item = pop(env, key, true, "lpop").unwrap_or_default();
        return env.reply(&resp::array(&[key.clone(), item]));
    }
    if !env.block(keys.to_vec(), (timeout * 1000.0) as i64) {
        env.reply(NULL_ARRAY);
    }
}

fn sets<E: Env>(env: &E, name: &str, argv: &[Bytes]) {
    let key = argv[1].as_slice();
    env.look(key);
    if !is_kind(env, key, b'e') {
        return;
    }
    let adds = name == "sadd";
    if kind(env, key) == b'-' {
        if !adds {
            return env.reply(&resp::int(0));
        }
        make(env, key, Value::Set(BTreeSet::new()), None);
    }
    let count = with_set(env, key, |set| {
        argv[2..].iter().filter(|item| if adds { set.insert((*item).clone()) } else { set.remove(*item) }).count()
    });
    if count > 0 {
        env.event(SET, name, key);
        remove_if_empty(env, key);
    }
    env.reply(&resp::int(count as i64));
}
