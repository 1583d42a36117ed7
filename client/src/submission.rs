//! Submission: turns a built graph and the running program into a job, and follows it to its end.

mod following;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use tidemill_model::execution::{CollectedPart, Failure};
use tidemill_model::id::{BlobId, JobId};
use tidemill_model::job::{ArtifactProgram, JobResult, JobSettings, JobSpec, JobStatus, Program};
use tidemill_model::job_graph::JobGraph;
use uuid::Uuid;

use self::following::{follow, taken_up};
use crate::job_client::{self, JobClient, JobDetails};
use crate::savepoint;

/// The running executable, whatever has become of its name since it was started.
const OWN_EXECUTABLE: &str = "/proc/self/exe";
/// Exact names of variables that travel with a job; anything else could be a secret.
const RECORDED_VARIABLES: [&str; 4] = ["LANG", "TZ", "RUST_LOG", "RUST_BACKTRACE"];
/// Prefixes of variables that travel with a job: locales, and what the user names for the purpose.
const RECORDED_PREFIXES: [&str; 2] = ["LC_", "TIDEMILL_JOB_"];
/// What a shell reports for a program that Ctrl-C ended.
const EXIT_INTERRUPTED: i32 = 130;

/// Why a submitted job has no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cluster could not be asked, or refused.
    #[error(transparent)]
    Client(#[from] job_client::Error),
    /// No coordinator confirmed the submission, but one of them may have got it.
    #[error("submit job {job}: nobody confirmed it, so it may run all the same, ask `tidemill status {job}`: {source}")]
    Unconfirmed {
        /// The job.
        job: JobId,
        /// Why there was no answer.
        source: job_client::Error,
    },
    /// The job failed.
    #[error("run job {job}: it failed: {failure}")]
    JobFailed {
        /// The job.
        job: JobId,
        /// Why.
        failure: Failure,
    },
    /// Somebody cancelled the job.
    #[error("run job {job}: it was cancelled")]
    JobCanceled {
        /// The job.
        job: JobId,
    },
    /// The job does not fit the savepoint that it is to start from.
    #[error(transparent)]
    Savepoint(#[from] crate::savepoint::Error),
    /// The program cannot be recorded as an artifact.
    #[error("record program: {0}")]
    Program(String),
    /// The client's own runtime did not start.
    #[error("start client: {0}")]
    Runtime(#[source] std::io::Error),
}

/// What `execute` knows of a job.
#[derive(Debug, Clone)]
pub(crate) struct Submission {
    /// The coordinators' client addresses.
    pub(crate) coordinators: Vec<String>,
    /// The job's name.
    pub(crate) name: String,
    /// Its graph.
    pub(crate) graph: JobGraph,
    /// Its settings.
    pub(crate) settings: JobSettings,
    /// Which of the program's `execute` calls it is.
    pub(crate) execute_index: u32,
    /// The results of the earlier ones.
    pub(crate) earlier_results: Vec<JobResult>,
    /// How long one call to the cluster may take (`client.timeout`).
    pub(crate) timeout: Duration,
    /// Whether to return when the job is accepted.
    pub(crate) detached: bool,
}

/// How a submission ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JobOutcome {
    /// The job finished.
    Finished {
        /// Its result.
        result: JobResult,
        /// The encoded records of each part that `collect()` sinks gathered.
        collected: Vec<(CollectedPart, Bytes)>,
    },
    /// The job is accepted and goes on without its client.
    Detached {
        /// The job.
        job: JobId,
    },
}

/// Submits, and unless detached follows the job to its end; blocks, and may be called inside a tokio runtime.
pub(crate) fn run(submission: Submission) -> Result<JobOutcome, Error> {
    // A thread of its own, because a runtime must not be blocked on inside another one.
    std::thread::scope(|scope| {
        let worker = std::thread::Builder::new()
            .name("tidemill-client".to_owned())
            .spawn_scoped(scope, || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.map_err(Error::Runtime)?.block_on(submit_and_follow(submission))
            })
            .map_err(Error::Runtime)?;
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

async fn submit_and_follow(submission: Submission) -> Result<JobOutcome, Error> {
    let client = JobClient::new(submission.coordinators.clone()).with_timeout(submission.timeout);
    let detached = submission.detached;
    savepoint::check(&submission.settings, &submission.graph).await?;
    let from_savepoint = submission.settings.savepoint.is_some();
    let artifact = client.put_blob_file(Path::new(OWN_EXECUTABLE)).await?;
    let spec = job_spec(submission, artifact)?;
    client.submit_job(&spec).await.map_err(|error| unanswered(spec.id, error))?;
    eprintln!("job {} ({:?}) has been submitted", spec.id, spec.name);
    if detached {
        if from_savepoint {
            until_interrupted(&client, spec.id, taken_up(&client, spec.id)).await?;
        }
        return Ok(JobOutcome::Detached { job: spec.id });
    }
    let end = until_interrupted(&client, spec.id, follow(&client, spec.id)).await?;
    outcome(&client, end).await
}

/// A submission that was refused did not happen; one without an answer may have.
fn unanswered(job: JobId, source: job_client::Error) -> Error {
    if source.retryable() { Error::Unconfirmed { job, source } } else { source.into() }
}

/// Ctrl-C ends the client as it would without a handler, but says first that the job goes on.
async fn until_interrupted<T>(client: &JobClient, job: JobId, work: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        value = work => value,
        () = interrupted() => {
            let coordinators = client.coordinators().join(",");
            eprintln!("detached from job {job}, which goes on; to follow or cancel it:");
            eprintln!("  tidemill status --coordinators {coordinators} {job}");
            eprintln!("  tidemill cancel --coordinators {coordinators} {job}");
            std::process::exit(EXIT_INTERRUPTED)
        }
    }
}

async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        // No handler could be installed: Ctrl-C ends the process anyway.
        std::future::pending::<()>().await;
    }
}

