//! Keys with an expiry time: far away, where it must be kept to the millisecond, and so near that it passes.

use super::super::Random;
use super::super::{PATIENCE, wait_until};
use super::{Client, Group, Link, Session};
use redis::{Commands, RedisResult};

const KEY_COUNT: usize = 16;

pub struct Expiry {
    clients: Vec<Expiring>,
}

struct Expiring {
    name: usize,
    rng: Random,
    number: u64,
    /// What is known of each key: its value and its expiry time (-1: it has none).
    far: [Option<(u64, i64)>; KEY_COUNT],
    near: [Near; KEY_COUNT],
    in_flight: Option<(Kind, usize)>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Near {
    Unknown,
    /// Was increased while it had an expiry time: it is gone for good when that has passed.
    Expires,
    /// Had expired when it was increased, so it was made anew without an expiry time.
    Anew,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Far,
    Near,
}

impl Expiry {
    pub fn new(count: usize, rng: &mut Random) -> Expiry {
        let client = |name| Expiring {
            name,
            rng: rng.fork(),
            number: 0,
            far: [None; KEY_COUNT],
            near: [Near::Unknown; KEY_COUNT],
            in_flight: None,
        };
        Expiry { clients: (0..count).map(client).collect() }
    }
}

impl Expiring {
    fn far_key(&self, key: usize) -> String {
        format!("expiry:{}:far:{key}", self.name)
    }

    fn near_key(&self, key: usize) -> String {
        format!("expiry:{}:near:{key}", self.name)
    }

    fn step_far(&mut self, connection: &mut Link, index: usize) -> RedisResult<()> {
        let key = self.far_key(index);
        self.number += 1;
        let mut set = redis::cmd("SET");
        set.arg(&key).arg(self.number);
        match self.rng.below(5) {
            0 => set.arg("EX").arg(100_000 + self.rng.below(1000)).exec(connection)?,
            1 => set.arg("PX").arg(100_000_000 + self.rng.below(1000)).exec(connection)?,
            2 => set.arg("PXAT").arg(9_000_000_000_000 + self.rng.below(1000)).exec(connection)?,
            3 => {
                set.exec(connection)?;
                redis::cmd("PEXPIRE").arg(&key).arg(200_000_000 + self.rng.below(1000)).exec(connection)?;
            }
            _ => {
                set.arg("EX").arg(100_000).exec(connection)?;
                redis::cmd("PERSIST").arg(&key).exec(connection)?;
            }
        }
        let time: i64 = redis::cmd("PEXPIRETIME").arg(&key).query(connection)?;
        self.far[index] = Some((self.number, time));
        Ok(())
    }

    fn step_near(&mut self, connection: &mut Link, index: usize) -> RedisResult<()> {
        let key = self.near_key(index);
        redis::cmd("SET").arg(&key).arg(5).arg("PX").arg(1 + self.rng.below(4)).exec(connection)?;
        let value: u64 = connection.incr(&key, 1)?;
        self.near[index] = match value {
            6 => Near::Expires,
            1 => Near::Anew,
            other => panic!("{key} is {other}"),
        };
        Ok(())
    }
}

impl Client for Expiring {
    fn step(&mut self, session: &mut Session) -> RedisResult<()> {
        let index = self.rng.below(KEY_COUNT as u64) as usize;
        if self.rng.one_in(3) {
            self.in_flight = Some((Kind::Near, index));
            self.step_near(&mut session.connection, index)?;
        } else {
            self.in_flight = Some((Kind::Far, index));
            self.step_far(&mut session.connection, index)?;
        }
        self.in_flight = None;
        Ok(())
    }
}

impl Group for Expiry {
    fn name(&self) -> &'static str {
        "expiry"
    }

    fn database(&self) -> i64 {
        7
    }

    fn clients(&mut self) -> Vec<&mut dyn Client> {
        self.clients.iter_mut().map(|client| client as &mut dyn Client).collect()
    }

    fn verify(&mut self, connection: &mut Link) {
        let mut state = |key: &str| -> (Option<u64>, i64) {
            let mut unit = redis::pipe();
            unit.atomic().get(key).cmd("PEXPIRETIME").arg(key);
            unit.query(connection).expect("a value and its expiry time")
        };
        for client in &mut self.clients {
            match client.in_flight.take() {
                Some((Kind::Far, index)) => {
                    let (value, time) = state(&client.far_key(index));
                    // Otherwise the operation did not begin, and what was known must still hold.
                    if value == Some(client.number) {
                        client.far[index] = Some((client.number, time));
                    }
                }
                Some((Kind::Near, index)) => client.near[index] = Near::Unknown,
                None => {}
            }
            for index in 0..KEY_COUNT {
                if let Some((value, time)) = client.far[index] {
                    let key = client.far_key(index);
                    assert_eq!(state(&key), (Some(value), time), "value and expiry time of {key}");
                }
                let key = client.near_key(index);
                match client.near[index] {
                    Near::Unknown => {}
                    Near::Anew => assert_eq!(state(&key), (Some(1), -1), "{key}"),
                    Near::Expires => wait_until(&format!("{key} expires"), PATIENCE, || {
                        let (value, time) = state(&key);
                        assert!(value.is_none() || time > 0, "{key} is {value:?} and does not expire");
                        value.is_none()
                    }),
                }
            }
        }
    }
}
