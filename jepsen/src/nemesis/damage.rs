//! One byte of each file of the newest checkpoint turns into another one while nobody writes a newer checkpoint: every
//! task manager is dead then.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use tidemill_model::id::{CheckpointId, JobId};
use tidemill_model::job::JobStatus;

use super::Nemesis;
use super::kill::Kill;
use crate::cluster::Cluster;
use crate::host::Host;
use crate::sequence::record::names;

/// How long the leader may take to answer.
const TIMEOUT: Duration = Duration::from_secs(8);

pub(super) struct DamageCheckpoint;

impl Nemesis for DamageCheckpoint {
    fn start(&mut self, cluster: &mut Cluster, targets: &[Host]) -> anyhow::Result<Vec<String>> {
        let mut evidence = Kill.start(cluster, targets)?;
        let (job, newest) = newest(cluster)?;
        let folder = cluster.checkpoints().join(job.to_string()).join(newest.to_string());
        let files = names(&folder)?;
        ensure!(!files.is_empty(), "damage checkpoint {newest} of job {job}: it has no file");
        for name in files {
            evidence.push(turn(&folder.join(&name)).with_context(|| format!("damage {newest}/{name}"))?);
        }
        Ok(evidence)
    }

    fn stop(&mut self, cluster: &mut Cluster, targets: &[Host]) -> anyhow::Result<Vec<String>> {
        Kill.stop(cluster, targets)
    }
}

/// The job that runs and has checkpoints, and its newest one.
fn newest(cluster: &Cluster) -> anyhow::Result<(JobId, CheckpointId)> {
    let client = cluster.client(TIMEOUT);
    let found = cluster.clients.run(async move {
        for job in client.list_jobs().await?.into_iter().filter(|job| !job.status.is_terminal()) {
            let details = client.get_job(job.id).await?;
            if let (Some(newest), true) = (details.latest_checkpoint, details.status != JobStatus::Created) {
                return anyhow::Ok(Some((job.id, newest)));
            }
        }
        Ok(None)
    })??;
    found.context("find a job with a checkpoint")
}

/// Turns the bits of the byte in the middle of a file.
fn turn(path: &Path) -> anyhow::Result<String> {
    let mut content = fs::read(path)?;
    let middle = content.len() / 2;
    let byte = content.get_mut(middle).context("an empty file")?;
    *byte = !*byte;
    fs::write(path, content)?;
    Ok(format!("byte {middle} of {} was turned", path.display()))
}
