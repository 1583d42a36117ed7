//! What stands where in a control file, for those who read and write it: the preloaded library and the harness.

/// The variable that names the control file of a process.
pub const VARIABLE: &str = "TIDEMILL_CHAOS_CONTROL";
/// How long the file is.
pub const BYTES: usize = 4096;
/// Where the path begins whose files are concerned: all below it. It ends with a zero byte.
pub const PREFIX: usize = 1024;
/// Where the text begins that the names of concerned files contain, any if it is empty. It ends with a zero byte.
pub const PART: usize = 3072;

/// A number of eight bytes in the order of the machine; its place is `8 *` its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Slot {
    /// Counts the processes that have loaded the library.
    Loaded,
    /// Not 0: `fsync` and `fdatasync` of concerned files say that they succeeded, and do nothing.
    SkipSync,
    /// So many microseconds each of them takes longer.
    DelaySync,
    /// So many of them still fail, with `EIO`.
    FailSync,
    /// Not 0: writes to concerned files fail, with `ENOSPC`.
    Full,
    /// Counts calls of `fsync` and `fdatasync`.
    Syncs,
    /// Counts those that were skipped.
    Skipped,
    /// Counts those that were delayed.
    Delayed,
    /// Counts calls that failed because they were told to.
    Failed,
    /// Counts writes.
    Writes,
    /// Counts renames.
    Renames,
}

impl Slot {
    /// Where it begins.
    #[must_use]
    pub const fn offset(self) -> usize {
        8 * self as usize
    }
}
