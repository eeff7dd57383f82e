//! Several flushes under way at a time: they end in any order, fail, lose what others count on, and the machine stops
//! between any two steps.

use crate::support::*;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use valkey_wbl::log::sim::{Effect, HeldSync, Random, SimDisk, seeds};
use valkey_wbl::log::{Flusher, LogError, LogWriter, Lsn, Options, Verdict, open, segment_name};

const LONG: Option<Duration> = Some(Duration::from_secs(20));
const SHORT: Option<Duration> = Some(Duration::from_millis(20));
const IMAGES: u64 = 4;

/// A log whose flushes wait until they are told how they end.
struct Rig {
    disk: SimDisk,
    flusher: Flusher<SimDisk>,
    in_flight_max: usize,
    /// Units that were durable at the start.
    first: usize,
    /// Units handed over, these included.
    units: usize,
    /// Some wait, as no more flushes could begin.
    is_waiting: bool,
    /// Units that were published at some time.
    published: Arc<Mutex<Lsn>>,
}

fn start(in_flight_max: usize) -> Rig {
    start_on(SimDisk::new(), in_flight_max)
}

fn start_on(disk: SimDisk, in_flight_max: usize) -> Rig {
    // Too large to be written ahead: no flush is under way when a segment begins.
    let segment_bytes = 2 << 30;
    let options = Options { segment_bytes, max_inflight_flushes: Some(in_flight_max), ..Options::default() };
    start_with(disk, &options, 0)
}

/// The same in a segment that is written past the cache, or not.
fn start_either(in_flight_max: usize, is_direct: bool) -> Rig {
    if !is_direct {
        return start(in_flight_max);
    }
    let max_inflight_flushes = Some(in_flight_max);
    let options =
        Options { segment_bytes: 1 << 16, max_inflight_flushes, direct_block_bytes: Some(512), ..Options::default() };
    start_with(SimDisk::new(), &options, 2)
}

/// With units in the log before; the second one is in a segment that was written ahead.
fn start_with(disk: SimDisk, options: &Options, first: usize) -> Rig {
    let in_flight_max = options.max_inflight_flushes.unwrap();
    let mut writer = go_on(open(disk.clone(), options).unwrap(), UNIX_MS).unwrap();
    for number in 0..first {
        write(&mut writer, number..number + 1);
        if number == 0 {
            writer.write_ahead().unwrap();
        }
    }
    let published = Arc::new(Mutex::new(writer.durable()));
    let seen = Arc::clone(&published);
    let on_durable = Box::new(move |lsn: Lsn| {
        let before = std::mem::replace(&mut *seen.lock().unwrap(), lsn);
        assert!(before < lsn, "positions rise");
    });
    let flusher = Flusher::start(writer, on_durable, Box::new(|_| {})).unwrap();
    disk.hold_syncs(true);
    Rig { disk, flusher, in_flight_max, first, units: first, is_waiting: false, published }
}

impl Rig {
    /// Hands units over and waits until all flushes have begun that can; returns those under way.
    fn append(&mut self, count: usize) -> Vec<HeldSync> {
        for _ in 0..count {
            let under_way = self.disk.wait_held(0).len();
            self.flusher.append(unit(self.units), UNIX_MS);
            self.units += 1;
            self.is_waiting |= under_way == self.in_flight_max;
            self.disk.wait_held((under_way + 1).min(self.in_flight_max));
        }
        self.disk.wait_held(0)
    }

    /// Ends a flush and has its thread go on.
    fn end(&self, sync: HeldSync, failure: Option<(i32, Effect)>) {
        self.disk.end_sync(sync, failure);
        self.disk.let_sync_return(sync);
    }

    /// What a crash leaves holds whole units, in order, and all that were published.
    fn check(&self, case: &str) -> u64 {
        let published = self.published.lock().unwrap().get() as usize;
        let all = units(0..self.units);
        for image in 0..IMAGES {
            let found = read(&self.disk.crash_image(image)).unwrap_or_else(|error| panic!("{case}: {error}"));
            assert!(all.starts_with(&found), "{case}, image {image}: other units");
            assert!(found.len() >= published, "{case}, image {image}: {} of {published} bytes", found.len());
        }
        IMAGES
    }
}

