//! The reader over damaged folders of both formats. Whatever becomes of the files: no panic, no hang, never other data;
//! less data only where it cannot have been acknowledged, or where no trace of it is left.
//!
//! `WBL_TIMES=n` makes n times as many random edits, and from 2 on tries every value of every byte; `WBL_SEED=n` makes
//! the random edits of seed n alone.

use crate::support::*;
use std::collections::BTreeMap;
use std::ops::Range;
use valkey_wbl::log::sim::{Random, SimDisk, seeds, times};
use valkey_wbl::log::{Batch, Begin, LogError, LogWriter, MANIFEST_NAME, NewBase, Verdict, segment_name};

/// The values that a byte is set to in the short form, besides those of its own flipped bits.
const BYTES: [u8; 9] = [0, b'\n', b'\r', b' ', b'#', b'.', b'0', b'A', 0xff];
/// Bytes that are lost at once.
const SECTORS: [usize; 3] = [16, 100, 512];

fn is_long() -> bool {
    times() > 1
}

/// A folder, and what is known of it.
struct Folder {
    name: &'static str,
    disk: SimDisk,
    /// The units it holds.
    count: usize,
    /// The files that may be damaged: where nothing binds a file, its damage is not the engine's to notice.
    files: Vec<String>,
    /// The segment whose end may be torn, with its frames and the number of units before it.
    open: Option<Open>,
    /// Frames are bound to their offsets so that nothing is recognised after a byte too many.
    shifts_hide: bool,
}

struct Open {
    name: String,
    units_before: usize,
    /// One to a unit.
    frames: Vec<Range<usize>>,
}

/// What became of a damaged folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Refused,
    Whole,
    Less,
}

