//! RPUSH onto lists of one client and onto a list that all share.

use super::super::Random;
use super::{Client, Group, Link, Session, assert_between};
use redis::{Commands, RedisResult};

const SHARED: &str = "lists:shared";

pub struct Lists {
    writers: Vec<Writer>,
}

struct Writer {
    name: usize,
    rng: Random,
    /// Elements in the own list, and of this client in the shared one: they are numbered from 0 on.
    own_count: u64,
    shared_count: u64,
    in_flight: Option<Target>,
}

#[derive(Clone, Copy, PartialEq)]
enum Target {
    Own,
    Shared,
}

impl Lists {
    pub fn new(count: usize, rng: &mut Random) -> Lists {
        let writer = |name| Writer { name, rng: rng.fork(), own_count: 0, shared_count: 0, in_flight: None };
        Lists { writers: (0..count).map(writer).collect() }
    }
}

impl Writer {
    fn own_key(&self) -> String {
        format!("lists:{}", self.name)
    }
}

impl Client for Writer {
    fn step(&mut self, session: &mut Session) -> RedisResult<()> {
        let connection = &mut session.connection;
        if self.rng.one_in(2) {
            self.in_flight = Some(Target::Own);
            let length: u64 = connection.rpush(self.own_key(), self.own_count)?;
            self.own_count += 1;
            assert_eq!(length, self.own_count, "the length of {}", self.own_key());
        } else {
            self.in_flight = Some(Target::Shared);
            let _: u64 = connection.rpush(SHARED, format!("{}:{}", self.name, self.shared_count))?;
            self.shared_count += 1;
        }
        self.in_flight = None;
        Ok(())
    }
}

impl Group for Lists {
    fn name(&self) -> &'static str {
        "lists"
    }

    fn database(&self) -> i64 {
        0
    }

    fn clients(&mut self) -> Vec<&mut dyn Client> {
        self.writers.iter_mut().map(|writer| writer as &mut dyn Client).collect()
    }

    fn verify(&mut self, connection: &mut Link) {
        let shared: Vec<String> = connection.lrange(SHARED, 0, -1).expect("the shared list");
        let mut count = 0;
        for writer in &mut self.writers {
            let in_flight = writer.in_flight.take();

            let key = writer.own_key();
            let own: Vec<u64> = connection.lrange(&key, 0, -1).expect("an own list");
            let length = own.len() as u64;
            assert!(own.into_iter().eq(0..length), "{key} is out of order");
            assert_between(&key, length, writer.own_count, in_flight == Some(Target::Own));
            writer.own_count = length;

            let prefix = format!("{}:", writer.name);
            let mine = shared.iter().filter_map(|element| element.strip_prefix(&prefix));
            let mine: Vec<u64> = mine.map(|number| number.parse().expect("a number")).collect();
            let length = mine.len() as u64;
            assert!(mine.into_iter().eq(0..length), "{SHARED}: the elements of {} are out of order", writer.name);
            assert_between(SHARED, length, writer.shared_count, in_flight == Some(Target::Shared));
            writer.shared_count = length;
            count += length;
        }
        assert_eq!(shared.len() as u64, count, "{SHARED} has elements that nobody pushed");
    }
}
