//! Each transition of a folder on a simulated disk that stops, or fails once, at each of its operations: what a start
//! finds then is the whole state before or the whole state after, and never less than what was reported durable.
//!
//! A base holds the bytes of the units that it stands for, so that what a folder holds can be compared as a whole.

use crate::scenes::{beside_a_file, scenes};
use crate::support::*;
use valkey_wbl::log::sim::{Effect, Random, SimDisk, seeds};
use valkey_wbl::log::{
    Begin, LogError, LogWriter, NewBase, Options, SeenLog, Standing, Verdict, is_marked_behind, mark_behind, open,
    unmark_behind,
};

/// What a start finds; `None` where there is no log.
pub type State = Option<(Vec<u8>, Mark)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    Valid,
    Left,
    Superseded,
}

impl Mark {
    /// What it is when a start has gone on with the log.
    fn gone_on_with(self) -> Mark {
        if self == Mark::Left { Mark::Valid } else { self }
    }
}

/// A transition: the states that a start may find, in their order, and the work.
pub struct Scene {
    pub name: &'static str,
    pub before: SimDisk,
    pub states: Vec<State>,
    /// Sets the number of the first state that may still be found.
    pub run: fn(&SimDisk, &mut usize) -> Result<(), LogError>,
}

const IMAGES: u64 = 6;

pub fn valid(data: Vec<u8>) -> State {
    Some((data, Mark::Valid))
}

pub fn options() -> Options {
    Options { segment_bytes: 250, ..Options::default() }
}

pub fn begin(disk: &SimDisk, begin: Begin) -> Result<LogWriter<SimDisk>, LogError> {
    let folder = open(disk.clone(), &options())?.into_folder();
    let mut writer = folder.begin(begin, UNIX_MS).map_err(|not_begun| not_begun.error)?;
    writer.remove_leftovers();
    Ok(writer)
}

/// Writes and syncs a unit.
pub fn write_unit(writer: &mut LogWriter<SimDisk>, number: usize) -> Result<(), LogError> {
    let (start, payload) = (writer.appended(), unit(number));
    writer.append(valkey_wbl::log::Batch { start, payload: &payload, unix_ms: UNIX_MS })?;
    writer.sync().map(|_| ())
}

/// What a start finds, which leaves the disk as it is.
fn state_of(disk: &SimDisk) -> State {
    let opened = match open(disk.restart_image(), &options()) {
        Ok(opened) => opened,
        Err(error) => panic!("{error}: {:?}", disk.names()),
    };
    if opened.is_empty() {
        return None;
    }
    let mark = match (opened.is_superseded(), opened.left()) {
        (true, _) => Mark::Superseded,
        (false, None) => Mark::Valid,
        (false, Some(left)) => {
            assert_eq!(left, &beside_a_file());
            Mark::Left
        }
    };
    Some((dataset(&opened).unwrap(), mark))
}

impl Scene {
    /// Checks what a start finds, and that it can go on from there, with another crash on the way.
    fn check(&self, disk: &SimDisk, first: usize, case: &str, random: &mut Random) {
        let found = state_of(disk);
        crate::history::check_kept(disk);
        let allowed = &self.states[first..];
        assert!(allowed.contains(&found), "{case}: another state than {first} and later ones: {found:?}");
        let stopping = disk.restart_image();
        let at = random.below(25);
        stopping.fail_from(at, libc::EIO, Effect::Part);
        let started = open(stopping.clone(), &options()).and_then(|opened| go_on(opened, UNIX_MS));
        let stopped = stopping.crash_image(random.next_u64());
        let again = state_of(&stopped);
        let is_fresh = found.is_none() && again == valid(Vec::new());
        // What was found may be shown once a start has come to its end; until then a crash may take it back.
        let is_gone_on_with = again == found.clone().map(|(data, mark)| (data, mark.gone_on_with()));
        let is_allowed = again == found || is_gone_on_with || is_fresh || started.is_err() && allowed.contains(&again);
        assert!(is_allowed, "{case}, then operation {at}: {again:?}");
        let mut writer = go_on(open(stopped.clone(), &options()).unwrap(), UNIX_MS).unwrap();
        write_unit(&mut writer, 99).unwrap();
        writer.close().unwrap();
        let data = again.map_or_else(Vec::new, |(data, _)| data);
        let opened = open(stopped.clone(), &options()).unwrap();
        assert!(dataset(&opened).unwrap() == [data, unit(99)].concat(), "{case}: went on from another state");
        assert!(opened.leftovers().is_empty(), "{case}: {:?}", opened.leftovers());
        assert_eq!(*opened.verdict(), Verdict::Clean);
    }

    /// Runs the transition on a disk that fails at an operation.
    fn run_failing(&self, at: u64, effect: Effect, forever: bool) -> (SimDisk, usize, bool) {
        let disk = self.before.restart_image();
        match forever {
            true => disk.fail_from(at, libc::EIO, effect),
            false => disk.fail_at(at, libc::EIO, effect),
        }
        let mut first = 0;
        let outcome = (self.run)(&disk, &mut first);
        if let Err(error) = &outcome {
            assert_eq!(errno(error), Some(libc::EIO), "{}, operation {at}: {error}", self.name);
        }
        (disk, first, outcome.is_ok())
    }

