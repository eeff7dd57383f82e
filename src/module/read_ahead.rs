//! Reading the log ahead of its replay, in a thread of its own.

use crate::core::portion::{Marks, Portion};
use crate::log::{FormatError, LogError, Lsn, Opened, Storage};
use crossbeam::channel::{Receiver, Sender, bounded};

/// The number of portions: one is replayed, one is filled, the others wait.
const PORTIONS: usize = 8;

/// A portion with this many bytes is complete.
const PORTION_BYTES: usize = 256 << 10;

/// A portion with more bytes, because it holds a long command, is the only one while it exists.
const PORTION_BYTES_MAX: usize = 4 * PORTION_BYTES;

/// How much is added to a portion at once.
const PART_BYTES: usize = 64 << 10;

/// Why the log can't be read on.
#[derive(Debug)]
pub(super) enum Stop {
    /// The log itself.
    Log(LogError),
    /// What is at this position, in a frame with a good checksum, is not a command.
    NoCommand(Lsn, FormatError),
}

/// Commands that are ready to be replayed.
pub(super) struct Ready {
    pub(super) portion: Portion,
    /// Bytes of the log read up to its end.
    pub(super) read_bytes: u64,
}

/// The replay's end of the thread's channels. Dropping it ends the thread.
pub(super) struct ReadAhead {
    filled: Receiver<Result<Ready, Stop>>,
    emptied: Sender<Portion>,
}

/// The reader's end.
pub(super) struct Reader {
    filled: Sender<Result<Ready, Stop>>,
    emptied: Receiver<Portion>,
    /// Empty portions at hand.
    idle: Vec<Portion>,
}

/// The replay has ended, and nothing more is needed.
struct NobodyListens;

/// Both ends.
pub(super) fn read_ahead() -> (ReadAhead, Reader) {
    let (filled, to_replay) = bounded(PORTIONS);
    let (emptied, to_fill) = bounded(PORTIONS);
    let idle = (0..PORTIONS).map(|_| Portion::default()).collect();
    (ReadAhead { filled: to_replay, emptied }, Reader { filled, emptied: to_fill, idle })
}

impl ReadAhead {
    /// The next portion; `None` at the end of the log.
    pub(super) fn next(&self) -> Option<Result<Ready, Stop>> {
        self.filled.recv().ok()
    }

    /// Gives a replayed portion's memory back.
    pub(super) fn give_back(&self, mut portion: Portion) {
        portion.clear(PORTION_BYTES_MAX);
        // A reader that has ended no longer needs it.
        let _ = self.emptied.send(portion);
    }
}

impl Reader {
    /// Reads, checks and parses the whole log; ends early when nobody listens.
    pub(super) fn run<S: Storage>(mut self, opened: &Opened<S>) {
        if let Err(stop) = self.read(opened) {
            // Without a listener there is nobody to report it to.
            let _ = self.filled.send(Err(stop));
        }
    }

    fn read<S: Storage>(&mut self, opened: &Opened<S>) -> Result<(), Stop> {
        let mut frames = opened.frames();
        let mut marks = Marks::default();
        let Ok(mut portion) = self.take_idle() else { return Ok(()) };
        loop {
            let before = frames.read_bytes();
            let Some(frame) = frames.next_header().map_err(Stop::Log)? else { break };
            marks.is_format_1 = frame.is_format_1;
            let mut done = 0;
            while let Some(piece) = frames.next_piece().map_err(Stop::Log)? {
                for part in piece.chunks(PART_BYTES) {
                    let at = frame.lsn.checked_advance(done).unwrap_or(frame.lsn);
                    done += part.len() as u64;
                    let added = portion.add(at, part, frame.length.saturating_sub(done), &mut marks);
                    added.map_err(|(at, error)| Stop::NoCommand(at, error))?;
                    match self.hand_over_if_full(portion, before + done) {
                        Ok(next) => portion = next,
                        Err(NobodyListens) => return Ok(()),
                    }
                }
            }
        }
        // At the end of the log it does not matter whether somebody waits for an empty portion.
        let _ = self.exchange(portion, frames.read_bytes());
        Ok(())
    }

    /// Hands a full portion over; returns the one to go on with.
    fn hand_over_if_full(&mut self, portion: Portion, read_bytes: u64) -> Result<Portion, NobodyListens> {
        if portion.size_bytes() < PORTION_BYTES {
            return Ok(portion);
        }
        if !portion.is_empty() {
            return self.exchange(portion, read_bytes);
        }
        if portion.size_bytes() > PORTION_BYTES_MAX {
            // It goes on growing with its only command, while there is no other portion.
            self.collect(PORTIONS - 1)?;
        }
        Ok(portion)
    }

    /// Hands a filled portion over and takes an empty one, which goes on with the command that has not ended.
    fn exchange(&mut self, mut portion: Portion, read_bytes: u64) -> Result<Portion, NobodyListens> {
        let mut open = Portion::default();
        portion.move_open(&mut open);
        let alone = portion.size_bytes() > PORTION_BYTES_MAX;
        let others = if alone { PORTIONS - 1 } else { 0 };
        self.collect(others)?;
        self.filled.send(Ok(Ready { portion, read_bytes })).map_err(|_| NobodyListens)?;
        self.collect(if alone { PORTIONS } else { 0 })?;
        let mut next = self.take_idle()?;
        open.move_open(&mut next);
        Ok(next)
    }

