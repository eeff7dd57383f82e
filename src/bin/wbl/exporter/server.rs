//! Asks a server for INFO, within a time.

use super::Arguments;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use valkey_wbl::log::resp::push_command;

/// No answer to INFO is longer.
const ANSWER_BYTES: usize = 1 << 20;
/// The section of the module, after those that say which server it is.
const QUESTION: [&str; 4] = ["INFO", "server", "replication", "wbl"];

/// Where the server is, and who asks it.
pub struct Target {
    place: Place,
    user: Option<String>,
    password_file: Option<PathBuf>,
    timeout: Duration,
}

enum Place {
    Port(String, u16),
    Socket(PathBuf),
}

/// A connection, of either kind.
trait Wire: Read + Write {
    fn set_timeouts(&self, time: Option<Duration>) -> io::Result<()>;
}

impl Wire for TcpStream {
    fn set_timeouts(&self, time: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(time)?;
        self.set_write_timeout(time)
    }
}

impl Wire for UnixStream {
    fn set_timeouts(&self, time: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(time)?;
        self.set_write_timeout(time)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Port(host, port) => write!(formatter, "{host}:{port}"),
            Place::Socket(path) => path.display().fmt(formatter),
        }
    }
}

impl Target {
    pub fn new(arguments: &Arguments) -> Target {
        let place = match &arguments.unix_socket {
            Some(path) => Place::Socket(path.clone()),
            None => Place::Port(arguments.host.clone(), arguments.port),
        };
        Target {
            place,
            user: arguments.user.clone(),
            password_file: arguments.password_file.clone(),
            timeout: Duration::from_secs_f64(arguments.timeout),
        }
    }

    /// The text of INFO; else why there is none.
    pub fn info(&self) -> Result<String, String> {
        let deadline = Instant::now() + self.timeout;
        let password = self.password()?;
        let mut wire = self.connect(deadline).map_err(|error| format!("cannot connect: {error}"))?;
        if let Some(password) = password {
            let words = ["AUTH", self.user.as_deref().unwrap_or("default"), &password];
            ask(&mut *wire, deadline, &words).map_err(|error| format!("AUTH: {error}"))?;
        }
        let text = ask(&mut *wire, deadline, &QUESTION).map_err(|error| format!("INFO: {error}"))?;
        if text.contains("\nwbl_state:") {
            Ok(text)
        } else {
            Err("INFO has no section wbl: is the module loaded?".into())
        }
    }

    fn password(&self) -> Result<Option<String>, String> {
        let Some(path) = &self.password_file else { return Ok(std::env::var("VALKEYCLI_AUTH").ok()) };
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Some(text.trim_end_matches(['\r', '\n']).to_string()))
    }

    fn connect(&self, deadline: Instant) -> io::Result<Box<dyn Wire>> {
        let (host, port) = match &self.place {
            Place::Port(host, port) => (host.as_str(), *port),
            Place::Socket(path) => return Ok(Box::new(connect_unix(path)?)),
        };
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in (host, port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, left(deadline)?) {
                Ok(stream) => return Ok(Box::new(stream)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// Does not wait for a server whose queue is full because it accepts no connections.
fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// The time that is left; an error where there is none.
pub fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(timed_out()) } else { Ok(left) }
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
}

fn invalid(why: impl Into<String>) -> io::Error {
    io::Error::other(why.into())
}

/// Sends a command and returns the text of its answer.
fn ask(wire: &mut dyn Wire, deadline: Instant, words: &[&str]) -> io::Result<String> {
    let args: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    let mut command = Vec::new();
    push_command(&mut command, &args);
    wire.set_timeouts(Some(left(deadline)?))?;
    wire.write_all(&command).map_err(in_time)?;
    let mut answer = Answer { wire, deadline, bytes: Vec::new() };
    let line = answer.line()?;
    match line.split_at_checked(1) {
        Some(("+", text)) => Ok(text.to_string()),
        Some(("$", length)) => {
            let length = length.parse().ok().filter(|length| *length <= ANSWER_BYTES);
            answer.text(length.ok_or_else(|| invalid("an answer without a length that makes sense"))?)
        }
        Some(("-", error)) => Err(invalid(error)),
        _ => Err(invalid("this is no server of the protocol RESP")),
    }
}

/// Time-outs of sockets have names that mean nothing to anybody.
fn in_time(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => timed_out(),
        _ => error,
    }
}

/// What has arrived of an answer and was not taken yet.
struct Answer<'w> {
    wire: &'w mut dyn Wire,
    deadline: Instant,
    bytes: Vec<u8>,
}

impl Answer<'_> {
    fn read_more(&mut self) -> io::Result<()> {
        let mut piece = [0; 8192];
        self.wire.set_timeouts(Some(left(self.deadline)?))?;
        match self.wire.read(&mut piece).map_err(in_time)? {
            0 => Err(invalid("the server has closed the connection")),
            count => {
                self.bytes.extend_from_slice(piece.get(..count).unwrap_or_default());
                Ok(())
            }
        }
    }

    /// The next line, without its end.
    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.bytes.windows(2).position(|end| end == b"\r\n") {
                let line: Vec<u8> = self.bytes.drain(..end + 2).take(end).collect();
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            if self.bytes.len() > ANSWER_BYTES {
                return Err(invalid("an answer without an end"));
            }
            self.read_more()?;
        }
    }

    /// This many bytes, followed by a line's end.
    fn text(&mut self, length: usize) -> io::Result<String> {
        while self.bytes.len() < length + 2 {
            self.read_more()?;
        }
        let text: Vec<u8> = self.bytes.drain(..length + 2).take(length).collect();
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}
