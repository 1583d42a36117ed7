//! `tidemill list`, `status` and `cancel`.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use tidemill_model::id::JobId;
use tidemill_model::job::JobStatus;

use super::error::{Error, FAILED};
use super::{json, text};
use crate::clock;
use crate::job_client::{Consistency, JobClient};

/// How long a person is kept waiting for a cluster that does not answer; an election takes well under a second.
const PATIENCE: Duration = Duration::from_secs(10);

/// Lists jobs, the newest last.
pub(super) async fn list(
    coordinators: Vec<String>,
    consistency: Consistency,
    as_json: bool,
) -> Result<ExitCode, Error> {
    let mut jobs = client(coordinators).read_jobs(consistency).await?;
    jobs.value.sort_by_key(|job| (job.submitted, job.id));
    print(&if as_json { json::jobs(&jobs) } else { text::jobs(&jobs.value) + &text::freshness(&jobs.freshness) })
}

/// Shows one job.
pub(super) async fn status(
    coordinators: Vec<String>,
    job: JobId,
    consistency: Consistency,
    as_json: bool,
) -> Result<ExitCode, Error> {
    let job = client(coordinators).read_job(job, consistency).await?;
    let text = || text::job(&job.value, clock::wall()) + &text::freshness(&job.freshness);
    print(&if as_json { json::job(&job) } else { text() })
}

/// Cancels one job.
pub(super) async fn cancel(coordinators: Vec<String>, job: JobId, wait: bool) -> Result<ExitCode, Error> {
    let client = client(coordinators);
    client.cancel_job(job).await?;
    if !wait {
        return print(&format!("job {job} is being cancelled\n"));
    }
    let end = client.watch_job(job, |_| ()).await?.status;
    print(&format!("job {job} has ended: {end}\n"))?;
    // A job may finish or fail while the cancellation is on its way.
    Ok(if end == JobStatus::Canceled { ExitCode::SUCCESS } else { FAILED.into() })
}

pub(super) fn client(coordinators: Vec<String>) -> JobClient {
    JobClient::new(coordinators).with_timeout(PATIENCE)
}

/// Writes a result; a reader that has seen enough, such as `head`, is no failure.
pub(super) fn print(text: &str) -> Result<ExitCode, Error> {
    let mut output = std::io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(error.into()),
    }
}
