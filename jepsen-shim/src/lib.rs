//! Preloaded into a server, it stands between the program and the C library's calls that bring data to the disk. A control
//! file that is mapped into the process says, at any moment, what becomes of them, and counts them.
//!
//! Without a control file it does nothing. It allocates nothing: `write` is called between a fork and an exec as well.

#![expect(
    unsafe_code,
    reason = "it takes the place of the C library's functions and shares memory with another process"
)]
#![expect(clippy::cast_possible_truncation, reason = "what the kernel answers fits what the C library gives back")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::io::Write;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

pub mod layout;

use layout::{BYTES, PART, PREFIX, Slot};

/// The control file, once it is mapped.
static CONTROL: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// The name of [`layout::VARIABLE`], as C wants it.
const VARIABLE: &CStr = c"TIDEMILL_CHAOS_CONTROL";

/// Called by the loader, before the program begins.
#[used]
#[unsafe(link_section = ".init_array")]
static LOAD: extern "C" fn() = load;

extern "C" fn load() {
    // SAFETY: nothing else runs yet, so that nobody changes the environment, which the loader has set up.
    let path = unsafe { libc::getenv(VARIABLE.as_ptr()) };
    if !path.is_null() {
        // SAFETY: a text of the environment, which ends with a zero.
        map(unsafe { CStr::from_ptr(path) });
    }
}

/// Maps a control file. One that cannot be has no effect, which the harness sees by what it does not count.
fn map(path: &CStr) {
    // SAFETY: plain calls; the mapping is never taken away.
    unsafe {
        let file = libc::open(path.as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
        if file < 0 {
            return;
        }
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let control = libc::mmap(ptr::null_mut(), BYTES, access, libc::MAP_SHARED, file, 0);
        libc::close(file);
        if control != libc::MAP_FAILED {
            CONTROL.store(control, Ordering::Release);
            count(Slot::Loaded);
        }
    }
}

/// A number of the control file, if there is one.
fn slot(slot: Slot) -> Option<&'static AtomicU64> {
    let control = CONTROL.load(Ordering::Acquire);
    if control.is_null() {
        return None;
    }
    // SAFETY: the mapping is of `BYTES`, begins at a page, and stays; everybody in this process uses it by atomics.
    Some(unsafe { &*control.cast::<u8>().add(slot.offset()).cast::<AtomicU64>() })
}

fn value(of: Slot) -> u64 {
    slot(of).map_or(0, |slot| slot.load(Ordering::Relaxed))
}

fn count(what: Slot) {
    if let Some(slot) = slot(what) {
        slot.fetch_add(1, Ordering::Relaxed);
    }
}

/// The text that begins at an offset of the control file.
fn text(from: usize, buffer: &mut [u8; BYTES]) -> &[u8] {
    let control = CONTROL.load(Ordering::Acquire).cast::<u8>();
    let mut length = 0;
    while !control.is_null() && from + length < BYTES {
        // SAFETY: within the mapping. The harness may write it at the same time: then a mixture is read, of bytes.
        let byte = unsafe { control.add(from + length).read_volatile() };
        if byte == 0 {
            break;
        }
        buffer[length] = byte;
        length += 1;
    }
    &buffer[..length]
}

/// Whether the control file is about this open file.
fn concerns(file: c_int) -> bool {
    let (mut link, mut path, mut wanted) = ([0_u8; 40], [0_u8; BYTES], [0_u8; BYTES]);
    // The array is longer than any number makes this, and ends with a zero.
    if write!(&mut link[..39], "/proc/self/fd/{file}").is_err() {
        return false;
    }
    // SAFETY: both point to arrays of this function, and the lengths are theirs.
    let length =
        unsafe { libc::readlink(link.as_ptr().cast::<c_char>(), path.as_mut_ptr().cast::<c_char>(), path.len()) };
    let Some(path) = usize::try_from(length).ok().and_then(|length| path.get(..length)) else { return false };
    let prefix = text(PREFIX, &mut wanted);
    if prefix.is_empty() || !path.starts_with(prefix) {
        return false;
    }
    let part = text(PART, &mut wanted);
    part.is_empty() || path.windows(part.len()).any(|window| window == part)
}

/// Ends a call the way the C library does.
fn fails_with(error: c_int) -> isize {
    count(Slot::Failed);
    // SAFETY: the C library's own, of this thread.
    unsafe { *libc::__errno_location() = error };
    -1
}

/// What becomes of a sync; none: the kernel shall do it.
fn sync(file: c_int) -> Option<c_int> {
    count(Slot::Syncs);
    let delay = value(Slot::DelaySync);
    let (skip, fail) = (value(Slot::SkipSync) != 0, value(Slot::FailSync) != 0);
    if (delay == 0 && !skip && !fail) || !concerns(file) {
        return None;
    }
    if delay != 0 {
        count(Slot::Delayed);
        std::thread::sleep(std::time::Duration::from_micros(delay));
    }
    let take = |left: u64| left.checked_sub(1);
    if fail && slot(Slot::FailSync)?.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
        return Some(fails_with(libc::EIO) as c_int);
    }
    if skip {
        count(Slot::Skipped);
        return Some(0);
    }
    None
}

