//! A client that asks the module for the durable position all the time, and for a checkpoint now and then.

use super::super::Random;
use super::{Client, Group, Link, Session};
use redis::RedisResult;

/// One in so many operations is a checkpoint.
const CHECKPOINT_ONE_IN: u64 = 100;

pub struct Maintenance {
    rng: Random,
    durable: u64,
}

impl Maintenance {
    pub fn new(rng: &mut Random) -> Maintenance {
        Maintenance { rng: rng.fork(), durable: 0 }
    }

    fn wait(&mut self, connection: &mut Link) -> RedisResult<()> {
        let durable: u64 = redis::cmd("WBL.WAIT").query(connection)?;
        assert!(durable >= self.durable, "the durable position went from {} back to {durable}", self.durable);
        self.durable = durable;
        Ok(())
    }
}

impl Client for Maintenance {
    fn step(&mut self, session: &mut Session) -> RedisResult<()> {
        if self.rng.one_in(CHECKPOINT_ONE_IN) {
            return redis::cmd("WBL.CHECKPOINT").exec(&mut session.connection);
        }
        self.wait(&mut session.connection)
    }
}

impl Group for Maintenance {
    fn name(&self) -> &'static str {
        "maintenance"
    }

    fn database(&self) -> i64 {
        0
    }

    fn clients(&mut self) -> Vec<&mut dyn Client> {
        vec![self]
    }

    fn verify(&mut self, connection: &mut Link) {
        self.wait(connection).expect("the durable position");
    }
}
