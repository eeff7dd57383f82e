//! A file system (FUSE) with two files: the disk that is recorded, and an image of it.

use super::events::{DISK, Event, Record};
use rustix::fs::OFlags;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;

/// More than the kernel writes at once, with what stands before it.
const REQUEST_BYTES: usize = (1 << 20) + 4096;
const ROOT: u64 = 1;
/// The number of a file: that of its image, and this.
const FIRST_FILE: u64 = 2;

/// The operations that are answered.
mod operation {
    pub const LOOKUP: u32 = 1;
    pub const FORGET: u32 = 2;
    pub const GETATTR: u32 = 3;
    pub const SETATTR: u32 = 4;
    pub const OPEN: u32 = 14;
    pub const READ: u32 = 15;
    pub const WRITE: u32 = 16;
    pub const STATFS: u32 = 17;
    pub const RELEASE: u32 = 18;
    pub const FSYNC: u32 = 20;
    pub const FLUSH: u32 = 25;
    pub const INIT: u32 = 26;
    pub const INTERRUPT: u32 = 36;
    pub const BATCH_FORGET: u32 = 42;
}

/// The name of an image's file, or of the disk's.
pub fn name(image: u64) -> String {
    if image == DISK { "disk".into() } else { format!("image-{image}") }
}

/// Mounts the file system; whoever has the device serves it.
pub fn mount(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let device = File::from(rustix::fs::open("/dev/fuse", flags, rustix::fs::Mode::empty())?);
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
    let options = std::ffi::CString::new(options).expect("no zero byte");
    rustix::mount::mount("recorded", path, "fuse", rustix::mount::MountFlags::empty(), &*options)?;
    Ok(device)
}

/// Answers until the file system is unmounted.
pub fn serve(mut device: File, record: &Record) {
    let mut request = vec![0; REQUEST_BYTES];
    loop {
        let count = match device.read(&mut request) {
            Ok(count) => count,
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) => return,
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::NotFound) => continue,
            Err(error) => panic!("the FUSE device: {error}"),
        };
        let request = Request { bytes: &request[..count] };
        let (errno, body) = match request.answer(record) {
            Some(Ok(body)) => (0, body),
            Some(Err(errno)) => (-errno.raw_os_error(), Vec::new()),
            None => continue,
        };
        let mut out = Vec::with_capacity(16 + body.len());
        out.extend(u32::try_from(16 + body.len()).expect("a short answer").to_le_bytes());
        out.extend(errno.to_le_bytes());
        out.extend(request.u64(8).to_le_bytes());
        out.extend(body);
        // Whoever asked may have gone.
        let _ = device.write(&out);
    }
}

struct Request<'a> {
    bytes: &'a [u8],
}

type Answer = Result<Vec<u8>, rustix::io::Errno>;

impl Request<'_> {
    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes[at..at + 4].try_into().expect("four bytes"))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes[at..at + 8].try_into().expect("eight bytes"))
    }

    /// The image that it is about.
    fn image(&self) -> u64 {
        self.u64(16).saturating_sub(FIRST_FILE)
    }

    /// `None` where none is expected.
    fn answer(&self, record: &Record) -> Option<Answer> {
        let body = 40;
        let answer = match self.u32(4) {
            operation::FORGET | operation::BATCH_FORGET | operation::INTERRUPT => return None,
            operation::INIT => init(),
            operation::LOOKUP => return Some(self.lookup(record)),
            operation::GETATTR | operation::SETATTR => {
                [&u64::MAX.to_le_bytes()[..4], &[0; 12], &attributes(self.u64(16), record)].concat()
            }
            // Whatever was cached of a file stays true.
            operation::OPEN => [0_u64.to_le_bytes(), 2_u64.to_le_bytes()].concat(),
            operation::READ => record.read(self.image(), self.place(body + 8), self.u32(body + 16) as usize),
            operation::WRITE => {
                let (offset, bytes) = (self.place(body + 8), &self.bytes[body + 40..]);
                match self.image() {
                    DISK => record.add(Event::Write { offset, bytes: bytes.to_vec() }),
                    _ => record.write_image(offset, bytes),
                }
                [self.u32(body + 16).to_le_bytes(), [0; 4]].concat()
            }
            operation::FSYNC => {
                if self.image() == DISK {
                    record.add(Event::Flush);
                }
                Vec::new()
            }
            operation::RELEASE | operation::FLUSH => Vec::new(),
            operation::STATFS => vec![0; 80],
            _ => return Some(Err(rustix::io::Errno::NOSYS)),
        };
        Some(Ok(answer))
    }

    fn place(&self, at: usize) -> usize {
        usize::try_from(self.u64(at)).expect("a place on the disk")
    }

    fn lookup(&self, record: &Record) -> Answer {
        let wanted = self.bytes[40..].strip_suffix(b"\0").unwrap_or(&self.bytes[40..]);
        let image = [DISK, record.image()].into_iter().find(|image| name(*image).as_bytes() == wanted);
        let node = image.ok_or(rustix::io::Errno::NOENT)? + FIRST_FILE;
        Ok([&node.to_le_bytes()[..], &[0; 32], &attributes(node, record)].concat())
    }
}

/// Version 7.31, writes of up to a megabyte, nothing else.
fn init() -> Vec<u8> {
    const BIG_WRITES: u32 = 1 << 5;
    const MAX_PAGES: u32 = 1 << 22;
    let mut out = Vec::new();
    for field in [7, 31, 1 << 17, BIG_WRITES | MAX_PAGES, 12 << 16 | 16, 1 << 20, 1, 256] {
        out.extend(u32::to_le_bytes(field));
    }
    out.resize(64, 0);
    out
}

fn attributes(node: u64, record: &Record) -> Vec<u8> {
    let (bytes, mode) = if node == ROOT { (0, 0o040_755) } else { (record.bytes() as u64, 0o100_600) };
    let mut out = Vec::new();
    for field in [node, bytes, bytes / 512, 0, 0, 0] {
        out.extend(field.to_le_bytes());
    }
    for field in [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0] {
        out.extend(u32::to_le_bytes(field));
    }
    out
}
