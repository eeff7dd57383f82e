//! Fields of hashes that expire: what they cost in the log, and what is left of them after a crash.

use crate::harness::{PATIENCE, RawConnection, Server, ServerBuilder, Value, Version, wait_until};

/// Fields of the hash.
const FIELDS: usize = 20_000;
/// What a command that names one field may take in the log.
const BYTES_PER_COMMAND: u64 = 100;

/// A server with a hash of so many fields, which expire after `first_ms` and up to `span_ms` later, and one that does
/// not. `setup` runs before.
fn with_expiring_fields(setup: &[&str], first_ms: usize, span_ms: usize) -> (Server, RawConnection) {
    let server = ServerBuilder::with_module(Version::V9_1).in_memory().start();
    let mut client = server.raw();
    setup.iter().for_each(|command| drop(client.run(command)));
    client.run("HSET h stays v");
    let value = "v".repeat(20);
    const AT_ONCE: usize = 500;
    for start in (0..FIELDS).step_by(AT_ONCE) {
        for field in start..start + AT_ONCE {
            let ms = first_ms + field * span_ms / FIELDS;
            client.send_text(&format!("HSETEX h PX {ms} FIELDS 1 f{field} {value}"));
        }
        (0..AT_ONCE).for_each(|_| assert_eq!(client.reply().integer(), 1));
    }
    (server, client)
}

fn appended(server: &Server) -> u64 {
    server.wbl_info("wbl_appended_offset").parse().expect("a number")
}

#[test]
fn fields_that_expire_by_themselves_take_no_bytes() {
    let (mut server, mut client) = with_expiring_fields(&[], 3000, 2000);
    let before = appended(&server);
    wait_until("the fields have expired", PATIENCE, || client.run("HLEN h").integer() == 1);
    assert_eq!(appended(&server), before);
    // Without a field the key goes, which is logged.
    client.run("HPEXPIRE h 1 FIELDS 1 stays");
    wait_until("the key has gone", PATIENCE, || client.run("EXISTS h").integer() == 0);
    let bytes = appended(&server) - before;
    assert!(bytes < 3 * BYTES_PER_COMMAND, "{bytes} bytes");
    client.run("RPUSH h element");
    server.kill9_and_restart();
    assert_eq!(server.raw().run("LLEN h").integer(), 1);
}

#[test]
fn removed_fields_take_bytes_of_their_own_alone() {
    let (server, mut client) = with_expiring_fields(&[], 1_000_000, 1);
    const REMOVED: u64 = 1000;
    let (before, images) = (appended(&server), server.wbl_info("wbl_state_images"));
    for field in 0..REMOVED {
        assert_eq!(client.run(&format!("HDEL h f{field}")).integer(), 1);
    }
    let bytes = appended(&server) - before;
    assert!(bytes < REMOVED * BYTES_PER_COMMAND, "{bytes} bytes");
    assert_eq!(server.wbl_info("wbl_state_images"), images);
}

#[test]
fn writes_over_expired_fields_take_bytes_of_their_own_alone() {
    let (mut server, mut client) = with_expiring_fields(&["DEBUG SET-ACTIVE-EXPIRE 0"], 1, 1);
    const WRITTEN: u64 = 1000;
    wait_until("the fields have expired", PATIENCE, || client.run("HGETALL h").items().len() == 2);
    let (before, images) = (appended(&server), server.wbl_info("wbl_state_images"));
    for field in 0..WRITTEN {
        client.run(&match field % 5 {
            0 => format!("HSET h f{field} v"),
            1 => format!("HSETNX h f{field} v"),
            2 => format!("HINCRBY h f{field} 1"),
            3 => format!("HSETEX h KEEPTTL FIELDS 1 f{field} v"),
            _ => format!("HDEL h f{field} f{}", field - 1),
        });
    }
    let bytes = appended(&server) - before;
    assert!(bytes < WRITTEN * BYTES_PER_COMMAND, "{bytes} bytes");
    assert_eq!(server.wbl_info("wbl_state_images"), images);
    let left = client.run("HGETALL h").items().len();
    server.kill9_and_restart();
    assert_eq!(server.raw().run("HGETALL h").items().len(), left);
}

