//! Transactions.

use super::*;

#[test]
fn a_transaction_in_which_nothing_failed_is_logged_as_it_was_queued() {
    let mut hooks = Hooks::new();
    hooks.exec_whole(1, &["SET a 1", "SETNX a 2", "INCR a", "EXPIRE a 10", "EXPIRE a 20 NX", "XACK s g 1-0"], 0);
    hooks.exec_event(1, "set", "a").exec_event(1, "incrby", "a").exec_event(1, "expire", "a");
    assert_eq!(hooks.logged(), "SET a 1; SETNX a 2; INCR a; PEXPIREAT a 1010000; PEXPIREAT a 1020000 NX; XACK s g 1-0");
    // The transaction is over.
    hooks.write(1, "SET b 1").event(1, "set", "b");
    assert_eq!(hooks.logged(), "SET b 1");
}

#[test]
fn a_transaction_in_which_something_failed_is_the_state_it_left() {
    let mut hooks = Hooks::new();
    // One error reply more than before.
    hooks.exec_whole(1, &["SET a 1", "LPUSH a x", "SET b 1", "XACK s g 1-0"], 1);
    hooks.exec_event(1, "set", "a").exec_event(1, "set", "b");
    assert_eq!(hooks.end(), (String::new(), vec!["a".into(), "b".into(), "s".into()]));
}

#[test]
fn a_transaction_with_what_cannot_be_repeated_is_the_state_it_left() {
    for command in
        ["SPOP s", "EXPIRE s -1", "SET s v EX 1 SOMETHING", "SORT l STORE s", "BLPOP s 0", "XTRIM s MAXLEN ~ 5"]
    {
        let mut hooks = Hooks::new();
        hooks.exec_whole(1, &["SET a 1", command], 0).exec_event(1, "set", "a").exec_event(1, "some", "s");
        assert_eq!(hooks.imaged(), ["a", "s"], "{command}");
    }
}

#[test]
fn what_the_server_chose_in_a_transaction_is_taken_from_its_events() {
    let mut hooks = Hooks::new();
    hooks.exec_whole(
        1,
        &["XADD s MAXLEN ~ 5 * f 1", "INCRBYFLOAT n 1", "XADD s * f 2", "XADD t * f 3", "HINCRBYFLOAT n f 1"],
        0,
    );
    let value = |text: &str| Some(Outcome::Value(text.into()));
    assert!(hooks.0.query(1, true, EventKind::XAdd, b"s").is_some());
    hooks.raise(1, true, "xadd", "s", value("7-0"));
    assert!(hooks.0.query(1, true, EventKind::XTrim, b"s").is_some());
    hooks.raise(1, true, "xtrim", "s", value("4")).raise(1, true, "incrbyfloat", "n", value("1.5"));
    hooks.raise(1, true, "xadd", "s", value("7-1")).raise(1, true, "xadd", "t", value("7-2"));
    hooks.raise(1, true, "hincrbyfloat", "n", Some(Outcome::Field(b"2".to_vec(), None)));
    assert_eq!(
        hooks.logged(),
        "XADD s 7-0 f 1; XTRIM s MAXLEN = 4; SET n 1.5 KEEPTTL; XADD s 7-1 f 2; XADD t 7-2 f 3; HSET n f 2"
    );
    // One of two made no entry: no event shows which.
    hooks.exec_whole(1, &["XADD s NOMKSTREAM * f 1", "XADD s * f 2"], 0).raise(1, true, "xadd", "s", value("7-0"));
    assert_eq!(hooks.imaged(), ["s"]);
}

#[test]
fn a_transaction_that_was_not_seen_to_run_has_what_no_event_shows_imaged() {
    let mut hooks = Hooks::new();
    hooks.exec_whole(1, &["SET a 1", "XACK s g 1-0"], 0);
    assert_eq!(hooks.imaged(), ["s"]);
    assert_eq!(hooks.imaged(), Vec::<String>::new());
}

