//! The log engine's bases: how one takes the place of the segments before it, and how a log begins with one.

use crate::folder::damage;
use crate::support::*;
use std::io::Read;
use valkey_wbl::log::sim::{Effect, SimDisk};
use valkey_wbl::log::{
    Begin, Flusher, LogError, LogWriter, Lsn, MANIFEST_NAME, NewBase, Options, PreparedBase, Storage, StorageFile,
    base_name, open, segment_name,
};

/// Writes a base with this content; returns its name.
pub fn base_file(writer: &mut LogWriter<SimDisk>, content: &[u8]) -> String {
    let (name, mut file) = writer.new_base_file().unwrap();
    file.write_all_at(0, content).unwrap();
    name
}

/// Cuts the log and puts a base in the place of all before.
pub fn checkpoint(writer: &mut LogWriter<SimDisk>, content: &[u8]) {
    let (lsn, name) = (writer.cut().unwrap(), base_file(writer, content));
    writer.install_base(&NewBase { name, lsn }).unwrap();
}

#[test]
fn a_base_of_another_time_is_refused() {
    let disk = two_segments();
    let mut writer = writer_of(&disk);
    checkpoint(&mut writer, b"first base");
    let older = disk.contents(&base_name(1)).unwrap();
    write(&mut writer, 6..7);
    checkpoint(&mut writer, b"other base");
    drop(writer);
    reopen(&disk).unwrap().verify_base().unwrap();
    disk.put(&base_name(2), &older);
    assert!(matches!(reopen(&disk).unwrap().verify_base(), Err(LogError::Damaged { .. })));
    disk.put(&base_name(2), b"shorter");
    assert!(damage(&disk).contains("base"));
    disk.remove(&base_name(2)).unwrap();
    assert!(damage(&disk).contains("missing"));
}

#[test]
fn a_base_replaces_the_segments_before_it() {
    let disk = two_segments();
    let mut writer = writer_of(&disk);
    let lsn = writer.cut().unwrap();
    let name = base_file(&mut writer, b"base");
    write(&mut writer, 6..8);
    let refused = |error| matches!(error, Err(LogError::Refused { .. }));
    assert!(refused(writer.install_base(&NewBase { name: "notes.txt".into(), lsn })));
    let elsewhere = base_file(&mut writer, b"base");
    assert!(refused(writer.install_base(&NewBase { name: elsewhere, lsn: lsn.advance(1) })));
    let unwritten = NewBase { name: "temp-base-70.rdb".into(), lsn };
    assert!(matches!(writer.install_base(&unwritten), Err(LogError::Io { .. })));
    assert!(writer.failure().is_none(), "the log goes on without the base");
    writer.install_base(&NewBase { name, lsn }).unwrap();
    writer.close().unwrap();
    let base = base_name(1);
    assert_eq!(disk.names(), [base.clone(), segment_name(3), MANIFEST_NAME.to_string()]);
    let opened = reopen(&disk).unwrap();
    let found = opened.base().unwrap();
    assert_eq!((found.name, found.lsn, found.bytes, found.crc32c.is_some()), (base, lsn, 4, true));
    opened.verify_base().unwrap();
    assert_eq!(recovered(&opened), units(6..8));
    assert_eq!(opened.segments()[0].first, lsn);
}

#[test]
fn a_base_whose_sync_failed_cannot_be_tried_again() {
    let disk = two_segments();
    let mut writer = writer_of(&disk);
    let lsn = writer.cut().unwrap();
    let base = NewBase { name: base_file(&mut writer, b"base"), lsn };
    disk.fail_at(disk.operations() + 1, libc::EIO, Effect::Part);
    assert!(matches!(writer.install_base(&base), Err(LogError::Io { operation: "sync", .. })));
    assert!(writer.install_base(&base).is_err());
    assert!(writer.failure().is_none() && disk.contents(&base.name).is_none());
}

