//! Streams.

use super::*;

fn with_stream<E: Env, T>(env: &E, key: &[u8], work: impl FnOnce(&mut Stream) -> T) -> T {
    env.with(|data| match data.get_mut(env.db(), key).map(|entry| &mut entry.value) {
        Some(Value::Stream(stream)) => work(stream),
        _ => work(&mut Stream::default()),
    })
}

fn stream_id(bytes: &[u8]) -> Option<StreamId> {
    let text = std::str::from_utf8(bytes).ok()?;
    match text.split_once('-') {
        Some((ms, seq)) => Some((ms.parse().ok()?, seq.parse().ok()?)),
        None => Some((text.parse().ok()?, 0)),
    }
}

fn show_id(id: StreamId) -> Bytes {
    format!("{}-{}", id.0, id.1).into_bytes()
}

fn entry_reply(id: StreamId, fields: &[Bytes]) -> Bytes {
    let mut out = resp::header(2);
    out.extend(resp::bulk(&show_id(id)));
    out.extend(resp::array(fields));
    out
}

pub fn run<E: Env>(env: &E, name: &str, argv: &[Bytes]) -> bool {
    let is_of_streams = name.starts_with('x');
    if is_of_streams {
        run_known(env, name, argv);
    }
    is_of_streams
}

fn run_known<E: Env>(env: &E, name: &str, argv: &[Bytes]) {
    let key = argv[1].as_slice();
    match name {
        "xadd" => xadd(env, key, argv),
        "xlen" => {
            env.look(key);
            if is_kind(env, key, b'x') {
                let len = if kind(env, key) == b'-' { 0 } else { with_stream(env, key, |s| s.entries.len()) };
                env.reply(&resp::int(len as i64));
            }
        }
        "xrange" => xrange(env, key),
        "xgroup" => xgroup(env, argv),
        "xack" => xack(env, key, argv),
        "xtrim" => xtrim(env, key, argv),
        "xread" => xread(env, argv),
        "xreadgroup" => xreadgroup(env, argv),
        "xpending" => xpending(env, key, argv),
        _ => error(env, "ERR not simulated"),
    }
}

fn xadd<E: Env>(env: &E, key: &[u8], argv: &[Bytes]) {
    env.look(key);
    if !is_kind(env, key, b'x') {
        return;
    }
    let now = env.now_ms().max(0) as u64;
    let last = if kind(env, key) == b'-' { (0, 0) } else { with_stream(env, key, |stream| stream.last) };
    let next = if now > last.0 { (now, 0) } else { (last.0, last.1 + 1) };
    let id = if argv[2] == b"*" { Some(next) } else { stream_id(&argv[2]) };
    let Some(id) = id.filter(|id| *id > last) else {
        return error(env, "ERR The ID specified in XADD is equal or smaller than the target stream top item");
    };
    if kind(env, key) == b'-' {
        make(env, key, Value::Stream(Stream::default()), None);
    }
    with_stream(env, key, |stream| {
        stream.last = id;
        stream.entries.insert(id, argv[3..].to_vec());
    });
    env.event(STREAM, "xadd", key);
    env.reply(&resp::bulk(&show_id(id)));
    env.ready(key);
}

fn xrange<E: Env>(env: &E, key: &[u8]) {
    env.look(key);
    if is_kind(env, key, b'x') {
        let entries = if kind(env, key) == b'-' {
            Vec::new()
        } else {
            with_stream(env, key, |stream| stream.entries.iter().map(|(id, f)| entry_reply(*id, f)).collect())
        };
        env.reply(&resp::header(entries.len()));
        env.reply(&entries.concat());
    }
}

fn xgroup<E: Env>(env: &E, argv: &[Bytes]) {
    let (key, group) = (argv[2].as_slice(), argv[3].clone());
    env.look(key);
    if !is_kind(env, key, b'x') {
        return;
    }
    if kind(env, key) == b'-' {
        if !argv.iter().any(|arg| is(arg, "mkstream")) {
            return error(env, "ERR The XGROUP subcommand requires the key to exist.");
        }
        make(env, key, Value::Stream(Stream::default()), None);
    }
    let made = with_stream(env, key, |stream| {
        let last = if argv[4] == b"$" { stream.last } else { stream_id(&argv[4]).unwrap_or_default() };
        let is_new = !stream.groups.contains_key(&group);
        if is_new {
            stream.groups.insert(group, Group { last, ..Group::default() });
        }
        is_new
    });
    if made {
        env.event(STREAM, "xgroup-create", key);
        env.reply(OK);
    } else {
        error(env, "BUSYGROUP Consumer Group name already exists");
    }
}

fn xack<E: Env>(env: &E, key: &[u8], argv: &[Bytes]) {
    env.look(key);
    if !is_kind(env, key, b'x') {
        return;
    }
    let ids: Vec<StreamId> = argv[3..].iter().filter_map(|id| stream_id(id)).collect();
    let count = if kind(env, key) == b'-' {
        0
    } else {
        with_stream(env, key, |stream| match stream.groups.get_mut(&argv[2]) {
            Some(group) => ids.iter().filter(|id| group.pending.remove(id).is_some()).count(),
            None => 0,
        })
    };
    if count > 0 {
        env.dirty();
    }
    env.reply(&resp::int(count as i64));
}

