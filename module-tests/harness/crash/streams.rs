//! A stream with a producer, and a consumer group whose consumers read and acknowledge.

use super::{Client, Group, Link, Session};
use redis::RedisResult;
use redis::streams::{StreamPendingCountReply, StreamRangeReply, StreamReadReply};
use std::collections::BTreeSet;

const STREAM: &str = "stream";
const GROUP: &str = "group";
const READ_COUNT: usize = 3;
const BLOCK_MS: u64 = 100;

/// The two numbers of a stream id.
type Id = (u64, u64);

pub struct Streams {
    producer: Producer,
    consumers: Vec<Consumer>,
}

#[derive(Default)]
struct Producer {
    added: Vec<Id>,
    in_flight: bool,
}

struct Consumer {
    name: String,
    /// Delivered to this consumer and not yet acknowledged by it.
    pending: BTreeSet<Id>,
    done: BTreeSet<Id>,
    in_flight: Option<Operation>,
}

#[derive(Clone, Copy, PartialEq)]
enum Operation {
    Read,
    Acknowledge(Id),
}

impl Streams {
    pub fn new(count: usize) -> Streams {
        let consumer = |number| Consumer {
            name: format!("consumer-{number}"),
            pending: BTreeSet::new(),
            done: BTreeSet::new(),
            in_flight: None,
        };
        Streams { producer: Producer::default(), consumers: (0..count).map(consumer).collect() }
    }
}

fn parse(id: &str) -> Id {
    let (time, sequence) = id.split_once('-').expect("a stream id");
    (time.parse().expect("a time"), sequence.parse().expect("a sequence number"))
}

fn text(id: Id) -> String {
    format!("{}-{}", id.0, id.1)
}

impl Client for Producer {
    fn step(&mut self, session: &mut Session) -> RedisResult<()> {
        self.in_flight = true;
        let mut command = redis::cmd("XADD");
        let id: String =
            command.arg(STREAM).arg("*").arg("number").arg(self.added.len()).query(&mut session.connection)?;
        self.added.push(parse(&id));
        self.in_flight = false;
        Ok(())
    }
}

impl Client for Consumer {
    fn step(&mut self, session: &mut Session) -> RedisResult<()> {
        let connection = &mut session.connection;
        if let Some(id) = self.pending.first().copied() {
            self.in_flight = Some(Operation::Acknowledge(id));
            let count: u64 = redis::cmd("XACK").arg(STREAM).arg(GROUP).arg(text(id)).query(connection)?;
            assert_eq!(count, 1, "XACK of {id:?}");
            self.pending.remove(&id);
            self.done.insert(id);
        } else {
            self.in_flight = Some(Operation::Read);
            let mut command = redis::cmd("XREADGROUP");
            command.arg("GROUP").arg(GROUP).arg(&self.name).arg("COUNT").arg(READ_COUNT).arg("BLOCK").arg(BLOCK_MS);
            let reply: Option<StreamReadReply> = command.arg("STREAMS").arg(STREAM).arg(">").query(connection)?;
            let entries = reply.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids);
            for entry in entries {
                let id = parse(&entry.id);
                assert!(!self.done.contains(&id), "{id:?} is delivered again to {}", self.name);
                self.pending.insert(id);
            }
        }
        self.in_flight = None;
        Ok(())
    }
}

impl Group for Streams {
    fn name(&self) -> &'static str {
        "streams"
    }

    fn database(&self) -> i64 {
        0
    }

    fn prepare(&mut self, connection: &mut Link) {
        let mut command = redis::cmd("XGROUP");
        command.arg("CREATE").arg(STREAM).arg(GROUP).arg("0").arg("MKSTREAM").exec(connection).expect("a group");
    }

    fn clients(&mut self) -> Vec<&mut dyn Client> {
        let consumers = self.consumers.iter_mut().map(|client| client as &mut dyn Client);
        consumers.chain([&mut self.producer as &mut dyn Client]).collect()
    }

    fn verify(&mut self, connection: &mut Link) {
        let range: StreamRangeReply =
            redis::cmd("XRANGE").arg(STREAM).arg("-").arg("+").query(connection).expect("the entries");
        let entries: Vec<Id> = range.ids.iter().map(|entry| parse(&entry.id)).collect();
        for (number, entry) in range.ids.iter().enumerate() {
            assert_eq!(entry.get::<usize>("number"), Some(number), "the content of {}", entry.id);
        }
        let known = self.producer.added.len();
        assert!(entries.len() >= known && entries[..known] == self.producer.added, "acknowledged entries are lost");
        assert!(entries.len() - known <= usize::from(self.producer.in_flight), "entries that nobody added");
        self.producer.added = entries;
        self.producer.in_flight = false;

        for consumer in &mut self.consumers {
            let pending: StreamPendingCountReply = redis::cmd("XPENDING")
                .arg(STREAM)
                .arg(GROUP)
                .arg(("-", "+", 1_000_000))
                .arg(&consumer.name)
                .query(connection)
                .expect("the pending entries");
            consumer.verify(pending.ids.iter().map(|entry| parse(&entry.id)).collect());
        }
        self.verify_deliveries(connection);
    }
}

impl Consumer {
    fn verify(&mut self, found: BTreeSet<Id>) {
        let name = &self.name;
        let back: Vec<_> = found.intersection(&self.done).collect();
        assert!(back.is_empty(), "{name}: acknowledged entries are pending again: {back:?}");
        let operation = self.in_flight.take();
        for id in self.pending.difference(&found) {
            assert!(operation == Some(Operation::Acknowledge(*id)), "{name}: {id:?} is no longer pending");
            self.done.insert(*id);
        }
        let extra = found.difference(&self.pending).count();
        let most = if operation == Some(Operation::Read) { READ_COUNT } else { 0 };
        assert!(extra <= most, "{name}: {extra} entries are pending that were never delivered");
        self.pending = found;
    }
}

impl Streams {
    /// Every entry up to the last delivered one was delivered to exactly one consumer, none after it to any.
    fn verify_deliveries(&self, connection: &mut Link) {
        let groups: redis::streams::StreamInfoGroupsReply =
            redis::cmd("XINFO").arg("GROUPS").arg(STREAM).query(connection).expect("the groups");
        let last = parse(&groups.groups[0].last_delivered_id);
        let mut delivered = BTreeSet::new();
        for id in self.consumers.iter().flat_map(|consumer| consumer.pending.iter().chain(&consumer.done)) {
            assert!(delivered.insert(*id), "{id:?} was delivered to two consumers");
        }
        let expected: BTreeSet<Id> = self.producer.added.iter().copied().filter(|id| *id <= last).collect();
        let lost: Vec<_> = expected.symmetric_difference(&delivered).collect();
        assert!(lost.is_empty(), "the last delivered entry is {last:?}, but these do not fit: {lost:?}");
    }
}
