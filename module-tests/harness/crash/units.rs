//! Transactions and scripts over several keys and databases: they happen as a whole or not at all.

use super::super::Random;
use super::{Client, Group, Link, Session, assert_between};
use crate::harness::conditions::RUNS_LONG;
use redis::{Commands, RedisResult};

const DATABASE: i64 = 2;
const OTHER_DATABASE: i64 = 3;

pub struct Transactions {
    clients: Vec<Transaction>,
}

struct Transaction {
    name: usize,
    count: u64,
    in_flight: bool,
}

impl Transactions {
    pub fn new(count: usize) -> Transactions {
        Transactions { clients: (0..count).map(|name| Transaction { name, count: 0, in_flight: false }).collect() }
    }
}

impl Transaction {
    fn keys(&self) -> (String, String) {
        (format!("transaction:{}:half", self.name), format!("transaction:{}:list", self.name))
    }
}

impl Client for Transaction {
    fn step(&mut self, session: &mut Session) -> RedisResult<()> {
        let (half, list) = self.keys();
        let next = self.count + 1;
        self.in_flight = true;
        let mut unit = redis::pipe();
        unit.atomic().set(&half, next).ignore().rpush(&list, next);
        unit.cmd("SELECT").arg(OTHER_DATABASE).ignore().set(&half, next).ignore();
        unit.cmd("SELECT").arg(DATABASE).ignore();
        let (length,): (u64,) = unit.query(&mut session.connection)?;
        assert_eq!(length, next, "the length of {list}");
        self.count = next;
        self.in_flight = false;
        Ok(())
    }
}

impl Group for Transactions {
    fn name(&self) -> &'static str {
        "transactions"
    }

    fn database(&self) -> i64 {
        DATABASE
    }

    fn clients(&mut self) -> Vec<&mut dyn Client> {
        self.clients.iter_mut().map(|client| client as &mut dyn Client).collect()
    }

    fn verify(&mut self, connection: &mut Link) {
        for client in &mut self.clients {
            let (half, list) = client.keys();
            let first: Option<u64> = connection.get(&half).expect("the first half");
            let elements: Vec<u64> = connection.lrange(&list, 0, -1).expect("the list");
            let select = |connection: &mut Link, database: i64| {
                redis::cmd("SELECT").arg(database).exec(connection).expect("SELECT");
            };
            select(connection, OTHER_DATABASE);
            let second: Option<u64> = connection.get(&half).expect("the second half");
            select(connection, DATABASE);
            let (first, second) = (first.unwrap_or(0), second.unwrap_or(0));
            assert!(
                first == second && elements.iter().copied().eq(1..=first),
                "a torn transaction of {half}: {first}, {second}, and {} elements up to {:?}",
                elements.len(),
                elements.last()
            );
            assert_between(&half, first, client.count, client.in_flight);
            client.count = first;
            client.in_flight = false;
        }
    }
}

const SCRIPT: &str = "local count = redis.call('INCR', KEYS[1])
    local time = redis.call('TIME')
    local stamp = count .. ' ' .. time[1] .. time[2]
    redis.call('RPUSH', KEYS[2], stamp)
    redis.call('SADD', KEYS[3], 'a' .. count, 'b' .. count)
    local popped = redis.call('SPOP', KEYS[3])
    redis.call('HSET', KEYS[4], 'stamp', stamp, 'popped', popped)
    return {count, stamp, popped}";

pub struct Scripts {
    clients: Vec<Scripted>,
}

struct Scripted {
    name: usize,
    rng: Random,
    count: u64,
    /// What the last acknowledged run returned: a time and a random choice.
    last: Option<(String, String)>,
    in_flight: bool,
}

impl Scripts {
    pub fn new(count: usize, rng: &mut Random) -> Scripts {
        let client = |name| Scripted { name, rng: rng.fork(), count: 0, last: None, in_flight: false };
        Scripts { clients: (0..count).map(client).collect() }
    }
}

impl Scripted {
    fn keys(&self) -> [String; 4] {
        ["count", "list", "set", "hash"].map(|part| format!("script:{}:{part}", self.name))
    }
}

impl Client for Scripted {
    fn step(&mut self, session: &mut Session) -> RedisResult<()> {
        let keys = self.keys();
        self.in_flight = true;
        let mut text = session.connection.script(SCRIPT);
        if session.connection.conditions().runs_long && self.rng.one_in(8) {
            text.insert_str(0, RUNS_LONG);
        }
        let (count, stamp, popped): (u64, String, String) = if self.rng.one_in(2) {
            // By its digest; after a restart the server has to be given the script again.
            let script = redis::Script::new(&text);
            keys.iter().fold(&mut script.prepare_invoke(), |call, key| call.key(key)).invoke(&mut session.connection)?
        } else {
            redis::cmd("EVAL").arg(&text).arg(keys.len()).arg(&keys).query(&mut session.connection)?
        };
        self.count += 1;
        assert_eq!(count, self.count, "{}", keys[0]);
        self.last = Some((stamp, popped));
        self.in_flight = false;
        Ok(())
    }
}

impl Group for Scripts {
    fn name(&self) -> &'static str {
        "scripts"
    }

    fn database(&self) -> i64 {
        0
    }

    fn clients(&mut self) -> Vec<&mut dyn Client> {
        self.clients.iter_mut().map(|client| client as &mut dyn Client).collect()
    }

    fn verify(&mut self, connection: &mut Link) {
        for client in &mut self.clients {
            let [count, list, set, hash] = client.keys();
            let found: Option<u64> = connection.get(&count).expect("the count");
            let found = found.unwrap_or(0);
            let stamps: Vec<String> = connection.lrange(&list, 0, -1).expect("the list");
            let members: u64 = connection.scard(&set).expect("the set");
            let stamp: Option<String> = connection.hget(&hash, "stamp").expect("the hash");
            let popped: Option<String> = connection.hget(&hash, "popped").expect("the hash");
            assert!(
                stamps.len() as u64 == found && members == found && stamps.last() == stamp.as_ref(),
                "a torn script of {count}: {found}, {} stamps up to {:?}, {members} members, {stamp:?}",
                stamps.len(),
                stamps.last()
            );
            assert_between(&count, found, client.count, client.in_flight);
            let recovered = stamp.zip(popped);
            if found == client.count {
                assert_eq!(recovered, client.last, "{count}: a script ran again with another outcome");
            }
            if let Some((_, popped)) = &recovered {
                let back: bool = connection.sismember(&set, popped).expect("the set");
                assert!(!back, "{popped} was popped and is in {set}");
            }
            client.count = found;
            client.last = recovered;
            client.in_flight = false;
        }
    }
}
