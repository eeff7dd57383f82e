//! A clean reader beside writers, while one flush hangs.

use super::cells::{CELLS, System};
use super::load::Subject;
use super::picture::{Line, Picture};
use crate::harness::Version;
use std::time::{Duration, Instant};

/// When a read began, seconds since the start, and how long it took, milliseconds.
pub type Seen = Vec<(f64, f64)>;

const HANG: Duration = Duration::from_secs(2);
const LENGTH_S: u32 = 5;
const PERIOD: Duration = Duration::from_millis(5);

/// Reads a key that nobody writes once in a while, beside 8 clients that write others.
pub fn run(version: Version) -> Vec<(System, Seen)> {
    let writers =
        CELLS.iter().find(|cell| cell.loads[0].title == "SET, 8 clients").expect("the writers' cell").loads[0];
    let on = |system: System| {
        eprintln!("scripts/bench: a flush that hangs, {}", system.title());
        let subject = Subject::start_with_hang(version, system, HANG);
        let mut reader = subject.connect();
        reader.run("SET read value");
        let mut load = subject.spawn(&writers, LENGTH_S);
        let began = Instant::now();
        let mut seen = Seen::new();
        while began.elapsed() < Duration::from_secs(LENGTH_S.into()) {
            let asked = Instant::now();
            reader.run("GET read");
            seen.push(((asked - began).as_secs_f64(), asked.elapsed().as_secs_f64() * 1000.0));
            std::thread::sleep(PERIOD.saturating_sub(asked.elapsed()));
        }
        load.wait().expect("valkey-benchmark ends");
        subject.stop();
        (system, seen)
    };
    vec![on(System::Always), on(System::Module)]
}

/// The latencies over time.
pub fn picture(seen: &[(System, Seen)]) -> Picture {
    let line = |(system, points): &(System, Seen)| Line {
        title: format!("GET, {}", system.title()),
        is_module: *system == System::Module,
        is_dashed: false,
        points: points.clone(),
    };
    Picture {
        title: "GET of a clean key beside 8 writers, while one flush takes 2 s".into(),
        x: "seconds".into(),
        y: "latency, milliseconds".into(),
        is_x_log: false,
        lines: seen.iter().map(line).collect(),
    }
}
