//! Files of checkpoints in RocksDB that no retained checkpoint refers to are deleted, and those that one does stay.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tidemill::job_client::{JobClient, JobDetails};
use tidemill_model::checkpoint::StateHandle;
use tidemill_model::id::{CheckpointId, JobId};
use tidemill_tests::cluster::{TestCluster, until};
use tidemill_tests::orders_cluster::{OrdersCluster, kill_process};

const JOB: &str = env!("CARGO_BIN_EXE_tidemill-test-job");

/// State on disk, of which several checkpoints are kept, also when the job is cancelled.
const SETTINGS: &[&str] = &[
    "state.backend.type=rocksdb",
    "state.backend.rocksdb.memory.fixed-per-slot=1 mb",
    "execution.checkpointing.num-retained=3",
    "execution.checkpointing.externalized-checkpoint-retention=retain-on-cancellation",
];

/// How many checkpoints are taken, many times as many as are retained.
const CHECKPOINTS: u64 = 20;

/// All files below a folder, by their paths in it.
fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let (mut files, mut folders) = (BTreeSet::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).into_iter().flatten().flatten() {
            let path = entry.path();
            match path.strip_prefix(folder) {
                Ok(inside) if !path.is_dir() => drop(files.insert(inside.to_owned())),
                Ok(_) => folders.push(path),
                Err(_) => {}
            }
        }
    }
    files
}

/// The files that the retained checkpoints of a job refer to, each with the checkpoint.
async fn referred_to(client: &JobClient, job: JobId, details: &JobDetails) -> Result<Vec<(CheckpointId, PathBuf)>> {
    let mut paths = Vec::new();
    let retained = details.checkpoints.iter().flat_map(|checkpoints| &checkpoints.retained);
    for id in retained.map(|checkpoint| checkpoint.id) {
        let checkpoint = client.get_retained_checkpoint(job, id).await?;
        let states = checkpoint.checkpoint.into_iter().flat_map(|from| from.states.into_values());
        let handles = states.flat_map(|state| state.0);
        paths.extend(handles.filter_map(|handle| Some((id, PathBuf::from(StateHandle::path(&handle)?)))));
    }
    Ok(paths)
}

/// Which checkpoint wrote a file.
fn writer(path: &Path) -> Option<CheckpointId> {
    path.iter().next()?.to_str()?.parse().ok().map(CheckpointId)
}

/// Waits for so many more checkpoints.
async fn until_later(orders: &OrdersCluster, job: JobId, count: u64) -> Result<JobDetails> {
    let from = orders.until_checkpoint(job, None).await?.latest_checkpoint.context("a checkpoint")?;
    orders.until_checkpoint(job, Some(CheckpointId(from.0 + count))).await
}

#[tokio::test]
async fn what_no_retained_checkpoint_refers_to_is_deleted_and_what_one_does_stays() -> Result<()> {
    let cluster = TestCluster::start(1, 1, 2, &[]).await?;
    let orders = OrdersCluster::new(cluster, JOB, 1, 100_000)?.at("1000");
    let submitted = orders.submit("out", 2, SETTINGS).await?;
    let (job, client) = (submitted.job, orders.cluster.client());
    let folder = PathBuf::from(orders.text("checkpoints")?).join(job.to_string());

    until_later(&orders, job, 2).await?;
    let early = files(&folder);
    ensure!(!early.is_empty(), "state is in files");
    let before = until_later(&orders, job, CHECKPOINTS).await?;
    kill_process(before.attempts[0].process_id.context("an executor")?)?;
    let restored = orders.until_checkpoint(job, before.latest_checkpoint).await?;
    ensure!(restored.restored_checkpoint >= before.latest_checkpoint && restored.restarts == 1, "{restored:?}");
    until_later(&orders, job, CHECKPOINTS).await?;

    client.cancel_job(job).await?;
    let ended = orders.cluster.until_job(job, "the job has ended", |details| details.status.is_terminal()).await?;
    let referred = referred_to(&client, job, &ended).await?;
    let retained = ended.checkpoints.as_ref().context("checkpoints")?.retained.clone();
    ensure!(retained.len() == 3, "{retained:?}");
    let older = referred.iter().filter(|(checkpoint, path)| writer(path) < Some(*checkpoint)).count();
    let wanted: BTreeSet<PathBuf> = referred.iter().map(|(_, path)| path.clone()).collect();
    println!("{} files are referred to, {older} times by a later checkpoint", wanted.len());
    ensure!(older > 0, "later checkpoints refer to files of earlier ones: {referred:?}");
    ensure!(early.difference(&wanted).next().is_some(), "some early file is not needed any more");
    let all = || async { (files(&folder) == wanted).then_some(()) };
    if until("exactly what is referred to is there", all).await.is_err() {
        let found = files(&folder);
        let (left, lost): (Vec<_>, Vec<_>) = (found.difference(&wanted).collect(), wanted.difference(&found).collect());
        anyhow::bail!("left: {left:?}; lost: {lost:?}");
    }
    // Each file of the oldest is verified on the way.
    let plan = client.plan_fall_back(job, retained[0].id).await?;
    client.fall_back(&plan, &orders.text("fallen-back")?, &plan.phrase()).await?;
    Ok(())
}
