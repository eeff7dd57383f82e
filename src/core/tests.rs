//! Capture as a whole: hooks in, log commands out.

mod ack;
mod blocked;
mod complete;
mod exec;
mod fields;
mod hooks;
mod kept;

use crate::core::blocked::Look;
use crate::core::capture::Class;
use crate::core::event::{EventKind, Keeps, Outcome};
use crate::core::leaf::{ClientId, Told};
use crate::core::silent::Proof;
use crate::core::silent::Waits;
use crate::core::table;
use hooks::{Hooks, NOW_MS, silent, told, work_of};

/// The server has served whom it can.
const ALL_SERVED: Look<fn(ClientId) -> bool> = Look::All { keeps: false };

#[test]
fn a_command_that_changes_data_is_logged_as_it_was_sent() {
    assert_eq!(Hooks::new().write(1, "LPUSH l a b").event(1, "lpush", "l").logged(), "LPUSH l a b");
}

#[test]
fn a_trim_of_nothing_is_not_logged() {
    let length = |length: &str| Some(Outcome::Value(length.as_bytes().to_vec()));
    for (command, left, logged) in [
        ("LTRIM l 0 99", "99", false),
        ("LTRIM l 0 99", "100", true),
        ("LTRIM l -5 -1", "4", false),
        ("LTRIM l -5 -1", "5", true),
        ("LTRIM l 1 -1", "1", true),
        ("LTRIM l 0 -2", "1", true),
        ("LTRIM l 3 1", "0", true),
    ] {
        let mut hooks = Hooks::new();
        hooks.write(1, command).raise(1, false, "ltrim", "l", length(left));
        assert_eq!(hooks.logged(), if logged { command } else { "" }, "{command} left {left}");
    }
    // Of two in succession the second has something to trim only if it leaves less.
    let mut hooks = Hooks::new();
    let mut trimmed = |before: Option<(&str, &str)>, left| {
        if let Some((event, key)) = before {
            hooks.event(9, event, key);
            hooks.end();
        }
        hooks.write(1, "LTRIM l 0 99").raise(1, false, "ltrim", "l", length(left));
        hooks.logged() == "LTRIM l 0 99"
    };
    assert!(trimmed(None, "100"));
    assert!(!trimmed(None, "100"));
    assert!(!trimmed(Some(("lpush", "other")), "100"));
    assert!(trimmed(Some(("lpush", "l")), "100"));
    assert!(trimmed(Some(("copy_to", "other")), "100"));
    assert!(!trimmed(None, "100"));
}

#[test]
fn a_command_without_events_leaves_nothing_behind() {
    let mut hooks = Hooks::new();
    hooks.write(1, "SETNX k v");
    assert_eq!(hooks.logged(), "");
    hooks.write(2, "SET k v").event(2, "set", "k");
    assert_eq!(hooks.logged(), "SET k v");
}

#[test]
fn relative_expiry_becomes_absolute_and_conditions_are_dropped() {
    for (command, events, logged) in [
        ("SET k v EX 10 NX", vec!["set", "expire"], "SET k v PXAT 1010000"),
        ("SET k v KEEPTTL GET", vec!["set"], "SET k v KEEPTTL"),
        ("SET k v IFEQ EX", vec!["set"], "SET k v"),
        ("SETEX k 10 v", vec!["set", "expire"], "SET k v PXAT 1010000"),
        ("PSETEX k 10 v", vec!["set", "expire"], "SET k v PXAT 1000010"),
        ("EXPIRE k 10 XX", vec!["expire"], "PEXPIREAT k 1010000"),
        ("PEXPIREAT k 77 GT", vec!["expire"], "PEXPIREAT k 77"),
        ("GETEX k PX 5", vec!["expire"], "PEXPIREAT k 1000005"),
        ("GETEX k PERSIST", vec!["persist"], "PERSIST k"),
        ("GETEX k EX 1000 EX 2000", vec!["expire"], "PEXPIREAT k 3000000"),
        ("SET k v EX 1000 EX 2000", vec!["set", "expire"], "SET k v PXAT 3000000"),
        ("RESTORE k 10 payload", vec!["restore"], "RESTORE k 1000010 payload REPLACE ABSTTL"),
        ("RESTORE k 0 payload", vec!["restore"], "RESTORE k 0 payload REPLACE ABSTTL"),
        ("MSETEX 1 k v NX EX 1", vec!["set", "expire"], "MSETEX 1 k v PXAT 1001000"),
        ("HSETEX k FNX EX 1 FIELDS 1 f v", vec!["hset", "hexpire"], "HSETEX k PXAT 1001000 FIELDS 1 f v"),
    ] {
        let mut hooks = Hooks::new();
        hooks.write(1, command);
        for event in events {
            hooks.event(1, event, "k");
        }
        assert_eq!(hooks.logged(), logged, "{command}");
    }
}

