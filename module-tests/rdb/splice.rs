//! Dumps of real servers go through the splice and come back: what is loaded, with what was deferred applied on top, is
//! the dataset that was saved.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::dataset::{Snapshot, field_expiries_exist, fill, snapshot};
use crate::servers::{Failure, Server};
use valkey_wbl::rdb::{Before, Deferred, Strip, Summary, splice, verify, write_empty};

const SENTINEL: &[u8] = b"wbl:\0sentinel";
/// What the source and the target run.
const PAIRS: [(&str, &str); 3] = [("8.1", "8.1"), ("9.1", "9.1"), ("8.1", "9.1")];

fn now_ms() -> Result<i64, Failure> {
    Ok(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?)
}

/// Collects what is left out.
struct Collect {
    before_ms: i64,
    deferred: Vec<Deferred>,
}

impl Strip for Collect {
    fn before(&mut self) -> Before {
        Before::all(self.before_ms)
    }

    fn defer(&mut self, deferred: Deferred) -> std::io::Result<()> {
        self.deferred.push(deferred);
        Ok(())
    }
}

fn spliced(dump: &[u8], before_ms: i64) -> Result<(Vec<u8>, Summary, Vec<Deferred>), Failure> {
    let (mut out, mut collect) = (Vec::new(), Collect { before_ms, deferred: Vec::new() });
    let summary = splice(Some(&mut &dump[..]), &mut out, SENTINEL, &mut collect)?;
    let verified = verify(&mut &dump[..])?;
    assert_eq!(verified, summary);
    assert_eq!(verified.bytes, dump.len() as u64);
    assert!(verified.checked);
    Ok((out, summary, collect.deferred))
}

/// Applies what was deferred, as the module does at the sentinel.
fn apply(server: &mut Server, deferred: &[Deferred]) -> Result<(), Failure> {
    let mut selected = None;
    for one in deferred {
        let (Deferred::Expire { db, .. } | Deferred::ExpireField { db, .. } | Deferred::Emptied { db, .. }) = one;
        if selected != Some(*db) {
            server.run(&format!("SELECT {db}"))?;
            selected = Some(*db);
        }
        match one {
            Deferred::Expire { key, at_ms, .. } => {
                let found: u32 = server.call(&[b"PEXPIREAT", key, at_ms.to_string().as_bytes()])?;
                assert_eq!(found, 1, "{one:?}");
            }
            Deferred::ExpireField { key, field, at_ms, .. } => {
                let at_ms = at_ms.to_string();
                let set: Vec<i64> = server.call(&[b"HPEXPIREAT", key, at_ms.as_bytes(), b"FIELDS", b"1", field])?;
                assert_eq!(set, [1], "{one:?}");
            }
            Deferred::Emptied { .. } => panic!("no field is left out: {one:?}"),
        }
    }
    Ok(())
}

/// Takes the sentinel away, which has to be there, as an empty string without expiry.
fn take_sentinel(server: &mut Server) -> Result<(), Failure> {
    server.run("SELECT 0")?;
    let kind: String = server.call(&[b"TYPE", SENTINEL])?;
    let length: u32 = server.call(&[b"STRLEN", SENTINEL])?;
    let expiry: i64 = server.call(&[b"PEXPIRETIME", SENTINEL])?;
    assert_eq!((kind.as_str(), length, expiry), ("string", 0, -1));
    server.call::<()>(&[b"DEL", SENTINEL])
}

/// Commands over keys and fields whose expiry is past find them from now on, and leave them alone.
fn show_expired(server: &mut Server) -> Result<(), Failure> {
    server.run("CONFIG SET import-mode yes")?;
    server.run("CLIENT IMPORT-SOURCE ON")?;
    Ok(())
}

fn compare(saved: &Snapshot, loaded: &Snapshot) {
    for (key, entry) in &saved.keys {
        assert_eq!(Some(entry), loaded.keys.get(key), "key {:?}", key.1.escape_ascii().to_string());
    }
    assert_eq!(saved.keys.len(), loaded.keys.len());
    assert_eq!(saved.functions, loaded.functions);
}

/// The dataset has to hold what the tests are about, whatever the servers' defaults.
fn assert_every_form(saved: &Snapshot) {
    let forms: BTreeSet<(&str, &str)> =
        saved.keys.values().map(|entry| (entry.kind.as_str(), entry.encoding.as_str())).collect();
    let expected = [
        ("hash", "hashtable"),
        ("hash", "listpack"),
        ("list", "listpack"),
        ("list", "quicklist"),
        ("set", "hashtable"),
        ("set", "intset"),
        ("set", "listpack"),
        ("stream", "stream"),
        ("string", "embstr"),
        ("string", "int"),
        ("zset", "listpack"),
        ("zset", "skiplist"),
    ];
    assert_eq!(forms, BTreeSet::from(expected));
}

