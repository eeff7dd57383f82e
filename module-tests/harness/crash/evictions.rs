//! Keys that the server evicts now and then. What has gone stays away; while there is enough memory, nothing goes.

use super::super::Random;
use super::{Client, Group, Link, Session};
use redis::{Commands, RedisResult, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Keys that are there at once.
const MOST: usize = 48;
/// The most bytes that the server has less than it uses.
const MOST_BYTES: u64 = 20_000;

pub struct Evictions {
    client: Filler,
}

struct Filler {
    rng: Random,
    next: u64,
    /// Keys that were there when they were last seen.
    there: BTreeMap<u64, String>,
    gone: BTreeSet<u64>,
    /// The key that is being written.
    in_flight: Option<(u64, String)>,
    /// Whether keys may have been evicted since they were last seen.
    squeezed: bool,
}

impl Evictions {
    pub fn new(rng: &mut Random) -> Evictions {
        let (there, gone) = (BTreeMap::new(), BTreeSet::new());
        let client = Filler { rng: rng.fork(), next: 0, there, gone, in_flight: None, squeezed: false };
        Evictions { client }
    }
}

fn key(number: u64) -> String {
    format!("evictions:{number}")
}

impl Filler {
    fn fill(&mut self, link: &mut Link) -> RedisResult<()> {
        let number = self.next;
        self.next += 1;
        let value = format!("{number:02000}");
        self.in_flight = Some((number, value.clone()));
        let mut command = redis::cmd("SET");
        command.arg(key(number)).arg(&value).arg("EX").arg(100_000 + self.rng.below(1000));
        match link.once(&command)? {
            Value::Okay => drop(self.there.insert(number, value)),
            Value::ServerError(error) if link.conditions().explain(error.code()) => {}
            reply => panic!("{} gave {reply:?}", key(number)),
        }
        self.in_flight = None;
        Ok(())
    }

    fn read(&mut self, link: &mut Link) -> RedisResult<()> {
        let number = self.rng.below(self.next.max(1));
        let found: Option<String> = link.get(key(number))?;
        self.see(number, found);
        Ok(())
    }

    /// Lets the server evict keys.
    fn squeeze(&mut self, link: &mut Link) -> RedisResult<()> {
        let info: String = redis::cmd("INFO").arg("memory").query(link)?;
        let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("the field");
        let limit = used.parse::<u64>().expect("a number").saturating_sub(self.rng.below(MOST_BYTES));
        self.squeezed = true;
        let mut command = redis::cmd("CONFIG");
        command.arg("SET").arg("maxmemory-policy").arg("volatile-ttl").arg("maxmemory").arg(limit).exec(link)
    }

    /// Ends that, and sees what is left.
    fn loosen(&mut self, link: &mut Link) -> RedisResult<()> {
        redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(0).exec(link)?;
        self.see_all(link)?;
        self.squeezed = false;
        Ok(())
    }

    fn see_all(&mut self, link: &mut Link) -> RedisResult<()> {
        let numbers: Vec<u64> = self.there.keys().copied().collect();
        if !numbers.is_empty() {
            let keys: Vec<String> = numbers.iter().map(|number| key(*number)).collect();
            let found: Vec<Option<String>> = redis::cmd("MGET").arg(keys).query(link)?;
            numbers.into_iter().zip(found).for_each(|(number, found)| self.see(number, found));
        }
        Ok(())
    }

    /// Notes what a key holds.
    fn see(&mut self, number: u64, found: Option<String>) {
        match (self.there.get(&number), found) {
            (Some(value), Some(found)) => assert_eq!(found, *value, "{}", key(number)),
            (Some(_), None) => {
                assert!(self.squeezed, "{} has gone though there was enough memory", key(number));
                self.there.remove(&number);
                self.gone.insert(number);
            }
            (None, found) => assert_eq!(found, None, "{} is there again, or though it was refused", key(number)),
        }
    }
}

impl Client for Filler {
    fn step(&mut self, session: &mut Session) -> RedisResult<()> {
        let link = &mut session.connection;
        match self.rng.below(12) {
            // The other groups' data grow, so that all keys would go before long.
            0..4 if self.squeezed => self.loosen(link),
            0 => self.squeeze(link),
            1..6 if self.there.len() < MOST => self.fill(link),
            _ => self.read(link),
        }
    }
}

impl Group for Evictions {
    fn name(&self) -> &'static str {
        "evictions"
    }

    fn database(&self) -> i64 {
        6
    }

    fn clients(&mut self) -> Vec<&mut dyn Client> {
        vec![&mut self.client]
    }

    fn verify(&mut self, link: &mut Link) {
        let client = &mut self.client;
        let lost = client.in_flight.take();
        if let Some((number, value)) = lost {
            let found: Option<String> = link.get(key(number)).expect("a value");
            if found.is_some() {
                client.there.insert(number, value);
            }
        }
        client.see_all(link).expect("the values");
        client.squeezed = false;
        let count: usize = redis::cmd("DBSIZE").query(link).expect("the number of keys");
        assert_eq!(count, client.there.len(), "keys that are there again, or though they were refused");
        println!("{count} keys that may be evicted are there, {} were evicted", client.gone.len());
    }

    fn assert_seen(&self) {
        assert!(!self.client.gone.is_empty(), "nothing was evicted");
    }
}