/// Ends all that is under way, so that the threads can end.
impl Drop for Rig {
    fn drop(&mut self) {
        self.disk.hold_syncs(false);
        for sync in self.disk.wait_held(0) {
            self.end(sync, None);
        }
    }
}

/// What a start finds, after it has made that durable and has lost power again.
fn read(disk: &SimDisk) -> Result<Vec<u8>, LogError> {
    let found = recovered(&reopen(disk)?);
    let writer: LogWriter<SimDisk> = go_on(reopen(disk)?, UNIX_MS)?;
    drop(writer);
    let again = recovered(&reopen(&disk.crash_image(7))?);
    assert!(found == again, "what was shown has gone");
    Ok(found)
}

/// Waits until a position is published, or the log has failed.
fn wait(rig: &Rig, units_published: usize) -> bool {
    rig.flusher.wait_durable(Lsn::new(units(0..units_published).len() as u64), LONG).unwrap_or(false)
}

fn permutations(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let shorter = permutations(count - 1);
    (0..count)
        .flat_map(|at| {
            shorter.iter().map(move |rest| {
                let mut order = rest.clone();
                order.insert(at, count - 1);
                order
            })
        })
        .collect()
}

#[test]
fn a_write_does_not_wait_for_the_flush_under_way() {
    let mut rig = start(3);
    let under_way = rig.append(3);
    assert_eq!((under_way.len(), rig.flusher.in_flight()), (3, 3));
    assert_eq!(
        under_way.iter().map(|sync| sync.covers).collect::<Vec<_>>(),
        [2, 3, 4],
        "the header is the first write"
    );
    let waiting = rig.append(2);
    assert_eq!(waiting, under_way, "the limit holds");
    rig.end(under_way[0], None);
    let last = *rig.disk.wait_held(3).last().unwrap();
    assert_eq!(last.covers, 5, "what waited shares one flush");
    for sync in rig.disk.wait_held(3) {
        rig.end(sync, None);
    }
    assert!(wait(&rig, 5));
    rig.disk.hold_syncs(false);
    assert_eq!(rig.flusher.statistics().syncs(), 4);
    drop(rig.flusher.close().unwrap());
}

/// All orders in which four flushes can end, with none of them failing, or any in each way.
#[test]
fn flushes_that_end_in_any_order_are_published_in_order() {
    const COUNT: usize = 4;
    let (mut runs, mut images) = (0, 0);
    let failures = [Effect::None, Effect::Part, Effect::Full];
    for (order, is_direct) in permutations(COUNT).into_iter().flat_map(|order| [(order.clone(), false), (order, true)])
    {
        let failing = std::iter::once(None).chain((0..COUNT).flat_map(|at| failures.map(|effect| Some((at, effect)))));
        for failing in failing {
            let mut rig = start_either(COUNT, is_direct);
            let under_way = rig.append(COUNT);
            let mut has_ended = [false; COUNT];
            for number in &order {
                let case = format!("order {order:?}, failing {failing:?}, at {number}, direct {is_direct}");
                let failure = failing.filter(|(at, _)| at == number).map(|(_, effect)| (libc::EIO, effect));
                rig.end(under_way[*number], failure);
                if failure.is_some() {
                    assert!(!wait(&rig, rig.first + COUNT), "{case}");
                    images += rig.check(&case);
                    break;
                }
                has_ended[*number] = true;
                let expected = rig.first + has_ended.iter().take_while(|has_ended| **has_ended).count();
                assert!(wait(&rig, expected), "{case}");
                assert_eq!(rig.flusher.durable().get() as usize, units(0..expected).len(), "{case}");
                images += rig.check(&case);
            }
            runs += 1;
        }
    }
    println!("{runs} runs, {images} images");
    assert_eq!(runs, 2 * 24 * (1 + 4 * 3));
}

/// A disk that ends flushes, or fails, at any time while batches come.
#[test]
fn flushes_that_end_at_any_time_keep_what_was_published() {
    let mut images = 0;
    for seed in seeds(0, 300) {
        let mut random = Random::new(seed);
        let mut rig = start_either(1 + random.below(5) as usize, random.chance(50));
        for step in 0..30 {
            let under_way = rig.disk.wait_held(0);
            if under_way.is_empty() || random.chance(50) {
                rig.append(1);
                continue;
            }
            let failure =
                random.chance(3).then(|| (libc::EIO, if random.chance(50) { Effect::Part } else { Effect::None }));
            rig.end(under_way[random.below(under_way.len() as u64) as usize], failure);
            if failure.is_some() {
                assert!(!wait(&rig, rig.units));
            } else if std::mem::take(&mut rig.is_waiting) {
                rig.disk.wait_held(under_way.len());
            }
            images += rig.check(&format!("seed {seed}, step {step}"));
            if failure.is_some() {
                break;
            }
        }
    }
    println!("{images} images");
}

