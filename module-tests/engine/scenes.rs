//! The transitions of a folder, each with the states that a start may find when it is cut short.

use crate::support::*;
use crate::transitions::{Mark, Scene, State, begin, options, valid, write_unit};
use std::io::Read;
use valkey_wbl::log::sim::SimDisk;
use valkey_wbl::log::{Begin, Left, LogError, NewBase, Opened, Options, Standing, Verdict, open};

/// A log of six units that a crash left, all of them durable.
fn crashed() -> SimDisk {
    two_open_segments().crash_image(1)
}

/// The same, torn.
fn torn() -> SimDisk {
    let disk = crashed();
    edit(&disk, "appendonly.aof.2.incr.aof", |bytes| bytes.extend_from_slice(b"#torn"));
    disk
}

fn first_start(disk: &SimDisk, first: &mut usize) -> Result<(), LogError> {
    let mut writer = begin(disk, Begin::Empty)?;
    *first = 1;
    for number in 0..2 {
        write_unit(&mut writer, number)?;
        *first = number + 2;
    }
    writer.close().map(drop)
}

/// Begins a log on a dataset of the units 20 to 22, which get a base while 23 is written.
fn begin_on_data(disk: &SimDisk, first: &mut usize) -> Result<(), LogError> {
    let mut writer = begin(disk, Begin::WaitsForBase)?;
    write_unit(&mut writer, 22)?;
    let lsn = writer.cut()?;
    let name = base_of(&mut writer, &units(20..23))?;
    write_unit(&mut writer, 23)?;
    writer.install_base(&NewBase { name, lsn })?;
    assert!(!writer.waits_for_base());
    *first = 1;
    write_unit(&mut writer, 24)?;
    *first = 2;
    drop(writer);
    Ok(())
}

fn begin_on_data_states(old: State) -> Vec<State> {
    vec![old, valid(units(20..24)), valid(units(20..25))]
}

fn rotations(disk: &SimDisk, first: &mut usize) -> Result<(), LogError> {
    let mut writer = go_on(open(disk.clone(), &options())?, UNIX_MS)?;
    for number in 6..12 {
        write_unit(&mut writer, number)?;
        *first = number - 5;
    }
    assert!(writer.statistics().failed_rotations() > 0 || disk.names().len() > 4, "segments were left");
    drop(writer);
    Ok(())
}

/// The same with each segment written ahead; the last one is cut before it is full.
fn rotations_ahead(disk: &SimDisk, first: &mut usize) -> Result<(), LogError> {
    rotate_ahead(open(disk.clone(), &options())?, first)
}

/// The same past the page cache.
fn rotations_direct(disk: &SimDisk, first: &mut usize) -> Result<(), LogError> {
    rotate_ahead(open(disk.clone(), &Options { direct_block_bytes: Some(512), ..options() })?, first)
}

fn rotate_ahead(opened: Opened<SimDisk>, first: &mut usize) -> Result<(), LogError> {
    let mut writer = go_on(opened, UNIX_MS)?;
    for number in 6..12 {
        // A log that cannot have one goes on without.
        let _ = writer.write_ahead();
        write_unit(&mut writer, number)?;
        *first = number - 5;
    }
    writer.cut()?;
    writer.write_ahead()?;
    write_unit(&mut writer, 12)?;
    *first = 7;
    writer.write_ahead()?;
    writer.close().map(drop)
}

fn checkpoint(disk: &SimDisk, first: &mut usize) -> Result<(), LogError> {
    let mut writer = go_on(open(disk.clone(), &options())?, UNIX_MS)?;
    for round in 0..2 {
        let lsn = writer.cut()?;
        let name = base_of(&mut writer, &units(0..6 + round))?;
        write_unit(&mut writer, 6 + round)?;
        *first = round + 1;
        writer.install_base(&NewBase { name, lsn })?;
    }
    writer.close().map(drop)
}

/// The same, with what the bases take the place of kept, and given up.
fn kept_checkpoints(disk: &SimDisk, first: &mut usize) -> Result<(), LogError> {
    let mut writer = go_on(open(disk.clone(), &options())?, UNIX_MS)?;
    writer.keep_history(true);
    for round in 0..3 {
        let lsn = writer.cut()?;
        let name = base_of(&mut writer, &units(0..6 + round))?;
        write_unit(&mut writer, 6 + round)?;
        *first = round + 1;
        writer.install_base(&NewBase { name, lsn })?;
        if round == 1 {
            writer.trim_history(UNIX_MS + 1);
        }
    }
    writer.close().map(drop)
}

