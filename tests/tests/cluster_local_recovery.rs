//! What is started again where it ran has its state from there.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tidemill::cli::local_cluster::ProcessName;
use tidemill_tests::cluster::{TestCluster, until};
use tidemill_tests::orders_cluster::{OrdersCluster, kill_process};

const JOB: &str = env!("CARGO_BIN_EXE_tidemill-test-job");

/// All files below a folder that is there.
fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files
}

/// Damages what is there; a checkpoint that is not needed any more may be deleted meanwhile.
fn damage(files: impl IntoIterator<Item = PathBuf>) -> Result<()> {
    for path in files {
        match OpenOptions::new().write(true).truncate(true).open(path) {
            Ok(mut file) => file.write_all(b"damaged")?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[tokio::test]
async fn state_is_read_from_the_machine_s_own_copy_and_from_the_storage_when_that_is_damaged() -> Result<()> {
    let cluster = TestCluster::start(1, 1, 2, &["execution.state-recovery.from-local=true"]).await?;
    let orders = OrdersCluster::new(cluster, JOB, 1, 100_000)?.at("1000");
    let submitted = orders.submit("out", 2, &["execution.checkpointing.interval=1 s"]).await?;
    let job = submitted.job;
    let remote = PathBuf::from(orders.text("checkpoints")?).join(job.to_string());
    let own = orders.cluster.processes.process_dir(ProcessName::TaskManager(1));
    let copies = || -> Vec<PathBuf> {
        files(&own).into_iter().filter(|file| file.components().any(|part| part.as_os_str() == "state")).collect()
    };
    // While there is little state, it stands in the metadata.
    let kept = || async { (!copies().is_empty() && !files(&remote).is_empty()).then_some(()) };
    until("state is kept in files", kept).await?;
    let before = orders.until_checkpoint(job, None).await?;
    let before = orders.until_checkpoint(job, before.latest_checkpoint).await?;
    // Without the copies nothing could be restored.
    damage(files(&remote))?;
    kill_process(before.attempts[0].process_id.context("an executor")?)?;
    let restored = orders.until_checkpoint(job, before.latest_checkpoint).await?;
    ensure!(restored.restored_checkpoint >= before.latest_checkpoint && restored.restarts == 1, "{restored:?}");
    // Without the storage nothing could be restored.
    damage(copies())?;
    kill_process(restored.attempts[0].process_id.context("an executor")?)?;
    let again = orders.until_checkpoint(job, restored.latest_checkpoint).await?;
    ensure!(again.restored_checkpoint >= restored.latest_checkpoint && again.restarts == 2, "{again:?}");
    ensure!(copies().len() <= 4, "older copies are gone: {:?}", copies());
    orders.release()?;
    orders.check_result(submitted, "out").await?;
    until("no copy is left", || async { copies().is_empty().then_some(()) }).await
}
