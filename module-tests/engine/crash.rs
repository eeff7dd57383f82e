//! The log engine on a simulated disk that loses power or fails at every operation.
//!
//! A model keeps every unit ever handed to the log and how many of them were reported durable. After each crash the log
//! must hold whole units only, in order, without a gap, and at least those that were reported.
//!
//! `WBL_SEED=n` runs one seed, `WBL_TIMES=n` n times as many.

use crate::support::{UNIX_MS, errno, go_on};
use valkey_wbl::log::resp::{Commands, push_command};
use valkey_wbl::log::sim::{Effect, Random, SimDisk, SimFile, seeds};
use valkey_wbl::log::{
    Batch, Flush, LogError, LogWriter, Lsn, NewBase, Opened, Options, StorageFile, Verdict, kept_logs, open,
};

const NEVER: u64 = u64::MAX;

/// Names the case when a test fails.
struct Case(String);

impl Drop for Case {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed case: {}", self.0);
        }
    }
}

fn options(seed: u64) -> Options {
    let segment_bytes = [1, 700, 4000, 1 << 16][seed as usize % 4];
    let direct_block_bytes = [None, Some(512), None, Some(4096)][seed as usize / 4 % 4];
    Options { segment_bytes, direct_block_bytes, ..Options::default() }
}

/// What was handed to the log, and what of it must survive.
#[derive(Clone, Default)]
struct Model {
    units: Vec<Vec<u8>>,
    durable: usize,
}

impl Model {
    fn lsn(&self, units: usize) -> u64 {
        self.units[..units].iter().map(|unit| unit.len() as u64).sum()
    }

    /// The number of units before a position, which must stand between two.
    fn units_before(&self, lsn: Lsn) -> usize {
        let mut end = 0;
        let whole = self.units.iter().take_while(|unit| {
            end += unit.len() as u64;
            end <= lsn.get()
        });
        let count = whole.count();
        assert_eq!(self.lsn(count), lsn.get(), "a position within a unit");
        count
    }

    fn new_unit(&mut self, random: &mut Random) -> Vec<u8> {
        let number = self.units.len().to_string();
        let tag = random.next_u64().to_string();
        let filler_max = if random.chance(20) { 3000 } else { 60 };
        let filler = vec![b'a' + random.below(26) as u8; random.below(filler_max) as usize];
        let mut unit = Vec::new();
        push_command(&mut unit, &[b"SET", number.as_bytes(), tag.as_bytes(), &filler]);
        self.units.push(unit.clone());
        unit
    }

    /// Reads the whole log and returns how many units it holds.
    fn verify(&self, disk: &SimDisk, opened: &Opened<SimDisk>) -> Result<usize, LogError> {
        opened.verify_base()?;
        let base = opened.base().map_or(0, |base| {
            let text = String::from_utf8(disk.contents(&base.name).unwrap()).unwrap();
            let units = text.trim().parse::<usize>().expect("a base is durable before it is named");
            assert_eq!(base.lsn.get(), self.lsn(units), "the base is bound to its position");
            units
        });
        if let Some(first) = opened.segments().first() {
            assert_eq!(first.first.get(), self.lsn(base), "the base and the segments must fit");
        }
        let count = self.units_before(opened.next_lsn());
        let mut found = Vec::new();
        let (mut frames, mut payload) = (opened.frames(), Vec::new());
        while let Some(frame) = frames.next_frame(&mut payload)? {
            assert_eq!(frame.length, payload.len() as u64);
            self.units_before(frame.end());
            found.extend_from_slice(&payload);
        }
        assert_eq!(frames.read_bytes(), opened.log_bytes());
        assert!(found == self.units[base..count].concat(), "the log holds other bytes than were written");
        assert!(Commands::new(&found).all(|command| command.is_ok()));
        assert!(count >= self.durable, "{} units were reported durable, {count} are there", self.durable);
        Ok(count)
    }
}