type Counts = BTreeMap<(&'static str, Outcome), u64>;

fn write_at(writer: &mut LogWriter<SimDisk>, number: usize, unix_ms: u64) {
    let (start, payload) = (writer.appended(), unit(number));
    writer.append(Batch { start, payload: &payload, unix_ms }).unwrap();
    writer.sync().unwrap();
}

/// A base of three units, a segment of two, and one of four; one of their frames states its time.
fn format_2(is_closed: bool) -> Folder {
    let disk = SimDisk::new().crash_image(u64::from(is_closed));
    let folder = reopen(&disk).unwrap().into_folder();
    let mut writer = folder.begin(Begin::WaitsForBase, UNIX_MS).unwrap();
    write(&mut writer, 0..3);
    let lsn = writer.cut().unwrap();
    let name = base_of(&mut writer, &units(0..3)).unwrap();
    writer.install_base(&NewBase { name, lsn }).unwrap();
    write(&mut writer, 3..5);
    writer.cut().unwrap();
    for number in 5..9 {
        write_at(&mut writer, number, UNIX_MS + if number > 6 { 5000 } else { 0 });
    }
    let name = disk.names().into_iter().rfind(|name| name.ends_with(".incr.aof")).unwrap();
    if is_closed {
        writer.close().unwrap();
    } else {
        drop(writer);
    }
    let frames = frames_of(&disk.contents(&name).unwrap(), |line| 11..line.find('.').unwrap_or(line.len()));
    let open = (!is_closed).then_some(Open { name, units_before: 5, frames });
    let files = disk.names();
    assert_eq!(files.len(), 4, "{files:?}");
    let name = if is_closed { "format 2, closed" } else { "format 2, crashed" };
    Folder { name, disk, count: 9, files, open, shifts_hide: false }
}

fn version_1() -> Folder {
    let disk = format_1(b"");
    let name = segment_name(3);
    let bytes = disk.contents(&name).unwrap();
    let first = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    // The first frame has the whole annotation.
    let second = first + format_1_whole(units(0..5).len() as u64, &unit(5)).len() + unit(5).len();
    let open = Some(Open { name: name.clone(), units_before: 5, frames: vec![first..second, second..bytes.len()] });
    Folder { name: "format 1", disk, count: 7, files: vec![segment_name(2), name], open, shifts_hide: true }
}

/// Where the frames lie; `length` picks the digits of the length out of a line.
fn frames_of(bytes: &[u8], length: impl Fn(&str) -> Range<usize>) -> Vec<Range<usize>> {
    let line_end = |start: usize| start + bytes[start..].iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let (mut frames, mut start) = (Vec::new(), line_end(0));
    while start < bytes.len() {
        let time = if bytes[start..].starts_with(b"#TS:") { line_end(start) } else { start };
        let payload = line_end(time);
        let line = std::str::from_utf8(&bytes[time..payload - 1]).unwrap();
        let digits = &line[length(line)];
        let length = (1..5000).find(|length| base_64(*length, 1) == digits).unwrap() as usize;
        frames.push(start..payload + length);
        start = payload + length;
    }
    frames
}

impl Folder {
    /// The units that must be there after a change of these bytes of a file.
    fn units_kept(&self, file: &str, changed: &Range<usize>, shifts: bool) -> usize {
        let Some(open) = self.open.as_ref().filter(|open| open.name == file) else { return self.count };
        let last = open.frames.last().unwrap();
        // A frame that is whole proves all before it.
        if changed.end <= last.start && !(shifts && (self.shifts_hide || changed.start == last.start)) {
            return self.count;
        }
        open.units_before + open.frames.iter().filter(|frame| frame.end <= changed.start).count()
    }

    /// Opens a damaged folder and judges what is read.
    fn judge(&self, disk: &SimDisk, kept_min: usize, case: impl Fn() -> String) -> Outcome {
        let opened = match reopen(disk) {
            Ok(opened) => opened,
            Err(error) => {
                let is_known = matches!(
                    error,
                    LogError::Damaged { .. } | LogError::ForeignFolder { .. } | LogError::UnsupportedVersion { .. }
                );
                assert!(is_known, "{}: {error}", case());
                return Outcome::Refused;
            }
        };
        let bytes: usize = self.files.iter().filter_map(|name| disk.contents(name)).map(|bytes| bytes.len()).sum();
        assert!(opened.examined_bytes() <= 8 * bytes as u64 + 1000, "{}: {}", case(), opened.examined_bytes());
        let Ok(data) = dataset(&opened) else { return Outcome::Refused };
        let kept = (0..=self.count).find(|count| data == units(0..*count));
        let kept = kept.unwrap_or_else(|| panic!("{}: other data", case()));
        assert!(kept >= kept_min, "{}: {kept} units instead of {kept_min}", case());
        if kept == self.count { Outcome::Whole } else { Outcome::Less }
    }

    /// Tries a change of one file.
    fn try_change(
        &self,
        counts: &mut Counts,
        kind: &'static str,
        file: &str,
        changed: Range<usize>,
        change: impl FnOnce(&mut Vec<u8>),
    ) {
        let disk = self.disk.restart_image();
        let shifts = kind == "insert" || kind == "delete";
        edit(&disk, file, change);
        let kept = self.units_kept(file, &changed, shifts);
        let outcome = self.judge(&disk, kept, || format!("{}: {kind} at {changed:?} of {file}", self.name));
        *counts.entry((kind, outcome)).or_default() += 1;
    }

    /// Every change of one place of a file.
    fn try_places(&self, counts: &mut Counts, file: &str) {
        let whole = self.disk.contents(file).unwrap();
        let length = whole.len();
        for at in 0..length {
            for bit in 0..8 {
                self.try_change(counts, "bit", file, at..at + 1, |bytes| bytes[at] ^= 1 << bit);
            }
            let values: Vec<u8> = if is_long() { (0..=255).collect() } else { BYTES.to_vec() };
            for value in values.into_iter().filter(|value| *value != whole[at]) {
                self.try_change(counts, "byte", file, at..at + 1, |bytes| bytes[at] = value);
                self.try_change(counts, "insert", file, at..at, |bytes| bytes.insert(at, value));
            }
            self.try_change(counts, "delete", file, at..at + 1, |bytes| {
                bytes.remove(at);
            });
            self.try_change(counts, "cut", file, at..length, |bytes| bytes.truncate(at));
            self.try_change(counts, "zeros to the end", file, at..length, |bytes| bytes[at..].fill(0));
            for sector in SECTORS {
                let lost = at..length.min(at + sector);
                self.try_change(counts, "sector of zeros", file, lost.clone(), |bytes| bytes[lost].fill(0));
                let (lost, mut random) = (at..length.min(at + sector), Random::new(at as u64));
                self.try_change(counts, "sector of garbage", file, lost.clone(), |bytes| {
                    bytes[lost].iter_mut().for_each(|byte| *byte = random.next_u64() as u8);
                });
            }
        }
    }

    /// Changes of several places of several files at once. A folder that is not closed may lose what is not sealed.
    fn try_random(&self, counts: &mut Counts, seed: u64) {
        let mut random = Random::new(seed);
        let disk = self.disk.restart_image();
        let mut is_changed = false;
        for _ in 0..=random.below(4) {
            let file = &self.files[random.below(self.files.len() as u64) as usize];
            let mut bytes = disk.contents(file).unwrap();
            let before = bytes.clone();
            change_at_random(&mut bytes, &mut random);
            is_changed |= bytes != before;
            disk.put(file, &bytes);
        }
        let kept = self.open.as_ref().map_or(self.count, |open| open.units_before);
        let outcome = self.judge(&disk, kept, || format!("{}: WBL_SEED={seed}", self.name));
        if is_changed {
            *counts.entry(("random", outcome)).or_default() += 1;
        }
    }
}

fn change_at_random(bytes: &mut Vec<u8>, random: &mut Random) {
    if bytes.is_empty() {
        return;
    }
    let place = |random: &mut Random| random.below(bytes.len() as u64) as usize;
    let (one, other) = (place(random), place(random));
    let (from, to) = (one.min(other), one.max(other));
    match random.below(8) {
        0 => bytes[from] ^= 1 << random.below(8),
        1 => bytes[from] = random.next_u64() as u8,
        2 => bytes.truncate(from),
        3 => bytes[from..to].fill(0),
        4 => drop(bytes.drain(from..to)),
        5 => bytes.insert(from, random.next_u64() as u8),
        6 => bytes.extend_from_within(from..to),
        _ => bytes.copy_within(from..to, 0),
    }
}

fn print(counts: &Counts, name: &str) {
    for ((kind, outcome), count) in counts {
        println!("{name}: {kind}: {outcome:?}: {count}");
    }
    println!("{name}: {} damaged folders in all", counts.values().sum::<u64>());
}

fn every_change(folder: &Folder) {
    let mut counts = Counts::new();
    for file in &folder.files {
        folder.try_places(&mut counts, file);
    }
    print(&counts, folder.name);
    let noticed = |kind| counts.get(&(kind, Outcome::Whole)).is_none_or(|count: &u64| *count == 0);
    // A change within what is read cannot leave everything as it was.
    assert!(folder.open.is_some() || ["bit", "byte", "delete", "cut"].into_iter().all(noticed), "damage passed unseen");
}

#[test]
fn every_change_of_a_closed_folder_is_refused() {
    let folder = format_2(true);
    every_change(&folder);
}

#[test]
fn a_change_of_a_folder_after_a_crash_loses_only_what_nothing_proves() {
    every_change(&format_2(false));
}

#[test]
fn a_change_of_a_segment_of_format_1_loses_only_what_nothing_proves() {
    every_change(&version_1());
}

#[test]
fn random_changes_give_no_other_data() {
    for folder in [format_2(true), format_2(false), version_1()] {
        let mut counts = Counts::new();
        seeds(0, 20_000).for_each(|seed| folder.try_random(&mut counts, seed));
        print(&counts, folder.name);
    }
}

/// A client knows the format and its position, but not the salt. The crash comes while its value is written.
#[test]
fn forged_frames_in_a_torn_value_are_no_frames() {
    let folder = format_2(false);
    let open = folder.open.as_ref().unwrap();
    let whole = folder.disk.contents(&open.name).unwrap();
    let header = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let mut count = 0;
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let disk = folder.disk.restart_image();
        edit(&disk, &open.name, |bytes| {
            // Frames for every salt but the right one, also as if there was none, in the place that they claim; copies
            // of real frames; headers of segments.
            bytes.extend_from_slice(b"#AAAAAAAAAABk\n*3\r\n$3\r\nSET\r\n");
            for _ in 0..50 {
                match random.below(4) {
                    kind @ (0 | 3) => {
                        let guessed = if kind == 0 { random.next_u64() } else { 0 };
                        bytes.extend(format_2_frame(guessed, bytes.len() as u64, &unit(seed as usize), 0));
                    }
                    1 => {
                        let frame = &open.frames[random.below(open.frames.len() as u64) as usize];
                        bytes.extend_from_slice(&whole[frame.clone()]);
                    }
                    _ => bytes.extend_from_slice(&whole[..header]),
                }
            }
        });
        let outcome = folder.judge(&disk, folder.count, || format!("seed {seed}"));
        assert_eq!(outcome, Outcome::Whole, "seed {seed}");
        assert!(matches!(reopen(&disk).unwrap().verdict(), Verdict::TornTail { .. }));
        count += 50;
    }
    println!("{count} forged frames");
}

