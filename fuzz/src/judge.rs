//! What must be true of any folder, whatever its files hold.

use crate::Files;
use std::ops::ControlFlow;
use valkey_wbl::log::resp::push_command;
use valkey_wbl::log::sim::SimDisk;
use valkey_wbl::log::{Batch, LogError, LogView, Opened, Options, open};

const UNIX_MS: u64 = 1_700_000_000_000;

fn assert_known(error: &LogError) {
    let is_known = match error {
        LogError::Damaged { .. } | LogError::ForeignFolder { .. } | LogError::UnsupportedVersion { .. } => true,
        // Positions or numbers of segments have come to their end.
        LogError::Refused { .. } => true,
        _ => false,
    };
    assert!(is_known, "{error:?}");
}

/// Opens the folder, reads it by both readers, goes on with it, and opens it again.
pub fn judge(files: &Files) {
    let disk = SimDisk::new();
    files.iter().for_each(|(name, bytes)| disk.put(name, bytes));
    let viewed = view(&disk);
    let opened = match open(disk.clone(), &Options::default()) {
        Ok(opened) => opened,
        Err(error) => {
            assert_known(&error);
            // Files without a manifest are no log to look at.
            assert!(!matches!(viewed, Ok(Some(_))), "only one reader finds damage: {error}");
            return;
        }
    };
    let bytes: usize = files.values().map(Vec::len).sum();
    assert!(opened.examined_bytes() <= 8 * bytes as u64 + 1000, "{} of {bytes} bytes", opened.examined_bytes());
    if opened.is_empty() {
        return;
    }
    let before = frames(&opened);
    match viewed {
        Ok(viewed) => assert!(viewed.as_ref() == Some(&before), "two readers read different logs"),
        Err(error) => panic!("only one reader finds damage: {error}"),
    }
    if let Err(error) = opened.verify_base() {
        assert_known(&error);
    }
    go_on(&disk, opened, before);
}

/// The payloads of all frames.
fn frames(opened: &Opened<SimDisk>) -> Vec<u8> {
    let (mut frames, mut payload, mut all) = (opened.frames(), Vec::new(), Vec::new());
    while frames.next_frame(&mut payload).expect("it was verified").is_some() {
        all.extend_from_slice(&payload);
    }
    assert!(all.len() as u64 <= opened.log_bytes());
    all
}

/// The same by the reader of logs that a server may be writing to.
fn view(disk: &SimDisk) -> Result<Option<Vec<u8>>, LogError> {
    let Some(view) = LogView::of(disk.clone())? else { return Ok(None) };
    let (mut walk, mut payload, mut all) = (view.walk(), Vec::new(), Vec::new());
    while walk.next_frame(&mut payload)?.is_some() {
        all.extend_from_slice(&payload);
    }
    view.leftovers(walk.segments())?;
    let mut units = 0;
    // Frames that are whole may hold anything, where somebody has signed it.
    let read = view.walk().each_unit(|unit| {
        assert!(unit.start < unit.end);
        units += unit.commands().count();
        Ok::<_, LogError>(ControlFlow::Continue(()))
    });
    read.err().iter().for_each(assert_known);
    Ok(Some(all))
}

fn go_on(disk: &SimDisk, opened: Opened<SimDisk>, before: Vec<u8>) {
    let started = opened.prepare(UNIX_MS).and_then(|prepared| prepared.start());
    let mut writer = match started {
        Ok(writer) => writer,
        Err(error) => {
            assert_known(&error);
            let again = open(disk.clone(), &Options::default()).expect("what could not go on is as it was");
            assert!(frames(&again) == before);
            return;
        }
    };
    writer.remove_leftovers();
    let mut unit = Vec::new();
    push_command(&mut unit, &[b"SET", b"key", b"value"]);
    let start = writer.appended();
    let appended = writer.append(Batch { start, payload: &unit, unix_ms: UNIX_MS });
    let written = appended.and_then(|_| writer.sync().map(|_| ()));
    drop(writer);
    let again = open(disk.clone(), &Options::default()).expect("a log that went on is whole");
    let expected = if written.is_ok() { [before, unit].concat() } else { before };
    assert!(frames(&again) == expected, "what was recovered is not what is there");
}
