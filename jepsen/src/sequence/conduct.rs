//! Runs the jobs over a sequence of one phase: from their submission to the time when nothing of them should be left.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use tidemill::job_client::{AttemptDetails, JobDetails};
use tidemill_model::id::JobId;
use tidemill_model::job::JobStatus;

use super::record::{JobRecord, SequenceRecord, names};
use super::watch::{Looks, Watch};
use super::{COUNTS, NUMBERS, RELEASE};
use crate::clock;
use crate::cluster::Cluster;
use crate::host::{Host, Role};
use crate::process::procfs;
use crate::schedule::Form;

/// How many numbers there are: more than come out at the job's pace while it is broken.
const RECORDS: u64 = 300_000;
/// How many splits: more than sub-tasks, so that some have several, and no multiple of either parallelism.
const SPLITS: u64 = 7;
/// Numbers a second from each split.
const PER_SECOND: u64 = 500;
/// Sub-tasks: on both task managers, whichever is killed.
const PARALLELISM: usize = 3;
/// Sub-tasks of a job that is suspended; the one that goes on has [`PARALLELISM`].
const PARALLELISM_BEFORE: usize = 2;
/// How many checkpoints are kept.
const RETAINED_MAX: usize = 2;
/// How many checkpoints are completed before anything is broken: more than are kept.
const CHECKPOINTS_BEFORE: u64 = 3;
/// How long a job may take for what it has to do next.
const LIMIT: Duration = Duration::from_secs(60);
/// How long anything of a job may stay after its end.
const LEFT_LIMIT: Duration = Duration::from_secs(30);
/// How often it is looked.
const POLL: Duration = Duration::from_millis(50);

/// The jobs of a phase, while they run.
pub struct Conduct {
    record: SequenceRecord,
    watch: Watch,
    folder: PathBuf,
    checkpoints: PathBuf,
}

impl Conduct {
    /// Begins to watch; nothing is submitted yet.
    ///
    /// # Errors
    ///
    /// When the folder cannot be made.
    pub fn new(cluster: &Cluster, run: &Path, phase: &str, form: Form) -> anyhow::Result<Self> {
        let folder = SequenceRecord::folder(run, phase);
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let record = SequenceRecord {
            phase: phase.to_owned(),
            form,
            records: RECORDS,
            splits: SPLITS,
            retained_max: RETAINED_MAX,
            jobs: Vec::new(),
            output_looks: Vec::new(),
            checkpoint_looks: Vec::new(),
            left: Vec::new(),
            notes: Vec::new(),
            numbers: Default::default(),
            counts: Default::default(),
        };
        let watch = Watch::start(cluster, &folder);
        Ok(Self { record, watch, folder, checkpoints: cluster.checkpoints() })
    }

    /// Submits the first job and waits until it has some checkpoints.
    ///
    /// # Errors
    ///
    /// When it is not accepted.
    pub fn begin(&mut self, cluster: &mut Cluster) -> anyhow::Result<()> {
        let job = match self.record.form {
            Form::Finished => self.submit(cluster, PARALLELISM, Some(RECORDS), None, "FINISHED")?,
            Form::Suspended => self.submit(cluster, PARALLELISM_BEFORE, None, None, "CANCELED")?,
            Form::Canceled => self.submit(cluster, PARALLELISM, Some(RECORDS), None, "CANCELED")?,
            Form::Damaged => self.submit(cluster, PARALLELISM, Some(RECORDS), None, "FAILED")?,
        };
        self.wait(cluster, job, "it has some checkpoints", |details| {
            details.checkpoints_completed >= CHECKPOINTS_BEFORE && runs(details)
        })
    }