/// A file that is used again still holds the frames of its earlier use.
#[test]
fn frames_of_an_earlier_use_of_a_file_are_no_frames() {
    let stale = format_2(false);
    let open = stale.open.as_ref().unwrap();
    let old = stale.disk.contents(&open.name).unwrap();
    for seed in 0..50 {
        let disk = SimDisk::new().crash_image(100 + seed);
        let mut writer = writer_of(&disk);
        write(&mut writer, 0..(seed as usize % 4));
        drop(writer);
        let name = segment_name(1);
        let whole = units(0..(seed as usize % 4));
        let mut random = Random::new(seed);
        edit(&disk, &name, |bytes| {
            let used = bytes.len();
            bytes.extend_from_slice(&old[used.min(old.len())..]);
            // What was written last may be torn, too.
            let torn = used + random.below(20) as usize;
            bytes.truncate(bytes.len().max(torn));
        });
        let opened = reopen(&disk).unwrap();
        assert!(dataset(&opened).unwrap() == whole, "seed {seed}");
        drop(opened);
        // Nor do they become any when the log goes on.
        let mut writer = writer_of(&disk);
        write(&mut writer, 50..52);
        drop(writer);
        assert!(dataset(&reopen(&disk).unwrap()).unwrap() == [whole, units(50..52)].concat(), "seed {seed}");
    }
}

