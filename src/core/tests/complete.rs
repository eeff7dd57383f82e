//! Commands that are complete with their only event.

use super::hooks::Hooks;
use crate::core::unit::{Batch, Unit};
use crate::log::Lsn;

fn is_taken(hooks: &mut Hooks, client: u64, event: &str) -> bool {
    hooks.0.take_complete(client, event.as_bytes(), 0, b"k").is_some()
}

#[test]
fn a_command_is_complete_with_its_only_event() {
    let only = [("SET k v", "set"), ("INCR k", "incrby"), ("RPUSH k a b", "rpush"), ("ZADD k 1 a", "zadd")];
    for (command, event) in only {
        let mut hooks = Hooks::new();
        hooks.write(1, command);
        assert!(is_taken(&mut hooks, 1, event), "{command}");
        assert!(hooks.0.is_at_rest());
    }
    let others = [
        ("SET k v EX 5", "set"),
        ("SET k v GET", "set"),
        ("SETEX k 5 v", "set"),
        ("LPOP k", "lpop"),
        ("ZADD k INCR 1 a", "zincr"),
        ("MSET k v l w", "set"),
        ("LPUSH k v", "expired"),
    ];
    for (command, event) in others {
        let mut hooks = Hooks::new();
        hooks.write(1, command);
        assert!(!is_taken(&mut hooks, 1, event) && !hooks.0.is_at_rest(), "{command}");
    }
}

#[test]
fn nothing_is_complete_beside_others() {
    let mut hooks = Hooks::new();
    hooks.write(1, "INCR k");
    assert!(!is_taken(&mut hooks, 2, "incrby"), "another client's event");
    hooks.event(1, "expired", "k");
    assert!(!is_taken(&mut hooks, 1, "incrby"), "it belongs to a unit that is open");
    let mut hooks = Hooks::new();
    hooks.write(1, "BLPOP l 0").write(2, "RPUSH k a");
    assert!(!is_taken(&mut hooks, 2, "rpush"), "the unit may serve somebody");
}

#[test]
fn a_trim_after_a_complete_command_has_something_to_trim() {
    let mut hooks = Hooks::new();
    let left = || Some(crate::core::event::Outcome::Value(b"9".to_vec()));
    hooks.write(1, "LTRIM k 0 8").raise(1, false, "ltrim", "k", left());
    assert_eq!(hooks.logged(), "LTRIM k 0 8");
    hooks.write(1, "LPUSH k a");
    assert!(is_taken(&mut hooks, 1, "lpush"));
    hooks.write(1, "LTRIM k 0 8").raise(1, false, "ltrim", "k", left());
    assert_eq!(hooks.logged(), "LTRIM k 0 8");
}

#[test]
fn a_complete_command_is_logged_as_its_unit_would_be() {
    let (mut units, mut commands) = (Batch::new(Lsn::ZERO), Batch::new(Lsn::ZERO));
    for (db, words) in [(0, ["SET", "a", "1"]), (0, ["SET", "b", ""]), (3, ["INCRBY", "c", "2"])] {
        let words = words.map(str::as_bytes);
        let mut unit = Unit::new(0);
        unit.command(db, &words);
        let mut args = crate::core::args::Args::default();
        args.fill(words.into_iter());
        assert_eq!(units.push(&unit), commands.push_command(db, &args));
    }
    assert_eq!(units.take(Vec::new()), commands.take(Vec::new()));
}