    /// Crashes at each operation; returns the number of crash points and of images that were looked at.
    fn enumerate(&self) -> (u64, u64) {
        let (whole, first, done) = self.run_failing(u64::MAX, Effect::None, false);
        assert!(done && first + 1 == self.states.len(), "{}: the whole transition ends in the last state", self.name);
        let total = whole.operations();
        let (mut points, mut images) = (0, 0);
        for forever in [true, false] {
            for (at, effect) in (0..=total).flat_map(|at| [Effect::None, Effect::Part, Effect::Full].map(|e| (at, e))) {
                let (disk, first, done) = self.run_failing(at, effect, forever);
                // What fails without an end is the removal of files, or the mark of a close.
                assert!(!done || first + 1 == self.states.len(), "{}, operation {at}", self.name);
                points += 1;
                let mut random = Random::new(at);
                for image in 0..=IMAGES {
                    let case =
                        format!("{}, operation {at} of {total} {effect:?}, stops: {forever}, image {image}", self.name);
                    let disk = if image == 0 { disk.restart_image() } else { disk.crash_image(image) };
                    self.check(&disk, first, &case, &mut random);
                    images += 1;
                }
            }
        }
        println!("{}: {total} operations, {points} crash points, {images} images", self.name);
        (points, images)
    }
}

#[test]
fn a_crash_in_any_transition_leaves_the_old_or_the_new_state() {
    let (mut points, mut images) = (0, 0);
    for scene in scenes() {
        let (more_points, more_images) = scene.enumerate();
        points += more_points;
        images += more_images;
    }
    println!("in all: {points} crash points, {images} images");
    assert!(points > 3_000, "the disk was hardly used");
}

/// The machine runs on when the process ends, so that a start may find what a loss of power takes back.
#[test]
fn a_start_after_a_kill_survives_a_crash_anywhere() {
    let mut images = 0_u64;
    for scene in scenes() {
        let total = scene.run_failing(u64::MAX, Effect::None, false).0.operations();
        for at in 0..=total {
            let (killed, first, _) = scene.run_failing(at, Effect::None, true);
            let whole = killed.restart_image();
            let (found, allowed) = (state_of(&killed), &scene.states[first..]);
            drop(go_on(open(whole.clone(), &options()).unwrap(), UNIX_MS).unwrap());
            for stop in 0..=whole.operations() {
                let starting = killed.restart_image();
                starting.fail_from(stop, libc::EIO, Effect::None);
                let started = open(starting.clone(), &options()).and_then(|opened| go_on(opened, UNIX_MS));
                for image in 0..IMAGES / 2 {
                    // Each image another one: most lose nothing that matters.
                    let again = state_of(&starting.crash_image(images));
                    let case = format!("{}, operation {at}, then {stop}, image {image}", scene.name);
                    let is_fresh = found.is_none() && again == valid(Vec::new());
                    let is_gone_on_with = again == found.clone().map(|(data, mark)| (data, mark.gone_on_with()));
                    let may_go_back = started.is_err() && allowed.contains(&again);
                    assert!(is_fresh || is_gone_on_with || again == found || may_go_back, "{case}: {again:?}");
                    images += 1;
                }
            }
        }
    }
    println!("{images} images");
    assert!(images > 40_000, "the disk was hardly used");
}

/// A mark may be found that was renamed and not synced when a process ended: that it is there already is no reason to
/// report it as durable.
#[test]
fn a_mark_is_durable_once_noted_also_where_it_is_found() {
    let superseded = Standing::Superseded(None);
    for at in 0.. {
        let disk = two_segments();
        let mut folder = open(disk.clone(), &options()).unwrap().into_folder();
        disk.fail_from(disk.operations() + at, libc::EIO, Effect::None);
        let is_done = folder.mark(superseded.clone()).is_ok();
        for image in 0..2 * IMAGES {
            let opened = disk.restart_image();
            open(opened.clone(), &options()).unwrap().supersede().unwrap();
            let seen = disk.restart_image();
            assert!(SeenLog::look(&seen).unwrap().unwrap().mark(&seen, superseded.clone()).unwrap());
            for disk in [opened, seen] {
                let found = state_of(&disk.crash_image(image));
                assert_eq!(found, Some((units(0..6), Mark::Superseded)), "operation {at}, image {image}");
            }
        }
        if is_done {
            assert!(at > 3, "each operation has failed once");
            break;
        }
    }
}

#[test]
fn a_mark_after_one_that_failed_is_made_whatever_it_is() {
    for effect in [Effect::None, Effect::Part, Effect::Full] {
        for at in 0.. {
            let disk = two_segments();
            let mut folder = open(disk.clone(), &options()).unwrap().into_folder();
            disk.fail_at(disk.operations() + at, libc::EIO, effect);
            if folder.mark(Standing::Left(beside_a_file())).is_ok() {
                assert!(at > 3, "each operation has failed once");
                break;
            }
            folder.mark_anew(Standing::Current).unwrap();
            for image in 0..IMAGES {
                let found = state_of(&disk.crash_image(image));
                assert_eq!(found, valid(units(0..6)), "operation {at}, {effect:?}, image {image}");
            }
        }
    }
}