/// Two flushes of which the later one is told of what the earlier one has lost: with one opening for both, the earlier
/// one would succeed.
#[test]
fn an_error_reaches_the_flush_that_has_lost_something() {
    for share_errors in [false, true] {
        let disk = SimDisk::new();
        if share_errors {
            disk.share_errors_between_openings();
        }
        let mut rig = start_on(disk, 2);
        rig.append(1);
        let under_way = rig.append(1);
        // The disk loses what both have written, and tells the later one, whose thread has not heard of it yet.
        rig.disk.end_sync(under_way[1], Some((libc::EIO, Effect::Part)));
        rig.end(under_way[0], None);
        let is_published = wait(&rig, 1);
        assert_eq!(is_published, share_errors, "a disk that tells only one shows that the test can fail");
        rig.disk.let_sync_return(under_way[1]);
    }
}

#[test]
fn without_another_opening_there_is_one_flush_at_a_time() {
    let mut rig = start(4);
    rig.disk.refuse_reopening(true);
    rig.append(1);
    rig.flusher.append(unit(1), UNIX_MS);
    rig.units = 2;
    assert!(!rig.flusher.wait_durable(Lsn::new(1), SHORT).unwrap());
    let under_way = rig.disk.wait_held(1);
    assert_eq!(under_way.len(), 1);
    rig.end(under_way[0], None);
    let next = rig.disk.wait_held(1);
    assert_eq!(next[0].covers, 3);
    rig.disk.refuse_reopening(false);
    rig.end(next[0], None);
    assert!(wait(&rig, 2));
    assert!(rig.flusher.error().is_none());
}

#[test]
fn a_close_waits_for_all_flushes() {
    let mut rig = start(3);
    let under_way = rig.append(3);
    std::thread::scope(|scope| {
        let closing = scope.spawn(|| rig.flusher.close().map(drop));
        rig.disk.hold_syncs(false);
        for sync in under_way.iter().rev() {
            assert!(!closing.is_finished());
            rig.end(*sync, None);
        }
        closing.join().unwrap().unwrap();
    });
    assert!(wait(&rig, 3));
    let opened = reopen(&rig.disk).unwrap();
    assert_eq!((opened.verdict(), recovered(&opened)), (&Verdict::Clean, units(0..3)));
}

/// Three frames of which only the first is durable, and a fourth one that was written after the second flush.
#[test]
fn frames_behind_a_hole_are_cut_unless_the_hole_was_durable() {
    for proves in [false, true] {
        let disk = SimDisk::new();
        let mut writer = writer_of(&disk);
        write(&mut writer, 0..1);
        let hole = disk.contents(&segment_name(1)).unwrap().len();
        for number in 1..3 {
            let (start, payload) = (writer.appended(), unit(number));
            writer.append(valkey_wbl::log::Batch { start, payload: &payload, unix_ms: UNIX_MS }).unwrap();
        }
        if proves {
            write(&mut writer, 3..4);
            write(&mut writer, 4..5);
        }
        drop(writer);
        edit(&disk, &segment_name(1), |bytes| bytes[hole..hole + unit(1).len()].fill(0));
        let behind = disk.contents(&segment_name(1)).unwrap().split_off(hole);
        match reopen(&disk) {
            Err(LogError::Damaged { offset, .. }) => assert_eq!((proves, offset), (true, hole as u64)),
            Err(error) => panic!("{error}"),
            Ok(opened) => {
                assert!(!proves && matches!(opened.verdict(), Verdict::TornTail { .. }));
                assert_eq!(recovered(&opened), units(0..1));
                let mut writer = go_on(opened, UNIX_MS).unwrap();
                write(&mut writer, 5..6);
                writer.close().unwrap();
                assert_eq!(disk.contents(&format!("cut-1-{hole}.bin")).unwrap(), behind);
                assert_eq!(recovered(&reopen(&disk).unwrap()), [unit(0), unit(5)].concat());
            }
        }
    }
}
