//! Commands that wait, transition by transition.

use crate::core::blocked::Blocked;
use crate::core::capture::{Capture, Class};
use crate::core::dirty::{DbKey, DirtyKeys};
use crate::core::leaf::{ClientId, Leaf};
use crate::core::table;
use crate::log::Lsn;
use std::sync::Arc;

fn key(db: u32, name: &str) -> DbKey {
    (db, Arc::from(name.as_bytes()))
}

fn leaf(client: ClientId, command: &str) -> Box<Leaf> {
    let mut capture = Capture::default();
    let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
    let name = String::from_utf8_lossy(words[0]).to_ascii_lowercase();
    let spec = table::find(&name).expect("a row");
    capture.command(client, Class::Write(spec), Some(0), words.into_iter());
    capture.park_current(client);
    capture.blocked.remove(client).expect("it waits")
}

#[test]
fn a_pop_that_is_served_or_whose_client_goes_on_waits_no_longer() {
    let mut blocked = Blocked::default();
    blocked.park(leaf(1, "BLPOP k 1"));
    blocked.wait(1, vec![key(0, "k")], Some(50));
    assert!(blocked.readers_of(0, b"k").is_empty(), "its event shows that it is served");
    assert_eq!(blocked.take_served(1).map(|leaf| leaf.client), Some(1));
    assert!(blocked.is_empty() && blocked.take_due(99, |_| false).is_empty());
    blocked.park(leaf(2, "BLPOP k 1"));
    blocked.wait(2, vec![key(0, "k")], Some(50));
    assert!(blocked.remove(2).is_some() && blocked.is_empty() && blocked.take_due(99, |_| false).is_empty());
}

#[test]
fn time_outs_come_in_their_order_and_not_before_the_server_sees_them() {
    let mut blocked = Blocked::default();
    for (client, at_ms) in [(1, 50), (2, 20), (3, 30)] {
        blocked.wait(client, vec![key(0, "k")], Some(at_ms));
    }
    blocked.set_deadline(3, Some(90));
    assert!(blocked.take_due(19, |_| false).is_empty());
    assert!(blocked.take_due(60, |_| true).is_empty());
    assert_eq!(blocked.take_due(61, |_| false), [1, 2]);
    assert!(blocked.take_due(89, |_| false).is_empty());
    let mut dirty = DirtyKeys::default();
    dirty.mark(key(0, "k"), Lsn::new(4));
    assert_eq!(blocked.shown(2, &dirty), Some(Lsn::new(4)), "what has ended shows its keys");
}

#[test]
fn an_unblock_that_is_refused_changes_nothing() {
    let mut blocked = Blocked::default();
    blocked.wait(1, vec![key(0, "k")], Some(500));
    blocked.unblock(1);
    assert!(blocked.take_due(10, |_| true).is_empty());
    assert!(blocked.take_due(10, |_| false).is_empty(), "it was looked at once");
    assert_eq!(blocked.take_due(500, |_| false), [1], "it has its time-out still");
    blocked.unblock(1);
    assert_eq!(blocked.take_due(10, |_| false), [1]);
    blocked.unblock(7);
    assert!(blocked.take_due(10, |_| false).is_empty());
}

#[test]
fn what_the_module_runs_is_unblocked_by_nobody_once_it_has_run() {
    let mut blocked = Blocked::default();
    blocked.run_by_module(1, vec![key(0, "s")]);
    blocked.unblock(1);
    assert!(blocked.take_due(10, |_| false).is_empty(), "the module is called when its wait ends");
    let mut dirty = DirtyKeys::default();
    dirty.mark(key(0, "s"), Lsn::new(4));
    assert_eq!((blocked.shown(1, &dirty), blocked.is_answered(1)), (Some(Lsn::new(4)), false));
    blocked.answered(1);
    assert_eq!((blocked.shown(1, &dirty), blocked.is_answered(1)), (None, true), "it has what it waited for");
    blocked.wait(2, Vec::new(), Some(5));
    blocked.forget();
    assert!(blocked.is_answered(1) && blocked.take_due(9, |_| false).is_empty());
    blocked.remove(1);
    assert!(blocked.is_empty());
}

#[test]
fn readers_are_found_by_their_streams_until_they_go_on() {
    let mut blocked = Blocked::default();
    blocked.wait_unseen(1, vec![key(0, "s"), key(0, "t")]);
    blocked.wait_unseen(2, vec![key(1, "s")]);
    assert_eq!(blocked.readers_of(0, b"s"), [1]);
    assert!(blocked.readers_of(2, b"s").is_empty());
    let mut dirty = DirtyKeys::default();
    dirty.mark(key(0, "t"), Lsn::new(3));
    assert_eq!([1, 2, 3].map(|client| blocked.shown(client, &dirty)), [Some(Lsn::new(3)), None, None]);
    blocked.changed(&key(0, "s"));
    assert!(!blocked.has_suspects(), "what they do is no write");
    blocked.wait_for_anything(3);
    assert_eq!((blocked.readers_of(2, b"x"), blocked.shown(3, &dirty)), (vec![3], Some(Lsn::new(3))));
    blocked.remove(3);
    blocked.remove(1);
    assert_eq!(blocked.all_readers(), [2]);
    assert!(!blocked.has_unknown_readers() && blocked.readers_of(0, b"t").is_empty());
}

#[test]
fn group_readers_may_have_changed_what_has_changed() {
    let mut blocked = Blocked::default();
    blocked.park(leaf(1, "XREADGROUP GROUP g c BLOCK 0 STREAMS s t > >"));
    blocked.wait_for_anything(2);
    blocked.changed(&key(0, "other"));
    assert!(!blocked.has_suspects());
    blocked.changed(&key(0, "s"));
    blocked.databases_changed(|db| [0, 4].contains(&db));
    let (mut keys, mut readers) = blocked.take_all_changed(false);
    keys.sort();
    readers.sort();
    assert_eq!((keys, readers), (vec![key(0, "s"), key(0, "t")], vec![1, 2]));
    assert!(!blocked.has_suspects());
}

#[test]
fn a_key_is_suspected_until_all_of_its_readers_have_been_served() {
    let mut blocked = Blocked::default();
    for client in 1..=3 {
        blocked.park(leaf(client, "XREADGROUP GROUP g c BLOCK 0 STREAMS s >"));
    }
    blocked.changed(&key(0, "s"));
    let take = |blocked: &mut Blocked, waiting: &[u64]| blocked.take_changed(|client| waiting.contains(&client)).0;
    assert!(take(&mut blocked, &[1, 2, 3]).is_empty(), "all wait");
    assert_eq!(take(&mut blocked, &[2, 3]), [key(0, "s")], "the first has been served");
    assert!(take(&mut blocked, &[2, 3]).is_empty(), "the first goes on working");
    blocked.changed(&key(0, "s"));
    assert_eq!(take(&mut blocked, &[2, 3]), [key(0, "s")], "the first may have waited again");
    assert_eq!(take(&mut blocked, &[3]), [key(0, "s")]);
    assert!(blocked.has_suspects());
    assert_eq!(blocked.take_all_changed(true).0, [key(0, "s")]);
    assert!(blocked.has_suspects(), "they may run after a pause");
    assert_eq!(blocked.take_all_changed(false).0, [key(0, "s")]);
    assert!(!blocked.has_suspects() && blocked.take_all_changed(false).0.is_empty());
}
