//! Clients that read and write keys some of which are asked for far more often than others, as most caches see it.
//!
//! valkey-benchmark draws all keys alike. A process of its own, so that it takes processor time as valkey-benchmark
//! does.

use super::cells::Load;
use crate::harness::Random;
use crate::harness::resp::{decode, encode};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// The word that makes this program the clients.
const WORD: &str = "--zipf";
/// Of a hundred commands this many are reads.
const READS_PERCENT: u64 = 90;
/// How long the server may be silent.
const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };
/// How uneven keys are: the nth is asked for 1 / n^0.99 times as often as the first, as in YCSB.
const EXPONENT: f64 = 0.99;

/// The process of these clients.
pub fn command(load: &Load, socket: &Path, seconds: u32) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    let numbers = [load.clients, load.keys, load.value_bytes, seconds].map(|number| number.to_string());
    command.arg(WORD).arg(socket).args(numbers);
    command
}

/// Runs the clients, and reports as the scripts of `clients/` do, if the arguments ask for that.
pub fn run_if_asked() -> bool {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some(at) = words.iter().position(|word| word == WORD) else { return false };
    let number = |index: usize| words[at + index].parse::<u32>().expect("a whole number");
    run(Path::new(&words[at + 1]), number(2), number(3), number(4), Duration::from_secs(number(5).into()));
    true
}

fn run(socket: &Path, clients: u32, keys: u32, value_bytes: u32, length: Duration) {
    let mut random = Random::new(1);
    let ranks = shares(keys);
    let value = vec![b'v'; value_bytes as usize];
    let mut next = || {
        let drawn = random.below(1 << 53) as f64 / (1_u64 << 53) as f64;
        let key = format!("key:{:012}", ranks.partition_point(|share| *share < drawn)).into_bytes();
        let is_read = random.chance(READS_PERCENT);
        if is_read { encode(&[b"GET".to_vec(), key]) } else { encode(&[b"SET".to_vec(), key, value.clone()]) }
    };
    let began = Instant::now();
    let open = |_| UnixStream::connect(socket).expect("the server takes a connection");
    let streams: Vec<UnixStream> = (0..clients).map(open).collect();
    // When each has sent its command, and what it has received since.
    let mut waiting: Vec<(Instant, Vec<u8>)> = Vec::new();
    for mut stream in &streams {
        stream.write_all(&next()).expect("the server takes a command");
        waiting.push((Instant::now(), Vec::new()));
    }
    let mut polled: Vec<PollFd> = streams.iter().map(|stream| PollFd::new(stream, PollFlags::IN)).collect();
    let mut latencies_us: Vec<u32> = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    while began.elapsed() < length {
        let ready = poll(&mut polled, Some(&PATIENCE)).expect("the connections can be polled");
        assert!(ready > 0, "the server answers nobody");
        let found = streams.iter().zip(&mut waiting).zip(&polled).filter(|(_, polled)| !polled.revents().is_empty());
        for ((mut stream, (sent, received)), _) in found {
            let count = stream.read(&mut buffer).expect("the server sends");
            assert!(count > 0, "the server has closed a connection");
            received.extend_from_slice(&buffer[..count]);
            if decode(received).is_some() {
                latencies_us.push(sent.elapsed().as_micros() as u32);
                received.clear();
                *sent = Instant::now();
                stream.write_all(&next()).expect("the server takes a command");
            }
        }
    }
    let per_second = latencies_us.len() as f64 / began.elapsed().as_secs_f64();
    latencies_us.sort_unstable();
    let at_ms = |share: f64| {
        let index = (latencies_us.len() as f64 * share) as usize;
        f64::from(latencies_us[index.min(latencies_us.len() - 1)]) / 1000.0
    };
    println!(
        "{{\"per_second\":{per_second},\"p50_ms\":{},\"p99_ms\":{},\"p99_9_ms\":{}}}",
        at_ms(0.5),
        at_ms(0.99),
        at_ms(0.999)
    );
}

/// The shares of the keys up to each.
fn shares(keys: u32) -> Vec<f64> {
    let mut sum = 0.0;
    let sums: Vec<f64> = (1..=keys)
        .map(|rank| {
            sum += f64::from(rank).powf(-EXPONENT);
            sum
        })
        .collect();
    sums.iter().map(|until| until / sum).collect()
}