/// One server's life on a disk: opens, checks, writes on. Ends with the first error.
fn live(disk: &SimDisk, model: &mut Model, options: &Options, random: &mut Random) -> Result<(), LogError> {
    let opened = open(disk.clone(), options)?;
    let count = model.verify(disk, &opened)?;
    let mut writer = go_on(opened, UNIX_MS)?;
    // From here on clients see what was recovered.
    model.units.truncate(count);
    model.durable = count;
    let outcome = write_on(&mut writer, model, random);
    if outcome.is_err() && writer.failure().is_some() {
        expect_closed(&mut writer);
        return outcome;
    }
    if random.chance(50) {
        drop(writer.close()?);
        model.durable = model.units.len();
    }
    outcome
}

fn write_on(writer: &mut LogWriter<SimDisk>, model: &mut Model, random: &mut Random) -> Result<(), LogError> {
    let mut checkpoint = None;
    writer.keep_history(random.chance(50));
    let mut flushes = Vec::new();
    for _ in 0..random.below(16) {
        let choice = random.below(140);
        // Boundaries are exact.
        let is_boundary = writer.is_full() || writer.has_open_block() && choice < 55;
        let ends_all = is_boundary || (70..100).contains(&choice);
        while ends_all && !flushes.is_empty() {
            end_flush(writer, &mut flushes, model, random)?;
        }
        match choice {
            0..55 => append(writer, model, random)?,
            55..70 if !flushes.is_empty() => end_flush(writer, &mut flushes, model, random)?,
            55..70 => {}
            70..80 => {
                let durable = writer.sync()?;
                model.durable = model.units_before(durable);
            }
            // The log goes on without.
            130..135 => drop(writer.write_ahead()),
            138.. => writer.trim_history(UNIX_MS + 700 * random.below(4)),
            135.. => drop(writer.keep_reserve(random.below(3) * 600)),
            100.. => flushes.extend(writer.begin_flush()?),
            80..86 => {
                writer.cut()?;
                model.durable = model.units.len();
            }
            _ => match checkpoint.take() {
                None => checkpoint = Some(begin_checkpoint(writer, model)?),
                Some(base) => writer.install_base(&base)?,
            },
        }
    }
    while !flushes.is_empty() {
        end_flush(writer, &mut flushes, model, random)?;
    }
    Ok(())
}

/// Runs and ends any of the flushes under way.
fn end_flush(
    writer: &mut LogWriter<SimDisk>,
    flushes: &mut Vec<Flush<SimFile>>,
    model: &mut Model,
    random: &mut Random,
) -> Result<(), LogError> {
    let mut flush = flushes.swap_remove(random.below(flushes.len() as u64) as usize);
    let outcome = flush.run(&*writer.storage());
    let durable = writer.end_flush(flush, outcome)?;
    model.durable = model.units_before(durable);
    Ok(())
}

fn append(writer: &mut LogWriter<SimDisk>, model: &mut Model, random: &mut Random) -> Result<(), LogError> {
    let mut payload = Vec::new();
    for _ in 0..=random.below(4) {
        payload.extend(model.new_unit(random));
    }
    let start = writer.appended();
    // Times that are stated, and times that are not.
    let unix_ms = UNIX_MS + 700 * random.below(4);
    let end = writer.append_before(Batch { start, payload: &payload, unix_ms }, random.chance(50))?;
    assert_eq!(end, start.advance(payload.len() as u64));
    Ok(())
}

/// Does what the forked child does: writes a base, here just the number of units it stands for.
fn begin_checkpoint(writer: &mut LogWriter<SimDisk>, model: &mut Model) -> Result<NewBase, LogError> {
    let lsn = writer.cut()?;
    model.durable = model.units.len();
    let (name, mut file) = writer.new_base_file()?;
    let written = file.write_all_at(0, format!("{}\n", model.units.len()).as_bytes());
    written.map_err(|error| LogError::io("write", &name, error))?;
    Ok(NewBase { name, lsn })
}

