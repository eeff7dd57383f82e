//! INCR of counters of one client and of one that all share, and readers: what they were shown must stay true.

use super::super::Random;
use super::{Client, Group, Link, Session, assert_between};
use redis::{Commands, RedisResult};

const SHARED: &str = "counters:shared";

pub struct Counters {
    writers: Vec<Writer>,
    reader: Option<Reader>,
}

struct Writer {
    name: usize,
    rng: Random,
    own: u64,
    shared_share: u64,
    shared_seen: u64,
    in_flight: Option<Target>,
}

#[derive(Clone, Copy, PartialEq)]
enum Target {
    Own,
    Shared,
}

#[derive(Default)]
struct Reader {
    shared_seen: u64,
}

impl Counters {
    pub fn new(count: usize, reader: bool, rng: &mut Random) -> Counters {
        let writer = |name| Writer { name, rng: rng.fork(), own: 0, shared_share: 0, shared_seen: 0, in_flight: None };
        Counters { writers: (0..count).map(writer).collect(), reader: reader.then(Reader::default) }
    }
}

impl Writer {
    fn own_key(&self) -> String {
        format!("counters:{}", self.name)
    }
}

impl Client for Writer {
    fn step(&mut self, session: &mut Session) -> RedisResult<()> {
        if self.rng.one_in(2) {
            self.in_flight = Some(Target::Own);
            let value: u64 = session.connection.hincr(self.own_key(), "field", 1)?;
            self.own += 1;
            assert_eq!(value, self.own, "{}", self.own_key());
        } else {
            self.in_flight = Some(Target::Shared);
            let value: u64 = session.connection.incr(SHARED, 1)?;
            self.shared_share += 1;
            assert!(value > self.shared_seen, "{SHARED} went from {} to {value}", self.shared_seen);
            self.shared_seen = value;
        }
        self.in_flight = None;
        Ok(())
    }
}

impl Client for Reader {
    fn step(&mut self, session: &mut Session) -> RedisResult<()> {
        let value: Option<u64> = session.connection.get(SHARED)?;
        let value = value.unwrap_or(0);
        assert!(value >= self.shared_seen, "{SHARED} went from {} to {value}", self.shared_seen);
        self.shared_seen = value;
        Ok(())
    }
}

impl Group for Counters {
    fn name(&self) -> &'static str {
        "counters"
    }

    fn database(&self) -> i64 {
        5
    }

    fn clients(&mut self) -> Vec<&mut dyn Client> {
        let writers = self.writers.iter_mut().map(|writer| writer as &mut dyn Client);
        let reader = self.reader.iter_mut().map(|reader| reader as &mut dyn Client);
        writers.chain(reader).collect()
    }

    fn verify(&mut self, connection: &mut Link) {
        let (mut least, mut most, mut seen) = (0, 0, self.reader.as_ref().map_or(0, |reader| reader.shared_seen));
        let shared: Option<u64> = connection.get(SHARED).expect("the shared counter");
        let shared = shared.unwrap_or(0);
        for writer in &mut self.writers {
            let in_flight = writer.in_flight.take();
            let key = writer.own_key();
            let own: Option<u64> = connection.hget(&key, "field").expect("an own counter");
            let own = own.unwrap_or(0);
            assert_between(&key, own, writer.own, in_flight == Some(Target::Own));
            writer.own = own;

            least += writer.shared_share;
            most += writer.shared_share + u64::from(in_flight == Some(Target::Shared));
            seen = seen.max(writer.shared_seen);
        }
        assert!((least..=most).contains(&shared), "{SHARED} is {shared}, not {least}..={most}");
        assert!(shared >= seen, "{SHARED} is {shared}, but a client was shown {seen}");
        // Whose operations in flight happened is not known; one client may as well have done them all.
        self.writers[0].shared_share += shared - least;
    }
}
