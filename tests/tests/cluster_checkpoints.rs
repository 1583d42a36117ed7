//! A stateful job loses executors, task managers and leaders at seeded moments; its transactional output is that of a run
//! without failures.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tidemill::cli::local_cluster::ProcessName;
use tidemill::job_client::{AttemptDetails, JobDetails};
use tidemill_model::id::{CheckpointId, JobId};
use tidemill_tests::cluster::{Submitted, TestCluster, sorted_lines};
use tidemill_tests::orders;

const JOB: &str = env!("CARGO_BIN_EXE_tidemill-test-job");

/// How often something is killed: more often than work has to be restored, since a leader's death disturbs nothing.
const KILLS: usize = 26;

/// How many checkpoints are restored, at least.
const RESTORES: usize = 20;

/// How many task managers there are: one more than the job needs.
const TASK_MANAGERS: u32 = 3;

/// The moments and victims of the kills follow from it.
const SEED: u64 = 5;

/// What is killed.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Executor,
    TaskManager,
    Leader,
    LeaderAndTaskManager,
}

impl Victim {
    fn choose(random: &mut StdRng) -> Self {
        match random.random_range(0..10) {
            0..4 => Self::Executor,
            4..7 => Self::TaskManager,
            7..8 => Self::Leader,
            _ => Self::LeaderAndTaskManager,
        }
    }
}

/// Jobs restart at once and as often as need be.
const RESTARTS: [&str; 6] = [
    "-D",
    "restart-strategy.type=fixed-delay",
    "-D",
    "restart-strategy.fixed-delay.attempts=1000",
    "-D",
    "restart-strategy.fixed-delay.delay=10 ms",
];

struct Orders {
    cluster: TestCluster,
    random: StdRng,
}

impl Orders {
    fn text(&self, name: &str) -> Result<String> {
        Ok(self.cluster.path(name).to_str().context("a UTF-8 path")?.to_owned())
    }

    /// Waits until a checkpoint is completed that is newer than `after` and than the one that was restored, and
    /// everything runs again.
    async fn until_checkpoint(&self, job: JobId, after: Option<CheckpointId>) -> Result<JobDetails> {
        let went_on = |details: &JobDetails| {
            let runs = |attempt: &AttemptDetails| matches!(attempt.report.state.name(), "RUNNING" | "FINISHED");
            let newer = details.latest_checkpoint > details.restored_checkpoint.max(after);
            newer && details.attempts.iter().all(runs)
        };
        self.cluster.until_job(job, "a checkpoint is completed", went_on).await
    }

    async fn kill(&mut self, details: &JobDetails, victim: Victim) -> Result<()> {
        let executors: BTreeSet<u32> = details.attempts.iter().filter_map(|attempt| attempt.process_id).collect();
        let hosts: BTreeSet<_> = details.attempts.iter().filter_map(|attempt| attempt.task_manager.clone()).collect();
        let pick = |random: &mut StdRng, count: usize| random.random_range(0..count.max(1));
        let mut victims = Vec::new();
        match victim {
            Victim::Executor => {
                let index = pick(&mut self.random, executors.len());
                let process = *executors.iter().nth(index).context("an executor")?;
                let process = rustix::process::Pid::from_raw(i32::try_from(process)?).context("a process id")?;
                // It may have ended by itself.
                let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
            }
            Victim::TaskManager => victims.push(self.task_manager(&hosts)?),
            Victim::Leader => victims.push(self.cluster.leader().await?),
            Victim::LeaderAndTaskManager => {
                victims.push(self.cluster.leader().await?);
                victims.push(self.task_manager(&hosts)?);
            }
        }
        for name in &victims {
            self.cluster.processes.kill(*name).await?;
        }
        for name in victims {
            self.cluster.processes.start_process(name).await?;
        }
        Ok(())
    }

    fn task_manager(&mut self, hosts: &BTreeSet<tidemill_model::id::TaskManagerName>) -> Result<ProcessName> {
        let index = self.random.random_range(0..hosts.len().max(1));
        let name = hosts.iter().nth(index).context("a task manager")?;
        let mut processes = (1..=TASK_MANAGERS).map(ProcessName::TaskManager);
        processes.find(|process| process.to_string() == name.0).with_context(|| format!("which process is {name}?"))
    }
}

