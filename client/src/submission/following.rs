//! Following a job that was submitted: until it has its state, or to its end.

use tidemill_model::execution::{ExecutionState, TerminalState};
use tidemill_model::id::JobId;
use tidemill_model::job::JobStatus;

use super::Error;
use crate::job_client::{self, AttemptDetails, JobClient, JobDetails};

/// Waits until each sub-task of a job has its part of the savepoint: what a program keeps, and so whether a state is of a
/// type that it can read, is known only where its functions are opened.
///
/// # Errors
/// One cannot use it, or the job is over for another reason.
pub(super) async fn taken_up(client: &JobClient, job: JobId) -> Result<(), Error> {
    let mut waits = None;
    let details = client.watch_job_until(job, |details| {
        waits = details.waiting_reason.clone().filter(|_| details.status == JobStatus::Created);
        details.status.is_terminal() || waits.is_some() || has_started(details)
    });
    match details.await?.status {
        JobStatus::Failed(failure) => Err(Error::JobFailed { job, failure }),
        JobStatus::Canceled => Err(Error::JobCanceled { job }),
        JobStatus::Created
        | JobStatus::Running
        | JobStatus::Restarting
        | JobStatus::Cancelling
        | JobStatus::Failing(_)
        | JobStatus::Committing
        | JobStatus::Finished(_) => {
            let told = match waits {
                Some(reason) => format!("waits: {reason}; whether it can use the savepoint is not known yet"),
                None => "has taken up the state of the savepoint".to_owned(),
            };
            eprintln!("job {job} {told}");
            Ok(())
        }
    }
}

/// Whether each sub-task runs, or has come to the end of its input.
fn has_started(details: &JobDetails) -> bool {
    let started = |attempt: &AttemptDetails| {
        matches!(
            attempt.report.state,
            ExecutionState::Running | ExecutionState::Terminal(TerminalState::Finished { .. })
        )
    };
    !details.attempts.is_empty() && details.attempts.iter().all(started)
}

/// Follows a job and tells the user of restarts and waiting.
pub(super) async fn follow(client: &JobClient, job: JobId) -> Result<JobDetails, job_client::Error> {
    let mut told = Vec::new();
    client
        .watch_job(job, |details| {
            let news = news(details);
            if let Some(news) = news.filter(|news| told.last() != Some(news)) {
                eprintln!("job {job}: {news}");
                told = vec![news];
            }
        })
        .await
}

/// What a user who waits should know of a status, if anything.
fn news(details: &JobDetails) -> Option<String> {
    match &details.status {
        JobStatus::Created | JobStatus::Committing => {
            details.waiting_reason.as_ref().map(|reason| format!("waits: {reason}"))
        }
        JobStatus::Restarting => {
            let cause = details.history.iter().rev().find_map(|entry| entry.cause.as_ref());
            let cause = cause.map_or_else(String::new, |cause| format!(" after a failure: {cause}"));
            Some(format!("is restarted{cause}"))
        }
        JobStatus::Cancelling => Some("is being cancelled".to_owned()),
        JobStatus::Running
        | JobStatus::Failing(_)
        | JobStatus::Finished(_)
        | JobStatus::Canceled
        | JobStatus::Failed(_) => None,
    }
}