#[test]
fn every_type_comes_back_with_every_expiry_deferred() -> Result<(), Failure> {
    for (from, to) in PAIRS {
        let mut source = Server::start(from, None, &[])?;
        fill(&mut source)?;
        for policy in ["noeviction", "allkeys-lru", "allkeys-lfu"] {
            println!("{from} to {to}, {policy}");
            source.run(&format!("CONFIG SET maxmemory-policy {policy}"))?;
            let dump = source.save()?;
            let saved = snapshot(&mut source, from == to)?;
            if from == to {
                assert_every_form(&saved);
            }

            let now = now_ms()?;
            let (stream, summary, deferred) = spliced(&dump, i64::MAX)?;
            assert_eq!(summary.keys, saved.keys.len() as u64);
            assert_eq!(summary.functions, 2);
            let fields = deferred.iter().filter(|one| matches!(one, Deferred::ExpireField { .. })).count();
            let volatile: usize = saved.keys.values().map(|entry| entry.field_expiries.len()).sum();
            assert_eq!(fields, volatile);
            assert_eq!(volatile > 0, field_expiries_exist(&mut source)?);

            let mut target = Server::start(to, Some(&stream), &["--maxmemory-policy", policy])?;
            take_sentinel(&mut target)?;
            let stripped = snapshot(&mut target, from == to)?;
            assert_eq!(stripped.keys.len(), saved.keys.len());
            let never = |at_ms: &i64| *at_ms > now + 1_000_000_000_000;
            for entry in stripped.keys.values() {
                assert!((entry.expiry == -1 || never(&entry.expiry)) && entry.field_expiries.values().all(never));
            }
            apply(&mut target, &deferred)?;
            compare(&saved, &snapshot(&mut target, from == to)?);
        }
    }
    Ok(())
}

#[test]
fn expiries_still_to_come_stay_in_the_stream() -> Result<(), Failure> {
    for (from, to) in PAIRS {
        let mut source = Server::start(from, None, &[])?;
        fill(&mut source)?;
        let dump = source.save()?;
        let saved = snapshot(&mut source, from == to)?;
        let (stream, _, deferred) = spliced(&dump, now_ms()?)?;
        assert_eq!(deferred, []);
        // The dump without its checksum, with padding after its header and the sentinel in front of its end mark.
        let (header, body) = (&dump[..9], &dump[9..dump.len() - 9]);
        let sentinel_and_end = 3 + 1 + SENTINEL.len() + 1 + 1 + 8;
        assert!(stream.starts_with(header) && stream[..stream.len() - sentinel_and_end].ends_with(body));
        let mut target = Server::start(to, Some(&stream), &[])?;
        take_sentinel(&mut target)?;
        compare(&saved, &snapshot(&mut target, from == to)?);
    }
    Ok(())
}

#[test]
fn keys_and_fields_that_expired_before_the_load_come_back() -> Result<(), Failure> {
    for version in ["8.1", "9.1"] {
        let mut source = Server::start(version, None, &[])?;
        show_expired(&mut source)?;
        fill(&mut source)?;
        source.run("SELECT 4")?;
        source.run("SET expired value PXAT 1000")?;
        source.run("RPUSH expired-list a b c")?;
        source.run("PEXPIREAT expired-list 2000")?;
        let mut expired = 2;
        let mut partly = 0;
        if field_expiries_exist(&mut source)? {
            for hash in ["one-field-expired", "all-fields-expired", "all-expired"] {
                source.run(&format!("HSET {hash} a 1 b 2"))?;
                source.run(&format!("HPEXPIREAT {hash} 3000 FIELDS 1 a"))?;
            }
            source.run("HPEXPIREAT all-fields-expired 4000 FIELDS 1 b")?;
            source.run("PEXPIREAT all-expired 5000")?;
            (expired, partly) = (expired + 2, 1);
        }
        let dump = source.save()?;
        let saved = snapshot(&mut source, true)?;
        if partly > 0 {
            let hash = saved.keys.get(&(4, b"all-fields-expired".to_vec())).map(|entry| &entry.field_expiries);
            assert_eq!(hash, Some(&BTreeMap::from([(b"a".to_vec(), 3000), (b"b".to_vec(), 4000)])));
        }

        // What a server makes of the dump itself: this is what the splice is for.
        let mut plain = Server::start(version, Some(&dump), &[])?;
        show_expired(&mut plain)?;
        assert_eq!(snapshot(&mut plain, true)?.keys.len(), saved.keys.len() - expired);

        let (stream, _, deferred) = spliced(&dump, now_ms()?)?;
        // One of a key or field for each, and two of fields more: of both that have expired, and of the key with a
        // field that has.
        assert_eq!(deferred.len(), expired + partly + 2 * partly);
        let mut target = Server::start(version, Some(&stream), &[])?;
        take_sentinel(&mut target)?;
        show_expired(&mut target)?;
        apply(&mut target, &deferred)?;
        compare(&saved, &snapshot(&mut target, true)?);
    }
    Ok(())
}

#[test]
fn every_server_loads_the_empty_dataset() -> Result<(), Failure> {
    for version in ["8.1", "9.1"] {
        let mut stream = Vec::new();
        write_empty(&mut stream, SENTINEL)?;
        let mut target = Server::start(version, Some(&stream), &[])?;
        take_sentinel(&mut target)?;
        assert!(snapshot(&mut target, true)?.keys.is_empty());
    }
    Ok(())
}

#[test]
fn a_dump_without_a_checksum_is_spliced_and_says_so() -> Result<(), Failure> {
    for version in ["8.1", "9.1"] {
        let mut source = Server::start(version, None, &["--rdbchecksum", "no"])?;
        source.run("SET key value")?;
        let dump = source.save()?;
        assert!(!verify(&mut &dump[..])?.checked);
    }
    Ok(())
}
