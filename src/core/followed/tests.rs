use super::*;
use crate::core::exact::is_exact;
use crate::core::table;

fn args(text: &str) -> Vec<&[u8]> {
    text.split(' ').map(str::as_bytes).collect()
}

fn sent(followed: &mut Followed, sent: Sent, text: &str) -> Vec<String> {
    followed.announce(sent, &args(text), false);
    logged(followed)
}

fn words(commands: &[(u32, Vec<Vec<u8>>)]) -> Vec<String> {
    let text = |args: &[Vec<u8>]| args.iter().map(|arg| String::from_utf8_lossy(arg)).collect::<Vec<_>>().join(" ");
    commands.iter().map(|(db, args)| format!("{db}: {}", text(args))).collect()
}

/// Every argument is a key, except the name and numbers.
fn keys_of(args: &[Vec<u8>]) -> Vec<Arc<[u8]>> {
    let is_key = |arg: &&Vec<u8>| !arg.iter().all(u8::is_ascii_digit);
    args.iter().skip(1).filter(is_key).map(|key| Arc::from(key.as_slice())).collect()
}

fn take(followed: &mut Followed) -> Sealed {
    followed.take(false, &keys_of)
}

fn logged(followed: &mut Followed) -> Vec<String> {
    words(&take(followed).as_sent.map_or(Vec::new(), |unit| unit.commands()))
}

/// A write of the table's.
fn write(text: &str) -> Sent {
    let args = args(text);
    let name = text.split(' ').next().unwrap_or_default().to_ascii_lowercase();
    let subcommand = text.split(' ').nth(1).unwrap_or_default().to_ascii_lowercase();
    let row = table::find(&name).or_else(|| table::find(&format!("{name}|{subcommand}"))).expect("a row");
    let touches = Touches::of(row.rule, &args);
    if is_exact(row.rule, &args) { Sent::Exact(touches) } else { Sent::Inexact(touches) }
}

/// Announces a transaction.
fn transaction(followed: &mut Followed, commands: &[&str]) {
    followed.announce(Sent::Multi, &args("MULTI"), false);
    commands.iter().for_each(|text| followed.announce(write(text), &args(text), false));
    followed.announce(Sent::Exec, &args("EXEC"), false);
}

/// The keys to be imaged, with their databases.
fn imaged(images: &Images) -> Vec<String> {
    let mut keys: Vec<String> =
        images.keys.iter().map(|(db, key)| format!("{db}: {}", String::from_utf8_lossy(key))).collect();
    keys.sort();
    keys
}

fn met() -> Followed {
    let mut followed = Followed::default();
    followed.meet(7, 2);
    followed
}

#[test]
fn commands_are_logged_in_the_database_of_their_time() {
    let mut followed = met();
    assert_eq!(sent(&mut followed, Sent::Exact(Touches::NamedKeys), "SET a 1"), ["2: SET a 1"]);
    assert!(sent(&mut followed, Sent::Select(Some(5)), "SELECT 5").is_empty());
    assert!(sent(&mut followed, Sent::Nothing, "PING").is_empty());
    assert_eq!(sent(&mut followed, Sent::Exact(Touches::NamedKeys), "SET b 1"), ["5: SET b 1"]);
    assert_eq!(followed.lost(), None);
}

#[test]
fn a_transaction_is_one_unit_with_the_databases_that_it_selects() {
    let mut followed = met();
    for (what, text) in [
        (Sent::Multi, "MULTI"),
        (Sent::Exact(Touches::NamedKeys), "SET a 1"),
        (Sent::Select(Some(3)), "SELECT 3"),
        (Sent::Exact(Touches::NamedKeys), "SET b 2"),
    ] {
        assert!(sent(&mut followed, what, text).is_empty());
    }
    assert_eq!(sent(&mut followed, Sent::Exec, "EXEC"), ["2: SET a 1", "3: SET b 2"]);
    assert_eq!(sent(&mut followed, Sent::Exact(Touches::NamedKeys), "SET c 1"), ["3: SET c 1"]);
}

#[test]
fn what_a_broken_link_left_unfinished_comes_again() {
    let mut followed = met();
    sent(&mut followed, Sent::Multi, "MULTI");
    sent(&mut followed, Sent::Exact(Touches::NamedKeys), "SET a 1");
    followed.link_down();
    sent(&mut followed, Sent::Multi, "MULTI");
    sent(&mut followed, Sent::Exact(Touches::NamedKeys), "SET a 2");
    assert_eq!(sent(&mut followed, Sent::Exec, "EXEC"), ["2: SET a 2"]);
    assert_eq!(followed.lost(), None);
    followed.announce(Sent::Exact(Touches::NamedKeys), &args("SET b 1"), true);
    followed.link_down();
    assert!(followed.lost().is_some(), "nobody knows whether it has run");
}