    /// Waits until this many empty portions are at hand.
    fn collect(&mut self, count: usize) -> Result<(), NobodyListens> {
        while self.idle.len() < count {
            self.idle.push(self.emptied.recv().map_err(|_| NobodyListens)?);
        }
        Ok(())
    }

    fn take_idle(&mut self) -> Result<Portion, NobodyListens> {
        match self.idle.pop() {
            Some(portion) => Ok(portion),
            None => self.emptied.recv().map_err(|_| NobodyListens),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::core::portion::Action;
    use crate::log::resp::push_command;
    use crate::log::sim::SimDisk;
    use crate::log::{Batch, Begin, Options, open};

    const UNIX_MS: u64 = 1_700_000_000_000;

    /// A log of one frame for each payload.
    fn opened(payloads: &[Vec<u8>]) -> Opened<SimDisk> {
        let disk = SimDisk::new();
        let folder = open(disk.clone(), &Options::default()).unwrap().into_folder();
        let mut writer = folder.begin(Begin::Empty, UNIX_MS).unwrap();
        for payload in payloads {
            let start = writer.appended();
            writer.append(Batch { start, payload, unix_ms: UNIX_MS }).unwrap();
        }
        drop(writer.close().unwrap());
        open(disk, &Options::default()).unwrap()
    }

    /// The commands as they would be run, joined SETs as SETs.
    fn append_commands(out: &mut Vec<u8>, portion: &Portion) {
        for (_, action) in portion.actions() {
            match action {
                Action::Select(db) => push_command(out, &[b"SELECT", db.to_string().as_bytes()]),
                Action::Run(args) => push_command(out, &args.collect::<Vec<_>>()),
                Action::SetAll(mut pairs) => {
                    while let (Some(key), Some(value)) = (pairs.next(), pairs.next()) {
                        push_command(out, &[b"SET", key, value]);
                    }
                }
            }
        }
    }

    #[test]
    fn everything_arrives_in_order_and_long_commands_are_alone() {
        let mut payloads = vec![Vec::new(), Vec::new(), Vec::new()];
        for number in 0..100_000 {
            push_command(&mut payloads[number / 60_000], &[b"SET", format!("key:{number}").as_bytes(), b"value"]);
        }
        let long = vec![b'l'; PORTION_BYTES_MAX + 1];
        push_command(&mut payloads[1], &[b"APPEND", b"key", &long]);
        push_command(&mut payloads[1], &[b"SELECT", b"7"]);
        push_command(&mut payloads[2], &[b"SET", b"key", &long]);
        push_command(&mut payloads[2], &[b"INCR", b"last"]);
        let opened = opened(&payloads);
        let (ahead, reader) = read_ahead();
        let (mut all, mut long_ones, mut read_bytes) = (Vec::new(), 0, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| reader.run(&opened));
            while let Some(next) = ahead.next() {
                let Ok(ready) = next else { panic!("a good log") };
                append_commands(&mut all, &ready.portion);
                assert!(ready.read_bytes > read_bytes, "no progress");
                read_bytes = ready.read_bytes;
                if ready.portion.size_bytes() > PORTION_BYTES_MAX {
                    long_ones += 1;
                    // The reader has all others in hand and waits for this one.
                    assert!(ahead.filled.is_empty() && ahead.emptied.is_empty());
                }
                ahead.give_back(ready.portion);
            }
        });
        assert!(all == payloads.concat(), "other commands than logged");
        assert_eq!((long_ones, read_bytes), (2, opened.log_bytes()));
    }

    #[test]
    fn what_is_ahead_is_bounded_and_the_reader_ends_when_nobody_listens() {
        let mut payload = Vec::new();
        while payload.len() < 4 * PORTIONS * PORTION_BYTES {
            push_command(&mut payload, &[b"RPUSH", b"key", &[b'v'; 1000]]);
        }
        let opened = opened(&[payload]);
        let (ahead, reader) = read_ahead();
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| reader.run(&opened));
            let kept: Vec<_> = (0..PORTIONS).map(|_| ahead.next().unwrap().ok().unwrap()).collect();
            assert!(kept.iter().all(|ready| ready.portion.size_bytes() < 2 * PORTION_BYTES));
            // None is given back, so there can't be another.
            assert!(ahead.filled.is_empty() && !thread.is_finished());
            drop(ahead);
        });
    }

    #[test]
    fn a_frame_without_commands_is_reported_with_its_position() {
        let mut good = Vec::new();
        push_command(&mut good, &[b"INCR", b"key"]);
        let mut no_number = good.clone();
        push_command(&mut no_number, &[b"SELECT", b"one"]);
        for bad in [b"PING\r\n".to_vec(), no_number] {
            let at = (good.len() + if bad.starts_with(&good) { good.len() } else { 0 }) as u64;
            let opened = opened(&[good.clone(), bad]);
            let (ahead, reader) = read_ahead();
            reader.run(&opened);
            let Some(Err(Stop::NoCommand(found, _))) = ahead.next() else { panic!("not reported") };
            assert_eq!(found.get(), at);
            assert!(ahead.next().is_none());
        }
    }
}