#[test]
fn times_of_transactions_become_absolute_and_conditions_stay() {
    for (command, logged) in [
        ("SET k v EX 10 NX GET", "SET k v PXAT 1010000 NX"),
        ("SET k v IFEQ EX KEEPTTL", "SET k v IFEQ EX KEEPTTL"),
        ("SETEX k 10 v", "SET k v PXAT 1010000"),
        ("PSETEX k 10 v", "SET k v PXAT 1000010"),
        ("PEXPIREAT k 1000077 GT", "PEXPIREAT k 1000077 GT"),
        ("GETEX k", ""),
        ("GETEX k PX 5", "PEXPIREAT k 1000005"),
        ("GETEX k PERSIST", "PERSIST k"),
        ("RESTORE k 10 payload FREQ 1", "RESTORE k 1000010 payload REPLACE ABSTTL"),
        ("RESTORE k 0 payload", "RESTORE k 0 payload REPLACE ABSTTL"),
        ("COPY a k DB 3", "COPY a k DB 3"),
        ("MOVE k 3", "MOVE k 3"),
        ("BITFIELD k OVERFLOW FAIL INCRBY u1 0 9", "BITFIELD k OVERFLOW FAIL INCRBY u1 0 9"),
    ] {
        let mut hooks = Hooks::new();
        hooks.exec_whole(1, &[command], 0).exec_event(1, "some", "k");
        assert_eq!(hooks.logged(), logged, "{command}");
    }
}

#[test]
fn a_transaction_whose_commands_are_told_one_by_one_is_logged_exactly() {
    let mut hooks = Hooks::new();
    hooks.exec_stepwise(1, &["EXPIRE a 10 NX", "EXPIRE a 20 NX", "EXPIRE a 30", "XACK s g 1-0", "XACK s g 2-0"]);
    hooks.exec_event(1, "expire", "a").done(1, "EXPIRE a 10 NX", true, 0);
    hooks.done(1, "EXPIRE a 20 NX", false, 0);
    hooks.exec_event(1, "expire", "a").done(1, "EXPIRE a 30", true, 0);
    hooks.done(1, "XACK s g 1-0", true, 0).done(1, "XACK s g 2-0", false, 0).done(1, "EXEC", true, 0);
    assert_eq!(hooks.logged(), "PEXPIREAT a 1010000; PEXPIREAT a 1030000; XACK s g 1-0");
    // The transaction is over.
    hooks.write(1, "SET b 1").event(1, "set", "b");
    assert_eq!(hooks.logged(), "SET b 1");
}

#[test]
fn a_refused_command_of_such_a_transaction_takes_no_events() {
    let mut hooks = Hooks::new();
    hooks.exec_stepwise(1, &["SET a 1", "SET b 2 EX 1"]);
    hooks.exec_event(1, "set", "b").exec_event(1, "expire", "b").done(1, "SET b 2 EX 1", true, 0);
    hooks.done(1, "EXEC", true, 0);
    assert_eq!(hooks.logged(), "SET b 2 PXAT 1001000");
}

#[test]
fn such_a_transaction_may_be_made_to_wait_and_is_not_told_one_by_one_then() {
    let mut hooks = Hooks::new();
    hooks.exec_stepwise(1, &["XACK s g 1-0", "COPY a b DB 1"]);
    assert_eq!(hooks.logged(), "");
    hooks.0.resumed(NOW_MS, |_| true);
    hooks.write(2, "SET x 1").event(2, "set", "x");
    hooks.0.stop_stepping();
    assert_eq!(hooks.logged(), "SET x 1");
    hooks.exec_event(1, "copy_to", "b");
    assert_eq!(hooks.imaged(), ["b", "s"]);
    hooks.0.resumed(NOW_MS, |_| false);
    assert_eq!(hooks.imaged(), Vec::<String>::new());
}

