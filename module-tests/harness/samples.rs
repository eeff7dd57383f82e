//! A dataset with something of everything.

use super::Version;
use super::raw::RawConnection;
use super::resp::Value;

const COMMANDS: &[&str] = &[
    "SET string value",
    "SET number 42 EX 100000",
    "SET expiring value PXAT 9000000000123",
    "APPEND string more",
    "SETRANGE padded 10 end",
    "SETBIT bits 100 1",
    "RPUSH list a b c",
    "LPUSH list z",
    "EXPIREAT list 9000000001",
    "SADD numbers 1 2 3",
    "SADD set a b c",
    "HSET hash f v g w",
    "HINCRBYFLOAT hash h 0.1",
    "ZADD sorted 1 a 2.5 b inf c",
    "GEOADD places 13.361389 38.115556 Palermo",
    "PFADD visitors a b c",
    "XADD stream 1-1 f v",
    "XADD stream 2-1 f v g w",
    "XADD stream 3-1 f v",
    "XDEL stream 2-1",
    "XGROUP CREATE stream group 0",
    "XGROUP CREATE stream other $ ENTRIESREAD 3",
    "XGROUP CREATECONSUMER stream group idle",
    "XREADGROUP GROUP group reader COUNT 2 STREAMS stream >",
    "XACK stream group 1-1",
    "SELECT 3",
    "SET string of-database-3 PXAT 9000000000456",
    "RPUSH list x",
    "SELECT 15",
    "SET last database",
    "MOVE last 14",
    "SELECT 0",
    "COPY list copied DB 9",
    "RENAME padded renamed",
    "SET doomed value",
    "DEL doomed",
];

const FIELD_EXPIRY: &[&str] = &[
    "HSET expiring-fields a 1 b 2 c 3",
    "HPEXPIREAT expiring-fields 9000000000789 FIELDS 1 a",
    "HSETEX expiring-fields EX 100000 FIELDS 1 d 4",
];

/// Runs commands that leave keys of all types in several databases, expiry times, consumer groups and functions.
pub fn fill(connection: &mut RawConnection, version: Version) {
    for command in COMMANDS {
        connection.run(command);
    }
    if version == Version::V9_1 {
        for command in FIELD_EXPIRY {
            connection.run(command);
        }
    }
    let library =
        "#!lua name=lib\nserver.register_function('f', function(keys) return server.call('INCR', keys[1]) end)";
    for (words, expected) in [
        (vec![&b"FUNCTION"[..], b"LOAD", library.as_bytes()], "\"lib\""),
        (vec![b"FCALL", b"f", b"1", b"called"], ":1"),
        (
            vec![b"EVAL", b"redis.call('SET', 'a', '1') redis.call('SELECT', 5) redis.call('SET', 'b', '1')", b"0"],
            "null",
        ),
        (vec![b"SET", b"\0binary\r\n\xff", b"\0\r\n*1\r\n#WBL1 \xfe"], "+OK"),
        (vec![b"SET", b"", b""], "+OK"),
        (vec![b"SET", b"big", &[b'x'; 300_000]], "+OK"),
        (vec![b"RPUSH", b"wide", &[b'y'; 70_000], b"1"], ":2"),
    ] {
        assert_eq!(format!("{:?}", connection.call(&words)), expected, "{}", words[0].escape_ascii());
    }
    let many: Vec<String> = (0..2000).map(|number| format!("member-{number}")).collect();
    for command in ["RPUSH", "SADD"] {
        let mut words = vec![command.to_string(), format!("many-{command}")];
        words.extend(many.iter().cloned());
        assert_eq!(connection.call(&words), Value::Integer(2000));
    }
}