    /// Has the jobs end as they should, and waits until nothing is left of them, or for long enough.
    ///
    /// # Errors
    ///
    /// When the cluster cannot be asked; what the jobs do wrong is in the record.
    pub fn end(&mut self, cluster: &mut Cluster) -> anyhow::Result<()> {
        if let Some(job) = self.record.jobs.last().map(|job| job.job) {
            match self.record.form {
                Form::Finished => {
                    self.until_checkpoint(cluster, job)?;
                    self.finish(cluster, job)?;
                }
                Form::Suspended => {
                    self.until_checkpoint(cluster, job)?;
                    self.suspend_and_go_on(cluster, job)?;
                }
                Form::Damaged => self.ended(cluster, job)?,
                Form::Canceled => {
                    self.until_checkpoint(cluster, job)?;
                    let client = cluster.client(LIMIT);
                    if let Err(error) = cluster.clients.run(async move { client.cancel_job(job).await })? {
                        self.complain(&format!("cancel: {error}"));
                    }
                    self.ended(cluster, job)?;
                }
            }
        }
        self.record.left = self.settle(cluster)?;
        Ok(())
    }

    /// What was recorded.
    #[must_use]
    pub fn into_record(self) -> SequenceRecord {
        let Looks { output, checkpoints, .. } = self.watch.end();
        SequenceRecord { output_looks: output, checkpoint_looks: checkpoints, ..self.record }
    }

    fn submit(
        &mut self,
        cluster: &mut Cluster,
        parallelism: usize,
        records: Option<u64>,
        savepoint: Option<&str>,
        wanted: &str,
    ) -> anyhow::Result<JobId> {
        let mut settings = vec![
            "execution.runtime-mode=streaming".to_owned(),
            "execution.checkpointing.interval=500 ms".to_owned(),
            format!("execution.checkpointing.dir={}", url(&self.checkpoints)),
            format!("execution.checkpointing.num-retained={RETAINED_MAX}"),
        ];
        settings.extend(savepoint.map(|path| format!("execution.state-recovery.path={path}")));
        let mut arguments = vec![
            "sequence".to_owned(),
            self.folder.display().to_string(),
            format!("--splits={SPLITS}"),
            format!("--per-second={PER_SECOND}"),
        ];
        arguments.extend(records.map(|records| format!("--records={records}")));
        let job = cluster.submit(parallelism, &settings, &arguments)?;
        self.record.jobs.push(JobRecord { job, wanted: wanted.to_owned(), ended: None, words: String::new() });
        self.watch.job(cluster, job, &self.checkpoints);
        Ok(job)
    }

    fn finish(&mut self, cluster: &mut Cluster, job: JobId) -> anyhow::Result<()> {
        let path = self.folder.join(RELEASE);
        fs::write(&path, "").with_context(|| format!("write {}", path.display()))?;
        self.ended(cluster, job)
    }

    fn suspend_and_go_on(&mut self, cluster: &mut Cluster, job: JobId) -> anyhow::Result<()> {
        let (client, path) = (cluster.client(LIMIT), url(&self.folder.join("savepoint")));
        let savepoint = path.clone();
        let suspended = cluster
            .clients
            .run(async move { tokio::time::timeout(LIMIT, client.suspend_job(job, Some(&savepoint))).await })?;
        match suspended {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => self.complain(&format!("suspend: {error}")),
            Err(_) => self.complain("suspend: no answer"),
        }
        self.ended(cluster, job)?;
        if !Path::new(path.trim_start_matches("file://")).exists() {
            return Ok(());
        }
        let next = self.submit(cluster, PARALLELISM, Some(RECORDS), Some(&path), "FINISHED")?;
        self.until_checkpoint(cluster, next)?;
        self.finish(cluster, next)
    }

    /// Waits until a job has completed a checkpoint since its attempts were last started, and all of them run.
    fn until_checkpoint(&mut self, cluster: &Cluster, job: JobId) -> anyhow::Result<()> {
        self.wait(cluster, job, "it completes a checkpoint after the last restart", |details| {
            details.latest_checkpoint > details.restored_checkpoint && runs(details)
        })
    }

