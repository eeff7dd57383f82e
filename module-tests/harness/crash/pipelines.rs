//! Pipelines of SETs: a pipeline is no unit, but its commands happen in order.

use super::super::Value;
use super::{Client, Group, Link, Session};
use crate::harness::conditions::Conditions;
use redis::{Commands, RedisResult};

const KEY_COUNT: usize = 16;

pub struct Pipelines {
    clients: Vec<Pipeline>,
}

struct Pipeline {
    name: usize,
    /// The number that all keys have when no pipeline is under way.
    number: u64,
    /// What is known of each key's SET in the pipeline under way.
    in_flight: Option<[Set; KEY_COUNT]>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Set {
    /// Not sent, or refused.
    Open,
    Sent,
    Acknowledged,
}

impl Pipelines {
    pub fn new(count: usize) -> Pipelines {
        Pipelines { clients: (0..count).map(|name| Pipeline { name, number: 0, in_flight: None }).collect() }
    }
}

impl Pipeline {
    fn keys(&self) -> Vec<String> {
        (0..KEY_COUNT).map(|key| format!("pipeline:{}:{key}", self.name)).collect()
    }

    /// Sends a pipeline of the SETs that are open.
    fn send(&mut self, sets: &mut [Set; KEY_COUNT], session: &mut Session) -> RedisResult<()> {
        let conditions = session.opener.conditions;
        let next = (self.number + 1).to_string();
        let raw = &mut session.raw;
        let mut bytes = Vec::new();
        for (key, set) in self.keys().iter().zip(sets.iter_mut()).filter(|(_, set)| **set == Set::Open) {
            bytes.extend(raw.encoded(&["SET", key, &next]));
            *set = Set::Sent;
        }
        self.in_flight = Some(*sets);
        raw.send_bytes(&bytes)?;
        for index in 0..KEY_COUNT {
            if sets[index] != Set::Sent {
                continue;
            }
            sets[index] = match raw.try_reply()? {
                Value::Error(text) if conditions.explain(&text) => Set::Open,
                reply => {
                    assert_eq!(reply, Value::Simple("OK".into()));
                    Set::Acknowledged
                }
            };
            self.in_flight = Some(*sets);
        }
        Ok(())
    }

    /// Which SETs have happened.
    fn done(&mut self, found: &[u64], conditions: Conditions) -> [bool; KEY_COUNT] {
        let Some(sets) = self.in_flight.take() else { return [false; KEY_COUNT] };
        let mut done = [false; KEY_COUNT];
        let mut in_order = true;
        for (index, set) in sets.iter().enumerate() {
            done[index] = found[index] > self.number;
            match set {
                Set::Open => assert!(!done[index], "{}:{index}, which was refused, has happened: {found:?}", self.name),
                Set::Acknowledged => assert!(done[index], "{} lost acknowledged SETs: {found:?}, {sets:?}", self.name),
                // Among those that nobody was told of, some may have been refused.
                Set::Sent if conditions.refuse() => {}
                Set::Sent => {
                    assert!(in_order || !done[index], "{} lost a SET before others: {found:?}, {sets:?}", self.name);
                    in_order = done[index];
                }
            }
        }
        done
    }
}

impl Client for Pipeline {
    fn step(&mut self, session: &mut Session) -> RedisResult<()> {
        let mut sets = [Set::Open; KEY_COUNT];
        while sets.contains(&Set::Open) {
            self.send(&mut sets, session)?;
        }
        self.number += 1;
        self.in_flight = None;
        Ok(())
    }
}

impl Group for Pipelines {
    fn name(&self) -> &'static str {
        "pipelines"
    }

    fn database(&self) -> i64 {
        0
    }

    fn clients(&mut self) -> Vec<&mut dyn Client> {
        self.clients.iter_mut().map(|client| client as &mut dyn Client).collect()
    }

    fn verify(&mut self, link: &mut Link) {
        for client in &mut self.clients {
            let keys = client.keys();
            let found: Vec<Option<u64>> = redis::cmd("MGET").arg(&keys).query(link).expect("the values");
            let found: Vec<u64> = found.into_iter().map(Option::unwrap_or_default).collect();
            let done = client.done(&found, link.conditions());
            let expected = done.iter().map(|done| client.number + u64::from(*done));
            assert!(found.iter().copied().eq(expected), "{}, {done:?} have happened: {found:?}", keys[0]);
            // The rest of a broken pipeline is made up for, so that all keys have the same number again.
            if done.contains(&true) {
                client.number += 1;
                for (key, _) in keys.iter().zip(done).filter(|(_, done)| !done) {
                    let _: () = link.set(key, client.number).expect("the rest of the pipeline");
                }
            }
        }
    }
}
