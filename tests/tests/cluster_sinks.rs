//! What sinks have open is shown while it is open, and no longer.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tidemill::cli::local_cluster::ProcessName;
use tidemill::job_client::{JobDetails, PendingSinks};
use tidemill_tests::cluster::{TestCluster, until};
use tidemill_tests::http::set_fail_point;
use tidemill_tests::orders_cluster::{OrdersCluster, kill_process};

const JOB: &str = env!("CARGO_BIN_EXE_tidemill-test-job");

/// A checkpoint takes milliseconds: if one is under way for so long, the executor does not hear of it.
const DEAF: Duration = Duration::from_secs(3);

const TASK_MANAGER: ProcessName = ProcessName::TaskManager(1);

fn kill_executor(details: &JobDetails) -> Result<()> {
    kill_process(details.attempts.first().and_then(|attempt| attempt.process_id).context("an executor")?)
}

#[tokio::test]
async fn prepared_parts_are_shown_until_their_checkpoint_is_known_to_be_committed() -> Result<()> {
    let cluster = TestCluster::start(1, 1, 2, &[]).await?;
    let orders = OrdersCluster::new(cluster, JOB, 1, 20_000)?;
    let client = orders.cluster.client();
    let submitted = orders.submit("out", 2, &[]).await?;
    let job = submitted.job;
    let before = orders.until_checkpoint(job, None).await?;
    // The next executor hears of its third completed checkpoint, and nobody in it: it hears of nothing any more.
    set_fail_point(&orders.cluster, TASK_MANAGER, "ckpt.notify", "2*off->sleep(600000)")?;
    kill_executor(&before)?;
    let stuck = |details: &JobDetails| {
        let activity = details.checkpoints.as_ref().and_then(|checkpoints| checkpoints.activity.as_ref());
        activity.is_some_and(|activity| activity.pending.iter().any(|pending| pending.age > DEAF))
    };
    orders.cluster.until_job(job, "the executor hears nothing", stuck).await?;
    let open = client.pending_sinks(job).await?;
    ensure!(open.newest.is_some_and(|newest| !newest.confirmed) && !open.transactions.is_empty(), "{open:?}");
    check_open(&open, &orders)?;
    set_fail_point(&orders.cluster, TASK_MANAGER, "ckpt.notify", "off")?;
    kill_executor(&client.get_job(job).await?)?;
    orders.until_checkpoint(job, open.newest.map(|newest| newest.checkpoint)).await?;
    until("nothing is open", || async {
        let pending = client.pending_sinks(job).await.ok()?;
        (pending.newest.is_some_and(|newest| newest.confirmed) && pending.transactions.is_empty()).then_some(())
    })
    .await?;
    orders.release()?;
    orders.check_result(submitted, "out").await?;
    let ended = client.pending_sinks(job).await?;
    ensure!(ended.status.is_terminal() && ended.transactions.is_empty(), "{ended:?}");
    Ok(())
}

/// Each is a hidden file that waits for the newest checkpoint.
fn check_open(open: &PendingSinks, orders: &OrdersCluster) -> Result<()> {
    let newest = open.newest.context("a checkpoint")?.checkpoint;
    let output = orders.text("out")?;
    for pending in &open.transactions {
        let (place, hidden) = pending.transaction.what.split_once(", now ").context("a part's two names")?;
        ensure!(pending.operator == "sink" && pending.transaction.waits_for == Some(newest), "{pending:?}");
        ensure!(Path::new(place).starts_with(&output) && !Path::new(place).exists(), "{pending:?}");
        ensure!(Path::new(&output).join(hidden).exists(), "{pending:?}");
    }
    Ok(())
}