/// After a failure a writer takes nothing and promises nothing.
fn expect_closed(writer: &mut LogWriter<SimDisk>) {
    let (durable, start) = (writer.durable(), writer.appended());
    let batch = Batch { start, payload: b"*1\r\n$4\r\nPING\r\n", unix_ms: UNIX_MS };
    assert!(matches!(writer.append(batch), Err(LogError::Failed(_))));
    assert!(matches!(writer.sync(), Err(LogError::Failed(_))));
    assert!(matches!(writer.cut(), Err(LogError::Failed(_))));
    let base = NewBase { name: "temp-base-1.rdb".into(), lsn: start };
    assert!(matches!(writer.install_base(&base), Err(LogError::Failed(_))));
    assert_eq!(writer.durable(), durable);
}

/// A life on a disk that stops at an operation; the errors may only be those the disk gave.
fn live_and_stop(disk: &SimDisk, at: u64, model: &mut Model, options: &Options, random: &mut Random) {
    let effect = [Effect::None, Effect::Part, Effect::Full][random.below(3) as usize];
    if at != NEVER {
        disk.fail_from(at, libc::EIO, effect);
    }
    match live(disk, model, options, random) {
        Ok(()) => {}
        Err(error) => assert!(errno(&error).is_some(), "{error}"),
    }
}

/// Opens a crash image without faults and checks it.
fn check_image(disk: &SimDisk, model: &Model, options: &Options) {
    let opened = match open(disk.clone(), options) {
        Ok(opened) => opened,
        Err(error) => panic!("{error}"),
    };
    model.verify(disk, &opened).unwrap();
    for kept in kept_logs(disk).unwrap() {
        // It holds nothing that was not durable.
        let (folder, model) = (disk.image_of_folder(&kept.name), Model { durable: 0, ..model.clone() });
        let opened = open(folder.clone(), options).unwrap();
        let count = model.verify(&folder, &opened).unwrap();
        assert_eq!((opened.verdict(), model.lsn(count)), (&Verdict::Clean, kept.end.get()));
    }
}

#[test]
fn several_generations_survive_crashes_anywhere() {
    let mut lives = 0;
    for seed in seeds(0, 4000) {
        let _case = Case(format!("WBL_SEED={seed}"));
        let (mut random, options) = (Random::new(seed), options(seed));
        let (mut disk, mut model) = (SimDisk::new(), Model::default());
        for _ in 0..5 {
            let at = if random.chance(15) { NEVER } else { random.below(90) };
            live_and_stop(&disk, at, &mut model, &options, &mut random);
            lives += 1;
            disk = match random.below(4) {
                0 => disk.restart_image(),
                _ => disk.crash_image(random.next_u64()),
            };
        }
        check_image(&disk, &model, &options);
    }
    println!("{lives} lives and crashes");
}

/// A forked child that writes a base nobody waits for any more.
fn scribble(child: &mut SimFile, random: &mut Random) {
    child.write_all_at(random.below(2000), b"7777\n").unwrap();
    if random.chance(50) {
        child.sync_data().unwrap();
    }
}

#[test]
fn a_child_that_outlives_its_process_changes_nothing() {
    let mut lives = 0;
    for seed in seeds(80_000, 1000) {
        let _case = Case(format!("WBL_SEED={seed}"));
        let (mut random, options) = (Random::new(seed), options(seed));
        let (mut disk, mut model) = (SimDisk::new(), Model::default());
        let mut writer = go_on(open(disk.clone(), &options).unwrap(), UNIX_MS).unwrap();
        write_on(&mut writer, &mut model, &mut random).unwrap();
        let (_, mut child) = writer.new_base_file().unwrap();
        for _ in 0..3 {
            // The process is killed, and the child lives on while the next one starts, and after that.
            scribble(&mut child, &mut random);
            disk = disk.restart_image();
            child = child.inherited(&disk);
            scribble(&mut child, &mut random);
            live_and_stop(&disk, NEVER, &mut model, &options, &mut random);
            lives += 1;
        }
        scribble(&mut child, &mut random);
        check_image(&disk.restart_image(), &model, &options);
        check_image(&disk.crash_image(random.next_u64()), &model, &options);
    }
    println!("{lives} lives beside a child of a process that was killed");
}

