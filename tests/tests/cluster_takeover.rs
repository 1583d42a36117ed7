//! Coordinators die, pause and return while a job runs: nothing of the job is disturbed.

use std::path::Path;

use anyhow::{Context, Result};
use tidemill::cli::local_cluster::ProcessName;
use tidemill::job_client::JobDetails;
use tidemill_model::execution::ExecutionState;
use tidemill_model::id::ExecutionAttemptId;
use tidemill_model::job::JobStatus;
use tidemill_tests::cluster::{HeldJob, Numbers, TestCluster, expected_sums, is_alive, sorted_lines, until};

const JOB: &str = env!("CARGO_BIN_EXE_tidemill-test-job");
const NUMBERS: Numbers = Numbers { count: 400_000, rate: 40_000, parallelism: 4 };

/// The attempts with their processes: what must not change.
fn placements(details: &JobDetails) -> Vec<(ExecutionAttemptId, Option<u32>)> {
    details.attempts.iter().map(|attempt| (attempt.report.attempt, attempt.process_id)).collect()
}

async fn submit(cluster: &TestCluster) -> Result<HeldJob> {
    cluster.submit_held(Path::new(JOB), "sums", NUMBERS).await
}

async fn check_result(submitted: HeldJob) -> Result<()> {
    let output = submitted.output.clone();
    let ended = submitted.release().await?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.stdout, format!("numbers={}\n", NUMBERS.count));
    assert_eq!(sorted_lines(&output)?, expected_sums(NUMBERS.count));
    Ok(())
}

#[tokio::test]
async fn a_job_does_not_notice_that_its_leader_was_killed() -> Result<()> {
    let mut cluster = TestCluster::start(3, 2, 2, &[]).await?;
    let submitted = submit(&cluster).await?;
    let before = cluster.until_flowing(submitted.job, 1_000).await?;
    let old = cluster.leader_status().await?;
    cluster.processes.kill(cluster.leader_of(&old)?).await?;
    let client = cluster.client();
    // On a busy machine leaders also change by themselves: earlier takeovers do not count.
    let takeover = until("the takeover is recorded", || async {
        let status = client.leader_status().await.ok()?;
        status.takeovers.into_iter().find(|takeover| takeover.job == submitted.job && Some(takeover.epoch) > old.epoch)
    })
    .await?;
    assert_eq!((takeover.tasks_adopted, takeover.tasks_restarted), (8, 0));
    submitted.go_on()?;
    let after = cluster.until_flowing(submitted.job, before.records_in + 1).await?;
    assert_eq!(placements(&after), placements(&before));
    assert_eq!(after.restarts, 0);
    check_result(submitted).await
}

#[tokio::test]
async fn a_follower_may_come_and_go() -> Result<()> {
    let mut cluster = TestCluster::start(3, 2, 2, &[]).await?;
    let submitted = submit(&cluster).await?;
    let before = cluster.until_flowing(submitted.job, 1_000).await?;
    let leader = cluster.leader().await?;
    let follower = (1..=3).map(ProcessName::Coordinator).find(|name| *name != leader).context("a follower")?;
    cluster.processes.kill(follower).await?;
    submitted.go_on()?;
    let during = cluster.until_flowing(submitted.job, before.records_in + 1).await?;
    cluster.processes.start_process(follower).await?;
    assert_eq!(placements(&during), placements(&before));
    check_result(submitted).await?;
    // All three hold the same state, byte for byte, once they have applied the same entries.
    let client = cluster.client();
    until("all replicas agree", || async {
        let answers: Vec<_> = client.cluster_status().await.into_iter().filter_map(|(_, status)| status.ok()).collect();
        let agree = |one: &tidemill::job_client::ClusterStatus| {
            (one.applied_index, one.state_checksum) == (answers[0].applied_index, answers[0].state_checksum)
        };
        (answers.len() == 3 && answers.iter().all(agree)).then_some(())
    })
    .await
}

#[tokio::test]
async fn a_job_runs_on_while_all_coordinators_are_dead_and_is_adopted_when_they_return_from_disk() -> Result<()> {
    let mut cluster = TestCluster::start(3, 2, 2, &[]).await?;
    let submitted = submit(&cluster).await?;
    let before = cluster.until_flowing(submitted.job, 1_000).await?;
    let coordinators = || (1..=3).map(ProcessName::Coordinator);
    for name in coordinators() {
        cluster.processes.kill(name).await?;
    }
    for process_id in before.attempts.iter().filter_map(|attempt| attempt.process_id) {
        assert!(is_alive(process_id), "executor {process_id} must outlive the coordinators");
    }
    for name in coordinators() {
        cluster.processes.start_process(name).await?;
    }
    submitted.go_on()?;
    let after = cluster.until_flowing(submitted.job, before.records_in + 1).await?;
    assert_eq!(placements(&after), placements(&before));
    assert_eq!(after.restarts, 0);
    check_result(submitted).await
}

#[tokio::test]
async fn a_pause_of_everything_declares_nobody_dead() -> Result<()> {
    let cluster = TestCluster::start(3, 2, 2, &[]).await?;
    let submitted = submit(&cluster).await?;
    let before = cluster.until_flowing(submitted.job, 1_000).await?;
    let servers: Vec<u32> =
        cluster.processes.layout().running().into_iter().map(|(_, process_id)| process_id).collect();
    let executors = before.attempts.iter().filter_map(|attempt| attempt.process_id);
    let mut all: Vec<u32> = servers.into_iter().chain(executors).chain([submitted.process_id()]).collect();
    all.dedup();
    let signal = |signal: rustix::process::Signal| -> Result<()> {
        for &process_id in &all {
            let process_id = rustix::process::Pid::from_raw(i32::try_from(process_id)?).context("a process id")?;
            rustix::process::kill_process(process_id, signal)?;
        }
        Ok(())
    };
    signal(rustix::process::Signal::STOP)?;
    // The pause itself is what is tested: longer than every time-out of the control plane.
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    signal(rustix::process::Signal::CONT)?;
    submitted.go_on()?;
    let after = cluster.until_flowing(submitted.job, before.records_in + 1).await?;
    assert_eq!(placements(&after), placements(&before));
    assert!(
        after
            .attempts
            .iter()
            .all(|attempt| matches!(attempt.report.state, ExecutionState::Running | ExecutionState::Terminal(_)))
    );
    check_result(submitted).await
}

#[tokio::test]
async fn a_client_follows_its_job_through_two_changes_of_leader() -> Result<()> {
    let mut cluster = TestCluster::start(3, 2, 2, &[]).await?;
    let submitted = submit(&cluster).await?;
    cluster.until_flowing(submitted.job, 1_000).await?;
    for _ in 0..2 {
        let leader = cluster.leader().await?;
        cluster.processes.kill(leader).await?;
        cluster.processes.start_process(leader).await?;
        let running = |details: &JobDetails| details.status == JobStatus::Running;
        cluster.until_job(submitted.job, "the job is seen to run", running).await?;
    }
    check_result(submitted).await
}
