//! Backups: folders with hard links to the files of a log that is written.

use crate::support::*;
use valkey_wbl::log::sim::{Effect, SimDisk};
use valkey_wbl::log::{Backup, Flusher, LogError, LogWriter, Lsn, NewBase, Storage, Verdict, backup_name};

/// A log with a base of three units, segments of three and one, and a unit in the present one.
fn with_base() -> (SimDisk, LogWriter<SimDisk>) {
    let disk = SimDisk::new();
    let mut writer = writer_of(&disk);
    write(&mut writer, 0..3);
    checkpoint(&mut writer, 3);
    write(&mut writer, 3..6);
    writer.cut().unwrap();
    write(&mut writer, 6..7);
    writer.cut().unwrap();
    write(&mut writer, 7..8);
    (disk, writer)
}

fn checkpoint(writer: &mut LogWriter<SimDisk>, units_before: usize) {
    let lsn = writer.cut().unwrap();
    let name = base_of(writer, &units(0..units_before)).unwrap();
    writer.install_base(&NewBase { name, lsn }).unwrap();
}

/// What a start on the backup finds, and that it can go on from there.
fn check(disk: &SimDisk, name: &str, expected: usize) {
    let backup = disk.image_of_folder(name);
    let opened = reopen(&backup).unwrap();
    assert_eq!((opened.verdict(), dataset(&opened).unwrap()), (&Verdict::Clean, units(0..expected)));
    assert!(opened.leftovers().is_empty(), "{:?}", opened.leftovers());
    let mut writer = go_on(opened, UNIX_MS).unwrap();
    write(&mut writer, expected..expected + 2);
    writer.close().unwrap();
    assert_eq!(dataset(&reopen(&backup).unwrap()).unwrap(), units(0..expected + 2));
}

#[test]
fn a_backup_holds_all_up_to_its_position() {
    let (disk, mut writer) = with_base();
    let Backup { name, end, .. } = writer.back_up(UNIX_MS).unwrap();
    assert_eq!((end, &name), (writer.appended(), &backup_name(UNIX_MS, end)));
    assert!(disk.written_bytes() < 10_000);
    // There is another one of the same moment.
    assert_eq!(writer.back_up(UNIX_MS).unwrap().unix_ms, UNIX_MS + 1);
    write(&mut writer, 8..10);
    check(&disk, &name, 8);
    // One of a log without a base, or without anything.
    for count in [0, 2] {
        let disk = SimDisk::new();
        let mut writer = writer_of(&disk);
        write(&mut writer, 0..count);
        let name = writer.back_up(UNIX_MS).unwrap().name;
        check(&disk, &name, count);
    }
}

#[test]
fn a_backup_outlives_checkpoints_and_a_full_disk() {
    let (disk, mut writer) = with_base();
    let name = writer.back_up(UNIX_MS).unwrap().name;
    write(&mut writer, 8..10);
    let lsn = writer.cut().unwrap();
    let base = base_of(&mut writer, &units(0..10)).unwrap();
    let flusher = Flusher::start_stepped(writer, Box::new(|_| {}), Box::new(|error| panic!("{error}"))).unwrap();
    flusher.go_on_after_errors(true);
    flusher.install_base(NewBase { name: base, lsn }, Box::new(|outcome| outcome.unwrap()));
    let steps = flusher.steps().unwrap();
    // The base is named, and the old one waits to be removed.
    while steps.tidy() && !disk.names().iter().any(|name| name == "appendonly.aof.2.base.rdb") {}
    assert!(steps.write());
    assert!(disk.names().iter().any(|name| name == "appendonly.aof.1.base.rdb"));
    disk.set_room(Some(disk.used_bytes()));
    flusher.append(unit(10), UNIX_MS);
    steps.write();
    disk.set_room(None);
    check(&disk, &name, 8);
    while steps.write() | steps.flush(0) | steps.tidy() {}
    assert_eq!(flusher.durable(), flusher.appended());
    flusher.close().unwrap();
    check(&disk, &name, 8);
    assert_eq!(dataset(&reopen(&disk).unwrap()).unwrap(), units(0..11));
}

/// One operation fails, or the power goes at it: the log is unharmed, and what has the name of a backup is whole.
#[test]
fn a_crash_at_any_operation_of_a_backup_harms_nothing() {
    let (mut points, mut whole) = (0, 0);
    for (forever, effect) in
        [true, false].into_iter().flat_map(|forever| [Effect::None, Effect::Part, Effect::Full].map(|e| (forever, e)))
    {
        for step in 0.. {
            let (disk, mut writer) = with_base();
            let at = disk.operations() + step;
            if forever {
                disk.fail_from(at, libc::EIO, effect)
            } else {
                disk.fail_at(at, libc::EIO, effect)
            }
            let outcome = writer.back_up(UNIX_MS);
            for seed in 0..6 {
                let image = if seed == 0 { disk.restart_image() } else { disk.crash_image(seed) };
                let case = format!("{forever} {effect:?} {step} {seed}");
                assert_eq!(dataset(&reopen(&image).unwrap()).unwrap(), units(0..8), "{case}");
                let mut again = go_on(reopen(&image).unwrap(), UNIX_MS).unwrap();
                write(&mut again, 8..9);
                let found = listed(again);
                assert!(found.len() <= 1 && outcome.is_err() | (found.len() == 1), "{case}: {found:?}");
                for backup in found {
                    assert!(backup.is_whole, "{case}: {backup:?}");
                    check(&image, &backup.name, 8);
                    whole += 1;
                }
                assert!(image.list_folders().unwrap().iter().all(|name| name.starts_with("backup-")), "{case}");
                assert_eq!(dataset(&reopen(&image).unwrap()).unwrap(), units(0..9), "{case}");
                points += 1;
            }
            if outcome.is_ok() {
                break;
            }
        }
    }
    println!("{points} images, {whole} of them with a whole backup");
    assert!(points > 300 && whole > 20, "{points} {whole}");
}

