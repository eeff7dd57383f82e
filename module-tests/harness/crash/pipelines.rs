//! Pipelines of SETs: a pipeline is no unit, but its commands happen in order.

use super::super::resp::{Value, encode};
use super::{Client, Group, Session};
use redis::{Commands, Connection, RedisResult};

const KEY_COUNT: usize = 16;

pub struct Pipelines {
    clients: Vec<Pipeline>,
}

struct Pipeline {
    name: usize,
    /// The number that all keys have when no pipeline is under way.
    number: u64,
    /// How many commands of the pipeline under way were acknowledged.
    in_flight: Option<usize>,
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
}

impl Client for Pipeline {
    fn step(&mut self, session: &mut Session) -> RedisResult<()> {
        let next = (self.number + 1).to_string();
        let bytes: Vec<u8> = self.keys().iter().flat_map(|key| encode(&["SET", key, &next])).collect();
        let raw = session.raw()?;
        self.in_flight = Some(0);
        raw.send_bytes(&bytes)?;
        for count in 1..=KEY_COUNT {
            let reply = raw.try_reply()?;
            assert_eq!(reply, Value::Simple("OK".into()));
            self.in_flight = Some(count);
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

    fn verify(&mut self, connection: &mut Connection) {
        for client in &mut self.clients {
            let keys = client.keys();
            let found: Vec<Option<u64>> = redis::cmd("MGET").arg(&keys).query(connection).expect("the values");
            let found: Vec<u64> = found.into_iter().map(Option::unwrap_or_default).collect();
            let acknowledged = client.in_flight.take();
            let done = match acknowledged {
                Some(_) => found.iter().take_while(|number| **number > client.number).count(),
                None => 0,
            };
            let expected = (0..KEY_COUNT).map(|key| client.number + u64::from(key < done));
            assert!(found.iter().copied().eq(expected), "{}, {acknowledged:?} acknowledged: {found:?}", keys[0]);
            assert!(done >= acknowledged.unwrap_or(0), "{} lost acknowledged SETs: {found:?}", keys[0]);
            // The rest of a broken pipeline is made up for, so that all keys have the same number again.
            if done > 0 {
                client.number += 1;
                for key in &keys[done..] {
                    let _: () = connection.set(key, client.number).expect("the rest of the pipeline");
                }
            }
        }
    }
}