async fn outcome(client: &JobClient, end: JobDetails) -> Result<JobOutcome, Error> {
    match end.status {
        JobStatus::Finished(result) => {
            let mut collected = Vec::with_capacity(result.collected.len());
            for part in &result.collected {
                collected.push((part.clone(), client.get_blob(part.blob).await?));
            }
            Ok(JobOutcome::Finished { result, collected })
        }
        JobStatus::Failed(failure) => Err(Error::JobFailed { job: end.id, failure }),
        JobStatus::Canceled => Err(Error::JobCanceled { job: end.id }),
        JobStatus::Created
        | JobStatus::Running
        | JobStatus::Restarting
        | JobStatus::Cancelling
        | JobStatus::Failing(_)
        | JobStatus::Committing => unreachable!("watch_job returns terminal statuses only"),
    }
}

fn job_spec(submission: Submission, artifact: BlobId) -> Result<JobSpec, Error> {
    let program = ArtifactProgram {
        artifact,
        name: program_name()?,
        args: recorded_arguments(std::env::args_os().skip(1))?,
        environment: recorded_environment(std::env::vars_os()),
        working_directory: working_directory()?,
        execute_index: submission.execute_index,
        earlier_results: submission.earlier_results,
    };
    Ok(JobSpec {
        id: JobId(Uuid::now_v7()),
        name: submission.name,
        graph: submission.graph,
        program: Program::Artifact(program),
        settings: submission.settings,
    })
}

fn program_name() -> Result<String, Error> {
    let path = std::env::current_exe().map_err(|error| Error::Program(format!("find own executable: {error}")))?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    // The kernel marks an executable that was replaced while it runs.
    Ok(name.strip_suffix(" (deleted)").unwrap_or(&name).to_owned())
}

fn recorded_arguments(arguments: impl Iterator<Item = std::ffi::OsString>) -> Result<Vec<String>, Error> {
    let text = |(index, argument): (usize, std::ffi::OsString)| {
        argument.into_string().map_err(|argument| {
            Error::Program(format!("argument {} is not UTF-8: {}", index + 1, argument.to_string_lossy()))
        })
    };
    arguments.enumerate().map(text).collect()
}

fn recorded_environment(
    variables: impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
) -> BTreeMap<String, String> {
    variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| {
            RECORDED_VARIABLES.contains(&name.as_str())
                || RECORDED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        })
        .collect()
}