#[test]
fn a_transaction_whose_beginning_was_not_seen_is_not_followed() {
    let mut followed = met();
    sent(&mut followed, Sent::Exec, "EXEC");
    assert!(followed.lost().is_some());
}

#[test]
fn what_changes_otherwise_makes_images_of_all_that_it_may_have_to_do_with() {
    let mut followed = met();
    followed.announce(write("SUNIONSTORE to from"), &args("SUNIONSTORE to from"), false);
    assert!(followed.covers(Some(7)) && !followed.covers(Some(8)));
    followed.strays().keys.insert((2, Arc::from(&b"from"[..])));
    let sealed = take(&mut followed);
    assert!(sealed.as_sent.is_some());
    assert_eq!(imaged(&sealed.images), ["2: from", "2: to"]);
    // An old server's.
    followed.announce(write("EXPIRE a 10"), &args("EXPIRE a 10"), false);
    assert!(!followed.covers(Some(7)));
    let sealed = take(&mut followed);
    assert!(sealed.as_sent.is_none());
    assert_eq!(imaged(&sealed.images), ["2: a"]);
}

#[test]
fn what_has_nothing_to_do_with_other_changes_is_logged_as_it_was_sent() {
    let mut followed = met();
    for (commands, stray, expected) in [
        (&["RPUSH big 1"][..], "evicted", &["2: evicted"][..]),
        (&["RPUSH big 1"], "big", &["2: big"]),
        // What differs goes on from one to the next, not back.
        (&["RENAME a b", "RENAME b c", "RENAME d e", "SADD f 1"], "a", &["2: a", "2: b", "2: c"]),
        (&["RENAME d e", "RENAME e a", "RENAME a b"], "a", &["2: a", "2: b", "2: e"]),
        // It may have read any key.
        (&["SORT l", "SADD f 1"], "w", &["2: f", "2: l", "2: w"]),
        // The key may have been in any of these databases.
        (&["MOVE k 3", "SADD f 1"], "k", &["2: k", "3: k"]),
        (&["SWAPDB 2 5", "SADD f 1"], "k", &["2: k", "5: k"]),
        (&["FLUSHALL"], "k", &["2: k"]),
    ] {
        transaction(&mut followed, commands);
        followed.strays().keys.insert((2, Arc::from(stray.as_bytes())));
        let sealed = take(&mut followed);
        assert!(sealed.as_sent.is_some());
        assert_eq!(imaged(&sealed.images), expected, "{commands:?}, {stray}");
    }
    assert_eq!(followed.lost(), None);
}

#[test]
fn images_stand_for_all_that_a_transaction_touches() {
    for command in ["FUNCTION LOAD code", "FUNCTION DELETE lib", "FUNCTION FLUSH", "FUNCTION RESTORE dump"] {
        let mut followed = met();
        transaction(&mut followed, &["SET k v", command, "COPY a b DB 5"]);
        let sealed = take(&mut followed);
        assert!(sealed.as_sent.is_none() && sealed.images.functions, "{command}");
        assert!(imaged(&sealed.images).contains(&"2: k".to_string()));
        assert_eq!(followed.lost(), None);
        // Alone it is logged as it was sent.
        transaction(&mut followed, &["SET k v", command]);
        let sealed = take(&mut followed);
        assert!(sealed.as_sent.is_some() && sealed.images.is_empty(), "{command}");
    }
    for command in ["FLUSHALL", "FLUSHDB", "SWAPDB 2 5"] {
        let mut followed = met();
        transaction(&mut followed, &["COPY a b DB 5", command]);
        let sealed = take(&mut followed);
        assert!(sealed.as_sent.is_none() && sealed.images.is_empty());
        assert!(followed.lost().is_some(), "no images can stand for it: {command}");
    }
}

#[test]
fn what_waits_is_not_logged() {
    let mut followed = met();
    followed.announce(Sent::Exact(Touches::NamedKeys), &args("SET a 1"), true);
    assert!(followed.may_wait());
    assert!(followed.take(true, &keys_of).as_sent.is_none());
    assert_eq!(logged(&mut followed), ["2: SET a 1"]);
}