// A server whose hashes have no such fields is asked nothing.
#[test]
fn removals_are_asked_about_only_where_fields_expire() {
    let mut server = ServerBuilder::with_module(Version::V9_1).in_memory().start();
    let questions = |client: &mut RawConnection| {
        let statistics = client.run("INFO commandstats").text();
        statistics
            .lines()
            .any(|line| line.starts_with("cmdstat_hrandfield") || line.starts_with("cmdstat_hpexpiretime"))
    };
    let mut client = server.raw();
    client.run("HSET h a 1 b 2 c 3 d 4");
    let commands = ["HDEL h a", "HINCRBY h b 1", "HINCRBYFLOAT h b 1", "HSETNX h e 1", "HGETDEL h FIELDS 1 b"];
    commands.iter().for_each(|command| drop(client.run(command)));
    assert!(!questions(&mut client));
    client.run("HEXPIRE h 1000 FIELDS 1 d");
    server.kill9_and_restart();
    let mut client = server.raw();
    client.run("HDEL h c");
    assert!(questions(&mut client), "the fields of the recovered dataset expire");
}

#[test]
fn an_import_source_sees_after_a_crash_what_it_saw_before() {
    let builder = ServerBuilder::with_module(Version::V9_1).set("import-mode", "yes");
    for removal in [
        "HDEL h gone",
        "HGETDEL h FIELDS 1 gone",
        "HPEXPIRE h 0 FIELDS 1 gone",
        "HGETEX h PX 0 FIELDS 1 gone",
        "HEXPIREAT h 1 FIELDS 1 gone",
        "HPEXPIREAT h 1000 FIELDS 2 expired gone",
        "HGETEX h EXAT 1 FIELDS 1 gone",
        "HSETEX h EXAT 1 FIELDS 1 gone 3",
        "EVAL return(redis.call('HPEXPIREAT','h',1000,'FIELDS',1,'gone')) 0",
    ] {
        let mut server = builder.clone().start();
        let mut client = server.raw();
        client.run("HSET h expired 1 gone 2");
        client.run("HPEXPIRE h 1 FIELDS 1 expired");
        wait_until("the field has expired", PATIENCE, || client.run("HMGET h expired").items()[0] == Value::Null);
        client.call(&removal.split(' ').collect::<Vec<_>>());
        client.run("WBL.WAIT");
        let seen = |server: &Server| {
            let mut source = server.raw();
            source.run("CLIENT IMPORT-SOURCE ON");
            (source.run("HGETALL h"), source.run("HLEN h"), source.run("HPEXPIRETIME h FIELDS 2 expired gone"))
        };
        let before = seen(&server);
        drop(client);
        server.kill9_and_restart();
        assert_eq!(seen(&server), before, "{removal}");
    }
}

// HSETEX takes a key of this name for its word FIELDS.
#[test]
fn a_hash_named_fields_is_recovered() {
    let mut server = ServerBuilder::with_module(Version::V9_1).in_memory().start();
    let mut client = server.raw();
    for command in [
        "DEBUG SET-ACTIVE-EXPIRE 0",
        "HSET fields a 1 b 2",
        "HEXPIRE fields 1000 FIELDS 2 a b",
        "HINCRBY fields a 1",
        "HINCRBYFLOAT fields b 0.5",
        "HSET source a 1",
        "HPEXPIRE source 1 FIELDS 1 a",
        "DEBUG SLEEP 0.003",
        "SADD s x y",
        // What follows the image that SPOP is logged as is an image, too: of a hash without fields.
        "MULTI",
        "SPOP s",
        "COPY source Fields",
        "EXEC",
    ] {
        client.run(command);
    }
    let state = |client: &mut RawConnection| {
        ["HGETALL fields", "HPEXPIRETIME fields FIELDS 2 a b"].map(|command| client.run(command))
    };
    let before = state(&mut client);
    server.kill9_and_restart();
    assert_eq!(state(&mut server.raw()), before);
}
