//! Which of a log that was left and the server's own files is newer.
#![allow(clippy::unwrap_used)]
use super::file::Saved;
use super::note::{AOF, Note, Noted, Prefixes};
use super::*;
use crate::machine::unix_ms;

const LEFT_S: u64 = 1_000;

fn left(note: &str) -> Left {
    Left::new(LEFT_S * 1000 + 500, note).unwrap()
}

fn noted(file: OwnFile) -> String {
    note(file.noted().into_iter().collect(), None).text()
}

fn note(files: Vec<Noted>, saving_since_s: Option<u64>) -> Note {
    Note { files, saving_since_s, ..Note::default() }
}

/// A file that was put there after the log was left.
fn rdb(crc32c: u32, begun_s: u64) -> OwnFile {
    OwnFile::Rdb {
        bytes: 90,
        crc32c,
        begun_s: Some(begun_s),
        inode: 5,
        touched_ms: LEFT_S * 1000 + 600,
        is_empty: false,
    }
}

/// A file that was there before the log was left.
fn untouched_rdb() -> OwnFile {
    OwnFile::Rdb { bytes: 1, crc32c: 1, begun_s: Some(LEFT_S), inode: 5, touched_ms: LEFT_S * 1000, is_empty: false }
}

fn aof(crc32c: u32, bytes: u64, changed_s: u64) -> OwnFile {
    let changed_ms = changed_s.saturating_mul(1000);
    OwnFile::Aof { crc32c, bytes, prefixes: prefixes(b"*2"), changed_ms, saved: None }
}

/// One without anything after its base, which was put there after the log was left.
fn rewritten(begun_s: Option<u64>, inode: u64) -> OwnFile {
    let saved = Some(Saved { begun_s, inode, bytes: 90, prefixes: prefixes(b"VALKEY080"), is_empty: false });
    OwnFile::Aof { crc32c: 8, bytes: 0, prefixes: prefixes(b""), changed_ms: LEFT_S * 1000 + 600, saved }
}

fn prefixes(begins: &[u8]) -> Prefixes {
    Prefixes::of(9, &begins.repeat(8))
}

#[test]
fn the_file_that_was_there_is_not_newer_whatever_its_times() {
    for begun_s in [0, LEFT_S, LEFT_S + 100] {
        assert_eq!(rdb(7, begun_s).or_log(&left(&noted(rdb(7, 1)))), Newer::Log);
        assert_eq!(aof(7, 90, begun_s).or_log(&left(&noted(aof(7, 90, 1)))), Newer::Log);
        assert_eq!(aof(7, 89, begun_s).or_log(&left(&noted(aof(7, 90, 1)))), Newer::Log, "its end was lost");
    }
    assert_eq!(OwnFile::None.or_log(&left(&noted(rdb(7, 1)))), Newer::Log);
}

#[test]
fn what_a_server_that_has_less_appends_is_not_newer() {
    let lacking = format!("{}:lacking", noted(aof(7, 90, 1)));
    assert_eq!(aof(7, 99, LEFT_S + 100).or_log(&left(&lacking)), Newer::Log, "keys have expired");
    assert_eq!(aof(8, 99, LEFT_S + 100).or_log(&left(&lacking)), Newer::Unknown, "another one");
    assert_eq!(aof(7, 99, LEFT_S + 100).or_log(&left(&noted(aof(7, 90, 1)))), Newer::OwnFile);
}

#[test]
fn before_the_time_of_the_mark_nobody_knows() {
    let ahead = Left::new(unix_ms() + 3_600_000, &noted(rdb(7, 1))).unwrap();
    assert_eq!((rdb(8, LEFT_S).or_log(&ahead), aof(8, 9, LEFT_S).or_log(&ahead)), (Newer::Unknown, Newer::Unknown));
    assert_eq!(rdb(7, LEFT_S).or_log(&ahead), Newer::Log);
}

