//! How a file system loses its power: the one call for it, which has no safe form.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::ioctl::{Setter, ioctl, opcode};

/// `EXT4_IOC_SHUTDOWN`: everything fails from now on.
const SHUTDOWN: rustix::ioctl::Opcode = opcode::read::<u32>(b'X', 125);
/// Without writing the journal first: what it holds in memory is lost.
const NO_LOG_FLUSH: u32 = 2;

/// Has the file system of a folder stop at once.
///
/// # Errors
///
/// When it is of another kind, or the kernel refuses.
pub(super) fn cut(folder: &Path) -> io::Result<()> {
    let folder = File::open(folder)?;
    // SAFETY: the kernel reads one `u32` behind the pointer that `Setter` hands over, and writes nothing.
    #[expect(unsafe_code, reason = "the call has no safe form")]
    unsafe { ioctl(&folder, Setter::<SHUTDOWN, u32>::new(NO_LOG_FLUSH)) }.map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_other_file_system_stops() {
        // The kernel's own one of processes: nothing happens to it.
        assert!(cut(Path::new("/proc")).is_err());
    }
}
