//! What the operating system is told about an executor: it must never outlive or outbid its agent.

use std::io;

use rustix::process::{Resource, Rlimit, Signal};

use super::Error;

/// How much lower than the agent's an executor's priority is: servers must be served first on a busy machine.
const NICENESS: i32 = 5;

/// Makes executors go before agents and coordinators when memory runs out; of -1000 to 1000.
const OUT_OF_MEMORY_SCORE: &str = "500";

/// Has this process killed when the agent's thread that started it ends.
pub(super) fn die_with_parent() -> Result<(), Error> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| Error::set_up("set the parent-death signal")(error.into()))
}

/// Lowers this process's claims on processor and memory.
pub(super) fn yield_to_servers() -> Result<(), Error> {
    rustix::process::nice(NICENESS).map_err(|error| Error::set_up("lower the priority")(error.into()))?;
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", OUT_OF_MEMORY_SCORE) {
        // Some containers mount it read-only; the job runs as well without.
        tracing::warn!("raise the out-of-memory score: {error}");
    }
    Ok(())
}

/// Limits the private, writable memory of this process: heap and stacks, but no reserved address space, of which
/// allocators take much and use little.
pub(super) fn limit_memory(bytes: u64) -> Result<(), Error> {
    let existing = rustix::process::getrlimit(Resource::Data).maximum;
    let limit = existing.map_or(bytes, |existing| existing.min(bytes));
    rustix::process::setrlimit(Resource::Data, Rlimit { current: Some(limit), maximum: Some(limit) })
        .map_err(|error| Error::set_up("limit the memory")(io::Error::from(error)))
}