/// Room is held for a base, more of it, lent to one, held again, and given up.
fn holding_room(disk: &SimDisk, first: &mut usize) -> Result<(), LogError> {
    let mut writer = go_on(open(disk.clone(), &options())?, UNIX_MS)?;
    writer.keep_reserve(300)?;
    write_unit(&mut writer, 6)?;
    *first = 1;
    writer.keep_reserve(700)?;
    let lsn = writer.cut()?;
    let name = base_of(&mut writer, &units(0..7))?;
    write_unit(&mut writer, 7)?;
    *first = 2;
    writer.install_base(&NewBase { name, lsn })?;
    writer.keep_reserve(400)?;
    writer.keep_reserve(0)?;
    writer.keep_reserve(500)?;
    writer.close().map(drop)
}

/// Whether a base holds units, as those of these scenes do.
fn holds_units(base: &mut dyn Read) -> Result<(), String> {
    let mut content = Vec::new();
    base.read_to_end(&mut content).map_err(|error| error.to_string())?;
    if content == units(0..7) { Ok(()) } else { Err("these are no units".into()) }
}

/// A base that is none, and one that is.
fn refused_checkpoint(disk: &SimDisk, first: &mut usize) -> Result<(), LogError> {
    let options = Options { check_base: holds_units, ..options() };
    let mut writer = go_on(open(disk.clone(), &options)?, UNIX_MS)?;
    let lsn = writer.cut()?;
    let name = base_of(&mut writer, b"other bytes")?;
    write_unit(&mut writer, 6)?;
    *first = 1;
    match writer.install_base(&NewBase { name: name.clone(), lsn }) {
        Err(LogError::BadBase { .. }) => assert!(writer.failure().is_none()),
        Err(error) => return Err(error),
        Ok(()) => panic!("a base took the log's place that is none"),
    }
    write_unit(&mut writer, 7)?;
    *first = 2;
    writer.close().map(drop)
}

fn close(disk: &SimDisk, first: &mut usize) -> Result<(), LogError> {
    let mut writer = go_on(open(disk.clone(), &options())?, UNIX_MS)?;
    write_unit(&mut writer, 6)?;
    *first = 1;
    let folder = writer.close()?;
    if folder.seal_error().is_none() {
        // Whatever is missing at the end is missed then.
        let closed = disk.restart_image();
        let name = closed.names().into_iter().rfind(|name| name.ends_with(".incr.aof")).unwrap();
        edit(&closed, &name, |bytes| bytes.truncate(bytes.len() - unit(6).len()));
        assert!(matches!(open(closed, &options()), Err(LogError::Damaged { .. })));
    }
    Ok(())
}

fn restart(disk: &SimDisk, _: &mut usize) -> Result<(), LogError> {
    let prepared = open(disk.clone(), &options())?.prepare(UNIX_MS)?;
    assert_eq!(dataset(&prepared)?, units(0..6));
    let was_torn = matches!(prepared.verdict(), Verdict::TornTail { .. });
    drop(prepared.start()?);
    let kept = disk.names().iter().filter(|name| name.starts_with("cut-")).map(|name| disk.contents(name)).next_back();
    assert_eq!(kept.flatten(), was_torn.then(|| b"#torn".to_vec()), "what is cut is kept aside");
    Ok(())
}

fn give_up(disk: &SimDisk, _: &mut usize) -> Result<(), LogError> {
    drop(open(disk.clone(), &options())?.prepare(UNIX_MS)?);
    Ok(())
}

fn pending_then_closed(disk: &SimDisk, _: &mut usize) -> Result<(), LogError> {
    let mut writer = begin(disk, Begin::WaitsForBase)?;
    write_unit(&mut writer, 22)?;
    writer.cut()?;
    write_unit(&mut writer, 23)?;
    writer.close().map(drop)
}

fn upgrade(disk: &SimDisk, first: &mut usize) -> Result<(), LogError> {
    let mut writer = go_on(open(disk.clone(), &options())?, UNIX_MS)?;
    write_unit(&mut writer, 7)?;
    *first = 1;
    let lsn = writer.cut()?;
    let name = base_of(&mut writer, &units(0..8))?;
    writer.install_base(&NewBase { name, lsn })?;
    writer.close().map(drop)
}

fn supersede(disk: &SimDisk, first: &mut usize) -> Result<(), LogError> {
    let mut opened = open(disk.clone(), &options())?;
    opened.supersede()?;
    *first = 1;
    Ok(())
}

/// What a mark says of a log that was left.
pub fn beside_a_file() -> Left {
    Left::new(UNIX_MS, "rdb:120:0000beef").unwrap()
}