/// Whatever a client has had written, the work at the start is linear in it.
#[test]
fn a_torn_tail_of_any_content_is_judged_in_linear_time() {
    const TAIL: usize = 8 << 20;
    let forged = format_1_whole(units(0..7).len() as u64, &unit(0));
    let lines: [&[u8]; 9] = [
        b"#",
        b"#\n",
        b"#TS:1700000000\r\n",
        b"#AAAAAAAAAABAAAAA\n",
        // Its payload would fit into the file.
        b"#AAAAAAAAAABAAA\n",
        b"#AAAAAAAAAAB.BAAAAA.BAAAAAAA\n",
        b"#AAAAAAB__\r\n",
        b"#WBL2 1 0000000000000000 0 0000000000000000 0 - 00000000\n",
        &forged,
    ];
    // At worst each byte begins a line of the greatest length.
    for (folder, factor) in [(format_2(false), 40), (version_1(), 120)] {
        let open = folder.open.as_ref().unwrap();
        for line in lines {
            let disk = folder.disk.restart_image();
            let tail: Vec<u8> = b"x".iter().chain(line.iter().cycle()).copied().take(TAIL).collect();
            edit(&disk, &open.name, |bytes| bytes.extend_from_slice(&tail));
            let shown = line.escape_ascii();
            match reopen(&disk) {
                Ok(opened) => {
                    let examined = opened.examined_bytes();
                    println!("{}: {shown}: {:.1} bytes looked at for each", folder.name, examined as f64 / TAIL as f64);
                    assert!(examined < factor * TAIL as u64, "{shown}: {examined}");
                    assert!(dataset(&opened).unwrap() == units(0..folder.count), "{shown}");
                }
                // Frames of format 1 are no secret: what looks like too many of them is not judged.
                Err(LogError::Damaged { why, .. }) if folder.shifts_hide => println!("{}: {shown}: {why}", folder.name),
                Err(error) => panic!("{}: {shown}: {error}", folder.name),
            }
        }
    }
}

#[test]
fn foreign_files_in_a_folder_are_left_alone() {
    let folder = format_2(false);
    for name in ["notes.txt", "dump.rdb", "appendonly.aof.1.incr.aof.bak", "appendonly.aof.1.base.aof"] {
        let disk = folder.disk.restart_image();
        disk.put(name, b"mine");
        writer_of(&disk).close().unwrap();
        assert_eq!(disk.contents(name).as_deref(), Some(&b"mine"[..]));
    }
    assert!(folder.disk.contents(MANIFEST_NAME).is_some());
}
