//! A disk that records what it is told, for file systems of the kernel's own: a file (FUSE) that a loop device stands
//! on. From the record come images of all that it may hold after a loss of power.
//!
//! Needs root, `/dev/fuse`, loop devices and the programs that make file systems. A test that uses it runs in a
//! namespace of mounts of its own ([`in_namespace`]), so that nothing of it outlives the test.

pub mod events;
mod fuse;

use super::temp::TempDir;
use super::{PATIENCE, Random, wait_until};
use events::{DISK, Record};
pub use events::{Event, Loss};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Enough for each of the file systems.
const BYTES: usize = 320 << 20;
const INSIDE: &str = "WBL_IN_NAMESPACE";

/// A file system of the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ext4,
    Xfs,
    Btrfs,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Ext4, Kind::Xfs, Kind::Btrfs];

    fn name(self) -> &'static str {
        match self {
            Kind::Ext4 => "ext4",
            Kind::Xfs => "xfs",
            Kind::Btrfs => "btrfs",
        }
    }

    fn words(self) -> &'static [&'static str] {
        match self {
            Kind::Ext4 => &["-q", "-F", "-E", "nodiscard", "-J", "size=8"],
            Kind::Xfs => &["-q", "-f", "-K"],
            Kind::Btrfs => &["-q", "-f", "-K"],
        }
    }

    /// Why there is no such file system here.
    fn missing(self) -> Option<String> {
        let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
        let program = format!("mkfs.{}", self.name());
        if !known.lines().any(|line| line.trim() == self.name()) {
            return Some(format!("the kernel has no {}", self.name()));
        }
        let has_program = Command::new(&program).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
        has_program.is_err().then(|| format!("{program} is missing"))
    }
}

/// Runs a test in a namespace of mounts of its own, with the file systems that there are. Says what it leaves out.
pub fn in_namespace(name: &str, run: impl FnOnce(&[Kind])) {
    if std::env::var_os(INSIDE).is_some() {
        let kinds = Kind::ALL.into_iter().filter(|kind| kind.missing().is_none()).collect::<Vec<_>>();
        return run(&kinds);
    }
    if let Some(why) = missing() {
        println!("SKIPPED, {why}: {name}");
        return;
    }
    Kind::ALL.iter().filter_map(|kind| kind.missing()).for_each(|why| println!("SKIPPED in part, {why}: {name}"));
    let status = Command::new("unshare")
        .args(["--mount", "--propagation", "private"])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "yes")
        .status()
        .expect("unshare starts");
    assert!(status.success(), "{name} failed: see above");
}

/// Why no disk can be recorded here.
fn missing() -> Option<&'static str> {
    let loops = Command::new("losetup").arg("-f").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let separate = Command::new("unshare").args(["--mount", "true"]).stderr(Stdio::null()).status();
    let opened = std::fs::File::options().read(true).write(true).open("/dev/fuse");
    if opened.is_err() {
        Some("/dev/fuse is missing or not allowed")
    } else if !loops.is_ok_and(|status| status.success()) {
        Some("there are no loop devices")
    } else if !separate.is_ok_and(|status| status.success()) {
        Some("nothing may be mounted")
    } else {
        None
    }
}

/// A recorded disk with a file system.
pub struct RecordedDisk {
    kind: Kind,
    record: Record,
    folder: TempDir,
    server: Option<std::thread::JoinHandle<()>>,
}

/// A file system that is mounted, of the disk or of an image.
pub struct Mounted {
    path: PathBuf,
}

impl RecordedDisk {
    /// A disk with an empty file system, which is durable.
    pub fn new(kind: Kind) -> RecordedDisk {
        let (folder, record) = (TempDir::new(), Record::new(BYTES));
        for name in ["files", "mounted"] {
            std::fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        let device = fuse::mount(&folder.path().join("files")).expect("FUSE can be mounted");
        let served = record.clone();
        let server = Some(std::thread::spawn(move || fuse::serve(device, &served)));
        let disk = RecordedDisk { kind, record, folder, server };
        let make = format!("mkfs.{}", kind.name());
        run(Command::new(make).args(kind.words()).arg(disk.file(DISK)));
        disk
    }

    fn file(&self, image: u64) -> PathBuf {
        self.folder.path().join("files").join(fuse::name(image))
    }

    /// Mounts the disk, and records what becomes of it from here on.
    pub fn mount(&self) -> Mounted {
        self.record.begin();
        self.mount_file(DISK).unwrap_or_else(|why| panic!("{why}"))
    }

    /// Records no more.
    pub fn end(&self) {
        self.record.end();
    }

    /// Somebody was told something: whatever is written from here on comes after that.
    pub fn told(&self, what: u64) {
        self.record.add(Event::Told(what));
    }

    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The file system after a loss of power: see [`Record::make_image`].
    ///
    /// # Errors
    /// It cannot be mounted: its superblock is torn, which has more than one sector.
    pub fn mount_image(&self, events: usize, loss: Loss, random: &mut Random) -> Result<(Mounted, usize), String> {
        let (image, pending) = self.record.make_image(events, loss, random);
        Ok((self.mount_file(image)?, pending))
    }

    fn mount_file(&self, image: u64) -> Result<Mounted, String> {
        let path = self.folder.path().join("mounted");
        let mut mount = Command::new("mount");
        mount.args(["-t", self.kind.name(), "-o", "loop"]).arg(self.file(image)).arg(&path);
        try_run(&mut mount).map(|()| Mounted { path })
    }
}

impl Mounted {
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Whoever has used it may be about to end.
        let unmount = || Command::new("umount").arg(&self.path).stderr(Stdio::null()).status();
        if std::thread::panicking() {
            let _ = Command::new("umount").arg("-l").arg(&self.path).status();
        } else {
            wait_until("nobody uses the file system", PATIENCE, || unmount().is_ok_and(|status| status.success()));
        }
    }
}

impl Drop for RecordedDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.folder.path().join("files")).status();
        if let Some(server) = self.server.take().filter(|_| !std::thread::panicking()) {
            server.join().expect("the disk has worked to its end");
        }
    }
}

fn run(command: &mut Command) {
    try_run(command).unwrap_or_else(|why| panic!("{why}"));
}

fn try_run(command: &mut Command) -> Result<(), String> {
    let output = command.output().expect("the program starts");
    let (out, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(()) } else { Err(format!("{command:?}: {out}{said}")) }
}
