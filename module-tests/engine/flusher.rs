//! The writer thread on a simulated disk: group commit, pauses, failures, panics.

use crate::support::{UNIX_MS, recovered, writer_of};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use valkey_wbl::log::resp::push_command;
use valkey_wbl::log::sim::{Effect, Random, SimDisk};
use valkey_wbl::log::{
    Flusher, LogError, Lsn, MANIFEST_NAME, NewBase, Options, StorageFile, base_name, open, segment_name,
};

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

fn start(disk: &SimDisk) -> (Flusher<SimDisk>, Seen) {
    start_with(disk, || assert_eq!(std::thread::current().name(), Some("wbl-writer")))
}

/// The same with a look at the thread that reports.
fn start_with(disk: &SimDisk, look: fn()) -> (Flusher<SimDisk>, Seen) {
    let writer = writer_of(disk);
    let seen = Seen::default();
    let (durable, errors) = (seen.durable.clone(), seen.errors.clone());
    let on_durable = Box::new(move |lsn: Lsn| {
        look();
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

fn read(disk: &SimDisk) -> Vec<u8> {
    recovered(&open(disk.clone(), &Options::default()).unwrap())
}

/// Waits until the thread has flushed a position.
fn wait_flushed(flusher: &Flusher<SimDisk>, lsn: Lsn) {
    while flusher.flushed() < lsn {
        assert!(flusher.error().is_none());
        std::thread::yield_now();
    }
}

/// Waits until the thread has met a failure.
fn wait_failed(flusher: &Flusher<SimDisk>) -> String {
    loop {
        match flusher.error() {
            Some(error) => return error.to_string(),
            None => std::thread::yield_now(),
        }
    }
}

/// Installs a base and waits for what becomes of it.
fn install(flusher: &Flusher<SimDisk>, name: &str, lsn: Lsn) -> Result<(), LogError> {
    let (done, outcome) = std::sync::mpsc::channel();
    let base = NewBase { name: name.into(), lsn };
    flusher.install_base(base, Box::new(move |outcome| done.send(outcome).unwrap()));
    outcome.recv().unwrap()
}

#[test]
fn a_caller_commits_in_the_place_of_the_threads_and_beside_them() {
    let disk = SimDisk::new();
    let (flusher, seen) = start_with(&disk, || {});
    let mut random = Random::new(7);
    let mut all = Vec::new();
    for number in 0..300 {
        all.extend(unit(number));
        match random.below(4) {
            0 => drop(flusher.append(unit(number), UNIX_MS)),
            1 => drop(flusher.append_to_commit(unit(number), UNIX_MS)),
            _ => {
                let end = flusher.append_to_commit(unit(number), UNIX_MS);
                flusher.commit(end).unwrap();
                assert_eq!((flusher.durable(), seen.durable().last()), (end, Some(&end)));
                assert_eq!(read(&disk.crash_image(number)), all);
            }
        }
    }
    let end = flusher.appended();
    disk.fail_from(disk.operations(), libc::EIO, Effect::None);
    let after = flusher.append_to_commit(unit(300), UNIX_MS);
    assert!(flusher.commit(after).is_err() && flusher.durable() <= end);
    assert_eq!(seen.errors().len(), 1);
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
            let found = read(&disk.crash_image(number));
            assert!(found.len() >= durable && found == all[..found.len()]);
        }
    }
    flusher.close().unwrap();
    assert_eq!((flusher.durable().get(), flusher.pending_bytes()), (all.len() as u64, 0));
    assert_eq!(seen.durable().last(), Some(&flusher.durable()));
    assert_eq!(read(&disk), all);
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
    flusher.close().unwrap();
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
    wait_flushed(&flusher, end);
    assert_eq!((flusher.flushed(), flusher.durable()), (end, Lsn::ZERO));
    assert_eq!(read(&disk.crash_image(1)), unit(1));
    assert!(!flusher.wait_durable(end, SHORT).unwrap());
    assert!(seen.durable().is_empty());
    flusher.resume();
    flusher.resume();
    assert!(flusher.wait_durable(end, LONG).unwrap());
    flusher.close().unwrap();
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
        assert!(matches!(flusher.wait_durable(bad, LONG), Err(LogError::Failed(_))));
        let later = flusher.append(unit(3), UNIX_MS);
        assert!(flusher.wait_durable(later, LONG).is_err());
        assert!(flusher.wait_durable(good, LONG).unwrap(), "what was durable stays so");
        let (name, _) = flusher.new_base_file().unwrap();
        assert!(install(&flusher, &name, flusher.cut()).is_err());
        assert_eq!((flusher.durable(), seen.durable()), (good, vec![good]));
        assert_eq!(seen.errors().len(), 1);
        assert!(flusher.error().unwrap().to_string().contains("appendonly.aof.1.incr.aof"), "{:?}", flusher.error());
        assert!(flusher.pending_bytes() > 0);
        assert!(flusher.close().is_err());
        assert!(read(&disk.crash_image(operation)).starts_with(&unit(1)));
    }
}

