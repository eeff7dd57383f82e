//! Commands of hashes whose fields may have expired.

use super::Hooks;
use crate::core::event::{EventKind, MayExpire, Outcome, Query};

/// One command in a dataset with fields that expire, and the events that it raises for the key `h`, with the answers to
/// what was asked.
fn run(command: &str, events: &[(&str, Option<Outcome>)]) -> Hooks {
    let mut hooks = Hooks::new();
    hooks.0.fields_expire();
    hooks.write(1, command);
    for (event, outcome) in events {
        hooks.raise(1, false, event, "h", outcome.clone());
    }
    hooks
}

fn survives(survives: bool) -> Option<Outcome> {
    Some(Outcome::Survives(survives))
}

fn field(value: &str, at: Option<i64>) -> Option<Outcome> {
    Some(Outcome::Field(value.into(), at))
}

fn expiries(fields: &[(&str, i64)]) -> Option<Outcome> {
    Some(Outcome::FieldExpiries(fields.iter().map(|(field, at)| ((*field).into(), *at)).collect()))
}

fn removed(fields: &[&str], survives: bool) -> Option<Outcome> {
    Some(Outcome::RemovedFields(fields.iter().map(|field| (*field).into()).collect(), survives))
}

#[test]
fn a_removal_leaves_the_hash_to_the_replay_as_long_as_it_is_there() {
    for (command, outcome, goes, logged) in [
        ("HDEL h e f", survives(true), false, "HDEL h e f"),
        ("HDEL h e f", survives(false), false, "HPEXPIREAT h 1 FIELDS 2 e f"),
        ("HDEL h e f", survives(false), true, "DEL h"),
        ("HGETDEL h FIELDS 2 e f", survives(true), false, "HGETDEL h FIELDS 2 e f"),
        ("HGETDEL h FIELDS 2 e f", survives(false), false, "HPEXPIREAT h 1 FIELDS 2 e f"),
        ("HGETDEL h FIELDS 2 e f", survives(false), true, "DEL h"),
    ] {
        let mut hooks = run(command, &[("hdel", outcome)]);
        if goes {
            hooks.event(1, "del", "h");
        }
        assert_eq!(hooks.logged(), logged, "{command}");
    }
}

#[test]
fn a_result_of_a_field_is_logged_where_it_may_have_expired() {
    for (command, events, logged) in [
        ("HINCRBY h f 2", vec![("hincrby", field("5", None))], "HSET h f 5"),
        ("HINCRBY h f 2", vec![("hincrby", field("5", Some(77)))], "HSET h f 5; HPEXPIREAT h 77 FIELDS 1 f"),
        ("HINCRBY h f 2", vec![("hexpired", None), ("hincrby", field("2", None))], "HSET h f 2"),
        ("HINCRBYFLOAT h f 2", vec![("hincrbyfloat", field("5.5", None))], "HSET h f 5.5"),
        (
            "HINCRBYFLOAT h f 2",
            vec![("hincrbyfloat", field("5.5", Some(77)))],
            "HSET h f 5.5; HPEXPIREAT h 77 FIELDS 1 f",
        ),
        ("HSETNX h f v", vec![("hexpired", None), ("hset", None)], "HSET h f v"),
        ("HSET h f v g w", vec![("hexpired", None), ("hset", None)], "HSET h f v g w"),
    ] {
        assert_eq!(run(command, &events).logged(), logged, "{command}");
    }
}

