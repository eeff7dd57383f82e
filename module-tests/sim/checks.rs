//! What clients get: what a stock server would send, in order, and no sooner than it is durable.

use crate::resp::Resp;
use crate::server::{Client, server, violated};
use crate::truth::{Expected, UnitNumber};
use std::collections::VecDeque;
use std::fmt::Display;

/// What leaves must be what a stock server sends, and durable.
pub fn check(client: &Client, bytes: &[u8]) {
    let s = server();
    s.checks.set(s.checks.get() + 1);
    let shown = bytes.escape_ascii();
    let mut unchecked = client.unchecked.borrow_mut();
    unchecked.extend(bytes);
    let mut expected = client.expected.borrow_mut();
    while !unchecked.is_empty() {
        if matches!(expected.front(), Some(Expected::Any(_))) && unchecked.first() == Some(&b'>') {
            put_push_first(&mut expected);
        }
        if let Some(Expected::OneOf(all)) = expected.front_mut() {
            let answer_bytes = check_one_of(client, all, &unchecked, &shown);
            if unchecked.len() < answer_bytes {
                break;
            }
            unchecked.drain(..answer_bytes);
            expected.pop_front();
            continue;
        }
        let needs = match expected.front() {
            // An error of the module's own shows nothing.
            Some(Expected::Any(_)) if unchecked.first() == Some(&b'-') => 0,
            Some(Expected::Bytes(_, needs) | Expected::Any(needs)) => *needs,
            Some(Expected::OneOf(_)) => unreachable!("it was looked at"),
            None => violated(&format!("client {} gets what no stock server sends: {shown}", client.id)),
        };
        if !is_durable(needs) {
            let durable = s.truth.borrow().durable();
            violated(&format!("client {} is shown unit {needs}, and {durable} is durable: {shown}", client.id));
        }
        match expected.front_mut() {
            Some(Expected::Bytes(wanted, _)) => {
                take_wanted(client, wanted, &mut unchecked, &shown);
                if wanted.is_empty() {
                    expected.pop_front();
                }
            }
            _ => match Resp::parse(&unchecked) {
                Some((_, used)) => {
                    unchecked.drain(..used);
                    expected.pop_front();
                }
                None => break,
            },
        }
    }
}

/// Whether a unit that somebody is shown is durable.
fn is_durable(needs: UnitNumber) -> bool {
    let s = server();
    let mut truth = s.truth.borrow_mut();
    truth.shown = truth.shown.max(needs);
    if needs <= truth.durable() {
        return true;
    }
    let followed = truth.follow(&s.disk.borrow());
    let durable = truth.durable();
    drop(truth);
    if let Err(text) = followed {
        violated(&text);
    }
    needs <= durable
}

/// A client that waits in a command is told of changes meanwhile.
fn put_push_first(expected: &mut VecDeque<Expected>) {
    let is_push = |expected: &Expected| matches!(expected, Expected::Bytes(bytes, _) if bytes.front() == Some(&b'>'));
    let push = expected.iter().position(is_push).and_then(|at| expected.remove(at));
    push.into_iter().for_each(|push| expected.push_front(push));
}

/// What has arrived must be one of these answers, or begin one, and be durable; returns the answer's length.
fn check_one_of(
    client: &Client,
    all: &mut Vec<(Vec<u8>, UnitNumber)>,
    unchecked: &[u8],
    shown: &impl Display,
) -> usize {
    let begins = |answer: &[u8]| answer.iter().zip(unchecked).all(|(want, got)| want == got);
    all.retain(|(answer, _)| begins(answer));
    let Some((answer, needs)) = all.iter().min_by_key(|(_, needs)| *needs) else {
        violated(&format!("client {} gets {shown}, which is older than what was shown, or never was", client.id));
    };
    if !is_durable(*needs) {
        violated(&format!("client {} is shown unit {needs} too early: {shown}", client.id));
    }
    answer.len()
}

/// What has arrived must be these bytes, or begin them.
fn take_wanted(client: &Client, wanted: &mut VecDeque<u8>, unchecked: &mut Vec<u8>, shown: &impl Display) {
    while let (Some(want), Some(got)) = (wanted.front(), unchecked.first()) {
        if want != got {
            let want: Vec<u8> = wanted.iter().copied().collect();
            let want = want.escape_ascii();
            violated(&format!("client {} gets {shown} where a stock server sends {want}", client.id));
        }
        wanted.pop_front();
        unchecked.remove(0);
    }
}
