//! What a disk was told to do, in order, and what it may hold after a loss of power.

use crate::harness::Random;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a disk writes whole, or not at all.
pub const SECTOR_BYTES: usize = 512;

#[derive(Clone, Debug)]
pub enum Event {
    Write {
        offset: usize,
        bytes: Vec<u8>,
    },
    /// All writes before it are durable.
    Flush,
    /// Something that somebody was told before what follows.
    Told(u64),
}

/// What becomes of the writes that no flush has covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nothing: all of them are there.
    None,
    /// Each is there, lost, or there in part, whatever becomes of those before it.
    Reordered,
}

#[derive(Default)]
struct State {
    /// What the disk holds now.
    content: Vec<u8>,
    records: bool,
    events: Vec<Event>,
    /// What it held at the last flush of the first `durable_at` events.
    durable: Vec<u8>,
    durable_at: usize,
    /// The sectors in which the image at hand differs from that, and the image's number.
    sectors: BTreeMap<usize, Vec<u8>>,
    image: u64,
}

/// The content of a disk; clones are of the same one.
#[derive(Clone, Default)]
pub struct Record(Arc<Mutex<State>>);

/// The number of the disk itself among its images.
pub const DISK: u64 = 0;

impl Record {
    /// A disk of zeros.
    pub fn new(bytes: usize) -> Record {
        Record(Arc::new(Mutex::new(State { content: vec![0; bytes], ..State::default() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn bytes(&self) -> usize {
        self.state().content.len()
    }

    /// The image that there is, besides the disk itself.
    pub fn image(&self) -> u64 {
        self.state().image
    }

    /// All that was written so far is durable; what follows is recorded.
    pub fn begin(&self) {
        let mut state = self.state();
        (state.durable, state.records) = (state.content.clone(), true);
    }

    pub fn end(&self) {
        self.state().records = false;
    }

    pub fn add(&self, event: Event) {
        let mut state = self.state();
        if let Event::Write { offset, bytes } = &event {
            state.content[*offset..offset + bytes.len()].copy_from_slice(bytes);
        }
        if state.records {
            state.events.push(event);
        }
    }

    pub fn events(&self) -> usize {
        self.state().events.len()
    }

    /// A number of events for an image: mostly after some write and just before the next flush, where the most can be
    /// lost, else any.
    pub fn place(&self, random: &mut Random) -> usize {
        let state = self.state();
        let any = random.below(state.events.len() as u64 + 1) as usize;
        let from = state.events[..any].iter().rposition(|event| matches!(event, Event::Write { .. }));
        let Some(from) = from.filter(|_| !random.one_in(4)) else { return any };
        let flush = state.events[from..].iter().position(|event| matches!(event, Event::Flush));
        flush.map_or(any, |flush| from + flush)
    }

    /// What somebody was told before the power went after this number of events.
    pub fn told(&self, events: usize) -> Option<u64> {
        let told = |event: &Event| if let Event::Told(told) = event { Some(*told) } else { None };
        self.state().events[..events].iter().filter_map(told).max()
    }

    /// Makes an image of the disk as it may be when the power goes after this number of events, which is at least that
    /// of the image before. Returns its number and how many writes no flush had covered.
    pub fn make_image(&self, events: usize, loss: Loss, random: &mut Random) -> (u64, usize) {
        let mut state = self.state();
        state.settle(events);
        state.sectors.clear();
        let pending = state.events[state.durable_at..events].to_vec();
        let mut count = 0;
        for event in pending {
            let Event::Write { offset, bytes } = event else { continue };
            count += 1;
            let (is_torn, is_lost) = (random.one_in(3), random.one_in(2));
            for (number, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
                let is_there = loss == Loss::None || if is_torn { random.one_in(2) } else { !is_lost };
                if is_there {
                    state.sectors.insert(offset / SECTOR_BYTES + number, sector.to_vec());
                }
            }
        }
        state.image += 1;
        (state.image, count)
    }

    pub fn read(&self, image: u64, offset: usize, count: usize) -> Vec<u8> {
        let state = self.state();
        let end = (offset + count).min(state.content.len());
        if image == DISK {
            return state.content[offset.min(end)..end].to_vec();
        }
        let mut bytes = state.durable[offset.min(end)..end].to_vec();
        for (sector, content) in state.sectors.range(offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES)) {
            let begin = sector * SECTOR_BYTES;
            let (from, to) = (begin.max(offset), (begin + content.len()).min(end));
            bytes[from - offset..to - offset].copy_from_slice(&content[from - begin..to - begin]);
        }
        bytes
    }

    /// Writes to the image at hand, which is forgotten with the next one.
    pub fn write_image(&self, offset: usize, bytes: &[u8]) {
        let (first, last) = (offset / SECTOR_BYTES, (offset + bytes.len()).div_ceil(SECTOR_BYTES));
        let begin = first * SECTOR_BYTES;
        let mut whole = self.read(self.image(), begin, (last - first) * SECTOR_BYTES);
        whole[offset - begin..offset - begin + bytes.len()].copy_from_slice(bytes);
        let mut state = self.state();
        for (number, sector) in whole.chunks(SECTOR_BYTES).enumerate() {
            state.sectors.insert(first + number, sector.to_vec());
        }
    }
}

impl State {
    /// Makes durable what was at the last flush of these events.
    fn settle(&mut self, events: usize) {
        let flush = self.events[self.durable_at..events].iter().rposition(|event| matches!(event, Event::Flush));
        let Some(flush) = flush.map(|at| self.durable_at + at) else { return };
        for event in &self.events[self.durable_at..flush] {
            if let Event::Write { offset, bytes } = event {
                self.durable[*offset..offset + bytes.len()].copy_from_slice(bytes);
            }
        }
        self.durable_at = flush + 1;
    }
}