#[test]
fn a_crash_at_every_operation_keeps_what_was_reported() {
    let (mut points, mut images) = (0, 0);
    for seed in seeds(0, 40) {
        let options = options(seed);
        let (mut first_disk, mut first_model) = (SimDisk::new(), Model::default());
        // Every second seed crashes in a later life, with a log that is there.
        for life in 0..seed % 2 {
            live_and_stop(&first_disk, NEVER, &mut first_model, &options, &mut Random::new(seed + life));
            first_disk = first_disk.crash_image(seed);
        }
        let total = {
            let (disk, mut model) = (first_disk.restart_image(), first_model.clone());
            live_and_stop(&disk, NEVER, &mut model, &options, &mut Random::new(seed));
            disk.operations()
        };
        for at in 0..=total {
            let (disk, mut model) = (first_disk.restart_image(), first_model.clone());
            live_and_stop(&disk, at, &mut model, &options, &mut Random::new(seed));
            points += 1;
            for image in 0..8 {
                let _case = Case(format!("WBL_SEED={seed}, operation {at} of {total}, image {image}"));
                let (mut disk, mut model) = (disk.crash_image(image), model.clone());
                check_image(&disk, &model, &options);
                live_and_stop(&disk, NEVER, &mut model, &options, &mut Random::new(image));
                disk = disk.crash_image(image);
                check_image(&disk, &model, &options);
                images += 2;
            }
        }
    }
    println!("{points} crash points, {images} images");
}

/// One operation fails and the disk works again. What failed must not be reported, and after a restart of the process
/// all that is readable must be made durable again: the kernel may call bytes clean that it lost.
#[test]
fn a_failure_at_every_operation_reports_nothing_that_is_not_there() {
    let (mut points, mut images) = (0, 0);
    for seed in seeds(0, 40) {
        let options = options(seed);
        let total = {
            let (disk, mut model) = (SimDisk::new(), Model::default());
            live_and_stop(&disk, NEVER, &mut model, &options, &mut Random::new(seed));
            disk.operations()
        };
        for (at, effect) in (0..total).flat_map(|at| [Effect::None, Effect::Part, Effect::Full].map(|e| (at, e))) {
            let (disk, mut model, mut random) = (SimDisk::new(), Model::default(), Random::new(seed));
            let number = if at % 2 == 0 { libc::EIO } else { libc::ENOSPC };
            disk.fail_at(at, number, effect);
            // The same numbers as in the run that counted the operations.
            random.below(3);
            match live(&disk, &mut model, &options, &mut random) {
                Ok(()) => {}
                Err(error) => assert_eq!(errno(&error), Some(number), "{error}"),
            }
            points += 1;
            for image in 0..3 {
                images += 2;
                let _case = Case(format!("WBL_SEED={seed}, operation {at} {effect:?}, image {image}"));
                check_image(&disk.crash_image(image), &model, &options);
                let restarted = disk.restart_image();
                let mut model = model.clone();
                live_and_stop(&restarted, NEVER, &mut model, &options, &mut Random::new(image));
                check_image(&restarted.crash_image(image), &model, &options);
            }
        }
    }
    println!("{points} failures, {images} images");
}

#[test]
fn a_clean_close_is_told_from_a_torn_tail() {
    let (disk, options) = (SimDisk::new(), Options::default());
    let mut model = Model::default();
    let mut writer = go_on(open(disk.clone(), &options).unwrap(), UNIX_MS).unwrap();
    for seed in 0..20 {
        append(&mut writer, &mut model, &mut Random::new(seed)).unwrap();
    }
    writer.close().unwrap();
    let opened = open(disk.clone(), &options).unwrap();
    assert_eq!(*opened.verdict(), Verdict::Clean);
    assert_eq!(model.verify(&disk, &opened).unwrap(), model.units.len());
}
