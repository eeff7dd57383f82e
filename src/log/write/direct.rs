//! Frames on their way past the page cache.
//!
//! A write past the cache is one of whole blocks, from memory aligned as the disk wants it. So frames wait here until
//! their flush, which is the write. The block in which a flush ends is written again by the next one, with the same
//! bytes first, unless padding has filled it.

use crate::log::storage::StorageFile;
use memmap2::{Advice, MmapMut};
use std::io;

/// The alignment that any disk accepts.
const ALIGNMENT: usize = 4096;

/// From this size on memory is taken in whole huge pages.
const HUGE_FROM_BYTES: usize = 32 << 10;
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// How much of a long frame is written before its flush.
const STAGED_BYTES_MAX: usize = 4 << 20;

/// Memory of more bytes is given back to the system.
const SPARE_BYTES_MAX: usize = HUGE_PAGE_BYTES;
const SPARES_MAX: usize = 16;

/// Bytes in memory that is aligned as any disk accepts it.
#[derive(Debug)]
pub(super) struct Aligned {
    memory: Memory,
    /// Where the bytes begin in it.
    start: usize,
    /// How many there can be.
    room: usize,
    len: usize,
}

/// Memory of a fixed size.
#[derive(Debug)]
enum Memory {
    Heap(Vec<u8>),
    /// Huge pages, where the system has some. A disk gets them as one piece, which it writes up to a quarter sooner
    /// than as many pages as there are in it.
    Huge(MmapMut),
}

impl Memory {
    fn bytes(&self) -> &[u8] {
        match self {
            Memory::Heap(heap) => heap,
            Memory::Huge(pages) => pages,
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Memory::Heap(heap) => heap,
            Memory::Huge(pages) => pages,
        }
    }
}

impl Aligned {
    fn with_room(bytes: usize) -> Aligned {
        let room = bytes.next_multiple_of(if bytes < HUGE_FROM_BYTES { ALIGNMENT } else { HUGE_PAGE_BYTES });
        let mapped = || MmapMut::map_anon(room + HUGE_PAGE_BYTES).ok();
        let (memory, alignment) = match (bytes >= HUGE_FROM_BYTES).then(mapped).flatten() {
            Some(pages) => {
                // Small pages do, too. A child has no use for them, and would make the server copy what it writes next.
                let _ = pages.advise(Advice::HugePage).and(pages.advise(Advice::DontFork));
                (Memory::Huge(pages), HUGE_PAGE_BYTES)
            }
            None => (Memory::Heap(vec![0; room + ALIGNMENT]), ALIGNMENT),
        };
        let address = memory.bytes().as_ptr().addr();
        Aligned { memory, start: address.next_multiple_of(alignment) - address, room, len: 0 }
    }

    fn len(&self) -> usize {
        self.len
    }

    fn bytes(&self) -> &[u8] {
        self.memory.bytes().get(self.start..self.start + self.len).unwrap_or_default()
    }

    fn push(&mut self, bytes: &[u8]) {
        self.grow(bytes.len()).copy_from_slice(bytes);
    }

    fn push_zeros(&mut self, count: usize) {
        self.grow(count).fill(0);
    }

    /// Adds this many bytes, which are to be written.
    fn grow(&mut self, count: usize) -> &mut [u8] {
        let len = self.len + count;
        if len > self.room {
            let mut larger = Aligned::with_room(len.next_power_of_two());
            larger.push(self.bytes());
            *self = larger;
        }
        let added = self.start + self.len..self.start + len;
        self.len = len;
        &mut self.memory.bytes_mut()[added]
    }

    fn truncate(&mut self, bytes: usize) {
        self.len = self.len.min(bytes);
    }
}

/// Whole blocks of a file, to be written.
#[derive(Debug)]
pub(crate) struct Blocks {
    at: u64,
    content: Aligned,
}

