//! A client that sees every byte that the server sends, and when.

use super::resp::{Value, decode, encode};
use super::{Names, PATIENCE};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a silent connection is watched after the server has shown that it is past the command.
const GRACE: Duration = Duration::from_millis(5);

/// How a finding begins when the server did not answer at all.
pub const HUNG: &str = "the server answers nobody";

pub struct RawConnection {
    stream: UnixStream,
    /// What has arrived and is not part of a reply that was taken.
    buffer: Vec<u8>,
    last: Vec<u8>,
    patience: Duration,
    names: Names,
}

impl RawConnection {
    pub fn open(socket: &Path) -> std::io::Result<RawConnection> {
        let stream = UnixStream::connect(socket)?;
        stream.set_nonblocking(true)?;
        Ok(RawConnection { stream, buffer: Vec::new(), last: Vec::new(), patience: PATIENCE, names: Names::default() })
    }

    /// Another one, which sends commands by the same names.
    pub fn reopen(&self, socket: &Path) -> std::io::Result<RawConnection> {
        Ok(RawConnection::open(socket)?.with_names(self.names.clone()))
    }

    /// Waits no longer than this for a reply.
    pub fn with_patience(mut self, patience: Duration) -> RawConnection {
        self.patience = patience;
        self
    }

    /// Sends commands by these names instead of their own.
    pub fn with_names(mut self, names: Names) -> RawConnection {
        self.names = names;
        self
    }

    /// Sends a command and does not wait.
    pub fn send<A: AsRef<[u8]>>(&mut self, words: &[A]) {
        self.try_send(words).expect("the server takes the command");
    }

    /// The same; fails when the connection is closed.
    pub fn try_send<A: AsRef<[u8]>>(&mut self, words: &[A]) -> std::io::Result<()> {
        let bytes = self.encoded(words);
        self.send_bytes(&bytes)
    }

    /// Sends commands in one packet and does not wait.
    pub fn send_at_once(&mut self, commands: &[&[&str]]) {
        let packet: Vec<u8> = commands.iter().flat_map(|command| self.encoded(command)).collect();
        self.send_bytes(&packet).expect("the server takes the commands");
    }

    /// The command's bytes.
    pub fn encoded<A: AsRef<[u8]>>(&self, words: &[A]) -> Vec<u8> {
        encode(&self.names.words(words))
    }

    /// What the server calls this command.
    pub fn name_of<'a>(&'a self, own: &'a [u8]) -> &'a [u8] {
        self.names.of(own)
    }

    /// The same for a command in one text, its words parted by spaces.
    pub fn send_text(&mut self, command: &str) {
        let words: Vec<&str> = command.split(' ').collect();
        self.send(&words);
    }

    pub fn send_bytes(&mut self, mut bytes: &[u8]) -> std::io::Result<()> {
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.receive()?;
                    std::thread::yield_now();
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends nothing any more.
    pub fn half_close(&mut self) {
        self.stream.shutdown(std::net::Shutdown::Write).expect("an open connection");
    }

    /// The next reply, or why there is none: the connection is closed.
    pub fn try_reply(&mut self) -> std::io::Result<Value> {
        loop {
            if let Some(value) = self.take_reply() {
                return Ok(value);
            }
            self.stream.set_nonblocking(false)?;
            self.stream.set_read_timeout(Some(self.patience))?;
            let received = self.receive_some();
            self.stream.set_nonblocking(true)?;
            received?;
        }
    }

    pub fn reply(&mut self) -> Value {
        self.try_reply().expect("a reply")
    }

    /// Sends a command and waits for its reply.
    pub fn call<A: AsRef<[u8]>>(&mut self, words: &[A]) -> Value {
        self.send(words);
        self.reply()
    }

    /// The same for a command in one text, its words parted by spaces. An error fails the test.
    pub fn run(&mut self, command: &str) -> Value {
        let words: Vec<&str> = command.split(' ').collect();
        let value = self.call(&words);
        assert!(!value.is_error(), "{command}: {value:?}");
        value
    }

    /// The reply that has already arrived, if a whole one has.
    pub fn ready_reply(&mut self) -> Option<Value> {
        // A close shows itself to the caller that waits for more.
        let received = self.receive();
        let reply = self.take_reply();
        if reply.is_none() {
            received.expect("the connection is open");
        }
        reply
    }

    /// Fails when a byte has arrived, or arrives while another client is served.
    pub fn assert_silent(&mut self, witness: &mut RawConnection, what: &str) {
        if let Err(bytes) = self.silent(witness) {
            panic!("{what}: {bytes}");
        }
    }

    /// What arrives within this time, with what arrived before.
    pub fn drain(&mut self, time: Duration) -> Vec<u8> {
        let start = Instant::now();
        while start.elapsed() < time {
            self.receive().expect("the connection is open");
            std::thread::sleep(GRACE / 5);
        }
        std::mem::take(&mut self.buffer)
    }

    /// What has arrived by now. It stays there.
    pub fn arrived(&mut self) -> &[u8] {
        self.receive().expect("the connection is open");
        &self.buffer
    }

    /// Fails when a byte arrives within this time.
    pub fn assert_nothing(&mut self, time: Duration, what: &str) {
        let start = Instant::now();
        while start.elapsed() < time {
            let received = self.receive();
            assert!(self.buffer.is_empty(), "{what}: bytes arrived: {}", self.buffer.escape_ascii());
            received.unwrap_or_else(|error| panic!("{what}: the connection is gone: {error}"));
            std::thread::sleep(GRACE / 5);
        }
    }

    /// Says which bytes have arrived, or arrive while another client is served.
    ///
    /// The two round trips of `witness` show that the server has been through its event loop, which sends all
    /// pending replies, since it read what this connection sent.
    pub fn silent(&mut self, witness: &mut RawConnection) -> Result<(), String> {
        for _ in 0..2 {
            // A server that is busy says so, which is a round trip, too.
            witness.send(&["PING"]);
            witness.try_reply().map_err(|error| format!("{HUNG}: {error}"))?;
        }
        let start = Instant::now();
        loop {
            let last = start.elapsed() >= GRACE;
            self.received_nothing()?;
            if last {
                return Ok(());
            }
            std::thread::sleep(GRACE / 5);
        }
    }

    /// Says which bytes have arrived.
    pub fn received_nothing(&mut self) -> Result<(), String> {
        let received = self.receive();
        if !self.buffer.is_empty() {
            return Err(format!("bytes arrived: {}", self.buffer.escape_ascii()));
        }
        received.map_err(|error| format!("the connection is gone: {error}"))
    }

    /// The bytes of the reply that was taken last.
    pub fn last_bytes(&self) -> &[u8] {
        &self.last
    }

    fn take_reply(&mut self) -> Option<Value> {
        if self.buffer.is_empty() {
            return None;
        }
        let (value, length) = decode(&self.buffer)?;
        self.last = self.buffer.drain(..length).collect();
        Some(value)
    }

    /// Takes over what has arrived; an error says that no more will.
    fn receive(&mut self) -> std::io::Result<()> {
        loop {
            match self.receive_some() {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn receive_some(&mut self) -> std::io::Result<()> {
        let mut bytes = [0; 16384];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    self.buffer.extend_from_slice(&bytes[..count]);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
