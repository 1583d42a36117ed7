//! Jobs are stopped at a savepoint, or as if their sources had no more input, on a whole cluster.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use tidemill::StopMode;
use tidemill_tests::cluster::{TestCluster, sorted_lines};
use tidemill_tests::orders;
use tidemill_tests::orders_cluster::OrdersCluster;

const JOB: &str = env!("CARGO_BIN_EXE_tidemill-test-job");

#[tokio::test]
async fn a_job_is_suspended_into_an_empty_folder_and_asked_again_it_is_the_same_savepoint() -> Result<()> {
    let cluster = TestCluster::start(1, 1, 2, &[]).await?;
    let orders = OrdersCluster::new(cluster, JOB, 1, 60_000)?;
    let client = orders.cluster.client();
    let job = orders.submit("out", 2, &[]).await?.job;
    orders.until_checkpoint(job, None).await?;
    let (first, second) = (orders.text("first")?, orders.text("second")?);
    client.take_savepoint(job, &first).await?;
    let refused = client.take_savepoint(job, &first).await.err().context("there is a savepoint in the folder")?;
    ensure!(refused.to_string().contains(&first) && refused.to_string().contains("holds one already"), "{refused}");
    let refused = client.suspend_job(job, Some(&first)).await.err().context("there is another savepoint")?;
    ensure!(refused.to_string().contains(&first), "{refused}");
    ensure!(!client.get_job(job).await?.status.is_terminal(), "a job that could not keep its savepoint runs on");
    let suspended = client.suspend_job(job, Some(&second)).await?;
    let again = client.suspend_job(job, Some(&second)).await?;
    ensure!(again.path == suspended.path && again.savepoint.checkpoint == suspended.savepoint.checkpoint, "{again:?}");
    Ok(())
}

#[tokio::test]
async fn a_job_that_drains_finishes_with_what_it_has_read_and_nothing_of_it_is_left_out() -> Result<()> {
    let cluster = TestCluster::start(1, 2, 2, &[]).await?;
    let lines = 60_000;
    let orders = OrdersCluster::new(cluster, JOB, 2, lines)?;
    let submitted = orders.submit("out", 2, &[]).await?;
    orders.until_checkpoint(submitted.job, None).await?;
    orders.cluster.client().stop_job(submitted.job, StopMode::Drain).await?;
    // Nobody releases it: by itself it would go on for long.
    let ended = submitted.wait().await?;
    ensure!(ended.code == Some(0), "{}", ended.stderr);
    let output = sorted_lines(Path::new(&orders.text("out")?))?;
    let of_key = |kind: &str, key: u64| -> Vec<u64> {
        let lines = output.iter().filter_map(|line| line.strip_prefix(&format!("{kind} {key} ")));
        let mut numbers: Vec<u64> = lines.filter_map(|line| line.split(' ').next()?.parse().ok()).collect();
        numbers.sort_unstable();
        numbers
    };
    let mut counted = 0;
    for key in 0..orders::KEYS {
        let (counts, windows) = (of_key("count", key), of_key("window", key));
        ensure!(counts.iter().copied().eq(1..=counts.len() as u64), "the counts of key {key} have no gap");
        ensure!(
            counts.is_empty() == windows.is_empty(),
            "what was counted of key {key} is in windows, and those fired"
        );
        counted += counts.len();
    }
    let all = orders::expected(lines).iter().filter(|line| line.starts_with("count ")).count();
    ensure!(counted > 0 && counted < all, "{counted} of {all} lines were read");
    Ok(())
}