fn working_directory() -> Result<String, Error> {
    let path = std::env::current_dir().map_err(|error| Error::Program(format!("find working directory: {error}")))?;
    path.into_os_string()
        .into_string()
        .map_err(|path| Error::Program(format!("working directory {} is not UTF-8", path.to_string_lossy())))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    use sha2::{Digest, Sha256};
    use tidemill_proto::pb::job_status::Status;
    use tidemill_proto::{convert, pb};

    use super::*;
    use crate::job_client::tests::standin::{Leadership, Standins};

    fn submission(standins: &Standins, detached: bool) -> Submission {
        Submission {
            coordinators: standins.addresses(),
            name: "word count".to_owned(),
            graph: JobGraph::default(),
            settings: JobSettings::default(),
            execute_index: 1,
            earlier_results: Vec::new(),
            timeout: Duration::from_secs(120),
            detached,
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_job_is_submitted_with_this_program_and_followed_to_its_result() {
        let standins = Standins::start(2, Leadership::Leader(1)).await;
        let records = BlobId(Sha256::digest("r").into());
        standins.world.blobs.lock().unwrap().insert(convert::blob_bytes(records), Bytes::from_static(b"r"));
        let collected = pb::CollectedPart { collect_index: 0, subtask: 3, blob: convert::blob_bytes(records) };
        *standins.world.fate.lock().unwrap() = Status::Finished(pb::JobResult {
            job: convert::uuid_bytes(Uuid::nil()),
            net_runtime_ms: 5,
            accumulators: [("words".to_owned(), 7)].into(),
            collected: vec![collected],
        });
        // Blocks inside a runtime, as a user's asynchronous main would.
        match run(submission(&standins, false)).unwrap() {
            JobOutcome::Finished { result, collected } => {
                assert_eq!(result.accumulators["words"], 7);
                assert_eq!(collected[0].1, "r");
            }
            JobOutcome::Detached { job } => panic!("{job} is detached"),
        }
        let spec = standins.world.specs.lock().unwrap().values().next().unwrap().clone();
        let program = spec.program.unwrap();
        let executable = std::fs::metadata(OWN_EXECUTABLE).unwrap().len();
        let artifact = standins.world.blobs.lock().unwrap()[&program.artifact].len();
        assert_eq!(u64::try_from(artifact).unwrap(), executable);
        assert_eq!(program.execute_index, 1);
        assert_eq!(program.args, std::env::args().skip(1).collect::<Vec<_>>());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_failed_job_is_an_error_with_its_failure_and_a_detached_one_is_not_followed() {
        let standins = Standins::start(1, Leadership::Leader(0)).await;
        *standins.world.fate.lock().unwrap() = Status::Failed(pb::Failure {
            kind: pb::FailureKind::Panic.into(),
            vertex: None,
            operator: Some("Map".to_owned()),
            message: "no such word".to_owned(),
        });
        let error = run(submission(&standins, false)).unwrap_err();
        assert!(matches!(&error, Error::JobFailed { failure, .. } if failure.message == "no such word"), "{error}");
        assert!(error.to_string().ends_with("it failed: panic in operator \"Map\": no such word"), "{error}");
        assert!(matches!(run(submission(&standins, true)), Ok(JobOutcome::Detached { .. })));
        *standins.world.fate.lock().unwrap() = Status::Canceled(pb::Empty {});
        assert!(matches!(run(submission(&standins, false)), Err(Error::JobCanceled { .. })));
    }

    #[test]
    fn a_submission_without_an_answer_names_the_job_that_may_run() {
        let job = JobId(Uuid::from_u128(7));
        let silent =
            job_client::Error::NoLeader { coordinators: vec!["a:1".to_owned()], last: "a:1 is silent".to_owned() };
        let error = unanswered(job, silent);
        assert!(matches!(error, Error::Unconfirmed { .. }) && error.to_string().contains(&job.to_string()), "{error}");
        assert!(matches!(unanswered(job, job_client::Error::Refused("no".to_owned())), Error::Client(_)));
    }

    #[test]
    fn only_variables_of_the_allow_list_are_recorded() {
        let variables = [
            ("LANG", "C.UTF-8"),
            ("LC_ALL", "C"),
            ("TIDEMILL_JOB_REGION", "eu"),
            ("TIDEMILL_COORDINATORS", "a:1"),
            ("AWS_SECRET_ACCESS_KEY", "hidden"),
            ("LANGUAGE", "en"),
        ];
        let recorded = recorded_environment(variables.iter().map(|(name, value)| (name.into(), value.into())));
        assert_eq!(recorded.keys().collect::<Vec<_>>(), ["LANG", "LC_ALL", "TIDEMILL_JOB_REGION"]);
    }

    #[test]
    fn an_argument_that_is_no_text_is_refused_by_its_position() {
        let arguments = [OsString::from("in"), OsString::from_vec(vec![b'o', 0xff])];
        let error = recorded_arguments(arguments.into_iter()).unwrap_err();
        assert!(error.to_string().contains("argument 2 is not UTF-8"), "{error}");
    }
}