    /// Waits until a job has ended and its program with it, and takes note of both.
    fn ended(&mut self, cluster: &mut Cluster, job: JobId) -> anyhow::Result<()> {
        self.wait(cluster, job, "it ends", |details| details.status.is_terminal())?;
        let deadline = clock::now() + clock::nanos(LIMIT);
        let program = loop {
            match cluster.exited(Host::client())? {
                Some(end) => break end,
                None if clock::now() > deadline => break "does not end".to_owned(),
                None => clock::pause(POLL),
            }
        };
        self.complain(&format!("program: {program}"));
        Ok(())
    }

    /// Waits until a job is as it should be, or has ended, or for long enough; takes note of its end.
    fn wait(
        &mut self,
        cluster: &Cluster,
        job: JobId,
        what: &str,
        enough: impl Fn(&JobDetails) -> bool,
    ) -> anyhow::Result<()> {
        let deadline = clock::now() + clock::nanos(LIMIT);
        loop {
            let client = cluster.client(Duration::from_secs(2));
            let details = cluster.clients.run(async move { client.get_job(job).await })?;
            // A leader that is away answers later.
            if let Ok(details) = &details {
                if details.status.is_terminal() {
                    self.take_note_of(details);
                    return Ok(());
                }
                if enough(details) {
                    return Ok(());
                }
            }
            if clock::now() > deadline {
                let now = details.map_or_else(|error| error.to_string(), |details| details.status.name().to_owned());
                self.complain(&format!("waited {LIMIT:?} until {what}, now {now}"));
                return Ok(());
            }
            clock::pause(POLL);
        }
    }

    fn take_note_of(&mut self, details: &JobDetails) {
        if let Some(record) = self.record.jobs.iter_mut().find(|record| record.job == details.id) {
            record.ended = Some(details.status.name().to_owned());
            if let JobStatus::Failed(cause) = &details.status {
                record.words += &format!("{cause}; ");
            }
        }
    }

    fn complain(&mut self, what: &str) {
        if let Some(record) = self.record.jobs.last_mut() {
            record.words += &format!("{what}; ");
        }
    }

    /// Waits until nothing of the jobs is left; what is, after long enough.
    fn settle(&self, cluster: &Cluster) -> anyhow::Result<Vec<String>> {
        let deadline = clock::now() + clock::nanos(LEFT_LIMIT);
        loop {
            let left = self.left(cluster)?;
            if left.is_empty() || clock::now() > deadline {
                return Ok(left);
            }
            clock::pause(POLL);
        }
    }

    fn left(&self, cluster: &Cluster) -> anyhow::Result<Vec<String>> {
        let mut left = Vec::new();
        for host in cluster.hosts(Role::TaskManager) {
            let executors = cluster.process(host).map(|process| procfs::children(process.id)).unwrap_or_default();
            left.extend(executors.iter().map(|key| format!("executor {} on {host}", key.id)));
            let jobs = names(&cluster.data(host).join("jobs"))?;
            left.extend(
                jobs.into_iter().filter(|name| self.is_own(name)).map(|job| format!("folder of {job} on {host}")),
            );
        }
        // Older checkpoints are all that is left to a job that fails by a damaged one, and what its sinks had prepared is
        // known to that one alone.
        if self.record.form != Form::Damaged {
            for sink in [NUMBERS, COUNTS] {
                let hidden = names(&self.folder.join(sink))?.into_iter().filter(|name| name.starts_with('.'));
                left.extend(hidden.map(|name| format!("pending file {sink}/{name}")));
            }
            let checkpoints = names(&self.checkpoints)?.into_iter().filter(|name| self.is_own(name));
            left.extend(checkpoints.map(|job| format!("checkpoints of {job}")));
        }
        Ok(left)
    }

    fn is_own(&self, name: &str) -> bool {
        self.record.jobs.iter().any(|job| job.job.to_string() == name)
    }
}

/// Whether every sub-task runs or has finished.
fn runs(details: &JobDetails) -> bool {
    let runs = |attempt: &AttemptDetails| matches!(attempt.report.state.name(), "RUNNING" | "FINISHED");
    !details.attempts.is_empty() && details.attempts.iter().all(runs)
}

fn url(path: &Path) -> String {
    format!("file://{}", path.display())
}
