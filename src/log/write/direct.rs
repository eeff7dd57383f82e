//! Frames on their way past the page cache.
//!
//! A write past the cache is one of whole blocks, from memory aligned as the disk wants it. So frames wait here until
//! their flush, which is the write. The block in which a flush ends is written again by the next one, with the same
//! bytes first, unless padding has filled it.

use crate::log::storage::StorageFile;
use std::io;

/// The alignment that any disk accepts.
const ALIGNMENT: usize = 4096;

/// How much of a long frame is written before its flush.
const STAGED_BYTES_MAX: usize = 4 << 20;

/// Memory of more bytes is given back to the allocator.
const SPARE_BYTES_MAX: usize = 1 << 20;
const SPARES_MAX: usize = 16;

/// Bytes in memory that is aligned as any disk accepts it.
#[derive(Debug)]
pub(super) struct Aligned {
    memory: Vec<u8>,
    start: usize,
}

impl Aligned {
    fn with_room(bytes: usize) -> Aligned {
        let mut memory: Vec<u8> = Vec::with_capacity(bytes + ALIGNMENT);
        let start = memory.as_ptr().addr().next_multiple_of(ALIGNMENT) - memory.as_ptr().addr();
        // Within its room, so that it stays where it is.
        memory.resize(start, 0);
        Aligned { memory, start }
    }

    fn len(&self) -> usize {
        self.memory.len() - self.start
    }

    fn bytes(&self) -> &[u8] {
        self.memory.get(self.start..).unwrap_or_default()
    }

    fn push(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.memory.extend_from_slice(bytes);
    }

    fn push_zeros(&mut self, count: usize) {
        self.reserve(count);
        self.memory.resize(self.memory.len() + count, 0);
    }

    /// Makes room for this many more bytes after the others.
    fn reserve(&mut self, more: usize) {
        if self.memory.capacity() - self.memory.len() < more {
            let mut larger = Aligned::with_room((self.len() + more).next_power_of_two());
            larger.memory.extend_from_slice(self.bytes());
            *self = larger;
        }
    }

    fn truncate(&mut self, bytes: usize) {
        self.memory.truncate(self.start + bytes);
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
        if self.spares.len() < SPARES_MAX && spare.memory.capacity() <= SPARE_BYTES_MAX {
            spare.truncate(0);
            self.spares.push(spare);
        }
    }
}
