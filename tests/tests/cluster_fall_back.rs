//! The newest checkpoint is damaged: the job fails with the file's name, and goes on from an older one when it is told to.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tidemill::cli::local_cluster::ProcessName;
use tidemill::job_client::JobDetails;
use tidemill_model::execution::FailureKind;
use tidemill_model::job::JobStatus;
use tidemill_tests::cluster::{TestCluster, sorted_lines};
use tidemill_tests::orders;
use tidemill_tests::orders_cluster::OrdersCluster;

const JOB: &str = env!("CARGO_BIN_EXE_tidemill-test-job");

const LINES: u64 = 100_000;

/// The second job goes on from what the first had committed with the older checkpoint: nothing is lost, and only what
/// the first committed with the newest is there twice.
fn check_repeated(orders: &OrdersCluster, lines: u64) -> Result<()> {
    let first = sorted_lines(Path::new(&orders.text("out")?))?;
    let second = sorted_lines(Path::new(&orders.text("again")?))?;
    let expected = orders::expected(lines);
    let all: BTreeSet<&String> = first.iter().chain(&second).collect();
    ensure!(all.into_iter().eq(&expected), "both together have each line");
    let repeated = first.len() + second.len() - expected.len();
    println!("{} lines by the first job, {} by the second, {repeated} of them again", first.len(), second.len());
    ensure!(repeated > 0 && second.len() < expected.len(), "the older checkpoint is neither the newest nor none");
    Ok(())
}

#[tokio::test]
async fn a_damaged_checkpoint_fails_the_restore_by_name_and_an_operator_may_take_an_older_one() -> Result<()> {
    let cluster = TestCluster::start(1, 1, 2, &[]).await?;
    let mut orders = OrdersCluster::new(cluster, JOB, 1, LINES)?.at("1000");
    let more = ["execution.checkpointing.interval=1 s", "execution.checkpointing.num-retained=2"];
    let submitted = orders.submit("out", 2, &more).await?;
    let job = submitted.job;
    let client = orders.cluster.client();
    let folder = PathBuf::from(orders.text("checkpoints")?).join(job.to_string());
    let has_files = |id: &tidemill_model::id::CheckpointId| folder.join(id.to_string()).is_dir();
    orders
        .cluster
        .until_job(job, "two checkpoints have files", |details| {
            let retained = details.checkpoints.as_ref().map(|checkpoints| checkpoints.retained.clone());
            retained.is_some_and(|retained| retained.len() == 2 && retained.iter().all(|one| has_files(&one.id)))
        })
        .await?;
    // No checkpoint is completed any more once the job has to start again, which it cannot before there are slots.
    orders.cluster.processes.kill(ProcessName::TaskManager(1)).await?;
    let restarting = |details: &JobDetails| details.status == JobStatus::Restarting;
    let details = orders.cluster.until_job(job, "it has lost its tasks", restarting).await?;
    let newest = details.latest_checkpoint.context("a checkpoint")?;
    for file in std::fs::read_dir(folder.join(newest.to_string()))? {
        std::fs::write(file?.path(), "damaged")?;
    }
    orders.cluster.processes.start_process(ProcessName::TaskManager(1)).await?;
    let ended = orders.cluster.until_job(job, "the job has ended", |details| details.status.is_terminal()).await?;
    let JobStatus::Failed(failure) = &ended.status else { anyhow::bail!("{:?}", ended.status) };
    ensure!(failure.kind == FailureKind::Restore, "{failure}");
    ensure!(failure.message.contains(&format!("{job}/{newest}/")), "{failure}");
    ensure!(ended.latest_checkpoint == Some(newest), "nothing newer, and not from nothing: {ended:?}");

    let retained = ended.checkpoints.context("checkpoints")?.retained;
    let older = retained.first().context("an older one")?.id;
    ensure!(older < newest, "{retained:?}");
    let target = orders.text("fallen-back")?;
    let plan = client.plan_fall_back(job, newest).await?;
    let refused = client.fall_back(&plan, &target, &plan.phrase()).await.err().context("the newest is damaged")?;
    ensure!(refused.to_string().contains(&format!("{job}/{newest}/")), "{refused}");
    let plan = client.plan_fall_back(job, older).await?;
    ensure!(plan.later == [newest], "{plan:?}");
    let refused = client.fall_back(&plan, &target, "yes").await.err().context("it was not confirmed")?;
    ensure!(refused.to_string().contains(&plan.phrase()), "{refused}");
    let taken = client.fall_back(&plan, &target, &plan.phrase()).await?;
    ensure!(taken.savepoint.checkpoint == older, "{taken:?}");
    orders.release()?;
    let again = orders.submit("again", 2, &[&format!("execution.state-recovery.path={target}")]).await?;
    let ended = again.wait().await?;
    ensure!(ended.code == Some(0), "{}", ended.stderr);
    check_repeated(&orders, LINES)
}
