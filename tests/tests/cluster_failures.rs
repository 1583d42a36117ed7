//! Executors and task managers die, user code panics, jobs are cancelled: only that job is concerned, and nothing is left.

use std::path::Path;

use anyhow::{Context, Result};
use tidemill::cli::local_cluster::ProcessName;
use tidemill::job_client::JobDetails;
use tidemill_model::execution::FailureKind;
use tidemill_model::id::JobId;
use tidemill_model::job::JobStatus;
use tidemill_tests::cluster::{Numbers, TestCluster, expected_sums, is_alive, sorted_lines, until};

const JOB: &str = env!("CARGO_BIN_EXE_tidemill-test-job");

fn executors(details: &JobDetails) -> Vec<u32> {
    let mut processes: Vec<u32> = details.attempts.iter().filter_map(|attempt| attempt.process_id).collect();
    processes.sort_unstable();
    processes.dedup();
    processes
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a UTF-8 path")
}

/// The causes in a job's history.
async fn causes(cluster: &TestCluster, job: JobId) -> Result<Vec<FailureKind>> {
    let details = cluster.client().get_job(job).await?;
    Ok(details.history.into_iter().filter_map(|entry| Some(entry.cause?.kind)).collect())
}

#[tokio::test]
async fn a_killed_executor_restarts_its_job_and_the_result_is_right() -> Result<()> {
    let cluster = TestCluster::start(1, 2, 2, &[]).await?;
    let numbers = Numbers { count: 100_000, rate: 20_000, parallelism: 4 };
    let submitted = cluster.submit_held(Path::new(JOB), "sums", numbers).await?;
    let output = submitted.output.clone();
    let details = cluster.until_flowing(submitted.job, 1_000).await?;
    let victim = *executors(&details).first().context("an executor")?;
    let process_id = rustix::process::Pid::from_raw(i32::try_from(victim)?).context("a process id")?;
    rustix::process::kill_process(process_id, rustix::process::Signal::KILL)?;
    let job = submitted.job;
    let ended = submitted.release().await?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(sorted_lines(&output)?, expected_sums(100_000));
    assert_eq!(ended.stdout, "numbers=100000\n", "counters are those of the last attempts only");
    let details = cluster.client().get_job(job).await?;
    assert!(details.restarts >= 1);
    let causes = causes(&cluster, job).await?;
    assert!(causes.iter().all(|kind| kind.recoverable()) && !causes.is_empty(), "{causes:?}");
    Ok(())
}

#[tokio::test]
async fn a_job_that_aborts_its_process_is_restarted_and_its_neighbour_is_not_disturbed() -> Result<()> {
    let cluster = TestCluster::start(1, 1, 4, &[]).await?;
    let (right, once) = (cluster.path("right"), cluster.path("once"));
    let numbers = Numbers { count: 60_000, rate: 10_000, parallelism: 2 };
    let neighbour = cluster.submit_held(Path::new(JOB), "left", numbers).await?;
    cluster.until_flowing(neighbour.job, 100).await?;
    let aborts =
        cluster.submit(Path::new(JOB), &["abort", text(&once)?, "20000", "10000", text(&right)?, "-p", "2"]).await?;
    let job = aborts.job;
    let ended = aborts.wait().await?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(sorted_lines(&right)?, expected_sums(20_000));
    assert_eq!(causes(&cluster, job).await?.first(), Some(&FailureKind::ExecutorLost));
    let undisturbed = cluster.client().get_job(neighbour.job).await?;
    assert_eq!(undisturbed.restarts, 0);
    let left = neighbour.output.clone();
    let ended = neighbour.release().await?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(sorted_lines(&left)?, expected_sums(60_000));
    Ok(())
}

#[tokio::test]
async fn a_job_that_allocates_without_bound_is_ended_alone_and_says_so() -> Result<()> {
    let cluster = TestCluster::start(1, 1, 4, &[]).await?;
    let numbers = Numbers { count: 60_000, rate: 10_000, parallelism: 2 };
    let neighbour = cluster.submit_held(Path::new(JOB), "left", numbers).await?;
    let before = executors(&cluster.until_flowing(neighbour.job, 100).await?);
    let servers = [ProcessName::Coordinator(1), ProcessName::TaskManager(1)];
    let processes = servers.map(|name| cluster.processes.pid(name));
    let settings = ["-D", "executor.memory.limit=192 mb", "-D", "restart-strategy.type=none"];
    let leaks = cluster.submit(Path::new(JOB), &[&["leak"], &settings[..]].concat()).await?;
    let job = leaks.job;
    let ended = leaks.wait().await?;
    assert_ne!(ended.code, Some(0));
    let limit = ["its memory limit of 192 mb", "executor.memory.limit", "the most that it was seen to use is"];
    for words in limit.into_iter().chain(["state.backend.type = rocksdb"]) {
        assert!(ended.stderr.contains(words), "{words:?} in {}", ended.stderr);
    }
    assert_eq!(causes(&cluster, job).await?, [FailureKind::ExecutorLost]);
    let undisturbed = cluster.client().get_job(neighbour.job).await?;
    assert_eq!((undisturbed.restarts, executors(&undisturbed)), (0, before));
    assert_eq!(servers.map(|name| cluster.processes.pid(name)), processes);
    let left = neighbour.output.clone();
    let ended = neighbour.release().await?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(sorted_lines(&left)?, expected_sums(60_000));
    Ok(())
}

