//! What bases have taken the place of, kept for a while.

use crate::support::*;
use valkey_wbl::log::sim::{Effect, SimDisk};
use valkey_wbl::log::{
    Batch, Flusher, KeptLog, Left, LogWriter, NewBase, Options, Standing, Storage, StorageFile, Verdict, kept_logs,
    open,
};

/// What is kept is whole, whatever has happened.
pub fn check_kept(disk: &SimDisk) -> Vec<KeptLog> {
    let found = kept_logs(disk).unwrap();
    for kept in &found {
        let opened = reopen(&disk.image_of_folder(&kept.name)).unwrap_or_else(|error| panic!("{kept:?}: {error}"));
        assert_eq!((opened.verdict(), opened.next_lsn()), (&Verdict::Clean, kept.end), "{kept:?}");
        assert_eq!(dataset(&opened).unwrap().len() as u64, kept.end.get(), "{kept:?}");
        assert!(opened.leftovers().is_empty(), "{:?}", opened.leftovers());
    }
    found
}

/// Writes units, each of them a second after the one before.
fn write_in_time(writer: &mut LogWriter<SimDisk>, units: std::ops::Range<usize>) {
    for number in units {
        let (start, payload) = (writer.appended(), unit(number));
        writer.append(Batch { start, payload: &payload, unix_ms: at(number) }).unwrap();
        writer.sync().unwrap();
    }
}

/// When a unit was written.
fn at(number: usize) -> u64 {
    UNIX_MS + 1000 * number as u64
}

fn checkpoint(writer: &mut LogWriter<SimDisk>, units_before: usize) {
    let lsn = writer.cut().unwrap();
    let name = base_of(writer, &units(0..units_before)).unwrap();
    writer.install_base(&NewBase { name, lsn }).unwrap();
}

/// A log with 12 units and a base after each third of them; what was before each base is kept.
fn with_history() -> (SimDisk, LogWriter<SimDisk>) {
    let disk = SimDisk::new();
    let mut writer = writer_of(&disk);
    writer.keep_history(true);
    for round in 0..3 {
        write_in_time(&mut writer, 3 * round..3 * round + 3);
        writer.cut().unwrap();
        checkpoint(&mut writer, 3 * round + 3);
    }
    write_in_time(&mut writer, 9..12);
    (disk, writer)
}

#[test]
fn what_a_base_takes_the_place_of_is_kept() {
    let (disk, mut writer) = with_history();
    // Nothing was logged since the base: there is nothing to keep.
    checkpoint(&mut writer, 12);
    checkpoint(&mut writer, 12);
    let kept = check_kept(&disk);
    let ends: Vec<_> = kept.iter().map(|kept| (kept.end.get(), kept.begins_unix_ms, kept.unix_ms)).collect();
    let end = |units_before: usize| units(0..units_before).len() as u64;
    let expected = [(end(3), UNIX_MS, at(2)), (end(6), at(2), at(5)), (end(9), at(5), at(8)), (end(12), at(8), at(11))];
    assert_eq!(ends, expected);
    let contents = |name: &str| dataset(&reopen(&disk.image_of_folder(name)).unwrap()).unwrap();
    assert_eq!(contents(&kept[1].name), units(0..6));
    // None of it without being asked.
    writer.keep_history(false);
    write(&mut writer, 12..13);
    checkpoint(&mut writer, 13);
    assert_eq!(check_kept(&disk), kept);
    writer.trim_history(at(5));
    assert_eq!(check_kept(&disk), kept[1..]);
    writer.trim_history(at(100));
    assert!(check_kept(&disk).is_empty());
    writer.close().unwrap();
    assert_eq!(dataset(&reopen(&disk).unwrap()).unwrap(), units(0..13));
}

#[test]
fn a_clock_that_was_ahead_keeps_nothing_for_longer() {
    const AHEAD_MS: u64 = 1 << 40;
    let disk = SimDisk::new();
    let mut writer = writer_of(&disk);
    writer.keep_history(true);
    for (number, unix_ms) in [UNIX_MS + AHEAD_MS, UNIX_MS + 1, UNIX_MS + 2, UNIX_MS + 3].into_iter().enumerate() {
        let (start, payload) = (writer.appended(), unit(number));
        writer.append(Batch { start, payload: &payload, unix_ms }).unwrap();
        writer.sync().unwrap();
        checkpoint(&mut writer, number + 1);
    }
    let kept = check_kept(&disk);
    assert!(kept.len() == 4 && kept[0].unix_ms > UNIX_MS + 3, "{kept:?}");
    writer.trim_history(UNIX_MS + 3);
    assert_eq!(check_kept(&disk), kept[3..]);
}