#[test]
fn a_crash_at_any_operation_of_a_removal_leaves_a_whole_backup_or_none() {
    let (mut points, mut whole) = (0, 0);
    for effect in [Effect::None, Effect::Part, Effect::Full] {
        for step in 0.. {
            let (disk, mut writer) = with_base();
            let name = writer.back_up(UNIX_MS).unwrap().name;
            let flusher = Flusher::start(writer, Box::new(|_| {}), Box::new(|_| {})).unwrap();
            // Whatever the thread has to do besides is done.
            list(&flusher);
            disk.fail_from(disk.operations() + step, libc::EIO, effect);
            let outcome = remove(&flusher, &name);
            for seed in 0..6 {
                let image = if seed == 0 { disk.restart_image() } else { disk.crash_image(seed) };
                let again = go_on(reopen(&image).unwrap(), UNIX_MS).unwrap();
                let (found, case) = (listed(again), format!("{effect:?} {step} {seed}"));
                assert!(outcome.is_err() || found.is_empty(), "{case}");
                for backup in found {
                    assert!(backup.is_whole, "{case}");
                    check(&image, &backup.name, 8);
                    whole += 1;
                }
                assert!(image.list_folders().unwrap().iter().all(|name| name.starts_with("backup-")), "{case}");
                points += 1;
            }
            if outcome.is_ok() {
                break;
            }
        }
    }
    println!("{points} images, {whole} of them with a whole backup");
    assert!(points > 100 && whole > 20, "{points} {whole}");
}

/// The backups that there are.
fn listed(writer: LogWriter<SimDisk>) -> Vec<Backup> {
    let flusher = Flusher::start(writer, Box::new(|_| {}), Box::new(|_| {})).unwrap();
    let found = list(&flusher);
    flusher.close().unwrap();
    found
}

fn list(flusher: &Flusher<SimDisk>) -> Vec<Backup> {
    let (sender, found) = std::sync::mpsc::channel();
    flusher.list_backups(Box::new(move |listed| sender.send(listed.unwrap()).unwrap()));
    found.recv().unwrap()
}

fn remove(flusher: &Flusher<SimDisk>, name: &str) -> Result<(), LogError> {
    let (sender, outcome) = std::sync::mpsc::channel();
    flusher.remove_backup(name.into(), Box::new(move |outcome| sender.send(outcome).unwrap()));
    outcome.recv().unwrap()
}

#[test]
fn backups_are_listed_and_removed() {
    let (disk, writer) = with_base();
    let flusher = Flusher::start(writer, Box::new(|_| {}), Box::new(|_| {})).unwrap();
    let (sender, outcome) = std::sync::mpsc::channel();
    let end = flusher.back_up(UNIX_MS, Box::new(move |outcome| sender.send(outcome).unwrap()));
    let made: Backup = outcome.recv().unwrap().unwrap();
    let name = backup_name(UNIX_MS, end);
    assert_eq!(made, Backup { name: name.clone(), unix_ms: UNIX_MS, end, is_whole: true });
    assert_eq!((list(&flusher), end), (vec![made.clone()], Lsn::new(units(0..8).len() as u64)));
    for other in ["backup-x", "..", "backup-1-2/..", "appendonly.aof.manifest"] {
        assert!(matches!(remove(&flusher, other), Err(LogError::Refused { .. })), "{other}");
    }
    let foreign = disk.folder(&name).unwrap().create_folder("foreign").unwrap();
    drop(foreign.create("file").unwrap());
    assert!(matches!(remove(&flusher, &name), Err(LogError::Occupied { .. })));
    assert_eq!(list(&flusher), std::slice::from_ref(&made));
    foreign.remove("file").unwrap();
    remove(&flusher, &name).unwrap();
    assert!(list(&flusher).is_empty() && disk.folder(&name).unwrap().list().unwrap().is_empty());
    flusher.close().unwrap();
    assert_eq!(dataset(&reopen(&disk).unwrap()).unwrap(), units(0..8));
}

#[test]
fn a_backup_that_a_server_uses_is_not_removed() {
    let (disk, mut writer) = with_base();
    let name = writer.back_up(UNIX_MS).unwrap().name;
    let flusher = Flusher::start(writer, Box::new(|_| {}), Box::new(|_| {})).unwrap();
    let lock = disk.folder(&name).unwrap().lock().unwrap();
    let refused = remove(&flusher, &name).unwrap_err();
    assert!(matches!(&refused, LogError::Locked { .. }), "{refused}");
    check(&disk, &name, 8);
    drop(lock);
    remove(&flusher, &name).unwrap();
    assert!(list(&flusher).is_empty() && disk.folder(&name).unwrap().lock().unwrap().is_some());
    flusher.close().unwrap();
}
