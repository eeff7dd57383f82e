//! The window over the base, and where the bytes that pass through it go.

use std::io::{self, BufWriter, Read, Write};

use crc::{Digest, Table};

use super::error::RdbError;
use super::format::{CRC64, STRING_INT8, STRING_INT16, STRING_INT32, STRING_LZF};
use super::lzf;

/// Where the bytes that are read go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// To the output, as they are.
    Pass,
    /// Nowhere.
    Drop,
}

/// How a string begins: with its length, or with the way it is encoded.
pub(super) enum Header {
    Plain(u64),
    Encoded(u8),
}

/// Reads the base through a window of fixed size. Bytes go where [`Route`] says, a window or a change of route at a
/// time, so that values are never copied one by one.
///
/// Positions in the window: `settled <= position`, `hashed <= position`, `position <= filled <= window.len()`.
pub(super) struct Stream<'io> {
    base: &'io mut dyn Read,
    output: BufWriter<&'io mut dyn Write>,
    window: Box<[u8]>,
    /// Everything before it has been read.
    position: usize,
    /// Everything before it holds bytes of the base.
    filled: usize,
    /// Everything before it has gone its route.
    settled: usize,
    /// Everything before it is in the checksum.
    hashed: usize,
    /// Bytes of the base before the window.
    passed: u64,
    digest: Digest<'static, u64, Table<16>>,
    route: Route,
}

impl<'io> Stream<'io> {
    pub(super) fn new(base: &'io mut dyn Read, output: &'io mut dyn Write, window_bytes: usize) -> Self {
        Self {
            base,
            output: BufWriter::with_capacity(window_bytes, output),
            window: vec![0; window_bytes].into_boxed_slice(),
            position: 0,
            filled: 0,
            settled: 0,
            hashed: 0,
            passed: 0,
            digest: CRC64.digest(),
            route: Route::Pass,
        }
    }

    /// The offset in the base of the next byte.
    pub(super) fn offset(&self) -> u64 {
        self.passed + self.position as u64
    }

    /// What is read from here on takes another route.
    pub(super) fn set_route(&mut self, route: Route) -> Result<(), RdbError> {
        self.settle()?;
        self.route = route;
        Ok(())
    }

    /// Puts bytes that are not in the base into the output.
    pub(super) fn emit(&mut self, bytes: &[u8]) -> Result<(), RdbError> {
        self.settle()?;
        self.output.write_all(bytes).map_err(|source| RdbError::Write { offset: self.offset(), source })
    }

    /// Hands everything to the output.
    pub(super) fn flush(&mut self) -> Result<(), RdbError> {
        self.settle()?;
        self.output.flush().map_err(|source| RdbError::Write { offset: self.offset(), source })
    }

    /// The checksum of all that was read.
    pub(super) fn checksum(&mut self) -> u64 {
        self.hash();
        self.digest.clone().finalize()
    }

    /// The next byte, which stays unread; `None` at the end of the base.
    pub(super) fn peek_or_end(&mut self) -> Result<Option<u8>, RdbError> {
        if self.position == self.filled {
            self.refill()?;
        }
        Ok(self.window[self.position..self.filled].first().copied())
    }

    /// The next byte, which stays unread.
    pub(super) fn peek(&mut self) -> Result<u8, RdbError> {
        let next = self.peek_or_end()?;
        next.ok_or(RdbError::Truncated { offset: self.offset() })
    }

    /// The next byte.
    pub(super) fn byte(&mut self) -> Result<u8, RdbError> {
        let byte = self.peek()?;
        self.position += 1;
        Ok(byte)
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], RdbError> {
        if let Some(bytes) = self.window[self.position..self.filled].first_chunk::<N>() {
            self.position += N;
            return Ok(*bytes);
        }
        let mut bytes = [0; N];
        for byte in &mut bytes {
            *byte = self.byte()?;
        }
        Ok(bytes)
    }

    /// The next eight bytes as a number; the output gets another one instead, if there is one.
    pub(super) fn i64_or(&mut self, other: impl FnOnce(i64) -> Option<i64>) -> Result<i64, RdbError> {
        let start = self.position;
        let Some(bytes) = self.window[start..self.filled].first_chunk::<8>() else {
            let route = self.route;
            self.set_route(Route::Drop)?;
            let value = i64::from_le_bytes(self.array()?);
            self.set_route(route)?;
            self.emit(&other(value).unwrap_or(value).to_le_bytes())?;
            return Ok(value);
        };
        let value = i64::from_le_bytes(*bytes);
        self.position += 8;
        if let Some(other) = other(value) {
            // The checksum is that of the base.
            self.hash();
            self.window[start..start + 8].copy_from_slice(&other.to_le_bytes());
        }
        Ok(value)
    }