#[test]
fn a_failure_during_a_pause_publishes_nothing() {
    let disk = SimDisk::new();
    let (flusher, seen) = start(&disk);
    flusher.pause();
    let flushed = flusher.append(unit(0), UNIX_MS);
    wait_flushed(&flusher, flushed);
    disk.fail_at(disk.operations() + 1, libc::EIO, Effect::None);
    let end = flusher.append(unit(1), UNIX_MS);
    wait_failed(&flusher);
    flusher.resume();
    assert!(flusher.wait_durable(end, LONG).is_err());
    assert!(flusher.wait_durable(flushed, SHORT).is_err());
    assert!(seen.durable().is_empty());
}

#[test]
fn a_panic_on_the_thread_is_a_failure() {
    let disk = SimDisk::new();
    let writer = writer_of(&disk);
    let seen = Seen::default();
    let errors = seen.errors.clone();
    let on_error = Box::new(move |error: &LogError| errors.lock().unwrap().push(error.to_string()));
    let flusher = Flusher::start(writer, Box::new(|_| panic!("broken invariant")), on_error).unwrap();
    flusher.append(unit(1), UNIX_MS);
    wait_failed(&flusher);
    let end = flusher.append(unit(2), UNIX_MS);
    assert!(matches!(flusher.wait_durable(end, LONG), Err(LogError::Failed(_))));
    let closed = flusher.close();
    assert!(matches!(closed, Err(LogError::Failed(first)) if matches!(*first, LogError::Panicked { .. })));
    assert_eq!(seen.errors(), ["a thread of the log panicked: broken invariant"]);
}

#[test]
fn a_closed_log_answers_at_once() {
    let disk = SimDisk::new();
    let (flusher, _seen) = start(&disk);
    let good = flusher.append(unit(1), UNIX_MS);
    let folder = flusher.close().unwrap();
    assert!(matches!(flusher.close(), Err(LogError::Closed)));
    assert!(matches!(open(disk.clone(), &Options::default()), Err(LogError::Locked { .. })));
    drop(folder);
    assert!(flusher.wait_durable(good, None).unwrap(), "a close makes all durable");
    let end = flusher.append(unit(2), UNIX_MS);
    assert!(matches!(flusher.wait_durable(end, None), Err(LogError::Closed)));
    assert!(matches!(install(&flusher, "temp-base-1.rdb", flusher.cut()), Err(LogError::Closed)));
    assert!(open(disk, &Options::default()).is_ok(), "the folder is free");
}

