//! Cutting a log at its damage: what is good before it comes back, and what goes is kept, wherever that is interrupted.

use crate::support::*;
use valkey_wbl::log::sim::{Effect, SimDisk};
use valkey_wbl::log::{Damage, Left, LogError, MANIFEST_NAME, Storage, segment_name};

const KEPT_IN: &str = "kept";

/// Three segments of three units each, as a clean end leaves them.
fn log() -> SimDisk {
    let disk = SimDisk::new();
    let mut writer = writer_of(&disk);
    for number in 0..3 {
        write(&mut writer, 3 * number..3 * number + 3);
        if number < 2 {
            writer.cut().unwrap();
        }
    }
    writer.close().unwrap();
    disk
}

fn find(disk: &SimDisk) -> Option<Damage<SimDisk>> {
    Damage::find(disk.clone()).unwrap()
}

/// How many units a log brings back; they are the first ones.
fn units_of(disk: &SimDisk) -> usize {
    let all = recovered(&reopen(disk).unwrap());
    (0..=9).find(|count| units(0..*count) == all).expect("whole units, from the first on")
}

/// The logs with one damage each, and how many units are good before it.
fn damaged() -> Vec<(SimDisk, usize)> {
    let offset_of = |disk: &SimDisk, name: &str| disk.contents(name).unwrap().len() - 10;
    let mut found = Vec::new();
    for seq in 1..=3 {
        let (name, first) = (segment_name(seq), 3 * (seq as usize - 1));
        let changed = |change: &dyn Fn(&SimDisk, &mut Vec<u8>)| {
            let disk = log();
            edit(&disk, &name, |bytes| change(&log(), bytes));
            disk
        };
        found.push((changed(&|disk, bytes| bytes[offset_of(disk, &name)] ^= 1), first + 2));
        found.push((changed(&|_, bytes| bytes[3] ^= 1), first));
        found.push((changed(&|_, bytes| bytes.truncate(bytes.len() - 1)), first + 2));
        found.push((changed(&|_, bytes| bytes.clear()), first));
        found.push((changed(&|_, bytes| bytes.push(0)), first + 3));
        let missing = log();
        missing.remove(&name).unwrap();
        found.push((missing, first));
    }
    found
}

#[test]
fn what_is_good_before_damage_comes_back() {
    for (disk, good) in damaged() {
        assert!(reopen(&disk).is_err());
        let damage = find(&disk).unwrap();
        assert_eq!(damage.end().get(), units(0..good).len() as u64);
        let gone = damage.gone();
        let old: Vec<_> = gone.iter().map(|gone| disk.contents(&gone.file)).collect();
        let manifest = disk.contents(MANIFEST_NAME);
        damage.cut(KEPT_IN, UNIX_MS).unwrap();
        assert_eq!(units_of(&disk), good);
        assert_eq!(reopen(&disk).unwrap().left().map(Left::note), Some(Left::CUT));
        // All that went is there, as it was.
        let kept = |name: &str| disk.contents(&format!("{KEPT_IN}/{name}"));
        assert_eq!(kept(MANIFEST_NAME), manifest);
        for (gone, old) in gone.iter().zip(old) {
            assert_eq!((kept(&gone.file), disk.contents(&gone.file)), (old, None));
        }
        // And the log goes on.
        let mut writer = writer_of(&disk);
        write(&mut writer, good..9);
        writer.close().unwrap();
        assert_eq!(units_of(&disk), 9);
        assert!(find(&disk).is_none());
    }
}

#[test]
fn a_cut_that_is_interrupted_can_be_made_again() {
    for (whole, good) in damaged().into_iter().step_by(4) {
        for fails_at in 0.. {
            let disk = whole.crash_image(0);
            let damage = find(&disk).unwrap();
            let before = disk.operations();
            disk.fail_at(before + fails_at, libc::EIO, Effect::Full);
            let cut = damage.cut(KEPT_IN, UNIX_MS);
            let crashed = disk.crash_image(fails_at);
            if let Some(damage) = find(&crashed) {
                damage.cut("again", UNIX_MS).unwrap();
            }
            assert_eq!(units_of(&crashed), good, "operation {fails_at}");
            assert_eq!(units_of_next_start(&crashed), good, "operation {fails_at}");
            if disk.operations() <= before + fails_at {
                assert!(cut.is_ok(), "nothing has failed");
                break;
            }
        }
    }
}

/// The same after a start, which removes what is left over.
fn units_of_next_start(disk: &SimDisk) -> usize {
    writer_of(disk).close().unwrap();
    units_of(disk)
}

#[test]
fn a_good_log_or_one_in_use_is_left_alone() {
    assert!(find(&log()).is_none());
    let disk = SimDisk::new();
    let _writer = writer_of(&disk);
    assert!(matches!(Damage::find(disk.clone()), Err(LogError::Locked { .. })));
    assert!(matches!(Damage::find(SimDisk::new()), Err(LogError::Refused { .. })));
}