fn leave(disk: &SimDisk, first: &mut usize) -> Result<(), LogError> {
    let mut folder = open(disk.clone(), &options())?.into_folder();
    folder.mark(Standing::Left(beside_a_file()))?;
    *first = 1;
    Ok(())
}

fn close_and_leave(disk: &SimDisk, first: &mut usize) -> Result<(), LogError> {
    let mut writer = go_on(open(disk.clone(), &options())?, UNIX_MS)?;
    write_unit(&mut writer, 6)?;
    *first = 1;
    let mut folder = writer.close_as(Standing::Left(beside_a_file()))?;
    // Where its end could not be marked that is owed.
    folder.mark(Standing::Left(beside_a_file()))?;
    *first = 2;
    Ok(())
}

fn take_up(disk: &SimDisk, first: &mut usize) -> Result<(), LogError> {
    let writer = go_on(open(disk.clone(), &options())?, UNIX_MS)?;
    *first = 1;
    drop(writer);
    Ok(())
}

fn left() -> SimDisk {
    let disk = crashed();
    leave(&disk, &mut 0).unwrap();
    disk.crash_image(3)
}

fn replace_empty(disk: &SimDisk, first: &mut usize) -> Result<(), LogError> {
    let mut writer = begin(disk, Begin::Empty)?;
    *first = 1;
    write_unit(&mut writer, 30)?;
    *first = 2;
    drop(writer);
    Ok(())
}

fn superseded() -> SimDisk {
    let disk = crashed();
    open(disk.clone(), &options()).unwrap().supersede().unwrap();
    disk.crash_image(2)
}

fn growing(units_before: usize, units_after: usize) -> Vec<State> {
    (units_before..=units_after).map(|count| valid(units(0..count))).collect()
}

pub fn scenes() -> Vec<Scene> {
    let scene = |name, before, states, run| Scene { name, before, states, run };
    let old = || valid(units(0..6));
    let aside = |count| Some((units(0..count), Mark::Left));
    let marked = Some((units(0..6), Mark::Superseded));
    let format_1_torn = format_1(b"#torn by a crash of version 0.1");
    vec![
        scene("first start, empty", SimDisk::new(), [vec![None], growing(0, 2)].concat(), first_start),
        scene("first start, on data", SimDisk::new(), begin_on_data_states(None), begin_on_data),
        scene("first start, on data, ended", SimDisk::new(), vec![None], pending_then_closed),
        scene("rotations", crashed(), growing(6, 12), rotations),
        scene("rotations into segments written ahead", crashed(), growing(6, 13), rotations_ahead),
        scene("rotations into segments written directly", crashed(), growing(6, 13), rotations_direct),
        scene("checkpoints", crashed(), growing(6, 8), checkpoint),
        scene("checkpoints, with history", crashed(), growing(6, 9), kept_checkpoints),
        scene("holding room for a checkpoint", crashed(), growing(6, 8), holding_room),
        scene("a checkpoint that is refused", crashed(), growing(6, 8), refused_checkpoint),
        scene("close", crashed(), growing(6, 7), close),
        scene("restart after a close", two_segments().crash_image(1), vec![old()], restart),
        scene("restart after a crash", crashed(), vec![old()], restart),
        scene("restart after a torn write", torn(), vec![old()], restart),
        scene("a start that is given up", torn(), vec![old()], give_up),
        scene("a new log on data", torn(), begin_on_data_states(old()), begin_on_data),
        scene("a new log on data, ended", torn(), vec![old()], pending_then_closed),
        scene("a new log, empty", torn(), vec![old(), valid(Vec::new()), valid(unit(30))], replace_empty),
        scene("superseding", torn(), vec![old(), marked.clone()], supersede),
        scene("a new log after superseding", superseded(), begin_on_data_states(marked), begin_on_data),
        scene("leaving", torn(), vec![old(), aside(6)], leave),
        scene("closing and leaving", crashed(), [growing(6, 7), vec![aside(7)]].concat(), close_and_leave),
        scene("going on with a log that was left", left(), vec![aside(6), old()], take_up),
        scene("a new log beside one that was left", left(), begin_on_data_states(aside(6)), begin_on_data),
        scene("upgrade from format 1", format_1(b""), growing(7, 8), upgrade),
        scene("upgrade from a torn format 1", format_1_torn.restart_image(), growing(7, 8), upgrade),
        scene("a new log over format 1", format_1_torn, begin_on_data_states(valid(units(0..7))), begin_on_data),
    ]
}