#[test]
fn a_base_that_no_start_could_read_is_removed() {
    let disk = two_segments();
    let is_good = |base: &mut dyn Read| -> Result<(), String> {
        let mut content = Vec::new();
        base.read_to_end(&mut content).map_err(|error| error.to_string())?;
        if content == b"good base" { Ok(()) } else { Err(format!("{} bytes of nothing", content.len())) }
    };
    let options = Options { check_base: is_good, ..Options::default() };
    let mut writer = go_on(open(disk.clone(), &options).unwrap(), UNIX_MS).unwrap();
    checkpoint(&mut writer, b"good base");
    write(&mut writer, 6..8);
    let (lsn, name) = (writer.cut().unwrap(), base_file(&mut writer, b"good basf"));
    let error = writer.install_base(&NewBase { name: name.clone(), lsn }).unwrap_err();
    assert!(error.to_string().contains("9 bytes of nothing") && error.to_string().contains(&name), "{error}");
    assert!(disk.contents(&name).is_none() && writer.failure().is_none());
    write(&mut writer, 8..9);
    writer.close().unwrap();
    let opened = reopen(&disk).unwrap();
    opened.verify_base().unwrap();
    assert_eq!((opened.base().unwrap().name, recovered(&opened)), (base_name(1), units(6..9)));
    drop(opened);
    // The threads do the same.
    let writer = go_on(open(disk.clone(), &options).unwrap(), UNIX_MS).unwrap();
    let flusher = Flusher::start(writer, Box::new(|_| ()), Box::new(|_| ())).unwrap();
    for (content, is_taken) in [(&b"no base"[..], false), (b"good base", true)] {
        let (lsn, (name, mut file)) = (flusher.cut(), flusher.new_base_file().unwrap());
        file.write_all_at(0, content).unwrap();
        let (sender, outcome) = std::sync::mpsc::channel();
        flusher.install_base(NewBase { name, lsn }, Box::new(move |outcome| sender.send(outcome).unwrap()));
        assert_eq!(outcome.recv().unwrap().is_ok(), is_taken);
    }
    flusher.close().unwrap();
    reopen(&disk).unwrap().verify_base().unwrap();
}

/// A log that waits for its base, with a unit that is durable, and that base, which lacks nothing but its name.
fn before_the_name(disk: &SimDisk) -> (Flusher<SimDisk>, PreparedBase, Lsn) {
    let folder = open(disk.clone(), &Options::default()).unwrap().into_folder();
    let writer = folder.begin(Begin::WaitsForBase, UNIX_MS).unwrap();
    let flusher = Flusher::start(writer, Box::new(|_| ()), Box::new(|_| ())).unwrap();
    let (lsn, (name, mut file)) = (flusher.cut(), flusher.new_base_file().unwrap());
    file.write_all_at(0, b"base").unwrap();
    let (sender, prepared) = std::sync::mpsc::channel();
    flusher.prepare_base(NewBase { name, lsn }, Box::new(move |outcome| sender.send(outcome).unwrap()));
    let prepared = prepared.recv().unwrap().unwrap();
    let end = flusher.append(unit(0), UNIX_MS);
    assert!(flusher.wait_durable(end, None).unwrap() && !flusher.is_visible());
    (flusher, prepared, end)
}

#[test]
fn nothing_is_published_while_the_first_base_gets_its_name() {
    let disk = SimDisk::new();
    let (flusher, prepared, before) = before_the_name(&disk);
    let (sender, named) = std::sync::mpsc::channel();
    disk.pause_at(disk.operations());
    let during = flusher.append(unit(1), UNIX_MS);
    flusher.name_base(prepared, Box::new(move |outcome| sender.send(outcome).unwrap()));
    disk.wait_paused();
    flusher.append(unit(2), UNIX_MS);
    assert_eq!((flusher.durable(), flusher.is_visible()), (before, false));
    disk.resume();
    named.recv().unwrap().unwrap();
    assert!(flusher.is_visible() && flusher.wait_durable(during, None).unwrap());
    assert!(recovered(&reopen(&disk.crash_image(1)).unwrap()).starts_with(&units(0..2)));
    flusher.close().unwrap();
    assert_eq!(recovered(&reopen(&disk).unwrap()), units(0..3));
}

