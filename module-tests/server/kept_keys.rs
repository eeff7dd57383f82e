//! Keys that have expired, and that the server keeps and treats as missing: what is recovered is what memory served.

use crate::harness::{RawConnection, Server, ServerBuilder, Value, Version, dataset, each_version};

/// What a case does: commands that prepare it, and those of a transaction.
type Case = (&'static [&'static str], &'static [&'static str]);

/// Commands that find an expired key missing and do nothing, and would do something if they found it.
const IDLE: &[Case] = &[
    (&["SET copied old PXAT 1", "SET copy precious"], &["COPY copied copy REPLACE", "INCR n"]),
    (&["SET persisted old PXAT 1"], &["GETEX persisted PERSIST", "INCR n"]),
    (&["SET prolonged old PXAT 1"], &["GETEX prolonged PX 1000000", "INCR n"]),
    (&["XADD x 1-1 f v", "XGROUP CREATE x g 0", "PEXPIREAT x 1"], &["XACK x g bad", "INCR n"]),
    (&["SADD source m", "PEXPIREAT source 1"], &["SMOVE source moved m", "INCR n"]),
    (&["RPUSH list m", "PEXPIREAT list 1"], &["LMOVE list pushed LEFT LEFT", "INCR n"]),
    (&["RPUSH pushx m", "PEXPIREAT pushx 1"], &["LPUSHX pushx n", "INCR n"]),
];

/// Commands that write over an expired key, which the server may have kept.
const OVER: &[Case] = &[
    (&["SET nx old PXAT 1"], &["SETNX nx new"]),
    (&["SET set-nx old PXAT 1"], &["SET set-nx new NX"]),
    (&["SET mset old PXAT 1"], &["MSETNX mset new mset2 m"]),
    (&["SET renamed new", "SET onto old PXAT 1"], &["RENAMENX renamed onto"]),
    (&["SET original new PX 1000000", "SET clone old PXAT 1"], &["COPY original clone"]),
    (&["SET type old PXAT 1"], &["LPUSH type a"]),
    (&["SET hash old PXAT 1"], &["HSET hash f v"]),
    (&["SADD pf old", "PEXPIREAT pf 1"], &["PFADD pf a"]),
    (&["SET number abc PXAT 1"], &["INCR number"]),
    (&["SET float abc PXAT 1"], &["INCRBYFLOAT float 1.5"]),
    (&["XADD stream 9-9 f v", "PEXPIREAT stream 1"], &["XADD stream 1-1 f v"]),
    (&["XGROUP CREATE group g 0 MKSTREAM", "PEXPIREAT group 1"], &["XGROUP CREATE group g 0 MKSTREAM"]),
    (&["SADD from m o", "SET to old PXAT 1"], &["SMOVE from to m"]),
    (&["RPUSH left m o", "SET right old PXAT 1"], &["LMOVE left right LEFT LEFT"]),
    (&["RPUSH bits m", "PEXPIREAT bits 1"], &["BITFIELD bits OVERFLOW FAIL INCRBY u1 0 9", "INCR n"]),
    (&["SET script old PXAT 1"], &["EVAL return(redis.call('LPUSH',KEYS[1],'a')) 1 script"]),
];

/// Prepares a case: only in `import-mode` the server stores what expires at once.
fn prepare(client: &mut RawConnection, commands: &[&str]) {
    client.run("CONFIG SET import-mode yes");
    for command in commands {
        assert!(!client.run(command).is_error(), "{command}");
    }
}

fn transaction(client: &mut RawConnection, commands: &[&str]) {
    client.run("MULTI");
    for command in commands {
        assert_eq!(client.run(command), Value::Simple("QUEUED".into()), "{command}");
    }
    let replies = client.run("EXEC");
    assert!(!replies.items().iter().any(Value::is_error), "{commands:?} {replies:?}");
}

