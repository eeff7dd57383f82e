//! The writer thread on a simulated disk: group commit, pauses, failures, panics.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::{Arc, Mutex};
use std::time::Duration;
use valkey_wbl::log::resp::push_command;
use valkey_wbl::log::sim::{Effect, Random, SimDisk};
use valkey_wbl::log::{Flusher, LogError, Lsn, Options, Storage, StorageFile, open};

const UNIX_MS: u64 = 1_700_000_000_000;
const SHORT: Option<Duration> = Some(Duration::from_millis(30));
const LONG: Option<Duration> = Some(Duration::from_secs(20));

/// What the callbacks got.
#[derive(Clone, Default)]
struct Seen {
    durable: Arc<Mutex<Vec<Lsn>>>,
    errors: Arc<Mutex<Vec<String>>>,
}

impl Seen {
    fn durable(&self) -> Vec<Lsn> {
        self.durable.lock().unwrap().clone()
    }

    fn errors(&self) -> Vec<String> {
        self.errors.lock().unwrap().clone()
    }
}

fn start(disk: &SimDisk) -> (Flusher, Seen) {
    let writer = open(disk.clone(), &Options::default()).unwrap().into_writer(UNIX_MS).unwrap();
    let seen = Seen::default();
    let (durable, errors) = (seen.durable.clone(), seen.errors.clone());
    let on_durable = Box::new(move |lsn: Lsn| {
        assert_eq!(std::thread::current().name(), Some("wbl-writer"));
        let mut durable = durable.lock().unwrap();
        assert!(durable.last().is_none_or(|last| *last < lsn), "positions rise");
        durable.push(lsn);
    });
    let on_error = Box::new(move |error: &LogError| errors.lock().unwrap().push(error.to_string()));
    (Flusher::start(writer, on_durable, on_error).unwrap(), seen)
}

fn unit(number: u64) -> Vec<u8> {
    let mut unit = Vec::new();
    push_command(&mut unit, &[b"SET", b"key", number.to_string().as_bytes()]);
    unit
}

fn recovered(disk: &SimDisk) -> Vec<u8> {
    let opened = open(disk.clone(), &Options::default()).unwrap();
    let (mut frames, mut payload, mut all) = (opened.frames(), Vec::new(), Vec::new());
    while frames.next_frame(&mut payload).unwrap().is_some() {
        all.extend_from_slice(&payload);
    }
    all
}

/// Waits until the thread has handled all that was sent before.
fn settle(flusher: &Flusher) {
    let _ = flusher.temp_base_name();
}

#[test]
fn what_is_reported_durable_survives_a_crash() {
    let disk = SimDisk::new();
    let (flusher, seen) = start(&disk);
    let mut all = Vec::new();
    for number in 0..200 {
        all.extend(unit(number));
        let end = flusher.append(unit(number), UNIX_MS);
        assert_eq!(end.get(), all.len() as u64);
        if number % 7 == 0 {
            assert!(flusher.wait_durable(end, LONG).unwrap());
            let durable = flusher.durable().get() as usize;
            let found = recovered(&disk.crash_image(number));
            assert!(found.len() >= durable && found == all[..found.len()]);
        }
    }
    flusher.close().unwrap();
    assert_eq!((flusher.durable().get(), flusher.pending_bytes()), (all.len() as u64, 0));
    assert_eq!(seen.durable().last(), Some(&flusher.durable()));
    assert_eq!(recovered(&disk), all);
    assert!(seen.errors().is_empty());
}

#[test]
fn batches_that_wait_for_a_slow_disk_share_one_frame_and_one_sync() {
    let disk = SimDisk::new();
    let (flusher, seen) = start(&disk);
    // A small batch is one write and one sync.
    disk.pause_at(disk.operations() + 1);
    let first = flusher.append(unit(0), UNIX_MS);
    disk.wait_paused();
    let mut last = first;
    for number in 1..=100 {
        last = flusher.append(unit(number), UNIX_MS);
    }
    assert_eq!(flusher.durable(), Lsn::ZERO);
    assert_eq!(flusher.pending_bytes(), last.get());
    assert!(!flusher.wait_durable(first, SHORT).unwrap());
    assert!(seen.durable().is_empty());
    disk.resume();
    assert!(flusher.wait_durable(last, LONG).unwrap());
    settle(&flusher);
    assert_eq!(seen.durable(), [first, last]);
    assert_eq!((flusher.statistics().frames(), flusher.statistics().syncs()), (2, 2));
    assert!(flusher.statistics().sync_max_us() >= 30_000, "the blocked sync counts");
    assert_eq!(flusher.pending_bytes(), 0);
}

#[test]
fn a_pause_freezes_what_is_published_but_not_the_log() {
    let disk = SimDisk::new();
    let (flusher, seen) = start(&disk);
    flusher.pause();
    flusher.pause();
    let end = flusher.append(unit(1), UNIX_MS);
    settle(&flusher);
    assert_eq!((flusher.flushed(), flusher.durable()), (end, Lsn::ZERO));
    assert_eq!(recovered(&disk.crash_image(1)), unit(1));
    assert!(!flusher.wait_durable(end, SHORT).unwrap());
    assert!(seen.durable().is_empty());
    flusher.resume();
    flusher.resume();
    assert!(flusher.wait_durable(end, LONG).unwrap());
    settle(&flusher);
    assert_eq!(seen.durable(), [end]);
}