#[test]
fn a_base_is_installed_while_batches_go_on() {
    let disk = SimDisk::new();
    let (flusher, seen) = start(&disk);
    flusher.append(unit(1), UNIX_MS);
    let (name, mut file) = flusher.new_base_file().unwrap();
    let lsn = flusher.cut();
    assert_eq!(lsn.get(), unit(1).len() as u64);
    flusher.append(unit(2), UNIX_MS);
    file.write_all_at(0, b"base").unwrap();
    let (done, outcome) = std::sync::mpsc::channel();
    let base = NewBase { name: name.clone(), lsn };
    flusher.install_base(base, Box::new(move |outcome| done.send(outcome).unwrap()));
    flusher.append(unit(3), UNIX_MS);
    outcome.recv().unwrap().unwrap();
    assert!(install(&flusher, &name, lsn).is_err(), "the file is gone");
    assert!(seen.errors().is_empty(), "which harms only the checkpoint");
    drop(flusher.close().unwrap());
    assert_eq!(read(&disk), [unit(2), unit(3)].concat());
    assert!(disk.contents("appendonly.aof.1.incr.aof").is_none(), "what the base replaces is removed");
}

/// Where an installation does its work, by operation: all of the base's own and the removal of old files are off the
/// way of the frames.
#[test]
fn a_base_on_a_hanging_disk_holds_up_no_write() {
    // Open, sync, read, read, rename and sync of the folder; then the manifest, which is the writer's; then the
    // removal.
    const MANIFEST: std::ops::Range<u64> = 6..11;
    for hanging in (0..12).filter(|operation| !MANIFEST.contains(operation)) {
        let disk = SimDisk::new();
        let (flusher, _seen) = start(&disk);
        let first = flusher.append(unit(1), UNIX_MS);
        let lsn = flusher.cut();
        assert_eq!(lsn, first);
        assert!(flusher.wait_durable(flusher.append(unit(2), UNIX_MS), LONG).unwrap());
        let (name, mut file) = flusher.new_base_file().unwrap();
        file.write_all_at(0, b"base").unwrap();
        disk.pause_at(disk.operations() + hanging);
        let (done, outcome) = std::sync::mpsc::channel();
        let base = NewBase { name, lsn };
        flusher.install_base(base, Box::new(move |outcome| done.send(outcome).unwrap()));
        disk.wait_paused();
        let is_named = String::from_utf8(disk.contents(MANIFEST_NAME).unwrap()).unwrap().contains("type b");
        assert_eq!(is_named, hanging == 11, "operation {hanging} is not the one that is meant");
        let end = flusher.append(unit(3), UNIX_MS);
        assert!(flusher.wait_durable(end, LONG).unwrap(), "operation {hanging} holds up writes");
        assert!(outcome.try_recv().is_err());
        disk.resume();
        outcome.recv().unwrap().unwrap();
        assert!(disk.contents(&base_name(1)).is_some() && disk.contents(&segment_name(1)).is_none());
        drop(flusher.close().unwrap());
        assert_eq!(read(&disk), [unit(2), unit(3)].concat());
    }
}

/// The position of a base is fixed without waiting for the disk.
#[test]
fn a_cut_does_not_wait_for_a_hanging_disk() {
    let disk = SimDisk::new();
    let (flusher, _seen) = start(&disk);
    disk.pause_at(disk.operations());
    let end = flusher.append(unit(1), UNIX_MS);
    disk.wait_paused();
    assert_eq!(flusher.cut(), end);
    flusher.append(unit(2), UNIX_MS);
    disk.resume();
    drop(flusher.close().unwrap());
    let opened = open(disk, &Options::default()).unwrap();
    assert_eq!(opened.segments().iter().map(|segment| segment.end).next(), Some(end));
}

#[test]
fn a_close_answers_whoever_waits_for_a_base() {
    let disk = SimDisk::new();
    let (flusher, _seen) = start(&disk);
    flusher.append(unit(1), UNIX_MS);
    let lsn = flusher.cut();
    let (name, mut file) = flusher.new_base_file().unwrap();
    file.write_all_at(0, b"base").unwrap();
    let (done, outcome) = std::sync::mpsc::channel();
    flusher.install_base(NewBase { name, lsn }, Box::new(move |outcome| done.send(outcome).unwrap()));
    drop(flusher.close().unwrap());
    let outcome = outcome.recv().unwrap();
    assert!(matches!(outcome, Ok(()) | Err(LogError::Closed)), "{outcome:?}");
    assert_eq!(read(&disk).is_empty(), outcome.is_ok());
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
    assert!(read(&disk) == all);
}
