//! Lives of a log whose disk fails, with threads that do their work when a test says so.

use crate::support::*;
use std::sync::{Arc, Mutex};
use valkey_wbl::log::sim::{Effect, Random, SimDisk};
use valkey_wbl::log::{Flusher, LogError, Lsn, NewBase, Options, Steps, StorageFile, Verdict, WantedReserve, open};

const ERRORS: [i32; 4] = [libc::EIO, libc::ENOSPC, libc::EDQUOT, libc::EROFS];

/// A log whose threads do their work when a test says so.
struct Rig {
    disk: SimDisk,
    flusher: Flusher<SimDisk>,
    steps: Arc<dyn Steps>,
    units: usize,
    published: Arc<Mutex<Lsn>>,
    bases: usize,
}

fn options(is_direct: bool) -> Options {
    let direct_block_bytes = is_direct.then_some(512);
    Options { segment_bytes: 1500, max_inflight_flushes: Some(3), direct_block_bytes, ..Options::default() }
}

fn start(options: &Options) -> Rig {
    let disk = SimDisk::new();
    let writer = go_on(open(disk.clone(), options).unwrap(), UNIX_MS).unwrap();
    let published = Arc::new(Mutex::new(writer.durable()));
    let seen = Arc::clone(&published);
    let on_durable = Box::new(move |lsn: Lsn| {
        let before = std::mem::replace(&mut *seen.lock().unwrap(), lsn);
        assert!(before < lsn, "positions rise");
    });
    let flusher = Flusher::start_stepped(writer, on_durable, Box::new(|error| panic!("{error}"))).unwrap();
    flusher.go_on_after_errors(true);
    let steps = flusher.steps().unwrap();
    Rig { disk, flusher, steps, units: 0, published, bases: 0 }
}

impl Rig {
    fn all(&self) -> Vec<u8> {
        units(0..self.units)
    }

    fn step(&mut self, random: &mut Random) {
        match random.below(100) {
            0..35 => {
                self.flusher.append(unit(self.units), UNIX_MS);
                self.units += 1;
            }
            35..65 => drop(self.steps.write()),
            65..85 => drop(self.steps.flush(random.below(3) as usize)),
            85..90 => drop(self.checkpoint()),
            90..92 => self.flusher.keep_reserve(WantedReserve::exactly(self.units as u64 % 3 * 1000)),
            _ => drop(self.steps.tidy()),
        }
    }

    /// A base holds the bytes of the units that it stands for.
    fn checkpoint(&mut self) -> Result<(), LogError> {
        let (name, mut file) = self.flusher.new_base_file()?;
        let lsn = self.flusher.cut();
        if file.write_all_at(0, &self.all()).is_err() {
            self.flusher.remove_base_file(name);
            return Ok(());
        }
        self.bases += 1;
        self.flusher.install_base(NewBase { name, lsn }, Box::new(|_| {}));
        Ok(())
    }

    /// What a loss of power, or a kill, leaves.
    fn check(&self, case: &str, seed: u64) -> u64 {
        let (all, published) = (self.all(), self.published.lock().unwrap().get() as usize);
        for (image, disk) in [self.disk.crash_image(seed), self.disk.crash_image(seed + 1), self.disk.restart_image()]
            .into_iter()
            .enumerate()
        {
            let found = open(disk.clone(), &options(false)).and_then(|opened| dataset(&opened));
            let found = found.unwrap_or_else(|error| panic!("{case}, image {image}: {error}"));
            assert!(all.starts_with(&found), "{case}, image {image}: other units");
            assert!(found.len() >= published, "{case}, image {image}: {} of {published} bytes", found.len());
            if image == 0 {
                drop(go_on(open(disk.clone(), &options(false)).unwrap(), UNIX_MS).unwrap());
                let again = dataset(&reopen(&disk.crash_image(seed)).unwrap()).unwrap();
                assert!(again == found, "{case}: what a start has shown has gone");
            }
        }
        3
    }

    /// The disk works: everything becomes durable, and a close leaves a log without a flaw.
    fn finish(self, case: &str) {
        for _ in 0..100 {
            while self.steps.flush(0) || self.steps.tidy() {}
            if self.flusher.durable() == self.flusher.appended() {
                break;
            }
            self.steps.write();
        }
        assert_eq!(self.flusher.durable(), self.flusher.appended(), "{case}: {:?}", self.flusher.trouble());
        assert!(!self.flusher.is_failing() && self.flusher.pending_bytes() == 0, "{case}");
        drop(self.flusher.close().unwrap());
        let opened = reopen(&self.disk).unwrap();
        assert_eq!(*opened.verdict(), Verdict::Clean, "{case}");
        assert!(dataset(&opened).unwrap() == self.all(), "{case}");
        // A file may be there of which the disk has said that it was not created.
        assert!(opened.leftovers().len() <= 2, "{case}: {:?}", opened.leftovers());
    }
}

/// One life with an error at an operation, and perhaps another one so many operations later; returns the images that
/// were looked at, and the operations of the life.
pub fn live(seed: u64, first: Option<(u64, Effect)>, second: Option<(u64, Effect)>) -> (u64, u64) {
    let mut rig = start(&options(seed % 2 == 1));
    let begins = rig.disk.operations();
    let case = format!("WBL_SEED={seed}, {first:?}, {second:?}");
    let errno = ERRORS[seed as usize / 2 % ERRORS.len()];
    if let Some((at, effect)) = first {
        rig.disk.fail_at(begins + at, errno, effect);
        if let Some((later, effect)) = second {
            rig.disk.fail_also_at(begins + at + later, errno, effect);
        }
    }
    let (mut random, mut images, mut looks) = (Random::new(seed), 0, 0);
    for step in 0..60 {
        rig.step(&mut random);
        let has_failed = first.is_some_and(|(at, _)| rig.disk.operations() > begins + at);
        if has_failed && looks < 8 {
            looks += 1;
            images += rig.check(&format!("{case}, step {step}"), step);
        }
    }
    let operations = rig.disk.operations() - begins;
    rig.finish(&case);
    (images, operations)
}