#[test]
fn a_log_with_an_error_in_it_is_kept_whole() {
    let disk = SimDisk::new();
    let writer = writer_of(&disk);
    let flusher = Flusher::start_stepped(writer, Box::new(|_| {}), Box::new(|error| panic!("{error}"))).unwrap();
    flusher.go_on_after_errors(true);
    flusher.keep_history(true);
    let steps = flusher.steps().unwrap();
    let run = || while steps.write() | steps.flush(0) | steps.tidy() {};
    for number in 0..6 {
        if number == 3 {
            disk.fail_at(disk.operations(), libc::EIO, Effect::Part);
        }
        flusher.append(unit(number), UNIX_MS);
        run();
    }
    let (lsn, (name, mut file)) = (flusher.cut(), flusher.new_base_file().unwrap());
    file.write_all_at(0, &units(0..6)).unwrap();
    flusher.install_base(NewBase { name, lsn }, Box::new(|outcome| outcome.unwrap()));
    run();
    assert_eq!((check_kept(&disk).len(), flusher.take_history_failure()), (1, None));
    flusher.trim_history(0, u64::MAX);
    run();
    let (bytes, since) = flusher.history_extent();
    assert!(bytes > units(0..6).len() as u64 && since == UNIX_MS, "{bytes} {since}");
    flusher.close().unwrap();
}

#[test]
fn history_is_given_up_before_anything_else_is_missed() {
    let (disk, mut writer) = with_history();
    // The log itself.
    disk.set_room(Some(disk.used_bytes()));
    let before = check_kept(&disk);
    write_in_time(&mut writer, 12..13);
    let after = check_kept(&disk);
    assert_eq!((before.len(), &before[1..]), (3, &after[..]));
    assert!(!writer.is_short_of_room());
    // What is held for the next base.
    let least = disk.used_bytes() - 1000;
    disk.set_room(Some(disk.used_bytes() + least / 2));
    writer.keep_reserve(least / 2 + after[0].bytes / 2).unwrap();
    assert_eq!((&check_kept(&disk)[..], writer.is_short_of_room()), (&after[1..], false));
    writer.keep_reserve(0).unwrap();
    // A start.
    disk.set_room(Some(disk.used_bytes()));
    drop(writer);
    let stopped = disk.restart_image();
    stopped.set_room(Some(stopped.used_bytes()));
    drop(writer_of(&stopped));
    assert!(check_kept(&stopped).is_empty());
    assert_eq!(dataset(&reopen(&stopped).unwrap()).unwrap(), units(0..13));
}

#[test]
fn a_log_that_outgrows_what_a_base_was_lent_takes_history_before_it_is_short() {
    let (disk, mut writer) = with_history();
    let kept = check_kept(&disk);
    writer.keep_reserve(2000).unwrap();
    disk.set_room(Some(disk.used_bytes() + 60));
    let _ = writer.new_base_file().unwrap();
    write_in_time(&mut writer, 12..13);
    assert_eq!((check_kept(&disk).len(), writer.is_short_of_room()), (kept.len() - 1, false));
}

#[test]
fn a_bound_gives_up_the_oldest_first() {
    let (disk, writer) = with_history();
    let kept = check_kept(&disk);
    let flusher = Flusher::start_stepped(writer, Box::new(|_| {}), Box::new(|error| panic!("{error}"))).unwrap();
    let steps = flusher.steps().unwrap();
    flusher.trim_history(0, kept[1].bytes + kept[2].bytes);
    while steps.tidy() {}
    assert_eq!(check_kept(&disk), kept[1..]);
    assert_eq!(flusher.history_extent(), (kept[1].bytes + kept[2].bytes, at(2)));
    flusher.close().unwrap();
}

/// What fails beside the log is said, and harms it not.
#[test]
fn a_log_without_hard_links_goes_on_without_history() {
    for step in 0.. {
        let disk = SimDisk::new();
        let mut writer = writer_of(&disk);
        write(&mut writer, 0..3);
        let (lsn, name) = (writer.cut().unwrap(), base_of(&mut writer, &units(0..3)).unwrap());
        let flusher = Flusher::start_stepped(writer, Box::new(|_| {}), Box::new(|error| panic!("{error}"))).unwrap();
        flusher.go_on_after_errors(true);
        flusher.keep_history(true);
        let steps = flusher.steps().unwrap();
        while steps.tidy() {}
        let (sender, outcome) = std::sync::mpsc::channel();
        flusher.install_base(NewBase { name, lsn }, Box::new(move |outcome| sender.send(outcome).unwrap()));
        // The base is made durable and gets its name.
        assert!(steps.tidy());
        let at = disk.operations() + step;
        disk.fail_at(at, libc::EMLINK, Effect::None);
        while steps.write() | steps.flush(0) | steps.tidy() {}
        let failure = flusher.take_history_failure();
        assert!(flusher.error().is_none(), "step {step}: {:?}", flusher.error());
        let is_done = outcome.recv().unwrap().is_ok();
        flusher.close().unwrap();
        let kept = check_kept(&disk);
        assert_eq!(dataset(&reopen(&disk).unwrap()).unwrap(), units(0..3));
        assert_eq!((kept.len(), is_done), (usize::from(failure.is_none()), true), "step {step}: {failure:?}");
        if failure.is_none() {
            break;
        }
    }
}