#[test]
fn a_failed_operation_is_told_once_and_nothing_is_durable_after_it() {
    for (operation, effect) in
        (0..2).flat_map(|operation| [Effect::None, Effect::Part, Effect::Full].map(|effect| (operation, effect)))
    {
        let disk = SimDisk::new();
        let (flusher, seen) = start(&disk);
        let good = flusher.append(unit(1), UNIX_MS);
        assert!(flusher.wait_durable(good, LONG).unwrap());
        disk.fail_at(disk.operations() + operation, libc::ENOSPC, effect);
        let bad = flusher.append(unit(2), UNIX_MS);
        assert!(matches!(flusher.wait_durable(bad, LONG), Err(LogError::Failed { .. })));
        let later = flusher.append(unit(3), UNIX_MS);
        assert!(flusher.wait_durable(later, LONG).is_err());
        assert!(flusher.wait_durable(good, LONG).unwrap(), "what was durable stays so");
        assert!(flusher.rotate().is_err());
        assert!(flusher.install_base("appendonly.aof.1.base.rdb.tmp", 1).recv().unwrap().is_err());
        assert_eq!((flusher.durable(), seen.durable()), (good, vec![good]));
        assert_eq!(seen.errors().len(), 1);
        assert!(flusher.error().unwrap().contains("appendonly.aof.1.incr.aof"), "{:?}", flusher.error());
        assert!(flusher.pending_bytes() > 0);
        assert!(flusher.close().is_err());
        assert!(recovered(&disk.crash_image(operation)).starts_with(&unit(1)));
    }
}

#[test]
fn a_failure_during_a_pause_publishes_nothing() {
    let disk = SimDisk::new();
    let (flusher, seen) = start(&disk);
    flusher.pause();
    let flushed = flusher.append(unit(0), UNIX_MS);
    settle(&flusher);
    assert_eq!(flusher.flushed(), flushed);
    disk.fail_at(disk.operations() + 1, libc::EIO, Effect::None);
    let end = flusher.append(unit(1), UNIX_MS);
    settle(&flusher);
    flusher.resume();
    settle(&flusher);
    assert!(flusher.wait_durable(end, LONG).is_err());
    assert!(flusher.wait_durable(flushed, SHORT).is_err());
    assert!(seen.durable().is_empty());
}

#[test]
fn a_panic_on_the_thread_is_a_failure() {
    let disk = SimDisk::new();
    let writer = open(disk, &Options::default()).unwrap().into_writer(UNIX_MS).unwrap();
    let seen = Seen::default();
    let errors = seen.errors.clone();
    let on_error = Box::new(move |error: &LogError| errors.lock().unwrap().push(error.to_string()));
    let flusher = Flusher::start(writer, Box::new(|_| panic!("broken invariant")), on_error).unwrap();
    flusher.append(unit(1), UNIX_MS);
    while flusher.error().is_none() {
        std::thread::yield_now();
    }
    let end = flusher.append(unit(2), UNIX_MS);
    assert!(matches!(flusher.wait_durable(end, LONG), Err(LogError::Failed { .. })));
    assert!(flusher.rotate().is_err());
    assert!(matches!(flusher.close(), Err(LogError::Panicked { .. })));
    assert_eq!(seen.errors(), ["the log's writer thread panicked: broken invariant"]);
}

#[test]
fn a_closed_log_answers_at_once() {
    let disk = SimDisk::new();
    let (flusher, _seen) = start(&disk);
    let good = flusher.append(unit(1), UNIX_MS);
    flusher.close().unwrap();
    flusher.close().unwrap();
    assert!(flusher.wait_durable(good, None).unwrap(), "a close makes all durable");
    let end = flusher.append(unit(2), UNIX_MS);
    assert!(matches!(flusher.wait_durable(end, None), Err(LogError::Closed)));
    assert!(matches!(flusher.rotate(), Err(LogError::Closed)));
    assert!(flusher.install_base("appendonly.aof.1.base.rdb.tmp", 1).recv().is_err());
    assert!(open(disk, &Options::default()).is_ok(), "the folder is free");
}

#[test]
fn a_base_is_installed_while_batches_go_on() {
    let disk = SimDisk::new();
    let (flusher, seen) = start(&disk);
    flusher.append(unit(1), UNIX_MS);
    let seq = flusher.rotate().unwrap();
    let name = flusher.temp_base_name().unwrap();
    flusher.append(unit(2), UNIX_MS);
    disk.create(&name).unwrap().write_all_at(0, b"base").unwrap();
    let answer = flusher.install_base(&name, seq);
    flusher.append(unit(3), UNIX_MS);
    answer.recv().unwrap().unwrap();
    assert!(flusher.install_base(&name, seq).recv().unwrap().is_err(), "the file is gone");
    assert!(seen.errors().is_empty(), "which harms only the checkpoint");
    flusher.close().unwrap();
    assert_eq!(recovered(&disk), [unit(2), unit(3)].concat());
}

#[test]
fn buffers_come_back_to_the_producer() {
    let disk = SimDisk::new();
    let (flusher, _seen) = start(&disk);
    let mut payload = Vec::with_capacity(5000);
    payload.extend(unit(1));
    let end = flusher.append(payload, UNIX_MS);
    assert!(flusher.wait_durable(end, LONG).unwrap());
    let buffer = flusher.take_buffer();
    assert!(buffer.is_empty() && buffer.capacity() >= 5000);
    assert_eq!(flusher.take_buffer().capacity(), 0);
}

#[test]
fn large_batches_keep_their_bytes() {
    let disk = SimDisk::new();
    let (flusher, _seen) = start(&disk);
    let (mut random, mut all) = (Random::new(7), Vec::new());
    for _ in 0..30 {
        let mut payload = flusher.take_buffer();
        push_command(&mut payload, &[b"SET", b"key", &vec![b'x'; random.below(900_000) as usize]]);
        all.extend_from_slice(&payload);
        flusher.append(payload, UNIX_MS);
    }
    assert!(flusher.wait_durable(flusher.appended(), LONG).unwrap());
    flusher.close().unwrap();
    assert!(recovered(&disk) == all);
}