#[test]
fn fields_are_set_with_the_time_that_each_has() {
    for (command, events, logged) in [
        (
            "HSETEX h FNX PX 50 FIELDS 1 f v",
            vec![("hset", None), ("hexpire", None)],
            "HSETEX h PXAT 1000050 FIELDS 1 f v",
        ),
        (
            "HSETEX h KEEPTTL FIELDS 3 e 1 f 2 g 3",
            vec![("hexpired", survives(true)), ("hset", expiries(&[("e", -1), ("f", 77), ("g", -1)]))],
            "HSETEX h FIELDS 2 e 1 g 3; HSETEX h PXAT 77 FIELDS 1 f 2",
        ),
        (
            "HSETEX h EX 0 FIELDS 2 e 1 f 2",
            vec![("hset", None), ("hexpire", None), ("hexpired", survives(true))],
            "HDEL h e f",
        ),
        (
            "HSETEX h EX 0 FIELDS 2 e 1 f 2",
            vec![("hset", None), ("hexpire", None), ("hexpired", survives(false))],
            "HPEXPIREAT h 1 FIELDS 2 e f",
        ),
        (
            "HSETEX h EX 0 FIELDS 2 e 1 f 2",
            vec![("hset", None), ("hexpire", None), ("hexpired", survives(false)), ("del", None)],
            "DEL h",
        ),
    ] {
        assert_eq!(run(command, &events).logged(), logged, "{command}");
    }
}

#[test]
fn fields_whose_time_has_passed_are_removed() {
    let command = "HEXPIRE h 0 XX FIELDS 2 e f";
    for (events, logged) in [
        (vec![("hexpired", removed(&["e"], true))], "HDEL h e"),
        (vec![("hexpired", removed(&["e", "f"], false))], "HPEXPIREAT h 1 FIELDS 2 e f"),
        (vec![("hexpired", removed(&["e", "f"], false)), ("del", None)], "DEL h"),
    ] {
        assert_eq!(run(command, &events).logged(), logged);
    }
}

#[test]
fn commands_of_fields_are_asked_about_only_where_some_may_expire() {
    for (command, event, question) in [
        ("HDEL h e f", EventKind::FieldsDeleted, Some(Query::Survives)),
        ("HGETDEL h FIELDS 1 e", EventKind::FieldsDeleted, Some(Query::Survives)),
        ("HINCRBY h f 1", EventKind::FieldCounter, Some(Query::Field(b"f".to_vec(), MayExpire(true)))),
        ("HSETEX h KEEPTTL FIELDS 1 f v", EventKind::FieldsSet, Some(Query::FieldExpiries(vec![b"f".to_vec()]))),
        ("HSETEX h FIELDS 1 KEEPTTL v", EventKind::FieldsSet, None),
        ("HSET h f v", EventKind::FieldsSet, None),
        ("HSETNX h f v", EventKind::FieldsSet, None),
    ] {
        let mut hooks = Hooks::new();
        hooks.write(1, command);
        assert_eq!(hooks.0.query(1, false, event, b"h"), None, "{command}");
        hooks.0.fields_expire();
        assert_eq!(hooks.0.query(1, false, event, b"h"), question, "{command}");
    }
    for command in ["HDEL h e f", "HGETDEL h FIELDS 1 e", "HINCRBY h f 1", "HSETEX h KEEPTTL FIELDS 1 f v"] {
        let mut hooks = Hooks::new();
        let event = match &command[..4] {
            "HINC" => "hincrby",
            "HSET" => "hset",
            _ => "hdel",
        };
        assert_eq!(hooks.write(1, command).event(1, event, "h").logged(), command);
    }
}

#[test]
fn what_was_not_asked_about_fields_makes_an_image() {
    for (command, event) in [
        ("HDEL h e f", "hdel"),
        ("HINCRBY h f 1", "hincrby"),
        ("HSETEX h KEEPTTL FIELDS 1 f v", "hset"),
        ("HEXPIRE h 0 FIELDS 1 f", "hexpired"),
    ] {
        assert_eq!(run(command, &[(event, None)]).imaged(), ["h"], "{command}");
    }
}

#[test]
fn a_transaction_taken_as_a_whole_has_hashes_imaged_where_fields_may_expire() {
    for command in ["HDEL h f", "HINCRBY h f 1", "HSETNX h f v"] {
        let run = |fields_expire: bool| {
            let mut hooks = Hooks::new();
            if fields_expire {
                hooks.0.fields_expire();
            }
            hooks.exec_whole(1, &[command], 0);
            hooks.exec_event(1, "event", "h");
            hooks
        };
        assert_eq!(run(false).logged(), command);
        assert_eq!(run(true).imaged(), ["h"], "{command}");
    }
}
