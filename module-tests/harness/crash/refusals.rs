//! Clients whose commands are refused: the keys of the other groups show that nothing comes of them.

use super::super::{Random, RawConnection};
use super::{Client, Group, Link, Session};
use crate::harness::conditions::FEW_RIGHTS;
use redis::RedisResult;
use std::thread;
use std::time::Duration;

/// Keys of other groups, in database 0.
const KEYS: &[&str] = &["lists:shared", "lists:0", "script:0:list", "pipeline:0:3", "stream"];
/// What would change them.
const CHANGES: &[&str] = &["RPUSH KEY refused", "SET KEY refused", "DEL KEY", "XADD KEY * number refused"];

/// The longest time without enough memory, in microseconds.
const LONGEST_US: u64 = 4000;

pub struct Refusals {
    client: Stranger,
}

struct Stranger {
    rng: Random,
    refused: u64,
}

impl Refusals {
    pub fn new(rng: &mut Random) -> Refusals {
        Refusals { client: Stranger { rng: rng.fork(), refused: 0 } }
    }
}

impl Stranger {
    /// A command that would change a key of another group.
    fn change(&mut self) -> String {
        let mut one_of = |texts: &[&'static str]| texts[self.rng.below(texts.len() as u64) as usize];
        let (change, key) = (one_of(CHANGES), one_of(KEYS));
        change.replace("KEY", key)
    }

    fn must_be_refused(&mut self, connection: &mut RawConnection, command: &str) -> RedisResult<()> {
        connection.try_send(&command.split(' ').collect::<Vec<_>>())?;
        let reply = connection.try_reply()?;
        assert!(reply.is_error(), "{command} was not refused but gave {reply:?}");
        self.refused += 1;
        Ok(())
    }

    /// With a command that there is not, or with too few arguments, at the end of a transaction.
    fn abort(&mut self, session: &mut Session) -> RedisResult<()> {
        let mut connection = session.opener.raw()?;
        let change = self.change();
        for command in ["MULTI", &change] {
            connection.try_send(&command.split(' ').collect::<Vec<_>>())?;
            connection.try_reply()?;
        }
        let wrong = if self.rng.one_in(2) { "NOSUCH" } else { "RPUSH lists:shared" };
        self.must_be_refused(&mut connection, wrong)?;
        self.must_be_refused(&mut connection, "EXEC")
    }

    fn try_as(&mut self, mut connection: RawConnection) -> RedisResult<()> {
        for _ in 0..3 {
            let change = self.change();
            self.must_be_refused(&mut connection, &change)?;
        }
        self.must_be_refused(&mut connection, "EVAL return(redis.call('RPUSH',KEYS[1],'refused')) 1 lists:shared")
    }

    fn try_with_few_rights(&mut self, session: &mut Session) -> RedisResult<()> {
        let mut rights = redis::Cmd::new();
        for word in FEW_RIGHTS.split(' ').chain(["-wbl.call", "~other"]) {
            rights.arg(word);
        }
        rights.exec(&mut session.connection)?;
        let mut connection = session.opener.raw()?;
        loop {
            connection.try_send(&["AUTH", "few", "x"])?;
            if !connection.try_reply()?.is_error() {
                return self.try_as(connection);
            }
        }
    }

    fn try_without_password(&mut self, session: &mut Session) -> RedisResult<()> {
        let set = |link: &mut Link, word: &str| redis::cmd("CONFIG").arg("SET").arg("requirepass").arg(word).exec(link);
        set(&mut session.connection, "secret")?;
        self.try_as(session.opener.raw()?)?;
        set(&mut session.connection, "")
    }

    /// Has everything refused that may need memory.
    fn starve(&mut self, session: &mut Session) -> RedisResult<()> {
        let link = &mut session.connection;
        let mut command = redis::cmd("CONFIG");
        command.arg("SET").arg("maxmemory-policy").arg("noeviction").arg("maxmemory").arg(1).exec(link)?;
        // Time must pass: the other clients are to meet this.
        thread::sleep(Duration::from_micros(self.rng.below(LONGEST_US)));
        if !session.opener.conditions.evicts {
            // Otherwise others set the limit, too.
            self.must_be_refused(&mut session.raw, "RPUSH lists:shared refused")?;
        }
        let link = &mut session.connection;
        redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(0).exec(link)
    }
}

impl Client for Stranger {
    fn step(&mut self, session: &mut Session) -> RedisResult<()> {
        match self.rng.below(8) {
            0 => self.starve(session),
            1 => self.try_without_password(session),
            2 | 3 => self.try_with_few_rights(session),
            4 | 5 => self.abort(session),
            6 => self.must_be_refused(&mut session.raw, "RPUSH lists:shared"),
            _ => self.must_be_refused(&mut session.raw, "NOSUCH lists:shared refused"),
        }
    }
}

impl Group for Refusals {
    fn name(&self) -> &'static str {
        "refusals"
    }

    fn database(&self) -> i64 {
        0
    }

    fn clients(&mut self) -> Vec<&mut dyn Client> {
        vec![&mut self.client]
    }

    fn verify(&mut self, _link: &mut Link) {
        println!("{} commands were refused", self.client.refused);
    }

    fn assert_seen(&self) {
        assert!(self.client.refused > 0, "nothing was refused");
    }
}
