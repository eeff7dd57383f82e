//! A log that goes on in another segment after its disk has failed, at any operation, once or again while it goes on.
//!
//! What was published must be there after a crash at any moment, and whatever is there must be what was handed over, in
//! order. When the disk works again everything becomes durable.

mod rig;

use crate::support::*;
use rig::live;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use valkey_wbl::log::sim::{Effect, SimDisk, seeds};
use valkey_wbl::log::{
    Batch, Flusher, LogError, Lsn, NewBase, Options, Storage, StorageFile, Verdict, open, segment_name,
};

const EFFECTS: [Effect; 3] = [Effect::None, Effect::Part, Effect::Full];
const LONG: Option<Duration> = Some(Duration::from_secs(20));

#[test]
fn the_log_goes_on_after_an_error_at_any_operation() {
    let (mut lives, mut images) = (0_u64, 0);
    for seed in seeds(0, 10) {
        let (_, operations) = live(seed, None, None);
        for at in 0..operations {
            for effect in EFFECTS {
                images += live(seed, Some((at, effect)), None).0;
                lives += 1;
            }
        }
    }
    println!("{lives} lives, {images} images");
    assert!(lives > 1000, "the disk was hardly used");
}

/// The second error comes at each of the steps by which the log goes on after the first.
#[test]
fn the_log_goes_on_after_errors_while_it_goes_on() {
    let (mut lives, mut images) = (0_u64, 0);
    for seed in seeds(0, 4) {
        let (_, operations) = live(seed, None, None);
        for (at, later) in (0..operations).flat_map(|at| (1..16).map(move |later| (at, later))) {
            let effect = |number: u64| EFFECTS[number as usize % EFFECTS.len()];
            images += live(seed, Some((at, effect(at))), Some((later, effect(at + later)))).0;
            lives += 1;
        }
    }
    println!("{lives} lives, {images} images");
    assert!(lives > 1000, "the disk was hardly used");
}

/// What keeps an error from being forgotten: a second flush of the same file succeeds, and vouches for nothing.
#[test]
fn a_later_flush_of_the_same_file_vouches_for_nothing() {
    let disk = SimDisk::new();
    let mut writer = writer_of(&disk);
    write(&mut writer, 0..1);
    let (start, payload) = (writer.appended(), unit(1));
    writer.append(Batch { start, payload: &payload, unix_ms: UNIX_MS }).unwrap();
    disk.fail_at(disk.operations(), libc::EIO, Effect::Part);
    assert!(writer.sync().is_err());
    let mut again = disk.open_write(&segment_name(1)).unwrap();
    again.sync_data().unwrap();
    let lost = (0..50).filter(|image| recovered(&reopen(&disk.crash_image(*image)).unwrap()) == units(0..1)).count();
    assert!(lost > 0, "the disk loses nothing, so that no test could fail");
    assert_eq!(writer.go_on().unwrap(), start);
    writer.append(Batch { start, payload: &payload, unix_ms: UNIX_MS }).unwrap();
    writer.sync().unwrap();
    for image in 0..50 {
        assert_eq!(recovered(&reopen(&disk.crash_image(image)).unwrap()), units(0..2));
    }
}

/// The failed segment holds the same units beyond the place, or others that nobody was told of: the new one counts.
#[test]
fn what_a_failed_segment_holds_beyond_the_next_one_is_void() {
    let disk = SimDisk::new();
    let mut writer = writer_of(&disk);
    write(&mut writer, 0..1);
    let (start, payload) = (writer.appended(), unit(1));
    writer.append(Batch { start, payload: &payload, unix_ms: UNIX_MS }).unwrap();
    let with_both = disk.contents(&segment_name(1)).unwrap();
    disk.fail_at(disk.operations(), libc::EIO, Effect::Full);
    assert!(writer.sync().is_err());
    writer.go_on().unwrap();
    let other = unit(7);
    writer.append(Batch { start, payload: &other, unix_ms: UNIX_MS }).unwrap();
    writer.sync().unwrap();
    drop(writer);
    edit(&disk, &segment_name(1), |bytes| *bytes = with_both.clone());
    for _ in 0..2 {
        let opened = reopen(&disk).unwrap();
        assert_eq!((opened.verdict(), recovered(&opened)), (&Verdict::Clean, [unit(0), unit(7)].concat()));
        drop(go_on(opened, UNIX_MS).unwrap());
    }
}

