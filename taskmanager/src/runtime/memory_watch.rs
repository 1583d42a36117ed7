//! How much memory this machine has, and how much of it an executor uses.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

/// How often an executor is looked at: a leak takes longer than that to fill what a slot may use.
const INTERVAL: Duration = Duration::from_millis(50);

/// The limit of this machine's or container's outermost control group, where there is one.
const CONTROL_GROUP_LIMIT: &str = "/sys/fs/cgroup/memory.max";

/// Sees the most memory that a process uses.
pub(super) struct MemoryWatch {
    status: PathBuf,
    peak_bytes: u64,
}

impl MemoryWatch {
    pub(super) fn new(process_id: u32) -> Self {
        Self { status: PathBuf::from(format!("/proc/{process_id}/status")), peak_bytes: 0 }
    }

    /// Looks again and again; never ends.
    ///
    /// # Cancel safety
    ///
    /// What was seen stays.
    pub(super) async fn watch(&mut self) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let status = fs::read_to_string(&self.status).unwrap_or_default();
            // Private, writable memory: what `RLIMIT_DATA` counts.
            self.peak_bytes = self.peak_bytes.max(kibibytes(&status, "VmData:").unwrap_or_default());
        }
    }

    pub(super) fn peak_bytes(&self) -> u64 {
        self.peak_bytes
    }
}

/// The memory that processes on this machine, or in this container, can have together; none: it cannot be read.
pub(super) fn machine_bytes() -> Option<u64> {
    let machine = kibibytes(&fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:")?;
    let container = fs::read_to_string(CONTROL_GROUP_LIMIT).ok().and_then(|text| text.trim().parse().ok());
    Some(container.map_or(machine, |container: u64| container.min(machine)))
}

/// The bytes in a line such as `VmData:     1234 kB`.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kibibytes| kibibytes.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel_are_understood() {
        assert_eq!(kibibytes("VmPeak:\t  9 kB\nVmData:\t    1234 kB\n", "VmData:"), Some(1234 * 1024));
        assert_eq!(kibibytes("VmData: many\n", "VmData:"), None);
        assert!(machine_bytes().is_some_and(|bytes| bytes > 1 << 20));
    }
}