impl Blocks {
    /// Offset of the first byte after them.
    pub fn end(&self) -> u64 {
        self.at + self.content.len() as u64
    }

    /// Writes them durably.
    pub fn write<F: StorageFile>(&self, file: &mut F) -> io::Result<()> {
        file.write_durably_at(self.at, self.content.bytes())
    }
}

/// What is to be written next of a segment.
#[derive(Debug)]
pub(super) struct Direct {
    block_bytes: u64,
    /// Offset of the first byte here, where a block begins.
    at: u64,
    /// The bytes of the file from there on, up to its last frame.
    staged: Aligned,
    spares: Vec<Aligned>,
}

impl Direct {
    /// For a file that begins with these bytes.
    pub fn new(block_bytes: u64, head: &[u8]) -> Direct {
        let mut direct = Direct { block_bytes, at: 0, staged: Aligned::with_room(ALIGNMENT), spares: Vec::new() };
        direct.staged.push(head);
        direct
    }

    pub fn block_bytes(&self) -> u64 {
        self.block_bytes
    }

    /// Where the block ends of which an offset is the end, or within which it is.
    pub fn end_of_blocks(&self, offset: u64) -> u64 {
        offset.next_multiple_of(self.block_bytes)
    }

    /// Whether the next frame begins within a block.
    pub fn has_open_block(&self) -> bool {
        !(self.staged.len() as u64).is_multiple_of(self.block_bytes)
    }

    /// Adds bytes; writes what gets too long, with an idle opening of the file.
    pub fn push<F: StorageFile>(&mut self, bytes: &[u8], mut idle: Option<&mut F>) -> io::Result<()> {
        for piece in bytes.chunks(STAGED_BYTES_MAX) {
            self.staged.push(piece);
            if let Some(file) = idle.as_deref_mut().filter(|_| self.staged.len() >= STAGED_BYTES_MAX)
                && let Some(blocks) = self.take_whole()
            {
                blocks.write(file)?;
                self.take_back(blocks);
            }
        }
        Ok(())
    }

    /// Everything here, filled up with zeros, which the file has there; `None` where there is nothing.
    pub fn take(&mut self) -> Option<Blocks> {
        let open_bytes = self.staged.len() as u64 % self.block_bytes;
        let mut rest = self.empty();
        if open_bytes > 0 {
            let whole = self.staged.len() - open_bytes as usize;
            rest.push(self.staged.bytes().get(whole..).unwrap_or_default());
            self.staged.push_zeros((self.block_bytes - open_bytes) as usize);
        }
        self.replace(rest, open_bytes)
    }

    /// The blocks that are full.
    fn take_whole(&mut self) -> Option<Blocks> {
        let open_bytes = self.staged.len() as u64 % self.block_bytes;
        let whole = self.staged.len() - open_bytes as usize;
        let mut rest = self.empty();
        rest.push(self.staged.bytes().get(whole..).unwrap_or_default());
        self.staged.truncate(whole);
        self.replace(rest, 0)
    }

    /// Goes on with `rest`; returns what was here. `open_bytes` of its last block are also in `rest`.
    fn replace(&mut self, rest: Aligned, open_bytes: u64) -> Option<Blocks> {
        let blocks = Blocks { at: self.at, content: std::mem::replace(&mut self.staged, rest) };
        let bytes = blocks.content.len() as u64;
        self.at += if open_bytes > 0 { bytes - self.block_bytes } else { bytes };
        if bytes > 0 { Some(blocks) } else { None }
    }

    fn empty(&mut self) -> Aligned {
        self.spares.pop().unwrap_or_else(|| Aligned::with_room(ALIGNMENT))
    }

    /// Takes memory back.
    pub fn take_back(&mut self, blocks: Blocks) {
        let mut spare = blocks.content;
        if self.spares.len() < SPARES_MAX && spare.room <= SPARE_BYTES_MAX {
            spare.truncate(0);
            self.spares.push(spare);
        }
    }
}