/// What a full disk takes from the file is not missed by a flush that was begun before.
#[test]
fn a_log_that_has_cut_its_own_segment_beside_a_flush_goes_on() {
    for direct_block_bytes in [None, Some(512)] {
        let disk = SimDisk::new();
        let options = Options { segment_bytes: 4000, direct_block_bytes, ..Options::default() };
        let mut writer = go_on(open(disk.clone(), &options).unwrap(), UNIX_MS).unwrap();
        write(&mut writer, 0..1);
        writer.write_ahead().unwrap();
        write(&mut writer, 1..3);
        let (durable, payload) = (writer.appended(), unit(3));
        writer.append_before(Batch { start: durable, payload: &payload, unix_ms: UNIX_MS }, true).unwrap();
        let mut flush = writer.begin_flush().unwrap().expect("there is something to flush");
        disk.set_room(Some(disk.used_bytes()));
        let start = writer.appended();
        let large = Batch { start, payload: &units(4..400), unix_ms: UNIX_MS };
        assert_eq!(errno(&writer.append_before(large, true).unwrap_err()), Some(libc::ENOSPC));
        let outcome = flush.run(&*writer.storage());
        assert!(outcome.is_ok(), "{outcome:?}");
        // The log has failed meanwhile, and takes it for no more than it had.
        assert!(writer.end_flush(flush, outcome).is_err());
        disk.set_room(None);
        assert_eq!(writer.go_on().unwrap(), durable);
        write(&mut writer, 3..6);
        drop(writer);
        assert_eq!(recovered(&reopen(&disk.crash_image(1)).unwrap()), units(0..6));
    }
}

/// A flush that was under way when another one failed succeeds after the log has gone on.
#[test]
fn a_flush_of_a_segment_that_was_given_up_counts_no_more() {
    let disk = SimDisk::new();
    let options = Options { max_inflight_flushes: Some(2), ..Options::default() };
    let mut writer = go_on(open(disk.clone(), &options).unwrap(), UNIX_MS).unwrap();
    let mut flushes = Vec::new();
    for number in 0..2 {
        let (start, payload) = (writer.appended(), unit(number));
        writer.append_before(Batch { start, payload: &payload, unix_ms: UNIX_MS }, true).unwrap();
        flushes.push(writer.begin_flush().unwrap().unwrap());
    }
    let (second, mut first) = (flushes.pop().unwrap(), flushes.pop().unwrap());
    let failed = Err(LogError::io("sync", "x", std::io::Error::from_raw_os_error(libc::EIO)));
    assert!(writer.end_flush(second, failed).is_err());
    assert_eq!(writer.go_on().unwrap(), Lsn::ZERO);
    let payload = units(0..2);
    writer.append(Batch { start: Lsn::ZERO, payload: &payload, unix_ms: UNIX_MS }).unwrap();
    let outcome = first.run(&disk);
    assert_eq!(writer.end_flush(first, outcome).unwrap(), Lsn::ZERO, "it vouches for another file");
    assert_eq!(writer.sync().unwrap().get() as usize, payload.len());
}

