//! Transactions.

use super::*;

#[test]
fn a_transaction_of_plain_writes_is_logged_as_it_was_queued() {
    let mut hooks = Hooks::new();
    hooks.class(1, Class::Multi).write(1, "SET a 1").write(1, "SETNX a 2").write(1, "INCR a").class(1, Class::Exec);
    hooks.exec_event(1, "set", "a").exec_event(1, "incrby", "a");
    assert_eq!(hooks.logged(), "SET a 1; SETNX a 2; INCR a");
}

#[test]
fn a_rewritten_command_of_a_transaction_must_be_alone_on_its_key() {
    let mut hooks = Hooks::new();
    hooks.class(1, Class::Multi).write(1, "SET a 1").write(1, "EXPIRE b 10").class(1, Class::Exec);
    hooks.exec_event(1, "set", "a").exec_event(1, "expire", "b");
    assert_eq!(hooks.logged(), "SET a 1; PEXPIREAT b 1010000");

    let mut hooks = Hooks::new();
    hooks.class(1, Class::Multi).write(1, "EXPIRE a 10 NX").write(1, "EXPIRE a 20").class(1, Class::Exec);
    hooks.exec_event(1, "expire", "a");
    assert_eq!(hooks.imaged(), ["a"]);
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
    assert_eq!(hooks.imaged(), ["b", "b"], "in the database that was told, and in all others");
    hooks.0.resumed(NOW_MS, |_| false);
    assert_eq!(hooks.imaged(), ["s"]);
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
fn a_key_that_arrives_inside_such_a_transaction_is_in_the_database_that_the_command_names() {
    let mut hooks = Hooks::new();
    hooks.exec_stepwise(1, &["SPOP t", "COPY a b DB 3"]);
    hooks.exec_event(1, "spop", "t").done(1, "SPOP t", true, 0);
    hooks.exec_event(1, "copy_to", "b").done(1, "COPY a b DB 3", true, 0);
    let mut unit = hooks.0.end_unit().expect("a unit");
    assert!(unit.touched.contains(&(3, (&b"b"[..]).into())));
    assert!(unit.take_images().contains(&(3, (&b"b"[..]).into())));
}

#[test]
fn a_transaction_that_was_aborted_or_discarded_is_not_logged() {
    let mut hooks = Hooks::new();
    hooks.class(1, Class::Multi).write(1, "SET a 1").class(1, Class::Exec);
    assert_eq!(hooks.logged(), "");
    hooks.class(1, Class::Multi).write(1, "SET a 1").class(1, Class::EndMulti);
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
fn the_database_of_a_queued_copy_is_that_of_the_select_before_it() {
    let mut hooks = Hooks::new();
    hooks.class(1, Class::Multi);
    hooks.write(1, "COPY a b DB 2").class(1, Class::Opaque);
    hooks.0.queued_select(1, 5);
    hooks.write(1, "MOVE a 3").write(1, "COPY a c");
    hooks.0.command(1, Class::Exec, Some(7), std::iter::empty());
    let home = |hooks: &mut Hooks, db, key: &str| hooks.0.exec_home(1, &(db, key.as_bytes().into()));
    assert_eq!(home(&mut hooks, 5, "c"), None);
    assert_eq!(home(&mut hooks, 2, "b"), Some(7));
    assert_eq!(home(&mut hooks, 3, "a"), Some(5));
    assert_eq!(home(&mut hooks, 3, "a"), None, "each runs once");
}