#[test]
fn an_expiry_in_the_past_is_a_deletion() {
    for command in ["EXPIRE k -1", "GETEX k EXAT 1", "SET k v PXAT 1", "RESTORE k 1 payload ABSTTL REPLACE"] {
        assert_eq!(Hooks::new().write(1, command).event(1, "del", "k").logged(), "DEL k", "{command}");
    }
}

#[test]
fn keys_that_the_server_removes_go_before_the_command_that_met_them() {
    let mut hooks = Hooks::new();
    hooks.write(1, "INCR k").event(1, "expired", "k").event(1, "incrby", "k");
    assert_eq!(hooks.logged(), "DEL k; INCR k");
}

#[test]
fn a_script_logs_its_leaves_in_order() {
    let mut hooks = Hooks::new();
    hooks.class(1, Class::Opaque);
    hooks.write(9, "SET a 1").event(9, "set", "a");
    hooks.write(9, "SETNX a 2").write(9, "INCR a").event(9, "incrby", "a");
    assert_eq!(hooks.logged(), "SET a 1; INCR a");
}

#[test]
fn an_event_that_belongs_to_no_known_command_is_an_image_and_so_is_what_follows() {
    let mut hooks = Hooks::new();
    hooks.write(9, "SET a 1").event(9, "set", "a").write(9, "SETNX a 2").event(7, "type.changed", "m");
    hooks.write(9, "INCR b").event(9, "incrby", "b");
    assert_eq!(hooks.end(), ("SET a 1".to_string(), vec!["b".to_string(), "m".to_string()]));
}

#[test]
fn a_served_blocked_pop_is_the_pop_that_its_event_tells() {
    let mut hooks = Hooks::new();
    hooks.write(1, "BLPOP a b 0").write(2, "RPUSH b x").event(2, "rpush", "b");
    assert_eq!(hooks.logged(), "RPUSH b x");
    hooks.event(1, "lpop", "b");
    assert_eq!(hooks.logged(), "LPOP b");
}

#[test]
fn a_blocking_command_that_finds_a_key_expired_is_not_its_writer() {
    let mut hooks = Hooks::new();
    hooks.write(1, "BZPOPMIN z 1").event(1, "expired", "z");
    assert!(!hooks.0.may_expire(1));
    hooks.write(2, "EXPIRE k -1");
    assert!(hooks.0.may_expire(2));
}

#[test]
fn a_blocked_pop_with_a_count_keeps_it() {
    let mut hooks = Hooks::new();
    hooks.write(1, "BZMPOP 0 2 a b MIN COUNT 3").write(2, "ZADD a 1 x").event(2, "zadd", "a");
    hooks.logged();
    hooks.event(1, "zpopmin", "a").event(1, "del", "a");
    assert_eq!(hooks.logged(), "ZPOPMIN a 3");
}

#[test]
fn an_outcome_that_was_asked_for_another_command_makes_an_image() {
    let mut hooks = Hooks::new();
    hooks.exec_stepwise(1, &["HINCRBYFLOAT h f 1", "HINCRBYFLOAT h g 1"]);
    // The first one is refused, so its field was asked about when the second one ran.
    hooks.0.query(1, true, EventKind::FieldFloat, b"h").expect("a query");
    let field = Some(Outcome::Field(b"7".to_vec(), None));
    hooks.raise(1, true, "hincrbyfloat", "h", field).done(1, "HINCRBYFLOAT h g 1", true, 0);
    assert_eq!(hooks.imaged(), ["h"]);
}

#[test]
fn an_entry_gets_the_id_that_the_server_gave_and_trimming_its_exact_length() {
    let mut hooks = Hooks::new();
    let value = |text: &str| Some(Outcome::Value(text.into()));
    hooks.write(1, "XADD s NOMKSTREAM MAXLEN ~ 5 LIMIT 9 * f v");
    hooks.raise(1, false, "xadd", "s", value("7-0")).raise(1, false, "xtrim", "s", value("4"));
    assert_eq!(hooks.logged(), "XADD s 7-0 f v; XTRIM s MAXLEN = 4");
    // The stream's last entry is not that of an id that the client has chosen.
    hooks.write(1, "XADD s 7-5 f v").raise(1, false, "xadd", "s", value("7-0"));
    assert_eq!(hooks.logged(), "XADD s 7-5 f v");
}