#[test]
fn a_log_whose_first_base_gets_no_name_goes_on_waiting_for_one() {
    // What fails may be another thread's: then the base has its name.
    while !a_failed_name_leaves_the_log_waiting() {}
}

/// Has one operation fail; `false` if that was none of naming the base.
fn a_failed_name_leaves_the_log_waiting() -> bool {
    let disk = SimDisk::new();
    let (flusher, prepared, _) = before_the_name(&disk);
    let (sender, named) = std::sync::mpsc::channel();
    disk.fail_at(disk.operations(), libc::ENOSPC, Effect::None);
    flusher.name_base(prepared, Box::new(move |outcome| sender.send(outcome).unwrap()));
    if named.recv().unwrap().is_ok() {
        return false;
    }
    assert!(!flusher.is_visible() && flusher.error().is_none());
    let after = flusher.append(unit(1), UNIX_MS);
    assert!(flusher.wait_durable(after, None).unwrap());
    flusher.close().unwrap().remove_leftovers();
    assert!(disk.names().is_empty(), "{:?}", disk.names());
    true
}

#[test]
fn the_checksum_is_that_of_the_whole_base_whatever_was_looked_at() {
    let disk = two_segments();
    let looks_at_three = |base: &mut dyn Read| base.read_exact(&mut [0; 3]).map_err(|error| error.to_string());
    let options = Options { check_base: looks_at_three, ..Options::default() };
    let mut writer = go_on(open(disk.clone(), &options).unwrap(), UNIX_MS).unwrap();
    checkpoint(&mut writer, &[b'x'; 100_000]);
    drop(writer);
    assert_eq!(reopen(&disk).unwrap().base().unwrap().bytes, 100_000);
    reopen(&disk).unwrap().verify_base().unwrap();
}

#[test]
fn a_cut_of_a_segment_without_frames_changes_nothing() {
    let disk = SimDisk::new();
    let mut writer = writer_of(&disk);
    assert_eq!((writer.cut().unwrap(), writer.cut().unwrap()), (Lsn::ZERO, Lsn::ZERO));
    assert_eq!(disk.names().len(), 2);
    write(&mut writer, 0..1);
    assert_eq!(writer.cut().unwrap(), writer.cut().unwrap());
    assert_eq!(disk.names().len(), 3);
}

#[test]
fn a_log_that_waits_for_its_base_leaves_the_old_one_in_place() {
    for old in [SimDisk::new(), two_segments()] {
        let before = if reopen(&old).unwrap().is_empty() { Vec::new() } else { units(0..6) };
        let folder = reopen(&old).unwrap().into_folder();
        let (end, generation) = (folder.end(), folder.generation());
        let mut writer = folder.begin(Begin::WaitsForBase, UNIX_MS).unwrap();
        assert!(writer.waits_for_base() && writer.appended() == end);
        assert_ne!(Some(writer.generation()), generation);
        write(&mut writer, 10..13);
        // Killed, and closed: the old log stands.
        for disk in [old.restart_image(), {
            writer.close().unwrap();
            old.restart_image()
        }] {
            let opened = reopen(&disk).unwrap();
            assert_eq!((opened.generation(), recovered(&opened)), (generation, before.clone()));
            assert!(!go_on(opened, UNIX_MS).unwrap().waits_for_base());
            assert!(reopen(&disk.restart_image()).unwrap().leftovers().is_empty());
        }
    }
}

