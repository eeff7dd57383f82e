//! Another module's changes: through its own commands, through commands that it runs, also in a thread and in the
//! callbacks of events.

use super::super::Random;
use super::{Client, Group, Link, Session, assert_between};
use redis::{Commands, RedisResult};
use std::collections::BTreeSet;

/// What the module adds keys to that others set.
const ECHOES: &str = "echoes";

const SCRIPT: &str = "redis.call('effects.push', KEYS[1], ARGV[1]) redis.call('effects.string', KEYS[2], ARGV[1])";

pub struct Modules {
    clients: Vec<Writer>,
}

struct Writer {
    name: usize,
    rng: Random,
    /// Elements in the list, numbered from 0 on.
    count: u64,
    /// The last element that was pushed by a script, which writes it to a second key, too.
    last: Option<u64>,
    in_flight: Option<Way>,
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    LowLevel,
    Called,
    Thread,
    Script,
    /// Another key is set, to which the module answers with a change of its own.
    Echo,
}

impl Modules {
    pub fn new(count: usize, rng: &mut Random) -> Modules {
        let client = |name| Writer { name, rng: rng.fork(), count: 0, last: None, in_flight: None };
        Modules { clients: (0..count).map(client).collect() }
    }
}

impl Writer {
    fn list(&self) -> String {
        format!("modules:{}", self.name)
    }

    fn last_key(&self) -> String {
        format!("modules:{}:last", self.name)
    }

    fn push(&mut self, link: &mut Link, way: Way) -> RedisResult<()> {
        let (list, number) = (self.list(), self.count);
        self.in_flight = Some(way);
        match way {
            Way::LowLevel => redis::cmd("effects.push").arg(list).arg(number).exec(link)?,
            Way::Thread => redis::cmd("effects.thread").arg("RPUSH").arg(list).arg(number).exec(link)?,
            Way::Called => {
                let mut command = redis::cmd("effects.call");
                let length: u64 = command.arg("RPUSH").arg(&list).arg(number).query(link)?;
                assert_eq!(length, number + 1, "the length of {list}");
            }
            Way::Script => {
                let mut command = redis::cmd("EVAL");
                command.arg(SCRIPT).arg(2).arg(list).arg(self.last_key()).arg(number).exec(link)?;
                self.last = Some(number);
            }
            Way::Echo => unreachable!("it pushes nothing"),
        }
        self.count += 1;
        self.in_flight = None;
        Ok(())
    }

    fn set_echoed(&mut self, link: &mut Link) -> RedisResult<()> {
        let prefix = if self.rng.one_in(2) { "echo:" } else { "later:" };
        self.in_flight = Some(Way::Echo);
        link.set::<_, _, ()>(format!("{prefix}{}:{}", self.name, self.rng.below(1000)), 1)?;
        self.in_flight = None;
        Ok(())
    }
}

impl Client for Writer {
    fn step(&mut self, session: &mut Session) -> RedisResult<()> {
        let link = &mut session.connection;
        match self.rng.below(5) {
            0 => self.set_echoed(link),
            1 => self.push(link, Way::LowLevel),
            2 => self.push(link, Way::Called),
            3 => self.push(link, Way::Thread),
            _ => self.push(link, Way::Script),
        }
    }
}

impl Group for Modules {
    fn name(&self) -> &'static str {
        "modules"
    }

    fn database(&self) -> i64 {
        4
    }

    fn clients(&mut self) -> Vec<&mut dyn Client> {
        self.clients.iter_mut().map(|client| client as &mut dyn Client).collect()
    }

    fn verify(&mut self, link: &mut Link) {
        for client in &mut self.clients {
            let in_flight = client.in_flight.take();
            let key = client.list();
            let list: Vec<u64> = link.lrange(&key, 0, -1).expect("a list");
            let length = list.len() as u64;
            assert!(list.into_iter().eq(0..length), "{key} is out of order");
            assert_between(&key, length, client.count, in_flight.is_some_and(|way| way != Way::Echo));

            let last: Option<u64> = link.get(client.last_key()).expect("a value");
            let happened = length > client.count && in_flight == Some(Way::Script);
            let expected = if happened { Some(client.count) } else { client.last };
            assert_eq!(last, expected, "a torn script of {key}, which has {length} elements");
            (client.count, client.last) = (length, last);
        }
        // It asks for SADD by that name.
        if link.has("sadd") {
            let mut keys: BTreeSet<String> = link.keys("echo:*").expect("keys");
            keys.extend(link.keys::<_, BTreeSet<String>>("later:*").expect("keys"));
            let echoes: BTreeSet<String> = link.smembers(ECHOES).expect("a set");
            assert_eq!(echoes, keys, "torn units: what the module adds to {ECHOES}, and the keys that it adds");
        }
    }

    fn assert_seen(&self) {
        assert!(self.clients.iter().all(|client| client.count > 0), "the module has changed nothing");
    }
}
