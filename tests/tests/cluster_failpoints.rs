//! Servers that fail at the worst places: what was acknowledged holds, what was not is done once when it is repeated.

use std::path::Path;

use anyhow::Result;
use tidemill::cli::local_cluster::ProcessName;
use tidemill::job_client::{ClusterStatus, JobDetails};
use tidemill_model::id::ExecutionAttemptId;
use tidemill_tests::cluster::{HeldJob, Numbers, TestCluster, expected_sums, sorted_lines, until};
use tidemill_tests::http::set_fail_point;

const JOB: &str = env!("CARGO_BIN_EXE_tidemill-test-job");
const NUMBERS: Numbers = Numbers { count: 200_000, rate: 40_000, parallelism: 2 };

fn coordinators() -> impl Iterator<Item = ProcessName> {
    (1..=3).map(ProcessName::Coordinator)
}

async fn submit(cluster: &TestCluster) -> Result<HeldJob> {
    cluster.submit_held(Path::new(JOB), "sums", NUMBERS).await
}

async fn check_result(cluster: &TestCluster, job: HeldJob) -> Result<()> {
    let output = job.output.clone();
    let ended = job.release().await?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.stdout, format!("numbers={}\n", NUMBERS.count));
    assert_eq!(sorted_lines(&output)?, expected_sums(NUMBERS.count));
    assert_eq!(cluster.client().list_jobs().await?.len(), 1, "one job results");
    Ok(())
}

fn attempts(details: &JobDetails) -> Vec<(ExecutionAttemptId, Option<u32>)> {
    details.attempts.iter().map(|attempt| (attempt.report.attempt, attempt.process_id)).collect()
}

/// Starts what has ended, and waits until all three replicas hold the same state at the same index.
async fn all_agree(cluster: &mut TestCluster) -> Result<()> {
    for name in coordinators() {
        cluster.processes.start_process(name).await?;
    }
    let client = cluster.client();
    until("all replicas agree", || async {
        let answers: Vec<_> = client.cluster_status().await.into_iter().filter_map(|(_, status)| status.ok()).collect();
        let place = |status: &ClusterStatus| (status.applied_index, status.state_checksum);
        (answers.len() == 3 && answers.iter().all(|status| place(status) == place(&answers[0]))).then_some(())
    })
    .await
}

#[tokio::test]
async fn a_leadership_that_panics_before_it_has_recovered_begins_again_and_disturbs_nothing() -> Result<()> {
    let mut cluster = TestCluster::start(3, 2, 1, &[]).await?;
    let job = submit(&cluster).await?;
    let before = cluster.until_flowing(job.job, 1_000).await?;
    let old = cluster.leader_status().await?;
    for name in coordinators() {
        set_fail_point(&cluster, name, "leader.start.pre_recover", "1*panic")?;
    }
    cluster.processes.kill(cluster.leader_of(&old)?).await?;
    let client = cluster.client();
    until("the takeover is recorded", || async {
        let status = client.leader_status().await.ok()?;
        status.takeovers.into_iter().find(|takeover| takeover.job == job.job && Some(takeover.epoch) > old.epoch)
    })
    .await?;
    job.go_on()?;
    let after = cluster.until_flowing(job.job, before.records_in + 1).await?;
    assert_eq!((attempts(&after), after.restarts), (attempts(&before), 0));
    check_result(&cluster, job).await
}

#[tokio::test]
async fn a_leader_that_crashes_with_an_entry_on_its_disk_only_leaves_one_job_behind() -> Result<()> {
    let mut cluster = TestCluster::start(3, 2, 1, &[]).await?;
    let leader = cluster.leader().await?;
    set_fail_point(&cluster, leader, "raft.append.post_sync", "1*abort")?;
    let job = submit(&cluster).await?;
    until("the leader has crashed", || async { cluster.processes.pid(leader).is_none().then_some(()) }).await?;
    cluster.until_flowing(job.job, 1_000).await?;
    check_result(&cluster, job).await?;
    all_agree(&mut cluster).await
}