#[test]
fn a_log_appears_together_with_its_first_base() {
    let disk = two_segments();
    let old = reopen(&disk).unwrap().generation();
    let folder = reopen(&disk).unwrap().into_folder();
    let mut writer = folder.begin(Begin::WaitsForBase, UNIX_MS).unwrap();
    write(&mut writer, 10..12);
    let lsn = writer.cut().unwrap();
    write(&mut writer, 12..14);
    let name = base_file(&mut writer, b"base");
    writer.install_base(&NewBase { name, lsn }).unwrap();
    assert!(!writer.waits_for_base());
    write(&mut writer, 14..16);
    let generation = writer.generation();
    drop(writer);
    let opened = reopen(&disk.restart_image()).unwrap();
    assert_eq!(opened.generation(), Some(generation));
    assert!(generation.counter > old.unwrap().counter);
    assert_eq!((opened.base().unwrap().lsn, recovered(&opened)), (lsn, units(12..16)));
    assert!(opened.leftovers().is_empty(), "{:?}", opened.leftovers());
}

#[test]
fn a_pending_log_that_is_closed_beside_its_unnamed_base_is_none() {
    let disk = SimDisk::new();
    let mut writer = reopen(&disk).unwrap().into_folder().begin(Begin::WaitsForBase, UNIX_MS).unwrap();
    write(&mut writer, 0..2);
    let name = base_file(&mut writer, b"dataset");
    // What makes the base durable gives it its name; the log is closed before a manifest has it.
    disk.rename(&name, &base_name(1)).unwrap();
    drop(writer.close().unwrap());
    let opened = reopen(&disk).unwrap();
    assert!(opened.is_empty());
    drop(opened.into_folder().begin(Begin::Empty, UNIX_MS).unwrap());
}

#[test]
fn frames_of_a_newer_log_outlive_an_older_backup() {
    let disk = two_segments();
    let backup: Vec<_> = disk.names().into_iter().map(|name| (disk.contents(&name), name)).collect();
    let folder = reopen(&disk).unwrap().into_folder();
    let mut writer = folder.begin(Begin::WaitsForBase, UNIX_MS).map_err(|not_begun| not_begun.error).unwrap();
    let (lsn, name) = (writer.cut().unwrap(), base_file(&mut writer, b"base"));
    write(&mut writer, 10..12);
    writer.install_base(&NewBase { name, lsn }).unwrap();
    writer.remove_leftovers();
    drop(writer);
    let newer: Vec<_> = disk.names().into_iter().filter_map(|name| disk.contents(&name)).collect();
    let with_frames: Vec<_> = newer.into_iter().filter(|bytes| find(bytes, &unit(11))).collect();
    assert_eq!(with_frames.len(), 1);
    for (bytes, name) in &backup {
        disk.put(name, bytes.as_ref().unwrap());
    }
    for _ in 0..2 {
        let writer = writer_of(&disk);
        drop(writer);
        assert_eq!(recovered(&reopen(&disk).unwrap()), units(0..6), "the backup's");
        let kept = disk.names().into_iter().filter(|name| name.starts_with("cut-"));
        let kept: Vec<_> = kept.filter_map(|name| disk.contents(&name)).collect();
        assert_eq!(kept, with_frames);
    }
}

fn find(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn a_base_that_is_given_up_before_its_file_is_there_leaves_none() {
    for early in 0..3 {
        let disk = SimDisk::new();
        let flusher = Flusher::start_stepped(writer_of(&disk), Box::new(|_| {}), Box::new(|_| {})).unwrap();
        let steps = flusher.steps().unwrap();
        let (sender, created) = std::sync::mpsc::channel();
        let name = flusher.create_base_file(Box::new(move |file| sender.send(file.is_ok()).unwrap())).unwrap();
        assert!(disk.contents(&name).is_none() && created.try_recv().is_err(), "the caller has waited for the disk");
        for _ in 0..early {
            steps.tidy();
        }
        flusher.remove_base_file(name.clone());
        assert!(flusher.has_given_up(&name));
        while steps.tidy() {}
        assert!(created.recv().unwrap());
        assert!(disk.contents(&name).is_none() && !flusher.has_given_up(&name), "{early}");
        flusher.close().unwrap();
    }
}
