//! Reads of strings whose newest values are not durable: they may as well be answered with durable ones.

use super::*;
use crate::truth::Truth;
use std::cell::RefCell;

/// What a read that the module has run may show instead of the present: what was so after any unit that is durable, but
/// nothing older than what anybody has been shown, or the client itself has done or seen.
pub fn durable_answers(client: &Client, shows: UnitNumber) -> Vec<(Vec<u8>, UnitNumber)> {
    let s = server();
    let command = client.command.borrow().clone();
    let [wrapper, read @ ..] = command.as_slice() else { return Vec::new() };
    let names: [&[u8]; 4] = [b"get", b"mget", b"strlen", b"exists"];
    let may_be = wrapper.eq_ignore_ascii_case(b"wbl.read")
        && read.first().is_some_and(|name| names.iter().any(|other| name.eq_ignore_ascii_case(other)));
    if !may_be || !client.watched.borrow().is_empty() {
        return Vec::new();
    }
    let mut truth = s.truth.borrow_mut();
    let followed = truth.follow(&s.disk.borrow());
    if let Err(text) = followed {
        drop(truth);
        violated(&text);
    }
    let own = client.expected.borrow().iter().map(needs).max().unwrap_or(0);
    let oldest = truth.shown.max(own);
    // What is durable may not be known to be yet: where flushes overlap, a later one may end before an earlier one.
    if oldest >= shows {
        return Vec::new();
    }
    (oldest..=truth.durable()).map(|unit| at(&truth, unit, client, read)).collect()
}

fn needs(expected: &Expected) -> UnitNumber {
    match expected {
        Expected::Bytes(_, needs) | Expected::Any(needs) => *needs,
        // It may show the oldest of them.
        Expected::OneOf(all) => all.iter().map(|(_, needs)| *needs).min().unwrap_or(0),
    }
}

/// The answer to a read after a unit, and the unit that it shows.
fn at(truth: &Truth, unit: UnitNumber, client: &Client, read: &[Bytes]) -> (Vec<u8>, UnitNumber) {
    let db = client.db.get();
    let now = server().unit_ms.get();
    let (mut data, mut shows) = (Data::default(), 0);
    for key in &read[1..] {
        let (changed, entry) = truth.past(unit, db, key);
        shows = shows.max(changed);
        if let Some(entry) = entry.filter(|entry| entry.expires_ms.is_none_or(|at| at > now)) {
            data.put(db, key, entry);
        }
    }
    let past = Past { data: RefCell::new(data), db, resp3: client.resp3.get(), out: RefCell::default() };
    commands::run(&past, read);
    (past.out.into_inner(), shows)
}

/// Runs reads on what was.
struct Past {
    data: RefCell<Data>,
    db: usize,
    resp3: bool,
    out: RefCell<Vec<u8>>,
}

impl Env for Past {
    fn db(&self) -> usize {
        self.db
    }
    fn set_db(&self, _: usize) {}
    fn now_ms(&self) -> i64 {
        server().unit_ms.get()
    }
    fn with<T>(&self, work: impl FnOnce(&mut Data) -> T) -> T {
        work(&mut self.data.borrow_mut())
    }
    fn reply(&self, bytes: &[u8]) {
        self.out.borrow_mut().extend(resp::null_for(bytes, self.resp3));
    }
    fn is_resp3(&self) -> bool {
        self.resp3
    }
    fn random(&self, _: usize) -> usize {
        0
    }
    fn block(&self, _: Vec<Bytes>, _: i64) -> bool {
        false
    }
}