/// Crashes in each later life, too: what one leaves is what the next begins with.
#[test]
fn transitions_in_any_order_survive_crashes_anywhere() {
    let all = seeds(0, 3000);
    for seed in all.clone() {
        let mut random = Random::new(seed);
        let mut disk = SimDisk::new();
        // What may be found: a start that did not come to its end has shown nothing to anybody, so that a crash may
        // take back what it found.
        let mut possible: Vec<State> = vec![None];
        for step in 0..6 {
            let before = state_of(&disk);
            let data = before.clone().map_or_else(Vec::new, |(data, _)| data);
            let kind = random.below(6);
            // Units of a number that no other step has.
            let number = 100 * (step + 1);
            let mut states = states_of(kind, number, &before);
            let failing = disk.restart_image();
            if !random.chance(20) {
                let effect = [Effect::None, Effect::Part, Effect::Full][random.below(3) as usize];
                failing.fail_from(random.below(60), libc::EIO, effect);
            }
            let outcome = step_of(&failing, kind, number, &data);
            if kind == 4 {
                // A mark makes nothing durable of what is marked.
                states.extend(possible.iter().map(|state| state.clone().map(|(data, _)| (data, Mark::Superseded))));
            }
            match outcome {
                Ok(()) if kind == 4 => possible = states.split_off(1),
                Ok(()) => possible = states.split_off(states.len() - 1),
                Err(_) => possible.append(&mut states),
            }
            disk = match random.below(4) {
                0 => failing.restart_image(),
                _ => failing.crash_image(random.next_u64()),
            };
            let found = state_of(&disk);
            assert!(possible.contains(&found), "seed {seed}, step {step}, kind {kind}: {found:?}");
        }
    }
    println!("seeds {all:?}");
}

/// The states that a life may leave, the last where it comes to its end.
fn states_of(kind: u64, number: usize, before: &State) -> Vec<State> {
    let (data, mark) = before.clone().unwrap_or((Vec::new(), Mark::Valid));
    // A first start leaves an empty log before its first unit.
    let begun = Some((data.clone(), mark));
    match kind {
        0 | 1 => vec![before.clone(), begun, Some(([data, unit(number)].concat(), mark))],
        2 => vec![before.clone(), valid(Vec::new()), valid(unit(number))],
        3 => vec![before.clone(), valid(units(number..number + 2))],
        4 => vec![before.clone(), before.as_ref().map(|_| (data, Mark::Superseded))],
        _ => vec![before.clone()],
    }
}

/// One life: goes on, checkpoints, begins anew with or without data, supersedes, or only looks.
fn step_of(disk: &SimDisk, kind: u64, number: usize, data: &[u8]) -> Result<(), LogError> {
    let opened = open(disk.clone(), &options())?;
    match kind {
        0 | 1 => {
            let mut writer = go_on(opened, UNIX_MS)?;
            if kind == 1 {
                let lsn = writer.cut()?;
                let name = base_of(&mut writer, data)?;
                writer.install_base(&NewBase { name, lsn })?;
            }
            write_unit(&mut writer, number)?;
            writer.close().map(drop)
        }
        2 => {
            drop(opened);
            let mut writer = begin(disk, Begin::Empty)?;
            write_unit(&mut writer, number)
        }
        3 => {
            drop(opened);
            let mut writer = begin(disk, Begin::WaitsForBase)?;
            write_unit(&mut writer, 7)?;
            let lsn = writer.cut()?;
            write_unit(&mut writer, number + 1)?;
            let name = base_of(&mut writer, &unit(number))?;
            writer.install_base(&NewBase { name, lsn })
        }
        4 => {
            let mut opened = opened;
            opened.supersede()
        }
        _ => {
            if !opened.is_empty() {
                drop(opened.prepare(UNIX_MS)?);
            }
            Ok(())
        }
    }
}

#[test]
fn a_mark_beside_the_log_is_durable_once_it_is_made() {
    for fails_at in 0.. {
        let disk = SimDisk::new();
        writer_of(&disk).close().unwrap();
        disk.fail_at(disk.operations() + fails_at, libc::EIO, Effect::Full);
        if mark_behind(&disk).is_ok() {
            assert!(fails_at > 3, "each operation has failed once");
            assert!(is_marked_behind(&disk.crash_image(fails_at)).unwrap());
            break;
        }
        mark_behind(&disk).unwrap();
        assert!(is_marked_behind(&disk.crash_image(fails_at)).unwrap(), "operation {fails_at}");
        writer_of(&disk).close().unwrap();
        assert!(is_marked_behind(&disk).unwrap(), "a log that goes on takes it away");
        (0..2).for_each(|_| unmark_behind(&disk).unwrap());
        assert!(!is_marked_behind(&disk).unwrap());
    }
}
