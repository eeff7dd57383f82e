//! Keys that have expired, which the server keeps and treats as missing.

use super::Hooks;
use crate::core::event::Keeps;

#[test]
fn a_key_made_of_others_is_an_image_while_expired_keys_are_kept() {
    let command = "SUNIONSTORE d a b";
    assert_eq!(Hooks::new().write(1, command).event(1, "sunionstore", "d").logged(), command);
    for keeps in [Keeps::Read, Keeps::All] {
        assert_eq!(Hooks::new().keep(keeps).write(1, command).event(1, "sunionstore", "d").imaged(), ["d"]);
        let mut hooks = Hooks::new();
        hooks.keep(keeps).exec_whole(1, &[command, "SET d 1"], 0);
        assert_eq!(hooks.exec_event(1, "sunionstore", "d").exec_event(1, "set", "d").imaged(), ["d"]);
    }
}

#[test]
fn a_transaction_in_which_something_did_nothing_is_an_image_while_expired_keys_are_kept() {
    for (command, images) in [
        ("COPY a d REPLACE", &["n"][..]),
        ("GETEX a PERSIST", &["n"]),
        ("SADD a m", &["n"]),
        ("XACK x g bad", &["n", "x"]),
    ] {
        let exec = |before: Keeps, during: Keeps, after: Keeps| {
            let mut hooks = Hooks::new();
            hooks.keep(before).exec_whole(1, &[command, "INCR n"], 0);
            hooks.keep(during).exec_event(1, "incrby", "n").keep(after);
            hooks
        };
        assert_eq!(exec(Keeps::None, Keeps::None, Keeps::None).logged().split("; ").last(), Some("INCR n"));
        for keeps in [Keeps::Read, Keeps::All] {
            assert_eq!(exec(keeps, Keeps::None, Keeps::None).imaged(), images, "{command}");
            assert_eq!(exec(Keeps::None, keeps, Keeps::None).imaged(), images, "{command}");
            assert_eq!(exec(Keeps::None, Keeps::None, keeps).imaged(), images, "{command}");
        }
    }
}

#[test]
fn a_transaction_all_of_which_did_something_is_an_image_only_while_keys_that_are_written_are_kept() {
    let exec = |keeps: Keeps| {
        let mut hooks = Hooks::new();
        hooks.keep(keeps).exec_whole(1, &["SET a 1", "SADD s m"], 0);
        hooks.exec_event(1, "set", "a").exec_event(1, "sadd", "s");
        hooks
    };
    assert_eq!(exec(Keeps::Read).logged(), "SET a 1; SADD s m");
    assert_eq!(exec(Keeps::All).imaged(), ["a", "s"]);
}

#[test]
fn whatever_is_written_while_all_expired_keys_are_kept_is_an_image() {
    for (command, event) in [
        ("SET k v NX", "set"),
        ("SETEX k 10 v", "set"),
        ("LPUSH k a", "lpush"),
        ("EXPIRE k 10", "expire"),
        ("GETEX k PERSIST", "persist"),
        ("RESTORE k 0 payload", "restore"),
        ("HSETNX k f v", "hset"),
        ("MSETEX 1 k v NX", "set"),
        ("BITFIELD k INCRBY u8 0 1", "setbit"),
        ("SUNIONSTORE k a", "sunionstore"),
        ("SMOVE a k m", "sadd"),
        ("XGROUP|CREATE k g 0 MKSTREAM", "xgroup-create"),
    ] {
        let run = |keeps: Keeps| {
            let mut hooks = Hooks::new();
            hooks.keep(keeps).write(1, command).event(1, event, "k");
            hooks
        };
        assert_eq!(run(Keeps::Read).end().1.is_empty(), !command.starts_with("SUNION"), "{command}");
        assert_eq!(run(Keeps::All).imaged(), ["k"], "{command}");
        let mut hooks = Hooks::new();
        hooks.exec_stepwise(1, &[command]).keep(Keeps::All).exec_event(1, event, "k");
        assert_eq!(hooks.done(1, command, true, 0).imaged(), ["k"], "{command}");
    }
}

#[test]
fn a_bitfield_without_an_event_is_an_image_while_all_expired_keys_are_kept() {
    let command = "BITFIELD k OVERFLOW FAIL INCRBY u1 0 9";
    let run = |keeps: Keeps| {
        let mut hooks = Hooks::new();
        hooks.keep(keeps).exec_stepwise(1, &[command]).done(1, command, false, 0);
        hooks
    };
    assert_eq!(run(Keeps::None).logged(), command);
    assert_eq!(run(Keeps::All).imaged(), ["k"]);
}

#[test]
fn a_leaf_is_used_again_without_what_the_last_one_missed() {
    let mut hooks = Hooks::new();
    assert_eq!(hooks.keep(Keeps::All).write(1, "INCR n").event(1, "incrby", "n").imaged(), ["n"]);
    assert_eq!(hooks.keep(Keeps::None).write(1, "INCR n").event(1, "incrby", "n").logged(), "INCR n");
}