#[test]
fn a_transaction_that_has_run_is_none_that_waits() {
    for stepwise in [true, false] {
        let mut hooks = Hooks::new();
        if stepwise {
            hooks.exec_stepwise(1, &["XACK s g 1-0"]).done(1, "XACK s g 1-0", true, 0).done(1, "EXEC", true, 0);
            assert_eq!(hooks.logged(), "XACK s g 1-0");
        } else {
            hooks.exec_whole(1, &["XACK s g 1-0"], 0);
            assert_eq!(hooks.imaged(), ["s"]);
        }
        // The module holds the client's next command.
        assert!(!hooks.0.has_sent_another(1, NOW_MS));
        hooks.write(1, "SET a 1").event(1, "set", "a").logged();
        for waits in [true, false, false] {
            hooks.0.resumed(NOW_MS, |_| waits);
            assert_eq!(hooks.end(), (String::new(), Vec::new()), "stepwise {stepwise}, waits {waits}");
        }
    }
}

#[test]
fn a_transaction_that_waited_has_run_when_its_client_sends_another_command() {
    for stepwise in [true, false] {
        let mut hooks = Hooks::new();
        if stepwise {
            hooks.exec_stepwise(1, &["XACK s g 1-0"]).0.stop_stepping();
        } else {
            hooks.exec_whole(1, &["XACK s g 1-0"], 0).0.exec_waits(1);
        }
        hooks.0.resumed(NOW_MS, |_| true);
        assert!(!hooks.0.has_sent_another(2, NOW_MS));
        assert_eq!(hooks.end(), (String::new(), Vec::new()));
        assert!(hooks.0.has_sent_another(1, NOW_MS));
        assert_eq!(hooks.imaged(), ["s"], "stepwise {stepwise}");
        // The module holds that one.
        hooks.write(1, "SET a 1").event(1, "set", "a").logged();
        for waits in [true, false] {
            hooks.0.resumed(NOW_MS, |_| waits);
            assert_eq!(hooks.end(), (String::new(), Vec::new()), "stepwise {stepwise}, waits {waits}");
        }
    }
}

#[test]
fn a_transaction_that_was_to_be_told_and_was_not_was_refused() {
    let mut hooks = Hooks::new();
    hooks.exec_stepwise(1, &["XACK s g 1-0"]);
    assert!(!hooks.0.has_sent_another(1, NOW_MS));
    hooks.0.resumed(NOW_MS, |_| false);
    assert_eq!(hooks.end(), (String::new(), Vec::new()));
}

#[test]
fn scripts_inside_such_a_transaction_stand_in_their_place() {
    let mut hooks = Hooks::new();
    hooks.exec_stepwise(1, &["SET a 1", "SET a 3"]);
    hooks.exec_event(1, "set", "a").done(1, "SET a 1", true, 0);
    hooks.write(9, "SET a 2 EX 1").exec_event(9, "set", "a").exec_event(9, "expire", "a").done(
        1,
        "EVAL script",
        true,
        0,
    );
    hooks.exec_event(1, "set", "a").done(1, "SET a 3", true, 0);
    assert_eq!(hooks.logged(), "SET a 1; SET a 2 PXAT 1001000; SET a 3");
}

#[test]
fn events_of_other_modules_inside_such_a_transaction_make_images() {
    let mut hooks = Hooks::new();
    hooks.exec_stepwise(1, &["SET a 1"]);
    hooks.exec_event(1, "module", "m").done(1, "THEIR.COMMAND m", true, 0);
    assert_eq!(hooks.imaged(), ["m"]);
}

#[test]
fn a_transaction_that_was_aborted_or_discarded_is_not_logged() {
    let mut hooks = Hooks::new();
    hooks.class(1, Class::Multi).write(1, "SET a 1").class(1, Class::Exec);
    assert_eq!(hooks.logged(), "");
    hooks.class(1, Class::Multi).write(1, "SET a 1").class(1, Class::EndMulti);
    assert!(hooks.0.is_queueing(1), "it may have been refused");
    hooks.0.not_queueing(1);
    hooks.write(1, "SET b 1").event(1, "set", "b");
    assert_eq!(hooks.logged(), "SET b 1");
}

