//! A real cluster for a test: processes, programs that are submitted to it, and conditions to wait for.

use std::future::Future;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tidemill::cli::local_cluster::{LocalCluster, LocalClusterSpec, ProcessName, Programs};
use tidemill::job_client::{ClusterStatus, JobClient, JobDetails};
use tidemill_model::id::JobId;

/// The longest that any condition may take on the slowest machine.
const LIMIT: Duration = Duration::from_secs(120);
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(25);

/// Elections of clusters that share a machine with many others. The usual 100 to 200 ms are for coordinators that get
/// the processor when they need it: where twenty unoptimised processes wait for each core, leaders are elected and
/// deposed all the time, and a submission may find none that lasts. What a test waits for must not depend on that.
const CALM: &[&str] = &[
    "coordinator.raft.heartbeat-interval=200 ms",
    "coordinator.raft.election-timeout-min=1 s",
    "coordinator.raft.election-timeout-max=2 s",
];

/// A cluster of real processes in a folder of its own; everything is killed when it goes out of scope.
pub struct TestCluster {
    /// The processes.
    pub processes: LocalCluster,
    dir: TempDir,
}

impl TestCluster {
    /// Starts coordinators and task managers and waits until all slots are registered.
    ///
    /// # Errors
    ///
    /// When a process does not start.
    pub async fn start(coordinators: u32, task_managers: u32, slots: u32, settings: &[&str]) -> Result<Self> {
        Self::start_in(&[], coordinators, task_managers, slots, settings).await
    }

    /// The same, with more variables in the environment of every server.
    ///
    /// # Errors
    ///
    /// When a process does not start.
    pub async fn start_in(
        environment: &[(String, String)],
        coordinators: u32,
        task_managers: u32,
        slots: u32,
        settings: &[&str],
    ) -> Result<Self> {
        let dir = tempfile::tempdir().context("make a folder")?;
        let mut programs = Programs::find()?;
        if !environment.is_empty() {
            programs.coordinator = within(environment, &programs.coordinator, dir.path())?;
            programs.task_manager = within(environment, &programs.task_manager, dir.path())?;
        }
        let processes = LocalCluster::start(LocalClusterSpec {
            dir: dir.path().join("cluster"),
            coordinators: Some(coordinators),
            task_managers: Some(task_managers),
            slots: Some(slots),
            settings: CALM.iter().chain(settings).map(ToString::to_string).collect(),
            programs,
            kill_on_drop: true,
        })
        .await?;
        Ok(Self { processes, dir })
    }

    /// A path in the test's folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A client of all coordinators.
    #[must_use]
    pub fn client(&self) -> JobClient {
        self.processes.client()
    }

    /// Starts a program in the client role and waits until its job is accepted.
    ///
    /// # Errors
    ///
    /// When the program ends before that; the error has what it printed.
    pub async fn submit(&self, program: &Path, arguments: &[&str]) -> Result<Submitted> {
        let mut command = Command::new(program);
        command.args(arguments).arg("--coordinators").arg(self.processes.addresses().join(","));
        Submitted::start(command).await
    }

    /// Starts a job of `tidemill-test-job` that sums numbers; one half of them flows when the job
    /// [goes on](HeldJob::go_on), the last few when it is [released](HeldJob::release).
    ///
    /// However slow the machine is, the job does not end before the test has seen what it waits for.
    ///
    /// # Errors
    ///
    /// When the program ends before its job is accepted; the error has what it printed.
    pub async fn submit_held(&self, program: &Path, output: &str, numbers: Numbers) -> Result<HeldJob> {
        let (output, gate) = (self.path(output), self.path(&format!("{output}.gate")));
        let Numbers { count, rate, parallelism } = numbers;
        let [count, rate, parallelism] = [count, rate, u64::from(parallelism)].map(|number| number.to_string());
        let texts = (output.to_str().context("a UTF-8 path")?, gate.to_str().context("a UTF-8 path")?);
        let arguments = ["sequence", &count, &rate, texts.0, texts.1, "-p", &parallelism];
        let submitted = self.submit(program, &arguments).await?;
        Ok(HeldJob { job: submitted.job, output, gate, submitted })
    }

    /// The status as the leader tells it, once there is one.
    ///
    /// # Errors
    ///
    /// When no leader is found within the limit.
    pub async fn leader_status(&self) -> Result<ClusterStatus> {
        let client = self.client();
        until("a leader", || async { client.leader_status().await.ok() }).await
    }

    /// Which coordinator process leads.
    ///
    /// # Errors
    ///
    /// When no leader is found within the limit.
    pub async fn leader(&self) -> Result<ProcessName> {
        self.leader_of(&self.leader_status().await?)
    }

    /// Which coordinator process leads according to this status.
    ///
    /// # Errors
    ///
    /// When the status names none of this cluster.
    pub fn leader_of(&self, status: &ClusterStatus) -> Result<ProcessName> {
        let address = status.leader().context("the leader names itself")?.client_address.clone();
        let addresses = self.processes.addresses();
        let index = addresses.iter().position(|candidate| *candidate == address).context("a known address")?;
        Ok(ProcessName::Coordinator(u32::try_from(index)? + 1))
    }

    /// Waits until the job's details satisfy the condition.
    ///
    /// # Errors
    ///
    /// When they do not within the limit.
    pub async fn until_job(
        &self,
        job: JobId,
        what: &str,
        condition: impl Fn(&JobDetails) -> bool,
    ) -> Result<JobDetails> {
        let client = self.client();
        until(what, || async { client.get_job(job).await.ok().filter(&condition) }).await
    }