#[test]
fn random_pops_become_the_removal_of_what_was_popped() {
    let mut hooks = Hooks::new();
    let spec = table::find("spop").expect("in the table");
    hooks.0.wrapped(1, spec, 0, ["spop", "s", "2"].iter().map(|word| word.as_bytes()));
    hooks.event(99, "spop", "s");
    hooks.0.wrapped_done(false, Some(Told::Members(vec![b"x".to_vec(), b"y".to_vec()])), NOW_MS);
    assert_eq!(hooks.logged(), "SREM s x y");
}

#[test]
fn a_silent_command_that_is_not_seen_has_its_keys_imaged() {
    let mut hooks = Hooks::new();
    hooks.write(9, "XACK s g 1-0");
    hooks.0.unseen(9, silent("XACK s g 1-0"), None, NOW_MS);
    assert_eq!(hooks.imaged(), ["s"]);
}

// What another module calls before the command runs may end a unit; what it calls inside the command is announced
// later.
#[test]
fn what_runs_inside_of_a_silent_command_does_not_end_it() {
    let command = "XREADGROUP GROUP g c BLOCK 0 STREAMS s >";
    for blocked in [false, true] {
        let mut hooks = Hooks::new();
        hooks.write(9, command).write(7, "SET k v").event(7, "set", "k");
        assert_eq!(hooks.logged(), "SET k v");
        hooks.class(7, Class::ReadOnly).0.unseen(9, silent(command), blocked.then_some(Waits::Blocked), NOW_MS);
        assert_eq!(hooks.imaged(), if blocked { vec![] } else { vec!["s"] });
        let value = Some(Outcome::Value(b"7-0".to_vec()));
        hooks.write(2, "XADD s * f v").raise(2, false, "xadd", "s", value).logged();
        assert_eq!(
            hooks.0.suspect_unit(NOW_MS, ALL_SERVED).map(|(unit, _)| told(unit).1),
            blocked.then(|| vec!["s".to_string()])
        );
    }
    let mut hooks = Hooks::new();
    hooks.0.wrapped(1, table::find("xack").expect("in the table"), 0, ["xack", "s"].iter().map(|word| word.as_bytes()));
    hooks.0.unseen_inside(silent("XACK other g 1-0"), Proof::Changes, || None);
    hooks.0.wrapped_done(false, None, NOW_MS);
    hooks.prove(0);
    assert_eq!(hooks.imaged(), ["other"]);
}

#[test]
fn a_silent_command_that_the_server_made_wait_is_imaged_when_it_has_run() {
    let mut hooks = Hooks::new();
    hooks.write(5, "XACK s g 1-0");
    hooks.0.unseen(5, silent("XACK s g 1-0"), Some(Waits::Blocked), NOW_MS);
    assert_eq!(hooks.imaged(), Vec::<String>::new());
    hooks.0.resumed(NOW_MS, |_| true);
    assert_eq!(hooks.imaged(), Vec::<String>::new());
    // It may run in the iteration after that.
    for imaged in [vec!["s"], vec!["s"], vec![]] {
        hooks.0.resumed(NOW_MS, |_| false);
        assert_eq!(hooks.imaged(), imaged);
    }
}

#[test]
fn a_stream_with_blocked_group_readers_is_imaged_when_it_changes() {
    let mut hooks = Hooks::new();
    hooks.write(1, "XREADGROUP GROUP g c BLOCK 0 STREAMS s >");
    let value = Some(Outcome::Value(b"7-0".to_vec()));
    hooks.write(2, "XADD s * f v").raise(2, false, "xadd", "s", value);
    assert_eq!(hooks.logged(), "XADD s 7-0 f v");
    let (suspects, readers) = hooks.0.suspect_unit(NOW_MS, ALL_SERVED).expect("a reader may have been served");
    assert_eq!(readers, [1]);
    assert_eq!(told(suspects).1, ["s"]);
    hooks.write(1, "PERSIST x");
    assert!(hooks.0.suspect_unit(NOW_MS, ALL_SERVED).is_none());
}

#[test]
fn databases_that_change_places_take_their_images_along() {
    let mut hooks = Hooks::new();
    hooks.event(7, "type.changed", "k").0.databases_swapped(0, 3, Some(NOW_MS));
    hooks.event(7, "type.changed", "last").0.databases_swapped(0, 1, Some(NOW_MS));
    for _ in 0..2 {
        hooks.0.databases_swapped(3, 5, Some(NOW_MS));
    }
    let mut unit = hooks.0.end_unit(|| Some(0), || Keeps::None).expect("a unit");
    let expected = [(1, std::sync::Arc::from(&b"last"[..])), (3, std::sync::Arc::from(&b"k"[..]))];
    assert!(unit.touched().all(|key| expected.contains(&key)));
    assert_eq!(unit.take_images(), expected.into_iter().collect());
}