#[test]
fn a_file_that_was_saved_since_is_newer() {
    for note in [noted(OwnFile::None), noted(rdb(7, 1)), noted(aof(8, 90, 1)), "what: is this".replace(' ', "")] {
        for time_s in [LEFT_S - 1, LEFT_S, LEFT_S + 1, u64::MAX] {
            assert_eq!(rdb(8, time_s).or_log(&left(&note)), Newer::OwnFile, "{note}");
        }
        assert_eq!(aof(8, 91, LEFT_S + 1).or_log(&left(&note)), Newer::OwnFile, "{note}");
        assert_eq!(rdb(8, LEFT_S - 2).or_log(&left(&note)), Newer::Unknown, "{note}");
        // Nobody has written to it since.
        assert_eq!(aof(8, 91, LEFT_S - 2).or_log(&left(&note)), Newer::Log, "{note}");
    }
    let without_time =
        OwnFile::Rdb { bytes: 1, crc32c: 1, begun_s: None, inode: 5, touched_ms: u64::MAX, is_empty: false };
    assert_eq!(without_time.or_log(&left("none")), Newer::Unknown);
}

#[test]
fn a_file_that_a_child_was_saving_is_not_newer() {
    let note = format!("{}:saving:{}", noted(rdb(7, 1)), LEFT_S - 5);
    for begun_s in LEFT_S - 6..=LEFT_S - 4 {
        assert_eq!(rdb(8, begun_s).or_log(&left(&note)), Newer::Log);
        let both = [rdb(8, begun_s), rdb(7, 1)].into_iter().filter_map(OwnFile::noted).collect();
        assert_eq!(
            renewed(&note, rdb(8, begun_s), OwnFile::None),
            left(&Note { files: both, ..Note::default() }.text())
        );
    }
    let renamed = format!("{}:temp:4:temp:5", noted(rdb(7, 1)));
    assert_eq!(rdb(8, LEFT_S - 60).or_log(&left(&renamed)), Newer::Log, "whoever was saving it");
    assert_eq!(rdb(8, LEFT_S + 1).or_log(&left(&renamed)), Newer::OwnFile, "the number was used again");
    assert!(was_saving(&left(&renamed)));
    assert_eq!(rdb(8, LEFT_S - 7).or_log(&left(&note)), Newer::Unknown);
    assert_eq!(rdb(8, LEFT_S).or_log(&left(&note)), Newer::OwnFile);
    let began_just_now = format!("none:saving:{LEFT_S}");
    assert_eq!(rdb(8, LEFT_S).or_log(&left(&began_just_now)), Newer::Log);
    assert_eq!(rdb(8, LEFT_S + 1).or_log(&left(&began_just_now)), Newer::OwnFile);
    assert!(was_saving(&left(&note)) && !was_saving(&left("none")));
    // If nobody sees its end, it may be a later one.
    let unwatched = left(&format!("{began_just_now}:unwatched"));
    assert_eq!(rdb(8, LEFT_S).or_log(&unwatched), Newer::Unknown);
    assert_eq!(rdb(8, LEFT_S + 1).or_log(&unwatched), Newer::OwnFile);
}

#[test]
fn what_is_saved_after_a_child_has_ended_is_newer_in_the_same_second() {
    for note in [format!("none:saving:{LEFT_S}"), format!("none:temp:5:at:{LEFT_S}")] {
        let renewed = renewed(&note, rdb(8, LEFT_S), OwnFile::None);
        assert!(!was_saving(&renewed), "{note}");
        assert_eq!(rdb(8, LEFT_S).or_log(&renewed), Newer::Log, "{note}");
        assert_eq!(rdb(9, LEFT_S).or_log(&renewed), Newer::OwnFile, "{note}");
    }
    // What was appended to an AOF meanwhile may be newer than the log.
    let renewed = |aof| renewed(&format!("none:saving:{LEFT_S}"), OwnFile::None, aof);
    let appended = aof(8, 90, LEFT_S + 1);
    assert_eq!(appended.or_log(&renewed(appended)), Newer::OwnFile);
    let alone = rewritten(Some(LEFT_S), 6);
    assert_eq!(alone.or_log(&renewed(alone)), Newer::Log);
}