/// It neither goes nor keeps others from going.
#[test]
fn what_a_server_uses_is_given_up_later() {
    let (disk, mut writer) = with_history();
    let kept = check_kept(&disk);
    let folder = |index: usize| disk.folder(&kept[index].name).unwrap();
    let locks = [0, 1].map(|index| folder(index).lock().unwrap().unwrap());
    writer.trim_history(at(100));
    assert_eq!(check_kept(&disk), kept[..2]);
    // A full disk, with a server that runs, and one that starts.
    disk.set_room(Some(disk.used_bytes() + 10));
    let start = writer.appended();
    let full = writer.append(Batch { start, payload: &unit(12), unix_ms: UNIX_MS }).unwrap_err();
    assert_eq!((errno(&full), check_kept(&disk)), (Some(libc::ENOSPC), kept[..2].to_vec()));
    drop(writer);
    assert!(open(disk.clone(), &Options::default()).unwrap().prepare(UNIX_MS).is_err());
    assert_eq!(check_kept(&disk), kept[..2]);
    disk.set_room(None);
    // What one has left there that is not of a log.
    drop(locks);
    drop(folder(0).create_folder("foreign").unwrap().create("file").unwrap());
    let mut writer = go_on(reopen(&disk).unwrap(), UNIX_MS).unwrap();
    writer.trim_history(at(100));
    assert_eq!(check_kept(&disk), kept[..1]);
    folder(0).folder("foreign").unwrap().remove("file").unwrap();
    writer.trim_history(at(100));
    assert!(check_kept(&disk).is_empty());
    writer.close().unwrap();
    assert_eq!(dataset(&reopen(&disk).unwrap()).unwrap(), units(0..12));
}

#[test]
fn a_mark_that_must_be_made_takes_room_from_the_oldest_that_the_log_does_not_need() {
    let (disk, writer) = with_history();
    writer.close().unwrap();
    disk.put("temp-cut", &[b'x'; 4096]);
    disk.put("cut-1-70.bin", &[b'x'; 4096]);
    disk.put("cut-2-70.bin", &[b'x'; 4096]);
    let kept = check_kept(&disk);
    let mut folder = reopen(&disk).unwrap().into_folder();
    let mut mark = |unix_ms: u64| {
        disk.set_room(Some(disk.used_bytes()));
        folder.mark_with_room(Standing::Left(Left::new(unix_ms, "none").unwrap()))
    };
    let has = |name: &str| disk.contents(name).is_some();
    mark(1).unwrap();
    assert_eq!((has("temp-cut"), check_kept(&disk)), (false, kept.clone()));
    for (number, left) in (1..=kept.len()).enumerate() {
        mark(2 + number as u64).unwrap();
        assert_eq!((check_kept(&disk), has("cut-1-70.bin")), (kept[left..].to_vec(), true));
    }
    mark(100).unwrap();
    assert_eq!((has("cut-1-70.bin"), has("cut-2-70.bin")), (false, true));
    mark(101).unwrap();
    assert!(!has("cut-2-70.bin"));
    assert_eq!(errno(&mark(102).unwrap_err()), Some(libc::ENOSPC));
    drop(folder);
    let opened = reopen(&disk).unwrap();
    assert_eq!(opened.left().map(Left::unix_ms), Some(101));
    assert_eq!(dataset(&opened).unwrap(), units(0..12));
}

/// An error in the middle is no end of trimming.
#[test]
fn what_could_not_be_given_up_does_not_stay() {
    for step in 0..12 {
        let (disk, mut writer) = with_history();
        writer.trim_history(0);
        disk.fail_at(disk.operations() + step, libc::EIO, Effect::None);
        writer.trim_history(at(100));
        disk.mend();
        writer.trim_history(at(100));
        assert!(disk.list_folders().unwrap().is_empty(), "step {step}: {:?}", disk.names());
    }
}