#[tokio::test]
async fn a_submission_whose_answer_was_lost_is_repeated_and_gives_one_job() -> Result<()> {
    let cluster = TestCluster::start(3, 2, 1, &[]).await?;
    let old = cluster.leader_status().await?;
    for name in coordinators() {
        set_fail_point(&cluster, name, "job.submit.post_propose", "1*panic")?;
    }
    let job = submit(&cluster).await?;
    cluster.until_flowing(job.job, 1_000).await?;
    let epoch = cluster.leader_status().await?.epoch;
    assert!(epoch > old.epoch, "a decision without news of it ends the leadership: {epoch:?}");
    check_result(&cluster, job).await
}

#[tokio::test]
async fn a_committer_that_crashes_before_or_after_it_has_published_is_followed_by_one_that_ends_the_job() -> Result<()>
{
    for point in ["sink.commit.pre", "sink.commit.post"] {
        let cluster = TestCluster::start(3, 1, 2, &[]).await?;
        let worker = ProcessName::TaskManager(1);
        // Executors take over what their task manager has when they start.
        set_fail_point(&cluster, worker, point, "abort")?;
        let job = submit(&cluster).await?;
        cluster.until_flowing(job.job, 1_000).await?;
        set_fail_point(&cluster, worker, point, "off")?;
        check_result(&cluster, job).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_task_manager_that_cannot_say_hello_goes_on_trying() -> Result<()> {
    let mut cluster = TestCluster::start(3, 1, 2, &[]).await?;
    let job = submit(&cluster).await?;
    let before = cluster.until_flowing(job.job, 1_000).await?;
    let worker = ProcessName::TaskManager(1);
    set_fail_point(&cluster, worker, "tm.register.pre", "5*error")?;
    let leader = cluster.leader().await?;
    cluster.processes.kill(leader).await?;
    job.go_on()?;
    let after = cluster.until_flowing(job.job, before.records_in + 1).await?;
    assert_eq!((attempts(&after), after.restarts), (attempts(&before), 0));
    check_result(&cluster, job).await
}

#[tokio::test]
async fn a_job_s_master_that_panics_begins_again_and_disturbs_nothing() -> Result<()> {
    let cluster = TestCluster::start(3, 2, 1, &[]).await?;
    let job = submit(&cluster).await?;
    let before = cluster.until_flowing(job.job, 1_000).await?;
    let epoch = cluster.leader_status().await?.epoch;
    set_fail_point(&cluster, cluster.leader().await?, "job.master.tick", "3*panic")?;
    job.go_on()?;
    let after = cluster.until_flowing(job.job, before.records_in + 1).await?;
    assert_eq!((attempts(&after), after.restarts), (attempts(&before), 0));
    check_result(&cluster, job).await?;
    assert_eq!(cluster.leader_status().await?.epoch, epoch, "nobody else was concerned");
    Ok(())
}

#[tokio::test]
async fn a_job_whose_master_panics_again_and_again_fails_with_words_and_leaves_its_slots_to_others() -> Result<()> {
    let cluster = TestCluster::start(3, 2, 1, &[]).await?;
    let job = submit(&cluster).await?;
    cluster.until_flowing(job.job, 1_000).await?;
    let epoch = cluster.leader_status().await?.epoch;
    set_fail_point(&cluster, cluster.leader().await?, "job.master.tick", "6*panic")?;
    let failed = cluster.until_job(job.job, "the job fails", |details| details.status.is_terminal()).await?;
    let causes: Vec<&str> = failed.history.iter().filter_map(|entry| Some(&*entry.cause.as_ref()?.message)).collect();
    assert_eq!(failed.status.name(), "FAILED", "{causes:?}");
    assert!(causes.iter().any(|cause| cause.contains("its master on the leading coordinator panicked")), "{causes:?}");
    drop(job);
    let next = cluster.submit_held(Path::new(JOB), "other", NUMBERS).await?;
    cluster.until_flowing(next.job, 1_000).await?;
    assert_eq!(next.release().await?.code, Some(0));
    assert_eq!(cluster.leader_status().await?.epoch, epoch, "nobody else was concerned");
    Ok(())
}
