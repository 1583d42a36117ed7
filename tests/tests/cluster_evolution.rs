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
    let refused = orders.submit("out", 1, &[&from]).await?;
    let ended = orders.cluster.until_job(refused.job, "it has failed", |details| details.status.is_terminal()).await?;
    let JobStatus::Failed(failure) = ended.status else { bail!("{:?}", ended.status) };
    let told = [
        r#"restore state "seen" of operator "counts""#,
        "orders::Seen\"",
        "orders::Unrelated\"",
        "invalid type: integer",
        "#[serde(default)]",
    ];
    for part in told {
        ensure!(failure.message.contains(part), "{part:?} is told in {failure}");
    }

    let orders = orders.with("grown");
    orders.release()?;
    let submitted = orders.submit("out", 1, &[&from]).await?;
    orders.check_result(submitted, "out").await
}