#[test]
fn a_multi_that_was_refused_does_not_hide_what_follows() {
    let mut hooks = Hooks::new();
    hooks.class(1, Class::Multi).write(1, "SET a 1").event(1, "set", "a");
    assert_eq!(hooks.logged(), "SET a 1");
}

#[test]
fn work_for_a_transaction_grows_with_its_length_only() {
    type Command = fn(usize) -> (String, &'static str, String);
    let loads: [Command; 8] = [
        |n| (format!("SET k{n} v"), "set", format!("k{n}")),
        |n| (format!("SET k v{n}"), "set", "k".into()),
        |n| (format!("SET k{n} v EX 10"), "set", format!("k{n}")),
        |_| ("EXPIRE k 10".into(), "expire", "k".into()),
        |n| (format!("XADD s * f {n}"), "xadd", "s".into()),
        |n| (format!("INCRBYFLOAT k{n} 1"), "incrbyfloat", format!("k{n}")),
        |n| (format!("COPY a b{n} DB 3"), "copy_to", format!("b{n}")),
        |n| {
            if n % 2 == 0 {
                ("XACK s g 1".into(), "", String::new())
            } else {
                ("LPUSH l a".into(), "lpush", "l".into())
            }
        },
    ];
    for (index, load) in loads.iter().enumerate() {
        for (stepwise, seen) in [(true, 1), (true, 2), (false, 1)] {
            let work = |count: usize| {
                let commands: Vec<_> = (0..count).map(load).collect();
                let texts: Vec<&str> = commands.iter().map(|(text, ..)| text.as_str()).collect();
                let mut hooks = Hooks::new();
                work_of(|| {
                    if stepwise {
                        hooks.exec_stepwise(1, &texts);
                    } else {
                        hooks.exec_whole(1, &texts, 0);
                    }
                    // Where not all are seen, the others were refused.
                    for (text, event, key) in commands.iter().step_by(seen) {
                        if !event.is_empty() {
                            let kind = EventKind::of(event.as_bytes());
                            hooks.0.query(1, true, kind, key.as_bytes());
                            hooks.raise(1, true, event, key, Some(Outcome::Value(b"7-0".to_vec())));
                        }
                        if stepwise {
                            hooks.done(1, "GET k", false, 0).done(1, text, true, 0);
                        }
                    }
                    hooks.end();
                })
            };
            let (short, long) = (work(200), work(800));
            assert!(long <= 5 * short, "load {index}, stepwise {stepwise}, every {seen}: {short}, then {long}");
        }
    }
}

#[test]
fn an_end_that_an_eviction_brings_is_not_the_end_of_what_was_announced() {
    let mut hooks = Hooks::new();
    // A write, a transaction of either kind, a command that no event shows.
    hooks.write(1, "SET a 1").event(1, "evicted", "old");
    assert_eq!(hooks.evictions(), "DEL old");
    hooks.event(1, "set", "a");
    assert!(hooks.0.take_evictions().is_none());
    assert_eq!(hooks.logged(), "SET a 1");

    hooks.exec_stepwise(1, &["XACK s g 1-0"]).event(1, "evicted", "old").event(1, "evicted", "older");
    assert_eq!(hooks.evictions(), "DEL old; DEL older");
    hooks.done(1, "XACK s g 1-0", true, 0).done(1, "EXEC", true, 0);
    assert_eq!(hooks.logged(), "XACK s g 1-0");

    hooks.exec_whole(1, &["XACK s g 1-0"], 0).event(1, "evicted", "old");
    assert_eq!(hooks.evictions(), "DEL old");
    assert_eq!(hooks.end(), (String::new(), vec!["s".into()]));

    hooks.write(9, "XACK s g 1-0");
    hooks.event(9, "evicted", "old");
    assert_eq!(hooks.evictions(), "DEL old");
    hooks.0.unseen(9, silent("XACK s g 1-0"), None, NOW_MS);
    assert_eq!(hooks.end(), (String::new(), vec!["s".into()]));
    assert!(hooks.0.take_evictions().is_none());
}

#[test]
fn a_transaction_that_the_server_refused_is_not_kept() {
    let mut hooks = Hooks::new();
    hooks.class(1, Class::Multi).write(1, "SET a 1");
    hooks.0.refuse_queue(1);
    hooks.write(1, "SET b 1").write(1, "SET c 1");
    assert!(!hooks.0.has_queued_writes(1));
    hooks.class(1, Class::Exec).write(1, "SET d 1").event(1, "set", "d");
    assert_eq!(hooks.logged(), "SET d 1");
}

#[test]
fn the_server_is_asked_what_it_keeps_less_and_less_often() {
    let mut hooks = Hooks::new();
    hooks.class(1, Class::Multi);
    let asked: Vec<usize> = (0..1000).filter_map(|_| hooks.0.queued_one(1, 1024)).collect();
    assert_eq!(asked, [63, 127, 255, 511]);
    assert_eq!(hooks.0.queued_one(2, 1 << 30), None);
}

#[test]
fn a_transaction_whose_commands_all_raised_their_events_has_not_failed() {
    // The count of error replies has moved, but each command raised its own event.
    let proved = |commands: &[&str], events: &[(&str, &str)]| {
        let mut hooks = Hooks::new();
        hooks.exec_whole(1, commands, 7);
        events.iter().for_each(|(event, key)| _ = hooks.exec_event(1, event, key));
        let (logged, images) = hooks.end();
        assert_eq!(logged.is_empty(), !images.is_empty());
        images.is_empty()
    };
    assert!(proved(
        &["SET a 1 EX 10", "SADD s x", "LPOP l"],
        &[("set", "a"), ("expire", "a"), ("sadd", "s"), ("lpop", "l"), ("del", "l")]
    ));
    assert!(proved(&["INCR a", "EXPIRE a 10"], &[("incrby", "a"), ("expire", "a")]));
    // One of two did nothing, or failed; another one's event is not its own.
    assert!(!proved(&["SADD s x", "SADD s y"], &[("sadd", "s")]));
    assert!(!proved(&["SET a 1 EX 10", "EXPIRE a 10"], &[("set", "a"), ("expire", "a")]));
    assert!(!proved(&["SET a 1", "SET b 1"], &[("set", "a"), ("set", "a")]));
    // It is unknown what these raise.
    assert!(!proved(&["RPUSH l a", "LMOVE k l LEFT RIGHT"], &[("rpush", "l"), ("lpop", "k")]));
    assert!(!proved(&["DEL a", "LPOP l"], &[("del", "a"), ("lpop", "l")]));
}

#[test]
fn error_replies_are_counted_only_where_events_leave_it_open() {
    let mut hooks = Hooks::new();
    let reads = std::cell::Cell::new(0);
    let mut run = |event: Option<(&str, &str)>, command: &str, count: u64| {
        let before = reads.get();
        let read = || {
            reads.set(reads.get() + 1);
            Some(count)
        };
        hooks.class(1, Class::Multi).write(1, command).write(1, "INCR n");
        hooks.0.command(1, Class::Exec, Some(0), std::iter::empty());
        hooks.0.exec(1, read, Keeps::None, NOW_MS);
        hooks.exec_event(1, "incrby", "n");
        event.iter().for_each(|(event, key)| _ = hooks.exec_event(1, event, key));
        let images = told(hooks.0.end_unit(read, || Keeps::None).expect("a unit")).1;
        (reads.get() - before, images.is_empty())
    };
    assert_eq!(run(Some(("sadd", "s")), "SADD s x", 5), (1, true), "the first");
    assert_eq!(run(Some(("sadd", "s")), "SADD s x", 5), (0, true));
    assert_eq!(run(None, "SADD s x", 5), (1, true));
    assert_eq!(run(None, "SADD s x", 6), (1, false), "it may have been this one that failed");
    assert_eq!(run(None, "SADD s x", 7), (2, true), "errors are frequent: it is read before");
}