fn threads(disk: &SimDisk) -> (Flusher<SimDisk>, Arc<Mutex<Vec<String>>>) {
    let errors = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&errors);
    let on_error = Box::new(move |error: &LogError| seen.lock().unwrap().push(error.to_string()));
    let flusher = Flusher::start(writer_of(disk), Box::new(|_| {}), on_error).unwrap();
    flusher.go_on_after_errors(true);
    (flusher, errors)
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !is_so() {
        assert!(began.elapsed() < LONG.unwrap(), "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn an_error_that_passes_at_once_is_nobodys_concern() {
    for at in 0..2 {
        let disk = SimDisk::new();
        let (flusher, errors) = threads(&disk);
        assert!(flusher.wait_durable(flusher.append(unit(0), UNIX_MS), LONG).unwrap());
        disk.fail_at(disk.operations() + at, libc::EIO, Effect::Part);
        assert!(flusher.wait_durable(flusher.append(unit(1), UNIX_MS), LONG).unwrap());
        assert_eq!((flusher.statistics().disk_errors(), flusher.is_failing()), (1, false));
        assert_eq!(recovered(&reopen(&disk.crash_image(1)).unwrap()), units(0..2));
        assert!(errors.lock().unwrap().is_empty());
        flusher.close().unwrap();
    }
}

#[test]
fn a_disk_that_fails_for_long_holds_all_and_then_has_all() {
    let disk = SimDisk::new();
    let (flusher, errors) = threads(&disk);
    let good = flusher.append(unit(0), UNIX_MS);
    assert!(flusher.wait_durable(good, LONG).unwrap());
    disk.fail_from(disk.operations(), libc::ENOSPC, Effect::Part);
    let mut end = flusher.append(unit(1), UNIX_MS);
    let failing = flusher.wait_durable(end, LONG);
    assert!(matches!(failing, Err(LogError::Failing(_))), "{failing:?}");
    assert!(flusher.is_failing() && flusher.trouble().unwrap().to_string().contains("No space left"));
    for number in 2..20 {
        end = flusher.append(unit(number), UNIX_MS);
    }
    // What a base needs is refused at once, and what would have the caller wait, too.
    let (done, outcome) = std::sync::mpsc::channel();
    let base = NewBase { name: "temp-base-1.rdb".into(), lsn: flusher.cut() };
    flusher.install_base(base, Box::new(move |outcome| done.send(outcome).unwrap()));
    assert!(outcome.recv_timeout(LONG.unwrap()).unwrap().is_err());
    assert!(matches!(flusher.commit(end), Err(LogError::Failing(_))));
    wait_until("more tries", || flusher.statistics().disk_errors() > 3);
    assert_eq!(flusher.durable(), good);
    assert_eq!(flusher.pending_bytes() as usize, units(1..20).len());
    disk.mend();
    wait_until("the log goes on", || flusher.durable() == end);
    wait_until("it says so", || !flusher.is_failing());
    assert!(flusher.wait_durable(flusher.append(unit(20), UNIX_MS), LONG).unwrap());
    assert_eq!(recovered(&reopen(&disk.crash_image(1)).unwrap()), units(0..21));
    assert!(errors.lock().unwrap().is_empty());
    flusher.close().unwrap();
    assert_eq!(recovered(&reopen(&disk).unwrap()), units(0..21));
}

#[test]
fn a_close_tries_once_more_and_reports_a_disk_that_fails() {
    for is_mended in [false, true] {
        let disk = SimDisk::new();
        let (flusher, _errors) = threads(&disk);
        disk.fail_from(disk.operations(), libc::EROFS, Effect::None);
        let end = flusher.append(unit(0), UNIX_MS);
        assert!(flusher.wait_durable(end, LONG).is_err());
        if is_mended {
            disk.mend();
        }
        let closed = flusher.close();
        assert_eq!(closed.is_ok(), is_mended, "{closed:?}");
        assert_eq!(flusher.durable() == end, is_mended);
        drop(closed);
        let found = recovered(&reopen(&disk.restart_image()).unwrap());
        assert!(!is_mended || found == unit(0));
    }
}

#[test]
fn without_leave_to_go_on_an_error_is_final() {
    let disk = SimDisk::new();
    let (flusher, errors) = threads(&disk);
    disk.fail_from(disk.operations(), libc::EIO, Effect::None);
    let end = flusher.append(unit(0), UNIX_MS);
    assert!(matches!(flusher.wait_durable(end, LONG), Err(LogError::Failing(_))));
    flusher.go_on_after_errors(false);
    wait_until("the next try fails", || flusher.error().is_some());
    assert!(matches!(flusher.wait_durable(end, LONG), Err(LogError::Failed(_))));
    assert_eq!(errors.lock().unwrap().len(), 1);
}

#[test]
fn a_segment_that_somebody_took_away_is_not_gone_on_from() {
    let disk = SimDisk::new();
    let (flusher, errors) = threads(&disk);
    assert!(flusher.wait_durable(flusher.append(unit(0), UNIX_MS), LONG).unwrap());
    disk.fail_from(disk.operations(), libc::EIO, Effect::None);
    let end = flusher.append(unit(1), UNIX_MS);
    assert!(flusher.wait_durable(end, LONG).is_err());
    disk.mend();
    disk.remove(&segment_name(1)).unwrap();
    wait_until("it ends", || flusher.error().is_some());
    assert!(errors.lock().unwrap()[0].contains("somebody else"), "{errors:?}");
    assert!(flusher.durable() < end);
}

/// A segment for each error, until a base takes their place.
#[test]
fn segments_after_errors_are_counted_and_replaced() {
    let disk = SimDisk::new();
    let mut writer = writer_of(&disk);
    for number in 0..20 {
        write(&mut writer, number..number + 1);
        disk.fail_at(disk.operations(), libc::EIO, Effect::None);
        let (start, payload) = (writer.appended(), unit(number + 1));
        assert!(writer.append(Batch { start, payload: &payload, unix_ms: UNIX_MS }).is_err());
        writer.go_on().unwrap();
        assert_eq!(writer.statistics().segments_after_errors(), number as u64 + 1);
    }
    assert_eq!(writer.statistics().segments(), 21);
    let lsn = writer.cut().unwrap();
    let name = base_of(&mut writer, &units(0..20)).unwrap();
    writer.install_base(&NewBase { name, lsn }).unwrap();
    assert_eq!((writer.statistics().segments(), writer.statistics().segments_after_errors()), (1, 0));
    writer.close().unwrap();
    assert_eq!(dataset(&reopen(&disk).unwrap()).unwrap(), units(0..20));
}