#[test]
fn fields_that_expire_at_the_same_time_are_one_command() {
    let expiries = |count: i64| {
        let of = |index: i64| (index.to_string().into_bytes(), if index % 3 == 0 { -1 } else { 1_000_000 + index % 3 });
        Some(Outcome::FieldExpiries((0..count).map(of).chain([(b"none".to_vec(), -2)]).collect()))
    };
    let mut hooks = Hooks::new();
    hooks.write(1, "HEXPIRE h 10 FIELDS 1 f").raise(1, false, "hexpire", "h", expiries(6));
    assert_eq!(
        hooks.logged(),
        "HPERSIST h FIELDS 2 0 3; HPEXPIREAT h 1000001 FIELDS 2 1 4; HPEXPIREAT h 1000002 FIELDS 2 2 5"
    );
}

#[test]
fn a_bitfield_that_may_fail_is_imaged_only_where_no_event_shows_what_it_did() {
    const BITFIELD: &str = "BITFIELD b OVERFLOW FAIL SET u8 0 1";
    let mut hooks = Hooks::new();
    hooks.write(1, BITFIELD).event(1, "setbit", "b").0.unseen(1, silent(BITFIELD), None, NOW_MS);
    assert_eq!(hooks.logged(), BITFIELD);
    hooks.write(1, BITFIELD).0.unseen(1, silent(BITFIELD), None, NOW_MS);
    assert_eq!(hooks.imaged(), ["b"]);
    // In a script, of which nothing after it is known to follow from what was sent.
    hooks.silent_inside(1, BITFIELD, 5);
    assert_eq!(hooks.event(1, "setbit", "b").prove(6).logged(), BITFIELD);
    hooks.silent_inside(1, BITFIELD, 5);
    assert_eq!(hooks.write(1, "SET k v").event(1, "set", "k").prove(6).imaged(), ["b", "k"]);
    // Refused by the server.
    assert_eq!(hooks.silent_inside(1, BITFIELD, 5).prove(5).logged(), "");
    // Run by the module, which has seen its reply.
    let spec = table::find("bitfield").expect("in the table");
    for (answered, logged) in [(true, BITFIELD), (false, "")] {
        hooks.0.wrapped(1, spec, 0, BITFIELD.split(' ').map(str::as_bytes));
        hooks.0.wrapped_done(answered, None, NOW_MS);
        assert_eq!(hooks.logged(), logged);
    }
}

#[test]
fn a_silent_write_of_a_script_is_logged_if_anything_has_changed() {
    let mut hooks = Hooks::new();
    hooks.silent_inside(9, "XACK s g 1-0", 5).silent_inside(9, "PFCOUNT p", 6).silent_inside(9, "XACK s g 1-0", 7);
    assert_eq!(hooks.prove(7).imaged(), ["p", "s"]);
    hooks.silent_inside(9, "XACK s g 1-0", 7).silent_inside(9, "FUNCTION|FLUSH", 7);
    assert!(hooks.prove(7).0.end_unit(|| Some(0), || Keeps::None).is_none());
    hooks.silent_inside(9, "FUNCTION|FLUSH", 7);
    assert!(hooks.prove(8).0.end_unit(|| Some(0), || Keeps::None).is_some_and(|unit| unit.functions));
    // What follows may build on it.
    hooks.write(9, "SET k v").event(9, "set", "k").silent_inside(9, "XACK s g 1-0", 7);
    hooks.write(9, "RENAME s t").event(9, "rename_from", "s").event(9, "rename_to", "t");
    assert_eq!(hooks.prove(9).end(), ("SET k v".to_string(), ["s", "s", "t"].map(String::from).to_vec()));
}

#[test]
fn work_for_a_wrapped_command_grows_with_its_keys_only() {
    let work = |count: usize| {
        let keys: Vec<String> = (0..count).map(|index| format!("k{index}")).collect();
        let mut hooks = Hooks::new();
        let spec = table::find("del").expect("in the table");
        let words = ["DEL"].into_iter().chain(keys.iter().map(String::as_str));
        work_of(|| {
            hooks.0.wrapped(1, spec, 0, words.map(str::as_bytes));
            keys.iter().rev().for_each(|key| _ = hooks.event(7, "del", key));
            hooks.event(7, "module", "other");
            hooks.0.wrapped_done(true, None, NOW_MS);
            assert_eq!(hooks.imaged().len(), count + 1, "an event of another module's key makes images of all");
        })
    };
    let (short, long) = (work(200), work(800));
    assert!(long <= 5 * short, "{short}, then {long}");
}