fn xtrim<E: Env>(env: &E, key: &[u8], argv: &[Bytes]) {
    env.look(key);
    let max = argv.last().and_then(|max| number(max)).unwrap_or(0) as usize;
    let removed = with_stream(env, key, |stream| {
        let before = stream.entries.len();
        while stream.entries.len() > max {
            stream.entries.pop_first();
        }
        before - stream.entries.len()
    });
    if removed > 0 {
        env.event(STREAM, "xtrim", key);
    }
    env.reply(&resp::int(removed as i64));
}

fn xpending<E: Env>(env: &E, key: &[u8], argv: &[Bytes]) {
    env.look(key);
    if !is_kind(env, key, b'x') {
        return;
    }
    let count = with_stream_ref(env, key, |stream| stream.groups.get(&argv[2]).map(|group| group.pending.len()));
    match count {
        Some(count) => env.reply(&[resp::header(1), resp::int(count as i64)].concat()),
        None => no_group(env),
    }
}

fn no_group<E: Env>(env: &E) {
    error(env, "NOGROUP No such key or consumer group");
}

/// XREADGROUP GROUP group consumer STREAMS key >: entries that the group has not delivered yet. No event reports it.
fn xreadgroup<E: Env>(env: &E, argv: &[Bytes]) {
    let (group, consumer, key) = (&argv[2], &argv[3], argv[5].as_slice());
    env.look(key);
    if !is_kind(env, key, b'x') {
        return;
    }
    if !with_stream_ref(env, key, |stream| stream.groups.contains_key(group)) {
        return no_group(env);
    }
    let entries: Vec<Bytes> = with_stream(env, key, |stream| {
        let Some(group) = stream.groups.get_mut(group) else { return Vec::new() };
        let newer = stream.entries.range((std::ops::Bound::Excluded(group.last), std::ops::Bound::Unbounded));
        let newer: Vec<_> = newer.map(|(id, fields)| (*id, entry_reply(*id, fields))).collect();
        for (id, _) in &newer {
            group.last = *id;
            group.pending.insert(*id, consumer.clone());
        }
        newer.into_iter().map(|(_, reply)| reply).collect()
    });
    if entries.is_empty() {
        return env.reply(NULL_ARRAY);
    }
    env.dirty();
    let header = if env.is_resp3() { resp::map_header(1, true) } else { resp::header(1) };
    let pair = if env.is_resp3() { Vec::new() } else { resp::header(2) };
    env.reply(&[header, pair, resp::bulk(key), resp::header(entries.len()), entries.concat()].concat());
}

/// XREAD [BLOCK ms] STREAMS key... id...
fn xread<E: Env>(env: &E, argv: &[Bytes]) {
    let Some(at) = argv.iter().position(|arg| is(arg, "streams")) else { return error(env, "ERR syntax error") };
    let timeout = argv[..at].iter().position(|arg| is(arg, "block")).and_then(|at| number(argv.get(at + 1)?));
    let rest = &argv[at + 1..];
    if rest.is_empty() || !rest.len().is_multiple_of(2) {
        return error(env, "ERR Unbalanced 'xread' list of streams: for each stream key an ID must be specified.");
    }
    let (keys, ids) = rest.split_at(rest.len() / 2);
    let mut found = Vec::new();
    for (key, id) in keys.iter().zip(ids) {
        env.look(key);
        if kind(env, key) == b'-' {
            continue;
        }
        if !is_kind(env, key, b'x') {
            return;
        }
        let id = stream_id(id).unwrap_or_default();
        let entries: Vec<Bytes> = with_stream_ref(env, key, |stream| {
            let newer = stream.entries.range((std::ops::Bound::Excluded(id), std::ops::Bound::Unbounded));
            newer.map(|(id, fields)| entry_reply(*id, fields)).collect()
        });
        if !entries.is_empty() {
            let mut one = if env.is_resp3() { Vec::new() } else { resp::header(2) };
            one.extend(resp::bulk(key));
            one.extend(resp::header(entries.len()));
            one.extend(entries.concat());
            found.push(one);
        }
    }
    if !found.is_empty() {
        let header = if env.is_resp3() { resp::map_header(found.len(), true) } else { resp::header(found.len()) };
        return env.reply(&[header, found.concat()].concat());
    }
    if !timeout.is_some_and(|timeout| env.block(keys.to_vec(), timeout)) {
        env.reply(NULL_ARRAY);
    }
}

fn with_stream_ref<E: Env, T>(env: &E, key: &[u8], work: impl FnOnce(&Stream) -> T) -> T {
    env.with(|data| match data.get(env.db(), key).map(|entry| &entry.value) {
        Some(Value::Stream(stream)) => work(stream),
        _ => work(&Stream::default()),
    })
}
