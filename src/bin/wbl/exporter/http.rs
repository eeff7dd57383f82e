//! As much of HTTP as a scrape needs: one request on a connection, without a body.

use super::server::left;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// No request is longer.
const REQUEST_BYTES: usize = 8192;
const TEXT: &str = "text/plain; charset=utf-8";
/// The text format of Prometheus.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const START: &str = "<!DOCTYPE html><title>wbl exporter</title><p><a href=\"/metrics\">Metrics</a></p>\n";

/// What is sent.
struct Answer {
    status: &'static str,
    kind: &'static str,
    body: String,
}

/// Reads a request and answers it. The client has so much time for each of the two.
pub fn answer(mut client: TcpStream, time: Duration, metrics: impl FnOnce() -> String) -> io::Result<()> {
    let request = read(&mut client, Instant::now() + time)?;
    let mut words = request.split_ascii_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let answer = answer_to(method, path.split('?').next().unwrap_or_default(), metrics);
    let head = format!(
        "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        answer.status,
        answer.kind,
        answer.body.len()
    );
    let body = if method == "HEAD" { "" } else { &answer.body };
    write(&mut client, Instant::now() + time, (head + body).as_bytes())
}

fn answer_to(method: &str, path: &str, metrics: impl FnOnce() -> String) -> Answer {
    let of = |status, kind, body: &str| Answer { status, kind, body: body.into() };
    match (method, path) {
        ("GET" | "HEAD", "/metrics") => Answer { status: "200 OK", kind: METRICS, body: metrics() },
        ("GET" | "HEAD", "/") => of("200 OK", "text/html; charset=utf-8", START),
        ("GET" | "HEAD", path) if path.starts_with('/') => of("404 Not Found", TEXT, "metrics are at /metrics\n"),
        (_, path) if path.starts_with('/') => of("405 Method Not Allowed", TEXT, "only GET is served\n"),
        _ => of("400 Bad Request", TEXT, "no request of HTTP\n"),
    }
}

/// The first line of a request, once all of its head is there.
fn read(client: &mut TcpStream, deadline: Instant) -> io::Result<String> {
    let (mut head, mut piece) = (Vec::new(), [0; 1024]);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        client.set_read_timeout(Some(left(deadline)?))?;
        let count = client.read(&mut piece)?;
        if count == 0 || head.len() + count > REQUEST_BYTES {
            return Ok(String::new());
        }
        head.extend_from_slice(piece.get(..count).unwrap_or_default());
    }
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    Ok(String::from_utf8_lossy(line).into_owned())
}

fn write(client: &mut TcpStream, deadline: Instant, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        client.set_write_timeout(Some(left(deadline)?))?;
        match client.write(bytes)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => bytes = bytes.get(count..).unwrap_or_default(),
        }
    }
    Ok(())
}