    /// Waits until every attempt runs and at least this many records have flowed from the sources.
    ///
    /// # Errors
    ///
    /// When that does not happen within the limit.
    pub async fn until_flowing(&self, job: JobId, records: u64) -> Result<JobDetails> {
        let flowing = |details: &JobDetails| {
            let running = |attempt: &tidemill::job_client::AttemptDetails| attempt.report.state.name() == "RUNNING";
            details.records_in >= records && !details.attempts.is_empty() && details.attempts.iter().all(running)
        };
        self.until_job(job, "records flow in all attempts", flowing).await
    }
}

/// A program that becomes another one with these variables.
fn within(environment: &[(String, String)], program: &Path, dir: &Path) -> Result<PathBuf> {
    let name = program.file_name().context("a program's name")?;
    let variables: String = environment.iter().map(|(name, value)| format!("export {name}='{value}'\n")).collect();
    let path = dir.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{variables}exec '{}' \"$@\"\n", program.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700))?;
    Ok(path)
}

/// What a held job sums.
#[derive(Debug, Clone, Copy)]
pub struct Numbers {
    /// How many.
    pub count: u64,
    /// How many a second.
    pub rate: u64,
    /// In how many sub-tasks.
    pub parallelism: u32,
}

/// A job that does not end before it is released.
pub struct HeldJob {
    /// The job.
    pub job: JobId,
    /// Where its result will be.
    pub output: PathBuf,
    gate: PathBuf,
    submitted: Submitted,
}

impl HeldJob {
    /// The client's process id.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.submitted.process_id()
    }

    /// Lets all records flow but the last.
    ///
    /// # Errors
    ///
    /// When the gate cannot be opened.
    pub fn go_on(&self) -> Result<()> {
        std::fs::write(self.gate.with_extension("half"), "").context("open the gate of the second half")
    }

    /// Lets the job end and waits for the program's end.
    ///
    /// # Errors
    ///
    /// When its output cannot be read.
    pub async fn release(self) -> Result<Ended> {
        self.go_on()?;
        std::fs::write(self.gate.with_extension("end"), "").context("open the gate of the end")?;
        self.submitted.wait().await
    }
}

/// A program that has submitted a job and waits for its end.
pub struct Submitted {
    /// The job.
    pub job: JobId,
    client: Client,
    errors: std::thread::JoinHandle<String>,
}

impl Submitted {
    async fn start(mut command: Command) -> Result<Self> {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("start the program")?;
        let mut client = Client(child);
        let stderr = client.0.stderr.take().context("a pipe")?;
        let (told, tell) = tokio::sync::oneshot::channel();
        let errors = std::thread::spawn(move || read_errors(stderr, told));
        let Ok(job) = tell.await else {
            let status = client.0.wait()?;
            let printed = errors.join().unwrap_or_default();
            bail!("the program ended ({status}) without a job: {printed}");
        };
        Ok(Self { job, client, errors })
    }

    /// The client's process id.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.client.0.id()
    }

    /// Waits for the program's end.
    ///
    /// # Errors
    ///
    /// When its output cannot be read.
    pub async fn wait(mut self) -> Result<Ended> {
        let waiting = std::thread::spawn(move || -> Result<Ended> {
            let mut stdout = String::new();
            self.client.0.stdout.take().context("a pipe")?.read_to_string(&mut stdout)?;
            let code = self.client.0.wait()?.code();
            Ok(Ended { code, stdout, stderr: self.errors.join().unwrap_or_default() })
        });
        until("the program ends", || async { waiting.is_finished().then_some(()) }).await?;
        waiting.join().map_err(|_| anyhow::anyhow!("reading the program's output panicked"))?
    }
}

/// A client's process, which does not outlive a test that has failed.
struct Client(Child);

impl Drop for Client {
    fn drop(&mut self) {
        // One that has ended is what we want; nothing else can go wrong with SIGKILL.
        drop(self.0.kill().and_then(|()| self.0.wait()));
    }
}

/// Reads what a client prints; the first line that names the job is told.
fn read_errors(stderr: ChildStderr, told: tokio::sync::oneshot::Sender<JobId>) -> String {
    let mut told = Some(told);
    let mut text = String::new();
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        let job = line.strip_prefix("job ").and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        if let Some((job, told)) = job.zip(told.take_if(|_| line.contains("has been submitted"))) {
            // The test may have given up.
            let _ = told.send(job);
        }
        text += &line;
        text.push('\n');
    }
    text
}

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code, none after a signal.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

/// Waits until `poll` gives a value.
///
/// # Errors
///
/// When it does not within the limit.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, poll: impl Fn() -> F) -> Result<T> {
    let wait = async {
        loop {
            if let Some(value) = poll().await {
                return value;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.with_context(|| format!("waited {LIMIT:?} until {what}"))
}

/// Whether a process exists and is no zombie.
#[must_use]
pub fn is_alive(process_id: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process_id}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// The lines of every file of an output, sorted.
///
/// # Errors
///
/// When the output is missing or not text.
pub fn sorted_lines(output: &Path) -> Result<Vec<String>> {
    let mut files = vec![output.to_owned()];
    if output.is_dir() {
        files = std::fs::read_dir(output)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    }
    let mut lines = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        lines.extend(text.lines().map(str::to_owned));
    }
    lines.sort();
    Ok(lines)
}

/// What the test job's mode `sequence` writes for the numbers below `count`, sorted.
#[must_use]
pub fn expected_sums(count: u64) -> Vec<String> {
    let sum = |digit: u64| (0..count).filter(|n| n % 10 == digit).sum::<u64>();
    (0..10).map(|digit| format!("{digit} {}", sum(digit))).collect()
}
