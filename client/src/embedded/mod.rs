//! The embedded cluster: a whole coordinator over an in-memory log and one task manager, inside this process.
//!
//! The control engines, the actors and the executor are the ones of a real cluster; only the log is not replicated
//! and messages are moved instead of sent. Nothing of it is durable: it lives as long as `execute` does.

mod task_manager;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidemill_coordinator::engine::replicated::JobState;
use tidemill_coordinator::runtime::clock::Clock;
use tidemill_coordinator::runtime::leader::{EventLog, LeaderHandle, LeaderSettings, run_leaderships};
use tidemill_coordinator::runtime::memory_log::MemoryLog;
use tidemill_coordinator::runtime::replicated_log::ReplicatedLog;
use tidemill_dataflow::flow::Flow;
use tidemill_model::execution::CollectedPart;
use tidemill_model::id::JobId;
use tidemill_model::job::{JobResult, JobSpec, JobStatus};

use self::task_manager::{EmbeddedTaskManager, Memory};
use crate::savepoint;
use crate::submission::{Error, JobOutcome};

/// How long an ended job waits for a checkpoint storage that is out of order.
const CLEANING_MAX: Duration = Duration::from_secs(10);

/// Runs a job in this process and waits for its end; may be called inside a tokio runtime.
pub(crate) fn run(spec: JobSpec, flow: Arc<Flow>) -> Result<JobOutcome, Error> {
    // A thread of its own, because a runtime must not be blocked on inside another one.
    std::thread::scope(|scope| {
        let worker = std::thread::Builder::new()
            .name("tidemill-embedded".to_owned())
            .spawn_scoped(scope, || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.map_err(Error::Runtime)?.block_on(run_cluster(spec, flow))
            })
            .map_err(Error::Runtime)?;
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

async fn run_cluster(spec: JobSpec, flow: Arc<Flow>) -> Result<JobOutcome, Error> {
    savepoint::check(&spec.settings, &spec.graph).await?;
    let job = spec.id;
    let log = Arc::new(MemoryLog::default());
    // Nothing can be lost but the whole process: a slow disk must not look like a lost task manager.
    let (heartbeat_timeout, late_writes) = (Duration::MAX, Duration::ZERO);
    let settings = LeaderSettings { heartbeat_timeout, late_writes, ..LeaderSettings::default() };
    let mut leadership = run_leaderships(log.clone(), settings, Clock::default(), EventLog::off());
    let leader: LeaderHandle = leadership
        .wait_for(Option::is_some)
        .await
        .ok()
        .and_then(|leader| leader.clone())
        .ok_or_else(|| Error::Runtime(std::io::Error::other("the embedded coordinator did not start")))?;
    let memory = Memory::default();
    let mut task_manager = EmbeddedTaskManager::start(&leader, &spec, flow, memory.clone()).await?;
    leader.submit(spec).await.map_err(|error| Error::Program(error.to_string()))?;
    let end = tokio::select! {
        biased;
        end = wait_for_end(&*log, job) => Some(end),
        () = task_manager.cut_off() => None,
    };
    let tasks = task_manager.stop();
    if end.is_some() {
        // All have reported their end, and are about to close what they have open. RocksDB does not survive the end of
        // the process in the middle of that, and would leave its files.
        tasks.wait();
    }
    // The last chance: there is no later leader.
    if end.is_some() && tokio::time::timeout(CLEANING_MAX, wait_until_clean(&*log, job)).await.is_err() {
        tracing::warn!(job_id = %job, "files of the job's checkpoints are left");
    }
    let cut_off = || Error::Runtime(std::io::Error::other("the embedded coordinator has ended; its log says why"));
    let end = end.ok_or_else(cut_off)?;
    match end {
        JobStatus::Finished(result) => {
            let collected = collected(&result, &memory);
            Ok(JobOutcome::Finished { result, collected })
        }
        JobStatus::Failed(failure) => Err(Error::JobFailed { job, failure }),
        JobStatus::Canceled
        | JobStatus::Created
        | JobStatus::Running
        | JobStatus::Restarting
        | JobStatus::Cancelling
        | JobStatus::Failing(_)
        | JobStatus::Committing => Err(Error::JobCanceled { job }),
    }
}

/// Waits until the job's status is terminal, or the log has ended.
async fn wait_for_end(log: &dyn ReplicatedLog, job: JobId) -> JobStatus {
    let mut applied = log.state().applied_index();
    loop {
        let status = log.state().read(|state| state.jobs.get(&job).map(|job| job.status.clone()));
        if let Some(status) = status.filter(JobStatus::is_terminal) {
            return status;
        }
        if applied.changed().await.is_err() {
            return JobStatus::Canceled;
        }
    }
}

/// Waits until no file of the job's checkpoints is left, or the log has ended.
async fn wait_until_clean(log: &dyn ReplicatedLog, job: JobId) {
    let mut applied = log.state().applied_index();
    while log.state().read(|state| state.jobs.get(&job).is_some_and(JobState::needs_master)) {
        if applied.changed().await.is_err() {
            return;
        }
    }
}

fn collected(result: &JobResult, memory: &Memory) -> Vec<(CollectedPart, Bytes)> {
    let find = |part: &CollectedPart| memory.get(part.blob).map(|records| (part.clone(), records));
    result.collected.iter().filter_map(find).collect()
}
