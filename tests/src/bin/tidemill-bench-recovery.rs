//! Measures what it takes to come back: the kill of a task manager to the next output of all, with a spare slot; a
//! savepoint, and the start of a job from one.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use clap::Parser;
use tidemill::cli::local_cluster::ProcessName;
use tidemill_model::id::{JobId, TaskManagerName};
use tidemill_tests::cluster::{Submitted, TestCluster, until};
use tidemill_tests::control::figures::Figures;
use tidemill_tests::demo::now;

/// Runs a job with so much keyed state on two of three task managers, kills one of them with SIGKILL again and again, and
/// prints how long after each kill every new sub-task had output; then takes savepoints and starts jobs from them.
#[derive(Parser)]
struct Arguments {
    /// How often.
    #[arg(long, default_value_t = 10)]
    repetitions: usize,
    /// How many keys, each with a state of a kilobyte.
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
    /// `key=value` options for the job.
    #[arg(short = 'D', value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

/// How many sub-tasks have output.
const PARALLELISM: usize = 2;

struct Bench {
    cluster: TestCluster,
    program: PathBuf,
    arguments: Arguments,
    /// How many jobs were submitted.
    jobs: u32,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let program = std::env::current_exe()?.with_file_name("tidemill-test-job");
    let cluster = TestCluster::start(3, 3, 1, &[]).await?;
    let mut bench = Bench { cluster, program, arguments, jobs: 0 };
    let (submitted, output) = bench.submit(&[]).await?;
    bench.until_full(submitted.job).await?;
    let (mut kills, mut savepoints, mut starts) = (Figures::default(), Figures::default(), Figures::default());
    for kill in 1..=bench.arguments.repetitions {
        let took = bench.kill(submitted.job, &output).await?;
        println!("kill {kill}: output of all sub-tasks after {took:.0} ms");
        kills.add(took);
    }
    let mut bytes = 0;
    let repetitions = bench.arguments.repetitions.div_ceil(2);
    for number in 1..=repetitions {
        let folder = bench.text(&format!("savepoint-{number}"))?;
        let begin = now();
        bench.cluster.client().take_savepoint(submitted.job, &folder).await?;
        let took = begin.elapsed();
        bytes = bytes_of(Path::new(&folder))?;
        println!("savepoint {number}: {bytes} bytes in {} ms", took.as_millis());
        savepoints.add(rate(bytes, took));
    }
    bench.cancel(submitted.job).await?;
    let disk = disk_rate(&bench.cluster.path("disk"), bytes)?;
    for number in 1..=repetitions {
        let from = format!("execution.state-recovery.path={}", bench.text(&format!("savepoint-{number}"))?);
        let begin = bench.time()?;
        let (submitted, output) = bench.submit(&["-D", &from]).await?;
        let took = until_output(&output, &BTreeSet::new(), begin).await?;
        println!("start from savepoint {number}: output of all sub-tasks {took:.0} ms after the command");
        starts.add(took);
        bench.cancel(submitted.job).await?;
    }
    println!(
        "summary: state of {} MB; task manager killed -> output of all sub-tasks {kills} ms, {} kills; savepoint \
         {savepoints} MB/s (disk with fsync {disk:.0}); start from a savepoint -> output of all sub-tasks {starts} ms",
        bytes / 1_000_000,
        kills.count(),
    );
    Ok(())
}

impl Bench {
    fn text(&self, name: &str) -> Result<String> {
        Ok(self.cluster.path(name).to_str().context("a UTF-8 path")?.to_owned())
    }

    /// Starts the job; answers where each process of it makes a file when it first has output.
    async fn submit(&mut self, more: &[&str]) -> Result<(Submitted, PathBuf)> {
        self.jobs += 1;
        let output = self.cluster.path(&format!("output-{}", self.jobs));
        std::fs::create_dir(&output)?;
        let (path, keys) = (output.to_str().context("a UTF-8 path")?, self.arguments.keys.to_string());
        let directory = format!("execution.checkpointing.dir={}", self.text("checkpoints")?);
        let mut arguments = vec!["large", &keys, path, "-p", "2", "-D", &directory];
        arguments.extend(["-D", "execution.runtime-mode=streaming", "-D", "execution.checkpointing.interval=1 s"]);
        arguments.extend(self.arguments.settings.iter().flat_map(|setting| ["-D", setting.as_str()]));
        arguments.extend(more);
        Ok((self.cluster.submit(&self.program, &arguments).await?, output))
    }