#[tokio::test]
async fn a_killed_task_manager_restarts_the_job_on_the_slots_that_are_left() -> Result<()> {
    let mut cluster = TestCluster::start(1, 2, 2, &[]).await?;
    let numbers = Numbers { count: 100_000, rate: 20_000, parallelism: 2 };
    let submitted = cluster.submit_held(Path::new(JOB), "sums", numbers).await?;
    let output = submitted.output.clone();
    let details = cluster.until_flowing(submitted.job, 1_000).await?;
    let executors = executors(&details);
    assert_eq!(executors.len(), 2, "the job is spread over both task managers");
    let doomed = cluster.processes.pid(ProcessName::TaskManager(1)).context("it runs")?;
    cluster.processes.kill(ProcessName::TaskManager(1)).await?;
    until("the killed agent's executor dies with it", || async {
        let orphans = executors.iter().filter(|&&process_id| is_alive(process_id)).count();
        (orphans <= 1 && !is_alive(doomed)).then_some(())
    })
    .await?;
    let job = submitted.job;
    let ended = submitted.release().await?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(sorted_lines(&output)?, expected_sums(100_000));
    assert!(cluster.client().get_job(job).await?.restarts >= 1);
    Ok(())
}

#[tokio::test]
async fn a_panic_reaches_the_client_with_its_message_operator_and_subtask() -> Result<()> {
    let cluster = TestCluster::start(1, 1, 2, &[]).await?;
    let output = cluster.path("sums");
    let submitted = cluster.submit(Path::new(JOB), &["panic", "5001", text(&output)?, "-p", "2"]).await?;
    let job = submitted.job;
    let ended = submitted.wait().await?;
    assert_eq!(ended.code, Some(1));
    for part in ["record 5001 is the one", "Trap", "sub-task 1"] {
        assert!(ended.stderr.contains(part), "{part:?} is missing in: {}", ended.stderr);
    }
    let details = cluster.client().get_job(job).await?;
    assert_eq!((details.status.name(), details.restarts), ("FAILED", 0));
    assert!(!output.exists(), "a failed job publishes nothing");
    let left: Vec<_> = std::fs::read_dir(output.parent().context("a folder")?)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.contains("sums"))
        .collect();
    assert!(left.is_empty(), "staged output is left: {left:?}");
    Ok(())
}

#[tokio::test]
async fn a_cancelled_job_leaves_no_process_and_no_file_and_frees_its_slots() -> Result<()> {
    let cluster = TestCluster::start(1, 2, 1, &[]).await?;
    let output = cluster.path("sums");
    let submitted =
        cluster.submit(Path::new(JOB), &["sequence", "100000000", "10000", text(&output)?, "-p", "2"]).await?;
    let details = cluster.until_flowing(submitted.job, 1_000).await?;
    cluster.client().cancel_job(submitted.job).await?;
    let ended = cluster.until_job(submitted.job, "the job has ended", |details| details.status.is_terminal()).await?;
    assert_eq!(ended.status, JobStatus::Canceled);
    let client = submitted.wait().await?;
    assert_ne!(client.code, Some(0));
    assert!(client.stderr.contains("cancelled"), "{}", client.stderr);
    let status_client = cluster.client();
    until("slots are free and executors gone", || async {
        let status = status_client.leader_status().await.ok()?;
        let free: u32 = status.task_managers.iter().map(|task_manager| task_manager.free_slots).sum();
        let alive = executors(&details).into_iter().any(is_alive);
        (free == 2 && !alive).then_some(())
    })
    .await?;
    for name in (1..=2).map(ProcessName::TaskManager) {
        let jobs = cluster.processes.process_dir(name).join("jobs");
        until("the job's folder is gone", || async {
            std::fs::read_dir(&jobs).map_or(true, |mut entries| entries.next().is_none()).then_some(())
        })
        .await?;
    }
    let staged = std::fs::read_dir(output.parent().context("a folder")?)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .any(|name| name.contains("sums"));
    assert!(!staged, "staged output is left");
    Ok(())
}

#[tokio::test]
async fn a_job_that_wants_more_slots_than_there_are_waits_and_says_what_is_missing() -> Result<()> {
    let mut cluster = TestCluster::start(1, 2, 1, &[]).await?;
    cluster.processes.kill(ProcessName::TaskManager(2)).await?;
    let output = cluster.path("sums");
    let submitted = cluster.submit(Path::new(JOB), &["sequence", "1000", "100000", text(&output)?, "-p", "2"]).await?;
    let waits = |details: &JobDetails| details.waiting_reason.as_ref().is_some_and(|reason| reason.contains("needs 2"));
    let details = cluster.until_job(submitted.job, "the job says what is missing", waits).await?;
    assert_eq!(details.status, JobStatus::Created);
    cluster.processes.start_process(ProcessName::TaskManager(2)).await?;
    let ended = submitted.wait().await?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(sorted_lines(&output)?, expected_sums(1000));
    Ok(())
}