/// A server that deletes an expired key only when a command finds it.
fn start(version: Version) -> Server {
    let server = ServerBuilder::with_module(version).in_memory().start();
    server.raw().run("DEBUG SET-ACTIVE-EXPIRE 0");
    server
}

each_version! {
    fn a_transaction_does_not_find_after_a_crash_what_import_mode_kept(version: Version) {
        let mut server = start(version);
        let mut client = server.raw();
        for (before, commands) in IDLE {
            prepare(&mut client, before);
            transaction(&mut client, commands);
        }
        dataset::assert_survives(&mut server, "after transactions in import-mode");
    }

    fn a_transaction_that_turns_import_mode_off_does_not_find_after_a_crash_what_that_kept(version: Version) {
        let mut server = start(version);
        let mut client = server.raw();
        for (before, commands) in IDLE {
            prepare(&mut client, before);
            client.run("CONFIG SET import-mode no");
            let (on, off) = (&["CONFIG SET import-mode yes"][..], &["CONFIG SET import-mode no"][..]);
            transaction(&mut client, &[on, &commands[..1], off, &commands[1..]].concat());
        }
        dataset::assert_survives(&mut server, "after transactions partly in import-mode");
    }

    fn what_a_transaction_writes_over_a_key_that_a_pause_keeps_is_recovered(version: Version) {
        for ends in [false, true] {
            let mut server = start(version);
            let mut client = server.raw();
            for (before, commands) in IDLE.iter().chain(OVER) {
                prepare(&mut client, before);
                client.run("CONFIG SET import-mode no");
                let end = if ends { &["CLIENT UNPAUSE"][..] } else { &[] };
                transaction(&mut client, &[&["CLIENT PAUSE 600000 WRITE"], *commands, end, &["INCR n"]].concat());
                client.run("CLIENT UNPAUSE");
            }
            dataset::assert_survives(&mut server, "after transactions that pause writes");
        }
    }

    fn what_an_import_source_sees_of_an_expired_key_survives_an_image_of_it(version: Version) {
        let builder = ServerBuilder::with_module(version).set("import-mode", "yes").in_memory();
        an_import_source_sees_the_same_after_a_crash(builder);
    }

    fn what_an_import_source_sees_survives_where_nothing_says_whether_it_is_there(version: Version) {
        let builder = ServerBuilder::with_module(version).set("import-mode", "yes").in_memory();
        an_import_source_sees_the_same_after_a_crash(builder.rename("MEMORY", ""));
    }
}

fn an_import_source_sees_the_same_after_a_crash(builder: ServerBuilder) {
    let mut server = builder.start();
    let import_source = |server: &Server| {
        let mut source = server.raw();
        source.run("CLIENT IMPORT-SOURCE ON");
        source
    };
    let (mut client, mut source) = (server.raw(), import_source(&server));
    let keys = ["k1", "k2", "k3", "gone"];
    keys.iter().for_each(|key| _ = client.run(&format!("SET {key} v")));
    client.run("SADD s a b c d");
    transaction(&mut client, &["SPOP s", "PEXPIREAT k1 1", "DEL gone"]);
    transaction(&mut client, &["SPOP s", "SET k2 w PXAT 1"]);
    assert_eq!(source.run("PERSIST k2").integer(), 1);
    transaction(&mut source, &["PEXPIREAT k3 1", "CLIENT PAUSE 600000 WRITE", "APPEND k3 x"]);
    source.run("CLIENT UNPAUSE");
    let seen = |source: &mut RawConnection| {
        keys.map(|key| (source.run(&format!("GET {key}")), source.run(&format!("PEXPIRETIME {key}"))))
    };
    let before = seen(&mut source);
    assert_eq!(before.each_ref().map(|(value, _)| *value == Value::Null), [false, false, false, true]);
    client.run("WBL.WAIT");
    drop((client, source));
    server.kill9_and_restart();
    assert_eq!(seen(&mut import_source(&server)), before);
}
