//! Checkpoints in a bucket, by way of a server that throttles, is away or denies access at times.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use tidemill::job_client::JobDetails;
use tidemill_tests::cluster::{TestCluster, until};
use tidemill_tests::orders_cluster::{OrdersCluster, kill_process};
use tidemill_tests::s3::{Mood, S3Server};

const JOB: &str = env!("CARGO_BIN_EXE_tidemill-test-job");

const BUCKET: &str = "tidemill-checkpoints";

const TASK_MANAGERS: u32 = 2;

/// How often something is killed.
const KILLS: usize = 8;

/// At which kill the bucket is away.
const OUTAGE: usize = KILLS / 2;

async fn start(server: &S3Server, lines: u64) -> Result<OrdersCluster> {
    let cluster = TestCluster::start_in(&server.environment(), 1, TASK_MANAGERS, 2, &[]).await?;
    let orders = OrdersCluster::new(cluster, JOB, TASK_MANAGERS, lines)?;
    Ok(orders.keeping(&format!("s3://{BUCKET}/jobs")))
}

fn failed(details: &JobDetails) -> u64 {
    let activity = details.checkpoints.as_ref().and_then(|checkpoints| checkpoints.activity.as_ref());
    activity.map_or(0, |activity| activity.failed)
}

#[tokio::test]
async fn killed_with_its_state_in_a_bucket_that_throttles_and_goes_away_a_job_commits_each_result_once() -> Result<()> {
    let Some(server) = S3Server::start(BUCKET)? else { return Ok(()) };
    let mut orders = start(&server, 100_000).await?;
    let submitted = orders.submit("out", 4, &[]).await?;
    let job = submitted.job;
    server.set(Mood::Throttling);
    let (mut restored, mut latest) = (BTreeSet::new(), None);
    for kill in 0..=KILLS {
        let details = orders.until_checkpoint(job, latest).await?;
        restored.extend(details.restored_checkpoint);
        latest = details.latest_checkpoint;
        let attempt = &details.attempts[kill % details.attempts.len()];
        if kill == KILLS {
            break;
        } else if kill % 3 == 2 {
            let name = orders.task_manager(attempt.task_manager.as_ref().context("a task manager")?)?;
            orders.cluster.processes.kill(name).await?;
            orders.cluster.processes.start_process(name).await?;
        } else if kill == OUTAGE {
            server.set(Mood::Away);
            kill_process(attempt.process_id.context("an executor")?)?;
            // Once because of the kill, and once more because what is to be restored cannot be had.
            let again = |now: &JobDetails| now.restarts >= details.restarts + 2;
            orders.cluster.until_job(job, "it cannot be restored", again).await?;
            server.set(Mood::Throttling);
        } else {
            kill_process(attempt.process_id.context("an executor")?)?;
        }
    }
    ensure!(server.throttled() > 20, "only {} requests were throttled", server.throttled());
    server.set(Mood::Well);
    orders.release()?;
    orders.check_result(submitted, "out").await?;
    ensure!(restored.len() == KILLS, "{restored:?}");
    until("the bucket is empty", || async { server.keys(BUCKET).ok().filter(Vec::is_empty) }).await?;
    Ok(())
}

#[tokio::test]
async fn an_outage_of_the_bucket_makes_checkpoints_fail_and_holds_up_no_record() -> Result<()> {
    let Some(server) = S3Server::start(BUCKET)? else { return Ok(()) };
    let orders = start(&server, 100_000).await?;
    let submitted = orders.submit("out", 2, &[]).await?;
    let job = submitted.job;
    orders.until_checkpoint(job, None).await?;
    server.set(Mood::Away);
    let during = orders.cluster.until_job(job, "checkpoints fail", |details| failed(details) >= 2).await?;
    let last = during.checkpoints.as_ref().and_then(|checkpoints| checkpoints.activity.as_ref()?.last_failure.clone());
    let last = last.context("the last failure")?;
    ensure!(last.reason.contains("s3://") && !last.held_up_by.is_empty(), "{last:?}");
    let flows = |details: &JobDetails| details.records_in > during.records_in + 1000;
    let later = orders.cluster.until_job(job, "records flow", flows).await?;
    ensure!(later.restarts == 0 && later.latest_checkpoint == during.latest_checkpoint, "{later:?}");
    server.set(Mood::Well);
    let after = orders.until_checkpoint(job, later.latest_checkpoint).await?;
    ensure!(after.restarts == 0, "the outage disturbed nothing: {after:?}");
    orders.release()?;
    orders.check_result(submitted, "out").await
}

#[tokio::test]
async fn a_bucket_that_cannot_be_used_is_told_at_submission() -> Result<()> {
    let Some(server) = S3Server::start(BUCKET)? else { return Ok(()) };
    let mut orders = start(&server, 100).await?;
    let refused = |answer: Result<_>| answer.err().map(|error| format!("{error:#}")).context("it was accepted");
    server.set(Mood::Denying);
    let denied = refused(orders.submit("out", 1, &[]).await)?;
    ensure!(denied.contains(BUCKET) && denied.contains("Access Denied"), "{denied}");
    server.set(Mood::Away);
    let away = refused(orders.submit("out", 1, &[]).await)?;
    ensure!(away.contains(BUCKET), "{away}");
    server.set(Mood::Well);
    for (url, reason) in [
        ("s3://no-such-bucket/jobs", "bucket does not exist"),
        ("s3:///jobs", "names no bucket"),
        ("s3://id:secret@bucket/jobs", "AWS_SECRET_ACCESS_KEY"),
        ("gopher://bucket", "no checkpoints at gopher://"),
    ] {
        orders = orders.keeping(url);
        let error = refused(orders.submit("out", 1, &[]).await)?;
        ensure!(error.contains(reason), "{url}: {error}");
    }
    ensure!(orders.cluster.client().list_jobs().await?.is_empty(), "nothing was accepted");
    Ok(())
}
