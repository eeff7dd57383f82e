//! Another process that works for this one.

use std::ffi::{CStr, OsStr, c_int, c_void};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::Command;

/// A command that runs this very program. It gets the folder's descriptor, by the same number: as long as the folder is
/// open here, the path that is returned leads to it in both processes.
///
/// # Errors
/// The descriptor can't be handed on.
pub fn this_program(folder: &File) -> io::Result<(Command, PathBuf)> {
    rustix::io::fcntl_setfd(folder, rustix::io::FdFlags::empty())?;
    // The command has nothing to do between fork and exec, so the system need not copy this process for it.
    Ok((Command::new("/proc/self/exe"), super::descriptor_path(folder)))
}

/// Makes this process end when the thread that has started it does.
///
/// # Errors
/// The parent is another process, or has already ended.
pub fn end_with_parent(parent: u32) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    // A parent that has already died sends no signal.
    if std::os::unix::process::parent_id() == parent { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
}

/// Gives this process less of the processor where others want it; not if its system calls are filtered, because a
/// filter may end whoever asks for that (systemd's `SystemCallFilter=~@resources` does).
pub fn be_nice() {
    /// The default of `nice`.
    const BY: i32 = 10;
    if may_ask_scheduler() {
        // If the system does not allow it, the process stays as it is.
        let _ = rustix::process::nice(BY);
    }
}

/// The shortest slice that the scheduler takes.
const SLICE_NS: u64 = 100_000;

/// Asks for the processor soon after this thread is woken, for one that works often and briefly: the scheduler lets it
/// interrupt threads with longer slices (EEVDF, Linux 6.12 and later; those before take no notice). In all it gets no
/// more of the processor. Not if system calls are filtered, as for [`be_nice`].
pub fn ask_for_short_slices() {
    if !may_ask_scheduler() {
        return;
    }
    let Some(mut attributes) = attributes() else { return };
    if attributes.sched_policy == libc::SCHED_OTHER as u32 {
        attributes.sched_runtime = SLICE_NS;
        // If the system refuses, the thread stays as it is.
        // SAFETY: the system reads one value, which has its size in it.
        let _ = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    }
}

/// What the scheduler knows of this thread.
fn attributes() -> Option<libc::sched_attr> {
    let size = size_of::<libc::sched_attr>() as libc::c_uint;
    let mut attributes = MaybeUninit::<libc::sched_attr>::zeroed();
    // SAFETY: the system writes no more than that size.
    let outcome = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, attributes.as_mut_ptr(), size, 0) };
    // SAFETY: all fields are integers, to which zero is a value.
    (outcome == 0).then(|| unsafe { attributes.assume_init() })
}

fn may_ask_scheduler() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| !is_filtered(&status))
}

/// Whether that process's system calls are filtered, by its `/proc/ID/status`. A system without filters says nothing.
fn is_filtered(status: &str) -> bool {
    let mode = status.lines().find_map(|line| line.strip_prefix("Seccomp:"));
    mode.is_some_and(|mode| mode.trim() != "0")
}

/// The file that this module was loaded from; `None` where the system does not say.
pub fn this_library() -> Option<PathBuf> {
    static HERE: u8 = 0;
    mapped_file((&raw const HERE).addr())
}

/// The file that the library of this name was loaded from, whatever a relative name now means; `None` where none of
/// this name is loaded, or the system does not say.
pub fn library_file(name: &[u8]) -> Option<PathBuf> {
    struct Search<'a> {
        name: &'a [u8],
        address: Option<usize>,
    }
    /// # Safety
    /// `info` and `search` point to the loader's description of a library and to a [`Search`].
    unsafe extern "C" fn look(info: *mut libc::dl_phdr_info, _size: usize, search: *mut c_void) -> c_int {
        // SAFETY: of this function.
        let (info, search) = unsafe { (&*info, &mut *search.cast::<Search<'_>>()) };
        // SAFETY: the loader's name of a library is NUL-terminated, where it is not null.
        let is_it = !info.dlpi_name.is_null() && unsafe { CStr::from_ptr(info.dlpi_name) }.to_bytes() == search.name;
        if !is_it || info.dlpi_phdr.is_null() {
            return 0;
        }
        // SAFETY: the loader's array of that many headers lives as long as the library is loaded.
        let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
        let loaded = headers.iter().find(|header| header.p_type == libc::PT_LOAD);
        let start = loaded.and_then(|header| info.dlpi_addr.checked_add(header.p_vaddr));
        search.address = start.and_then(|start| usize::try_from(start).ok());
        1
    }
    let mut search = Search { name, address: None };
    // SAFETY: `look` gets what it asks for: the loader's descriptions, and `search`, which outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(look), (&raw mut search).cast()) };
    mapped_file(search.address?)
}

/// The file that is mapped there, as the system knows it.
fn mapped_file(address: usize) -> Option<PathBuf> {
    let maps = std::fs::read("/proc/self/maps").ok()?;
    let name = maps.split(|byte| *byte == b'\n').find_map(|line| name_of_mapping(line, address))?;
    let path = |name: &[u8]| Some(PathBuf::from(OsStr::from_bytes(name))).filter(|path| path.is_file());
    // For a file that was replaced since, its successor.
    path(name).or_else(|| path(name.strip_suffix(b" (deleted)")?))
}

/// The file's name in a line of `/proc/self/maps`, if that is about this address: `start-end access offset device inode
/// name`.
fn name_of_mapping(line: &[u8], address: usize) -> Option<&[u8]> {
    let range = line.split(|byte| *byte == b' ').next()?;
    let (start, end) = std::str::from_utf8(range).ok()?.split_once('-')?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    if !(number(start)?..number(end)?).contains(&address) {
        return None;
    }
    line.iter().position(|byte| *byte == b'/').and_then(|at| line.get(at..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_of_system_calls_is_seen() {
        assert!(is_filtered("NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n"));
        assert!(!is_filtered("NoNewPrivs:\t1\nSeccomp:\t0\nSeccomp_filters:\t0\n"));
        assert!(!is_filtered("NoNewPrivs:\t0\n"));
    }

    #[test]
    fn a_thread_gets_short_slices_where_there_are_slices() {
        let slice = |attributes: Option<libc::sched_attr>| attributes.map_or(0, |known| known.sched_runtime);
        let thread = std::thread::spawn(move || {
            let before = slice(attributes());
            ask_for_short_slices();
            (before, slice(attributes()))
        });
        let (before, after) = thread.join().unwrap();
        // An older system shows none.
        assert_eq!(after, if before > 0 && may_ask_scheduler() { SLICE_NS } else { before });
    }

    #[test]
    fn a_mapping_names_its_file() {
        let line = b"7f01-7f03 r--p 00000000 fe:00 2621 /a folder/lib.so";
        assert_eq!(name_of_mapping(line, 0x7f02), Some(&b"/a folder/lib.so"[..]));
        assert_eq!(name_of_mapping(line, 0x7f03), None);
        assert_eq!(name_of_mapping(b"7f01-7f03 rw-p 00000000 00:00 0 ", 0x7f01), None);
        assert_eq!(name_of_mapping(b"", 0), None);
    }

    #[test]
    fn a_loaded_library_is_found_by_its_name() {
        let own = this_library().expect("the program");
        assert!(own.is_absolute() && own.is_file());
        assert_eq!(library_file(b"no such library"), None);
        // The loader's name of the program itself.
        assert_eq!(library_file(b""), Some(own));
    }
}