    /// At least one and at most `limit` of the next bytes (none only for a `limit` of 0).
    fn chunk(&mut self, limit: u64) -> Result<&[u8], RdbError> {
        if limit > 0 {
            self.peek()?;
        }
        let start = self.position;
        let available = self.filled - start;
        let length = usize::try_from(limit).map_or(available, |limit| limit.min(available));
        self.position += length;
        Ok(&self.window[start..start + length])
    }

    /// Skips `count` bytes.
    pub(super) fn skip(&mut self, mut count: u64) -> Result<(), RdbError> {
        while count > 0 {
            count -= self.chunk(count)?.len() as u64;
        }
        Ok(())
    }

    /// Copies `count` bytes; memory grows as they arrive.
    fn copy(&mut self, mut count: u64, into: &mut Vec<u8>) -> Result<(), RdbError> {
        while count > 0 {
            let chunk = self.chunk(count)?;
            into.extend_from_slice(chunk);
            count -= chunk.len() as u64;
        }
        Ok(())
    }

    /// A length, or the encoding in its place.
    pub(super) fn header(&mut self) -> Result<Header, RdbError> {
        let offset = self.offset();
        let first = self.byte()?;
        Ok(match (first >> 6, first) {
            (0, _) => Header::Plain(u64::from(first)),
            (1, _) => Header::Plain(u64::from(u16::from_be_bytes([first & 0x3f, self.byte()?]))),
            (2, 0x80) => Header::Plain(u64::from(u32::from_be_bytes(self.array()?))),
            (2, 0x81) => Header::Plain(u64::from_be_bytes(self.array()?)),
            (3, _) => Header::Encoded(first & 0x3f),
            _ => {
                return Err(RdbError::Unknown { offset, byte: first });
            }
        })
    }

    /// A number in the form of a length.
    pub(super) fn number(&mut self) -> Result<u64, RdbError> {
        let offset = self.offset();
        match self.header()? {
            Header::Plain(number) => Ok(number),
            Header::Encoded(_) => Err(RdbError::Corrupt { offset, what: "a string's encoding in place of a number" }),
        }
    }

    /// Skips a string.
    pub(super) fn skip_string(&mut self) -> Result<(), RdbError> {
        let offset = self.offset();
        match self.header()? {
            Header::Plain(length) => self.skip(length),
            Header::Encoded(STRING_INT8) => self.skip(1),
            Header::Encoded(STRING_INT16) => self.skip(2),
            Header::Encoded(STRING_INT32) => self.skip(4),
            Header::Encoded(STRING_LZF) => {
                let packed_bytes = self.number()?;
                self.number()?;
                self.skip(packed_bytes)
            }
            Header::Encoded(encoding) => Err(RdbError::Unknown { offset, byte: 0xc0 | encoding }),
        }
    }

    /// Reads a string, in plain bytes, into `into`.
    pub(super) fn string(&mut self, into: &mut Vec<u8>) -> Result<(), RdbError> {
        into.clear();
        let offset = self.offset();
        let integer = match self.header()? {
            Header::Plain(length) => return self.copy(length, into),
            Header::Encoded(STRING_LZF) => {
                let packed_bytes = self.number()?;
                let length = self.number()?;
                let mut packed = Vec::new();
                self.copy(packed_bytes, &mut packed)?;
                *into = lzf::decompress(&packed, length)
                    .ok_or(RdbError::Corrupt { offset, what: "a compressed string that does not unpack" })?;
                return Ok(());
            }
            Header::Encoded(STRING_INT8) => i32::from(i8::from_le_bytes(self.array()?)),
            Header::Encoded(STRING_INT16) => i32::from(i16::from_le_bytes(self.array()?)),
            Header::Encoded(STRING_INT32) => i32::from_le_bytes(self.array()?),
            Header::Encoded(encoding) => {
                return Err(RdbError::Unknown { offset, byte: 0xc0 | encoding });
            }
        };
        into.extend_from_slice(integer.to_string().as_bytes());
        Ok(())
    }

    /// Sends what was read since the last time on its route.
    fn settle(&mut self) -> Result<(), RdbError> {
        let bytes = &self.window[self.settled..self.position];
        match self.route {
            Route::Pass => {
                let offset = self.passed + self.settled as u64;
                self.output.write_all(bytes).map_err(|source| RdbError::Write { offset, source })?;
            }
            Route::Drop => {}
        }
        self.settled = self.position;
        Ok(())
    }

    fn hash(&mut self) {
        self.digest.update(&self.window[self.hashed..self.position]);
        self.hashed = self.position;
    }

    /// Fills the window, all of which has been read; leaves it empty at the end of the base.
    fn refill(&mut self) -> Result<(), RdbError> {
        self.settle()?;
        self.hash();
        self.passed += self.position as u64;
        (self.position, self.filled, self.settled, self.hashed) = (0, 0, 0, 0);
        loop {
            match self.base.read(&mut self.window) {
                Ok(count) => {
                    self.filled = count.min(self.window.len());
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(RdbError::Read { offset: self.passed, source });
                }
            }
        }
    }
}