/// Whether a write finds the disk full.
fn is_full(file: c_int) -> bool {
    count(Slot::Writes);
    value(Slot::Full) != 0 && concerns(file)
}

/// The kernel's `fsync`, or what the control file says.
#[unsafe(no_mangle)]
pub extern "C" fn fsync(file: c_int) -> c_int {
    // SAFETY: the kernel's call with the caller's own argument.
    sync(file).unwrap_or_else(|| unsafe { libc::syscall(libc::SYS_fsync, file) as c_int })
}

/// The kernel's `fdatasync`, or what the control file says.
#[unsafe(no_mangle)]
pub extern "C" fn fdatasync(file: c_int) -> c_int {
    // SAFETY: the kernel's call with the caller's own argument.
    sync(file).unwrap_or_else(|| unsafe { libc::syscall(libc::SYS_fdatasync, file) as c_int })
}

/// The kernel's `write`, or what the control file says.
///
/// # Safety
///
/// As the C library's: `bytes` is the beginning of `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(file: c_int, bytes: *const c_void, length: usize) -> isize {
    if is_full(file) {
        return fails_with(libc::ENOSPC);
    }
    // SAFETY: the kernel's call with the caller's own arguments.
    unsafe { libc::syscall(libc::SYS_write, file, bytes, length) as isize }
}

/// The kernel's `pwrite64`, or what the control file says.
///
/// # Safety
///
/// As the C library's: `bytes` is the beginning of `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(file: c_int, bytes: *const c_void, length: usize, offset: i64) -> isize {
    if is_full(file) {
        return fails_with(libc::ENOSPC);
    }
    // SAFETY: the kernel's call with the caller's own arguments.
    unsafe { libc::syscall(libc::SYS_pwrite64, file, bytes, length, offset) as isize }
}

/// The kernel's `rename`, counted.
///
/// # Safety
///
/// As the C library's: both are texts that end with a zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    count(Slot::Renames);
    // SAFETY: the kernel's call with the caller's own arguments.
    unsafe { libc::syscall(libc::SYS_renameat2, libc::AT_FDCWD, from, libc::AT_FDCWD, to, 0) as c_int }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io;
    use std::os::fd::AsRawFd;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::FileExt;

    use super::*;

    /// What the harness does.
    fn set(control: &File, slot: Slot, value: u64) {
        control.write_all_at(&value.to_ne_bytes(), slot.offset() as u64).expect("writable");
    }

    // One test, for there is one control file in a process. Its own calls are intercepted as well.
    #[test]
    fn calls_skip_wait_and_fail_as_the_control_file_says() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("control");
        let control = File::options().create_new(true).read(true).write(true).open(&path).expect("a file");
        control.set_len(BYTES as u64).expect("writable");
        let data = folder.path().canonicalize().expect("it is there").join("data");
        fs::create_dir(&data).expect("writable");
        control.write_all_at(data.as_os_str().as_bytes(), PREFIX as u64).expect("writable");
        let mut name = path.as_os_str().as_bytes().to_vec();
        name.push(0);
        map(CStr::from_bytes_with_nul(&name).expect("a path"));
        assert_eq!(value(Slot::Loaded), 1);

        let create = |name: &str| File::create(data.join(name)).expect("writable");
        let (log, other, outside) =
            (create("7.log"), create("other"), File::create(folder.path().join("outside")).expect("writable"));
        set(&control, Slot::SkipSync, 1);
        for (file, skipped) in [(&log, 1), (&other, 2), (&outside, 2)] {
            assert_eq!((fsync(file.as_raw_fd()), value(Slot::Skipped)), (0, skipped));
        }
        control.write_all_at(b".log", PART as u64).expect("writable");
        for (file, skipped) in [(&log, 3), (&other, 3)] {
            assert_eq!((fdatasync(file.as_raw_fd()), value(Slot::Skipped)), (0, skipped));
        }
        assert_eq!((fsync(-1), io::Error::last_os_error().raw_os_error()), (-1, Some(libc::EBADF)));

        set(&control, Slot::FailSync, 1);
        assert_eq!(log.sync_all().expect_err("it fails once").raw_os_error(), Some(libc::EIO));
        log.sync_all().expect("it fails once");
        set(&control, Slot::DelaySync, 1);
        log.sync_all().expect("it only takes longer");
        assert_eq!((value(Slot::Failed), value(Slot::Delayed)), (1, 1));

        (&log).write_all(b"fits").expect("there is room");
        set(&control, Slot::Full, 1);
        assert_eq!((&log).write_all(b"x").expect_err("full").raw_os_error(), Some(libc::ENOSPC));
        assert_eq!(log.write_all_at(b"x", 9).expect_err("full").raw_os_error(), Some(libc::ENOSPC));
        (&other).write_all(b"fits").expect("it is about logs");
        fs::rename(data.join("other"), data.join("renamed")).expect("possible");
        assert_eq!(value(Slot::Renames), 1);
        assert_eq!(fs::read(data.join("7.log")).expect("readable"), b"fits");
    }
}
