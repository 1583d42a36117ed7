//! A program goes on from the savepoint of an earlier one whose types of state were others.

use anyhow::{Result, bail, ensure};
use tidemill_model::job::JobStatus;
use tidemill_tests::cluster::TestCluster;
use tidemill_tests::orders_cluster::OrdersCluster;

const JOB: &str = env!("CARGO_BIN_EXE_tidemill-test-job");

#[tokio::test]
async fn types_may_grow_between_a_savepoint_and_the_program_that_goes_on_from_it() -> Result<()> {
    let lines = 20_000;
    let orders = OrdersCluster::new(TestCluster::start(1, 1, 2, &[]).await?, JOB, 1, lines)?;
    let client = orders.cluster.client();
    let first = orders.submit("out", 1, &[]).await?;
    orders.until_checkpoint(first.job, None).await?;
    let taken = client.suspend_job(first.job, Some(&orders.text("savepoint")?)).await?;
    let from = format!("execution.state-recovery.path={}", taken.path);

    let orders = orders.with("other");
    let refused = orders.submit_detached("out", 1, &[&from]).await?;
    let job = refused.job;
    // The client knows it, too, though it would not have waited for the job's end.
    let ended = refused.wait().await?;
    ensure!(ended.code == Some(1), "{ended:?}");
    let JobStatus::Failed(failure) = client.get_job(job).await?.status else { bail!("the job has not failed") };
    let told = [
        r#"restore state "seen" of operator "counts""#,
        "orders::Seen\"",
        "orders::Unrelated\"",
        "invalid type: integer",
        "#[serde(default)]",
    ];
    for part in told {
        ensure!(failure.message.contains(part), "{part:?} is told in {failure}");
        ensure!(ended.stderr.contains(part), "{part:?} is told in {ended:?}");
    }

    let orders = orders.with("grown");
    let detached = orders.submit_detached("detached", 1, &[&from]).await?;
    let job = detached.job;
    let told = detached.wait().await?;
    ensure!(told.code == Some(0) && told.stderr.contains("has taken up the state of the savepoint"), "{told:?}");
    client.cancel_job(job).await?;
    orders.release()?;
    let submitted = orders.submit("out", 1, &[&from]).await?;
    orders.check_result(submitted, "out").await
}
