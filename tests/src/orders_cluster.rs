//! The job of [`orders`](crate::orders) on a cluster of real processes.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tidemill::cli::local_cluster::ProcessName;
use tidemill::job_client::{AttemptDetails, JobDetails};
use tidemill_model::id::{CheckpointId, JobId, TaskManagerName};

use crate::cluster::{Submitted, TestCluster, sorted_lines};
use crate::orders;

/// What every job is set to: a checkpoint each 100 ms, and restarts at once and as often as need be.
const SETTINGS: &[&str] = &[
    "execution.runtime-mode=streaming",
    "execution.checkpointing.interval=100 ms",
    "execution.checkpointing.tolerable-failed-checkpoints=1000",
    "restart-strategy.type=fixed-delay",
    "restart-strategy.fixed-delay.attempts=1000",
    "restart-strategy.fixed-delay.delay=10 ms",
];

/// The usual pace: the input outlasts a test.
const PACE: &str = "5000";

/// How many files the input is.
const FILES: u64 = 8;

/// How many files it is where parallelism changes, and how late lines may be then. A sub-task has one file open and a few
/// that wait, and some more after each restart, of one second of event time each if there are 200,000 lines.
const SMALL_FILES: (u64, &str) = (400, "200000");

/// A cluster for the job.
pub struct OrdersCluster {
    /// The cluster.
    pub cluster: TestCluster,
    program: PathBuf,
    lines: u64,
    pace: &'static str,
    version: &'static str,
    disorder: &'static str,
    /// Where checkpoints are kept.
    checkpoints: String,
    task_managers: u32,
}

impl OrdersCluster {
    /// The job `program` on a cluster of so many task managers, with an input of so many lines.
    ///
    /// # Errors
    ///
    /// When the input cannot be written.
    pub fn new(cluster: TestCluster, program: &str, task_managers: u32, lines: u64) -> Result<Self> {
        let checkpoints = cluster.path("checkpoints").to_str().context("a UTF-8 path")?.to_owned();
        let orders = Self {
            cluster,
            program: PathBuf::from(program),
            lines,
            pace: PACE,
            version: "first",
            disorder: "0",
            checkpoints,
            task_managers,
        };
        orders::write_input(Path::new(&orders.text("in")?), lines, FILES)?;
        Ok(orders)
    }

    /// The same with an input of which other sub-tasks may go on with what some began: no record is too late then, either.
    ///
    /// # Errors
    ///
    /// When the input cannot be written.
    pub fn rescaled(mut self) -> Result<Self> {
        let input = self.text("in")?;
        std::fs::remove_dir_all(&input).context("remove the input")?;
        let (files, disorder) = SMALL_FILES;
        orders::write_input(Path::new(&input), self.lines, files)?;
        self.disorder = disorder;
        Ok(self)
    }

    /// The same at another [`Pace`](orders::Pace).
    #[must_use]
    pub fn at(self, pace: &'static str) -> Self {
        Self { pace, ..self }
    }

    /// The same with another [`Version`](orders::Version) of the program.
    #[must_use]
    pub fn with(self, version: &'static str) -> Self {
        Self { version, ..self }
    }

    /// The same with its checkpoints elsewhere.
    #[must_use]
    pub fn keeping(self, checkpoints: &str) -> Self {
        Self { checkpoints: checkpoints.to_owned(), ..self }
    }

    /// A path in the test's folder.
    ///
    /// # Errors
    ///
    /// When it is not UTF-8.
    pub fn text(&self, name: &str) -> Result<String> {
        Ok(self.cluster.path(name).to_str().context("a UTF-8 path")?.to_owned())
    }

    /// Submits the job with so many sub-tasks to write to `output`, with more settings.
    ///
    /// # Errors
    ///
    /// When it is not accepted.
    pub async fn submit(&self, output: &str, parallelism: u32, more: &[&str]) -> Result<Submitted> {
        self.submit_with(output, parallelism, more, &[]).await
    }

    /// The same by a client that does not wait for the job's end.
    ///
    /// # Errors
    ///
    /// When it is not accepted.
    pub async fn submit_detached(&self, output: &str, parallelism: u32, more: &[&str]) -> Result<Submitted> {
        self.submit_with(output, parallelism, more, &["--detached"]).await
    }

    async fn submit_with(&self, output: &str, parallelism: u32, more: &[&str], flags: &[&str]) -> Result<Submitted> {
        let directory = format!("execution.checkpointing.dir={}", self.checkpoints);
        let (input, output, release) = (self.text("in")?, self.text(output)?, self.text("release")?);
        let parallelism = parallelism.to_string();
        let mut arguments = vec!["orders", &input, self.pace, &output, &release, self.version, self.disorder];
        arguments.extend(["-p", &parallelism]);
        let settings = SETTINGS.iter().copied().chain([directory.as_str()]).chain(more.iter().copied());
        arguments.extend(settings.flat_map(|setting| ["-D", setting]));
        arguments.extend(flags);
        self.cluster.submit(&self.program, &arguments).await
    }

    /// Waits until a checkpoint is completed that is newer than `after` and than the one that was restored, and
    /// everything runs again.
    ///
    /// # Errors
    ///
    /// When that does not happen within the limit.
    pub async fn until_checkpoint(&self, job: JobId, after: Option<CheckpointId>) -> Result<JobDetails> {
        let went_on = |details: &JobDetails| {
            let runs = |attempt: &AttemptDetails| matches!(attempt.report.state.name(), "RUNNING" | "FINISHED");
            let newer = details.latest_checkpoint > details.restored_checkpoint.max(after);
            newer && details.attempts.iter().all(runs)
        };
        self.cluster.until_job(job, "a checkpoint is completed", went_on).await
    }

    /// Has the job run to its end at full speed.
    ///
    /// # Errors
    ///
    /// When it cannot be told.
    pub fn release(&self) -> Result<()> {
        std::fs::write(self.text("release")?, "").context("release the job")
    }

    /// Checks that the job has ended well, and with the output of a run without failures.
    ///
    /// # Errors
    ///
    /// When it has not.
    pub async fn check_result(&self, submitted: Submitted, output: &str) -> Result<()> {
        let ended = submitted.wait().await?;
        ensure!(ended.code == Some(0), "{}", ended.stderr);
        orders::check(&sorted_lines(Path::new(&self.text(output)?))?, self.lines)
    }

    /// The process of a task manager.
    ///
    /// # Errors
    ///
    /// When it is none of this cluster.
    pub fn task_manager(&self, name: &TaskManagerName) -> Result<ProcessName> {
        let mut processes = (1..=self.task_managers).map(ProcessName::TaskManager);
        processes.find(|process| process.to_string() == name.0).with_context(|| format!("which process is {name}?"))
    }
}

/// Kills a process as the kernel does.
///
/// # Errors
///
/// When the number is no process id.
pub fn kill_process(process_id: u32) -> Result<()> {
    let process = rustix::process::Pid::from_raw(i32::try_from(process_id)?).context("a process id")?;
    // It may have ended by itself.
    let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
    Ok(())
}