/// What a mark becomes when a child has ended, beside these files.
fn renewed(note: &str, rdb: OwnFile, aof: OwnFile) -> Left {
    match without_child(&left(note), OwnFiles { rdb, aof, loads_aof: false }) {
        Standing::Left(left) => left,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_aof_to_which_nothing_was_appended_is_as_old_as_its_base() {
    let unfinished = format!("{}:temp:77:at:{}", noted(aof(7, 90, 1)), LEFT_S - 5);
    let newer = |begun_s, inode| rewritten(begun_s, inode).or_log(&left(&unfinished));
    assert_eq!(newer(Some(LEFT_S - 5), 77), Newer::Log, "a child was writing it");
    assert_eq!(newer(Some(LEFT_S - 5), 4), Newer::Log, "a copy of that");
    assert_eq!(newer(Some(LEFT_S - 60), 4), Newer::Unknown);
    assert_eq!(newer(Some(LEFT_S + 1), 77), Newer::OwnFile, "the number was used again");
    assert_eq!((newer(None, 77), newer(None, 4)), (Newer::Unknown, Newer::OwnFile), "nobody knows its time");
    let alone = Noted { kind: AOF, bytes: 90, crc32c: 1, prefix: prefixes(b"VALKEY080").longest() };
    let noted_alone = |bytes| note(vec![Noted { bytes, ..alone }], None).text();
    assert_eq!(rewritten(None, 4).or_log(&left(&noted_alone(90))), Newer::Log);
    assert_eq!(rewritten(None, 4).or_log(&left(&noted_alone(91))), Newer::OwnFile, "another one");
}

#[test]
fn an_aof_that_begins_otherwise_is_another() {
    let anew = |begins: &[u8], changed_ms| {
        let prefixes = Prefixes::of(9, begins);
        OwnFile::Aof { crc32c: 7, bytes: 30, prefixes, changed_ms, saved: None }.or_log(&left(&noted(aof(7, 90, 1))))
    };
    let later_ms = LEFT_S * 1000 + 600;
    assert_eq!(anew(&b"*2".repeat(8), later_ms), Newer::Log, "its end was lost");
    assert_eq!(anew(&b"*3".repeat(8), later_ms), Newer::OwnFile);
    assert_eq!(anew(b"*2", later_ms), Newer::OwnFile, "too short to be compared, and written to");
    assert_eq!(anew(b"*2", 0), Newer::Log, "not written to");
    let without = noted(aof(7, 90, 1)).split(":head").next().unwrap().to_owned();
    assert_eq!(aof(7, 30, LEFT_S + 9).or_log(&left(&without)), Newer::Log, "an earlier version's note");
}

#[test]
fn a_copy_of_what_was_being_saved_is_not_newer() {
    let note = format!("none:temp:77:at:{}", LEFT_S - 2);
    for begun_s in [LEFT_S - 2, LEFT_S - 1] {
        assert_eq!(rdb(8, begun_s).or_log(&left(&note)), Newer::Log);
    }
    assert_eq!(rdb(8, LEFT_S - 3).or_log(&left(&note)), Newer::Unknown);
    assert_eq!(rdb(8, LEFT_S).or_log(&left(&note)), Newer::OwnFile);
    let just_now = format!("none:temp:77:at:{LEFT_S}");
    assert_eq!(rdb(8, LEFT_S).or_log(&left(&just_now)), Newer::OwnFile, "it may have been saved since");
}

#[test]
fn a_file_from_before_is_older_whatever_it_is_called() {
    assert_eq!(untouched_rdb().or_log(&left("none")), Newer::Log);
}

#[test]
fn only_what_was_noted_and_is_loaded_proves_that_nothing_is_newer() {
    let (noted_rdb, noted_aof) = (rdb(7, 1), aof(8, 90, 1));
    let note_of = |files: &[OwnFile]| left(&note(files.iter().filter_map(|file| file.noted()).collect(), None).text());
    let proves = |rdb, aof, loads_aof, left: &Left| OwnFiles { rdb, aof, loads_aof }.none_is_newer(left);
    let rdb_only = note_of(&[noted_rdb]);
    let both = note_of(&[noted_rdb, noted_aof]);
    assert!(proves(noted_rdb, OwnFile::None, false, &rdb_only));
    assert!(proves(noted_rdb, aof(9, 9, LEFT_S - 9), false, &rdb_only), "from before");
    assert!(proves(noted_rdb, noted_aof, false, &both) && proves(noted_rdb, noted_aof, true, &both));
    assert!(!proves(noted_rdb, OwnFile::None, true, &rdb_only), "it loads none");
    assert!(!proves(OwnFile::None, OwnFile::None, false, &left("none")), "it may have another name");
    assert!(!proves(OwnFile::None, OwnFile::None, false, &rdb_only));
    assert!(!proves(noted_rdb, OwnFile::None, false, &both), "the other one may have another name");
    assert!(!proves(noted_rdb, aof(8, 91, LEFT_S + 9), false, &both), "it was written to");
    assert!(!proves(noted_rdb, aof(8, 91, LEFT_S + 9), false, &rdb_only));
    assert!(!proves(rdb(9, LEFT_S - 9), OwnFile::None, false, &rdb_only), "nobody knows");
    assert!(!proves(OwnFile::Unreadable, OwnFile::None, false, &left("unreadable")));
    assert!(!proves(untouched_rdb(), OwnFile::None, false, &rdb_only), "it has another name");
    let saving = left(&format!("{}:saving:{}", noted(noted_rdb), LEFT_S - 5));
    assert!(proves(rdb(8, LEFT_S - 5), OwnFile::None, false, &saving));
}

#[test]
fn what_cannot_be_read_is_not_taken_for_missing() {
    assert_eq!(OwnFile::Unreadable.or_log(&left(&noted(rdb(7, 1)))), Newer::Unknown);
    assert_eq!(OwnFile::Unreadable.or_log(&left("unreadable")), Newer::Log);
    assert_eq!(rdb(8, LEFT_S + 1).or_log(&left("unreadable")), Newer::OwnFile);
}

#[test]
fn the_single_file_of_an_old_aof_counts() {
    let old_aof = |path: &Path| read::aof(&path.join("none"), path, 0).unwrap_or_else(|instead| instead);
    let path = std::env::temp_dir().join(format!("wbl-old-aof-{}", std::process::id()));
    assert_eq!(old_aof(&path), OwnFile::None);
    std::fs::write(&path, "*1").unwrap();
    let before = old_aof(&path);
    assert!(matches!(before, OwnFile::Aof { bytes: 2, .. }), "{before:?}");
    std::fs::write(&path, "*1 and more").unwrap();
    let left = left(&note(before.noted().into_iter().collect(), None).text());
    assert_eq!(old_aof(&path).or_log(&left), Newer::OwnFile);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn both_kinds_of_files_are_known() {
    let files = [rdb(7, 1), aof(8, 90, 1)].into_iter().filter_map(OwnFile::noted).collect();
    let both = left(&note(files, Some(LEFT_S)).text());
    let without = renewed(both.note(), rdb(9, LEFT_S), aof(8, 90, 1));
    for (left, rdb) in [(&both, rdb(7, LEFT_S + 9)), (&without, rdb(9, LEFT_S))] {
        assert_eq!(rdb.or_log(left), Newer::Log);
        assert_eq!(aof(8, 90, LEFT_S + 9).or_log(left), Newer::Log);
        assert_eq!(aof(8, 91, LEFT_S + 9).or_log(left), Newer::OwnFile);
    }
}

#[test]
fn any_file_may_hold_what_was_cut_of_a_log() {
    let cut = |files| left(&Note { is_cut: true, ..note(files, None) }.text());
    for file in [rdb(7, 1), untouched_rdb(), aof(7, 90, 1), rewritten(Some(LEFT_S + 100), 3), OwnFile::Unreadable] {
        for left in [cut(file.noted().into_iter().collect()), left(Left::CUT)] {
            assert_eq!(file.or_log(&left), Newer::Unknown);
            let own = OwnFiles { rdb: file, aof: OwnFile::None, loads_aof: false };
            assert!(!own.none_is_newer(&left) && !own.one_is_newer(&left));
        }
    }
    assert_eq!(OwnFile::None.or_log(&cut(Vec::new())), Newer::Log);
}