    /// Waits for a checkpoint after each key has been seen.
    async fn until_full(&self, job: JobId) -> Result<()> {
        let keys = self.arguments.keys;
        let full = self.cluster.until_job(job, "all keys were seen", |details| details.records_in >= 2 * keys).await?;
        self.until_checkpoint(job, full.latest_checkpoint).await
    }

    /// Waits for two checkpoints more: the first may have been triggered before.
    async fn until_checkpoint(&self, job: JobId, after: Option<tidemill_model::id::CheckpointId>) -> Result<()> {
        let mut latest = after;
        for _ in 0..2 {
            let newer =
                self.cluster.until_job(job, "a checkpoint", |details| details.latest_checkpoint > latest).await?;
            latest = newer.latest_checkpoint;
        }
        Ok(())
    }

    /// Kills a task manager of the job; answers after how many milliseconds all new sub-tasks had output.
    async fn kill(&mut self, job: JobId, output: &Path) -> Result<f64> {
        let details = self.cluster.client().get_job(job).await?;
        let victim = details.attempts.first().and_then(|attempt| attempt.task_manager.clone());
        let victim = process_of(&victim.context("a task manager")?)?;
        let known = processes(output)?;
        let begin = self.time()?;
        self.cluster.processes.kill(victim).await?;
        let took = until_output(output, &known, begin).await?;
        self.cluster.processes.start_process(victim).await?;
        let details = self.cluster.client().get_job(job).await?;
        self.until_checkpoint(job, details.latest_checkpoint).await?;
        let client = self.cluster.client();
        until("a spare slot", || async {
            let status = client.leader_status().await.ok()?;
            (status.task_managers.len() == 3).then_some(())
        })
        .await?;
        Ok(took)
    }

    /// The time by the clock of the file system.
    fn time(&self) -> Result<SystemTime> {
        let path = self.cluster.path("clock");
        std::fs::write(&path, "tick")?;
        Ok(std::fs::metadata(path)?.modified()?)
    }

    async fn cancel(&self, job: JobId) -> Result<()> {
        self.cluster.client().cancel_job(job).await?;
        self.cluster.until_job(job, "it has ended", |details| details.status.is_terminal()).await?;
        Ok(())
    }
}

fn process_of(name: &TaskManagerName) -> Result<ProcessName> {
    let found = (1..=3).map(ProcessName::TaskManager).find(|process| process.to_string() == name.0);
    found.with_context(|| format!("which process is {name}?"))
}

/// The processes that have had output, each a file that was made then.
fn processes(output: &Path) -> Result<BTreeSet<PathBuf>> {
    std::fs::read_dir(output)?.map(|entry| Ok(entry?.path())).collect()
}

/// How many milliseconds after `begin` the last of the processes that are not known had its first output.
async fn until_output(output: &Path, known: &BTreeSet<PathBuf>, begin: SystemTime) -> Result<f64> {
    let all = until("output of all", || async {
        let new: Vec<PathBuf> = processes(output).ok()?.difference(known).cloned().collect();
        (new.len() >= PARALLELISM).then_some(new)
    })
    .await?;
    let mut last = begin;
    for path in all {
        last = last.max(std::fs::metadata(path)?.modified()?);
    }
    Ok(last.duration_since(begin)?.as_secs_f64() * 1e3)
}

fn bytes_of(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() { bytes_of(&entry.path())? } else { entry.metadata()?.len() };
    }
    if bytes == 0 {
        bail!("{} is empty", folder.display());
    }
    Ok(bytes)
}

/// Megabytes a second.
#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn rate(bytes: u64, took: Duration) -> f64 {
    bytes as f64 / 1e6 / took.as_secs_f64()
}

/// What the disk takes, a file of so many bytes at once.
fn disk_rate(path: &Path, bytes: u64) -> Result<f64> {
    let content = vec![7u8; usize::try_from(bytes)?];
    let begin = now();
    let mut file = std::fs::File::create(path)?;
    file.write_all(&content)?;
    file.sync_all()?;
    Ok(rate(bytes, begin.elapsed()))
}