impl Orders {
    /// The arguments of a job of so many sub-tasks that writes to `output`.
    fn arguments(&self, output: &str, parallelism: &str, more: &[&str]) -> Result<Vec<String>> {
        let (input, checkpoints) = (self.text("in")?, self.text("checkpoints")?);
        let directory = format!("execution.checkpointing.dir={checkpoints}");
        let program = ["orders", &input, "5000", &self.text(output)?, &self.text("release")?, "-p", parallelism];
        let settings = [
            "-D",
            "execution.runtime-mode=streaming",
            "-D",
            "execution.checkpointing.interval=100 ms",
            "-D",
            "execution.checkpointing.tolerable-failed-checkpoints=1000",
            "-D",
            &directory,
        ];
        let all = [program.as_slice(), &settings, &RESTARTS, more].concat();
        Ok(all.into_iter().map(str::to_owned).collect())
    }

    async fn submit(&self, output: &str, parallelism: &str, more: &[&str]) -> Result<Submitted> {
        let arguments = self.arguments(output, parallelism, more)?;
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.cluster.submit(Path::new(JOB), &arguments).await
    }
}

#[tokio::test]
async fn a_savepoint_is_gone_on_from_with_another_parallelism() -> Result<()> {
    let cluster = TestCluster::start(1, 2, 4, &[]).await?;
    let orders = Orders { cluster, random: StdRng::seed_from_u64(SEED) };
    let lines = 60_000;
    orders::write_input(Path::new(&orders.text("in")?), lines, 8)?;
    let client = orders.cluster.client();
    let mut savepoint: Option<String> = None;
    for (number, parallelism) in ["2", "4", "1"].into_iter().enumerate() {
        let output = format!("out-{number}");
        let from = savepoint.iter().map(|path| format!("execution.state-recovery.path={path}")).collect::<Vec<_>>();
        let from: Vec<&str> = from.iter().flat_map(|path| ["-D", path]).collect();
        let submitted = orders.submit(&output, parallelism, &from).await?;
        let (job, path) = (submitted.job, orders.text(&format!("savepoint-{number}"))?);
        if parallelism == "1" {
            std::fs::write(orders.text("release")?, "")?;
            let ended = submitted.wait().await?;
            ensure!(ended.code == Some(0), "{}", ended.stderr);
        } else {
            orders.until_checkpoint(job, None).await?;
            let taken = client.take_savepoint(job, &path).await?;
            // Everything up to the savepoint is committed with it, by this job or by the next one.
            orders.until_checkpoint(job, Some(taken.checkpoint)).await?;
            client.cancel_job(job).await?;
            orders.cluster.until_job(job, "the job has ended", |details| details.status.is_terminal()).await?;
            savepoint = Some(path);
        }
    }
    let last = sorted_lines(Path::new(&orders.text("out-2")?))?;
    let expected = orders::expected(lines);
    // Of the last job comes everything after its savepoint: the ends of all counts and sums, each once.
    let mut rest = expected.iter();
    ensure!(
        last.iter().all(|line| rest.any(|other| other == line)),
        "each line of the output is one that is expected, once"
    );
    let ends = (0..50).map(|key| expected.iter().filter(|line| line.starts_with(&format!("count {key} "))).count());
    for (key, count) in ends.enumerate() {
        ensure!(last.contains(&format!("count {key} {count}")), "count {key} ends at {count}");
    }
    Ok(())
}

#[tokio::test]
async fn killed_at_any_moment_a_job_commits_each_result_once() -> Result<()> {
    let cluster = TestCluster::start(3, TASK_MANAGERS, 2, &[]).await?;
    let mut orders = Orders { cluster, random: StdRng::seed_from_u64(SEED) };
    let lines = 200_000;
    orders::write_input(Path::new(&orders.text("in")?), lines, 8)?;
    let (output, release) = (orders.text("out")?, orders.text("release")?);
    let submitted = orders.submit("out", "4", &[]).await?;
    let job = submitted.job;
    let (mut restored, mut latest) = (BTreeSet::new(), None);
    for kill in 0..=KILLS {
        let details = orders.until_checkpoint(job, latest).await?;
        restored.extend(details.restored_checkpoint);
        latest = details.latest_checkpoint;
        if kill < KILLS {
            // Not to wait for something, but to strike at another moment each time.
            tokio::time::sleep(Duration::from_millis(orders.random.random_range(0..150))).await;
            let victim = Victim::choose(&mut orders.random);
            println!("kill {victim:?} at checkpoint {latest:?}");
            orders.kill(&details, victim).await?;
        }
    }
    std::fs::write(&release, "")?;
    let ended = submitted.wait().await?;
    ensure!(ended.code == Some(0), "{}", ended.stderr);
    ensure!(
        sorted_lines(Path::new(&output))? == orders::expected(lines),
        "the output differs from that without failures"
    );
    ensure!(restored.len() >= RESTORES, "only {} restores", restored.len());
    Ok(())
}
