//! Producers, consumers that take elements away with BLPOP, and movers that hand them on with BLMOVE.

use super::{Client, Group, Link, Session};
use redis::{Direction, RedisResult};
use std::collections::BTreeSet;

const QUEUE: &str = "queue";
/// In seconds. Blocked clients are served by the push of another client.
const BLOCK: f64 = 0.2;

/// The producer's name and the number of the element.
type Element = (usize, u64);

pub struct Queues {
    producers: Vec<Producer>,
    poppers: Vec<Popper>,
    movers: Vec<Mover>,
    /// Elements that may never be seen again: popped while the reply was under way, or never pushed.
    gone: BTreeSet<Element>,
}

struct Producer {
    name: usize,
    next: u64,
    in_flight: bool,
}

#[derive(Default)]
struct Popper {
    popped: Vec<Element>,
    in_flight: bool,
}

struct Mover {
    name: usize,
    moved: Vec<Element>,
    in_flight: bool,
}

impl Queues {
    pub fn new(producers: usize, poppers: usize, movers: usize) -> Queues {
        Queues {
            producers: (0..producers).map(|name| Producer { name, next: 0, in_flight: false }).collect(),
            poppers: (0..poppers).map(|_| Popper::default()).collect(),
            movers: (0..movers).map(|name| Mover { name, moved: Vec::new(), in_flight: false }).collect(),
            gone: BTreeSet::new(),
        }
    }
}

impl Mover {
    fn target(&self) -> String {
        format!("queue:moved:{}", self.name)
    }
}

fn parse(text: &str) -> Element {
    let (name, number) = text.split_once(':').expect("an element");
    (name.parse().expect("a name"), number.parse().expect("a number"))
}

fn elements(connection: &mut Link, key: &str) -> Vec<Element> {
    let texts: Vec<String> = redis::Commands::lrange(connection, key, 0, -1).expect("a list");
    texts.iter().map(|text| parse(text)).collect()
}

impl Client for Producer {
    fn step(&mut self, session: &mut Session) -> RedisResult<()> {
        self.in_flight = true;
        let element = format!("{}:{}", self.name, self.next);
        redis::cmd("RPUSH").arg(QUEUE).arg(element).exec(&mut session.connection)?;
        self.next += 1;
        self.in_flight = false;
        Ok(())
    }
}

impl Client for Popper {
    fn step(&mut self, session: &mut Session) -> RedisResult<()> {
        self.in_flight = true;
        let mut command = redis::cmd("BLPOP");
        let popped: Option<(String, String)> = command.arg(QUEUE).arg(BLOCK).query(&mut session.connection)?;
        self.popped.extend(popped.map(|(_, element)| parse(&element)));
        self.in_flight = false;
        Ok(())
    }
}

impl Client for Mover {
    fn step(&mut self, session: &mut Session) -> RedisResult<()> {
        self.in_flight = true;
        let mut command = redis::cmd("BLMOVE");
        command.arg(QUEUE).arg(self.target()).arg(Direction::Left).arg(Direction::Right).arg(BLOCK);
        let moved: Option<String> = command.query(&mut session.connection)?;
        self.moved.extend(moved.map(|element| parse(&element)));
        self.in_flight = false;
        Ok(())
    }
}

impl Group for Queues {
    fn name(&self) -> &'static str {
        "queues"
    }

    fn database(&self) -> i64 {
        1
    }

    fn clients(&mut self) -> Vec<&mut dyn Client> {
        let producers = self.producers.iter_mut().map(|client| client as &mut dyn Client);
        let poppers = self.poppers.iter_mut().map(|client| client as &mut dyn Client);
        let movers = self.movers.iter_mut().map(|client| client as &mut dyn Client);
        producers.chain(poppers).chain(movers).collect()
    }

    fn verify(&mut self, connection: &mut Link) {
        let waiting = elements(connection, QUEUE);
        let mut taken = BTreeSet::new();
        for mover in &mut self.movers {
            let target = mover.target();
            let found = elements(connection, &target);
            let extra = found.len().checked_sub(mover.moved.len());
            let plausible = extra.is_some_and(|extra| extra <= usize::from(mover.in_flight));
            let known = mover.moved.len().min(found.len());
            assert!(plausible && found[..known] == mover.moved[..known], "{target} lost or gained elements");
            mover.moved = found;
            mover.in_flight = false;
            take_all(&mut taken, &mover.moved);
        }
        for popper in &self.poppers {
            take_all(&mut taken, &popper.popped);
        }

        let mut seen = taken.clone();
        take_all(&mut seen, &waiting);
        let mut missing = 0;
        for producer in &mut self.producers {
            let acknowledged = producer.next;
            if producer.in_flight {
                producer.next += 1;
                producer.in_flight = false;
            }
            let produced: BTreeSet<Element> = (0..producer.next).map(|number| (producer.name, number)).collect();
            let mine: BTreeSet<Element> = seen.iter().copied().filter(|(name, _)| *name == producer.name).collect();
            assert!(mine.is_subset(&produced), "elements that nobody pushed");
            let first_waiting = waiting.iter().find(|(name, _)| *name == producer.name);
            for element in produced.difference(&mine).filter(|element| !self.gone.contains(element)) {
                let in_order = first_waiting.is_none_or(|first| element < first);
                assert!(in_order || element.1 == acknowledged, "{element:?} vanished from the middle of the queue");
                missing += usize::from(element.1 < acknowledged);
            }
            self.gone.extend(produced.difference(&mine));
            let mine: Vec<_> = waiting.iter().filter(|(name, _)| *name == producer.name).collect();
            assert!(mine.is_sorted(), "the queue is out of order: {mine:?}");
            let overtaken =
                taken.iter().find(|taken| mine.iter().any(|waiting| waiting < taken && waiting.0 == taken.0));
            assert!(overtaken.is_none(), "{overtaken:?} was taken before its predecessor");
        }
        let returned: Vec<_> = seen.intersection(&self.gone).collect();
        assert!(returned.is_empty(), "elements came back: {returned:?}");
        let in_flight = self.poppers.iter().filter(|popper| popper.in_flight).count();
        assert!(missing <= in_flight, "{missing} elements are lost, only {in_flight} pops were in flight");
        self.poppers.iter_mut().for_each(|popper| popper.in_flight = false);
    }
}

/// Adds elements to those that have been seen; none may be in two places.
fn take_all(seen: &mut BTreeSet<Element>, elements: &[Element]) {
    for element in elements {
        assert!(seen.insert(*element), "{element:?} is in two places");
    }
}
