//! The CPU time of a thread, and of the process.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// What the calling thread has used.
pub(crate) fn of_thread() -> Duration {
    read(ClockId::ThreadCPUTime)
}

/// What all threads have used.
pub(crate) fn of_process() -> Duration {
    read(ClockId::ProcessCPUTime)
}

/// What the calling thread uses for calling `work` so many times.
pub(crate) fn of_calls(count: u64, mut work: impl FnMut()) -> Duration {
    let before = of_thread();
    (0..count).for_each(|_| work());
    of_thread() - before
}

fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).expect("CPU time only grows from 0");
    Duration::new(seconds, u32::try_from(time.tv_nsec).expect("below a second"))
}
