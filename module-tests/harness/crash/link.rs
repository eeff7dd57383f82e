//! Connections whose commands have the server's names, and are sent again when the conditions have them refused.

use crate::harness::conditions::Conditions;
use crate::harness::resp::{self, decode, encode};
use crate::harness::server::connect;
use crate::harness::{Names, RawConnection, Server};
use redis::{Cmd, Connection, ConnectionLike, RedisResult, Value};
use std::path::PathBuf;

/// What connections of a test have in common.
#[derive(Clone)]
pub struct Opener {
    socket: PathBuf,
    names: Names,
    pub conditions: Conditions,
}

impl Opener {
    pub fn new(server: &Server, conditions: Conditions) -> Opener {
        Opener { socket: server.socket(), names: server.builder.names(), conditions }
    }

    /// A connection to a database.
    pub fn link(&self, database: i64) -> RedisResult<Link> {
        // The crate itself would select the database by the command's own name.
        let mut link = Link { connection: connect(&self.socket)?, opener: self.clone() };
        redis::cmd("SELECT").arg(database).exec(&mut link)?;
        Ok(link)
    }

    /// A connection to database 0 on which replies can be counted one by one.
    pub fn raw(&self) -> std::io::Result<RawConnection> {
        Ok(RawConnection::open(&self.socket)?.with_names(self.names.clone()))
    }
}

pub struct Link {
    connection: Connection,
    opener: Opener,
}

impl Link {
    /// Runs a command, or has it refused: the reply is an error then.
    pub fn once(&mut self, command: &Cmd) -> RedisResult<Value> {
        Ok(self.exchange(&command.get_packed_command(), 1)?.remove(0))
    }

    /// The script with the server's names in its calls.
    pub fn script(&self, script: &str) -> String {
        self.opener.names.script(script)
    }

    /// Whether the server has the command by its own name.
    pub fn has(&self, command: &str) -> bool {
        self.opener.names.of(command.as_bytes()) == command.as_bytes()
    }

    pub fn conditions(&self) -> Conditions {
        self.opener.conditions
    }

    /// Sends a command or a transaction until it is not refused. Of a transaction the last reply tells.
    fn insist(&mut self, commands: &[u8], count: usize) -> RedisResult<Vec<Value>> {
        loop {
            let replies = self.exchange(commands, count)?;
            match replies.last() {
                Some(Value::ServerError(error)) if self.opener.conditions.explain(error.code()) => {
                    std::thread::yield_now();
                }
                Some(Value::ServerError(error)) => return Err(error.clone().into()),
                _ => return Ok(replies),
            }
        }
    }

    fn exchange(&mut self, commands: &[u8], count: usize) -> RedisResult<Vec<Value>> {
        let named = self.named(commands);
        self.connection.send_packed_command(&named)?;
        (0..count).map(|_| self.connection.recv_response()).collect()
    }

    /// The same commands by the server's names.
    fn named(&self, mut commands: &[u8]) -> Vec<u8> {
        let mut named = Vec::new();
        while let Some((command, length)) = decode(commands) {
            let words = command.items().iter().map(|word| match word {
                resp::Value::Bulk(word) => word.as_slice(),
                other => panic!("a word of a command is {other:?}"),
            });
            named.extend(encode(&self.opener.names.words(&words.collect::<Vec<_>>())));
            commands = &commands[length..];
            if commands.is_empty() {
                break;
            }
        }
        assert!(commands.is_empty(), "no command: {}", commands.escape_ascii());
        named
    }
}

impl ConnectionLike for Link {
    fn req_packed_command(&mut self, command: &[u8]) -> RedisResult<Value> {
        Ok(self.insist(command, 1)?.remove(0))
    }

    fn req_packed_commands(&mut self, commands: &[u8], offset: usize, count: usize) -> RedisResult<Vec<Value>> {
        assert!(commands.starts_with(b"*1\r\n$5\r\nMULTI\r\n"), "of other pipelines parts may be refused");
        Ok(self.insist(commands, offset + count)?.split_off(offset))
    }

    fn get_db(&self) -> i64 {
        self.connection.get_db()
    }

    fn check_connection(&mut self) -> bool {
        self.connection.check_connection()
    }

    fn is_open(&self) -> bool {
        self.connection.is_open()
    }
}
