//! A task manager is drained: its job moves and loses nothing, nothing new comes, whoever leads; its restart ends it.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use tidemill::cli::local_cluster::ProcessName;
use tidemill::job_client::{Error, JobDetails, TaskManagerStatus};
use tidemill_model::execution::FailureKind;
use tidemill_model::id::TaskManagerName;
use tidemill_tests::cluster::{Numbers, TestCluster, expected_sums, sorted_lines, until};

const JOB: &str = env!("CARGO_BIN_EXE_tidemill-test-job");

fn hosts(details: &JobDetails) -> BTreeSet<TaskManagerName> {
    details.attempts.iter().filter_map(|attempt| attempt.task_manager.clone()).collect()
}

/// The task manager as the leader lists it, once that satisfies the condition.
async fn listed(
    cluster: &TestCluster,
    name: &TaskManagerName,
    what: &str,
    condition: impl Fn(&TaskManagerStatus) -> bool,
) -> Result<TaskManagerStatus> {
    let client = cluster.client();
    let find = || async {
        let managers = client.task_managers().await.ok()?;
        managers.into_iter().find(|manager| manager.name == *name && condition(manager))
    };
    until(what, find).await
}

#[tokio::test]
async fn a_drained_task_manager_is_left_and_gets_nothing_until_it_is_restarted() -> Result<()> {
    let mut cluster = TestCluster::start(3, 2, 2, &[]).await?;
    let numbers = Numbers { count: 60_000, rate: 20_000, parallelism: 2 };
    let moves = cluster.submit_held(Path::new(JOB), "moves", numbers).await?;
    let job = moves.job;
    let before = hosts(&cluster.until_flowing(job, 1_000).await?);
    assert_eq!(before.len(), 2, "the job is spread over both task managers");
    let drained = before.first().context("a task manager")?.clone();
    let unknown = cluster.client().drain("nobody").await;
    assert!(matches!(unknown, Err(Error::NotFound(_))), "{unknown:?}");
    assert_eq!(cluster.client().drain(&drained.0).await?.name, drained);

    // It moves to where there is room, and that is no failure.
    let elsewhere = |details: &JobDetails| details.restarts == 1 && !hosts(details).contains(&drained);
    cluster.until_job(job, "the job has moved", elsewhere).await?;
    let details = cluster.until_flowing(job, 1_000).await?;
    assert!(elsewhere(&details), "{details:?}");
    let causes: Vec<FailureKind> =
        details.history.iter().filter_map(|entry| Some(entry.cause.as_ref()?.kind)).collect();
    assert_eq!(causes, [FailureKind::Drained]);
    let empty = |manager: &TaskManagerStatus| manager.draining && manager.jobs.is_empty() && manager.free_slots == 2;
    let former = listed(&cluster, &drained, "nothing is left there", empty).await?;

    // Another leader knows, and gives nothing there.
    cluster.processes.kill(cluster.leader().await?).await?;
    listed(&cluster, &drained, "the next leader knows", |manager| manager.draining).await?;
    let output = cluster.path("waits");
    let path = output.to_str().context("a UTF-8 path")?;
    let waits = cluster.submit(Path::new(JOB), &["sequence", "1000", "100000", path, "-p", "2"]).await?;
    let told = format!("task manager {drained} is draining and gives none");
    let says = |details: &JobDetails| details.waiting_reason.as_ref().is_some_and(|reason| reason.contains(&told));
    cluster.until_job(waits.job, "the new job waits, and says for whom", says).await?;

    // The next incarnation takes work.
    let names = [1, 2].map(ProcessName::TaskManager);
    let process = names.into_iter().find(|name| cluster.processes.pid(*name) == Some(former.process_id));
    let process = process.context("one of the cluster's processes")?;
    cluster.processes.stop_process(process).await?;
    cluster.processes.start_process(process).await?;
    let ended = waits.wait().await?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(sorted_lines(&output)?, expected_sums(1000));
    let renewed = listed(&cluster, &drained, "it is here again", |manager| manager.id != former.id).await?;
    assert!(!renewed.draining);

    let output = moves.output.clone();
    let ended = moves.release().await?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(sorted_lines(&output)?, expected_sums(60_000));
    assert_eq!(
        cluster.client().get_job(job).await?.restarts,
        1,
        "neither the leader's end nor the restart disturbed it"
    );
    Ok(())
}
