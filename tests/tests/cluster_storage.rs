//! Full disks: a coordinator's replica stops, says so and loses nothing, and the others go on; without room for checkpoints
//! a job goes on without them, and says so.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use tidemill::cli::local_cluster::ProcessName;
use tidemill::job_client::{Consistency, JobClient, JobDetails};
use tidemill_model::job::JobSpec;
use tidemill_tests::cluster::{TestCluster, until};
use tidemill_tests::http;
use tidemill_tests::load::waiting_job;
use tidemill_tests::orders_cluster::OrdersCluster;

const JOB: &str = env!("CARGO_BIN_EXE_tidemill-test-job");

/// A small file system in memory, taken away again at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// None, with the reason on standard output, where file systems must not be mounted.
    fn mount(path: &Path) -> Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: a small file system can be mounted by root only");
            return Ok(None);
        }
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=192m", "tmpfs"]).arg(path).output()?;
        if !mounted.status.success() {
            println!("SKIPPED: mount: {}", String::from_utf8_lossy(&mounted.stderr));
            return Ok(None);
        }
        Ok(Some(Self(path.to_owned())))
    }

    /// Writes a file until there is no room.
    fn fill(&self) -> Result<PathBuf> {
        let path = self.0.join("filler");
        let mut file = File::create(&path)?;
        let mut length = 1 << 20;
        while length > 0 {
            if file.write_all(&vec![7; length]).is_err() {
                length /= 2;
            }
        }
        Ok(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A process that still has it open keeps it until it ends.
        drop(Command::new("umount").arg("--lazy").arg(&self.0).status());
    }
}

fn large_job() -> JobSpec {
    JobSpec { name: "x".repeat(128 << 10), ..waiting_job() }
}

async fn alarms(client: &JobClient, address: &str) -> Vec<String> {
    let statuses = client.cluster_status().await;
    let own = statuses.into_iter().find(|(of, _)| of == address).and_then(|(_, status)| status.ok());
    own.map(|status| status.alarms).unwrap_or_default()
}

#[tokio::test]
async fn a_full_disk_stops_one_replica_with_an_alarm_and_loses_nothing() -> Result<()> {
    let mut cluster = TestCluster::start(3, 0, 1, &["coordinator.raft.snapshot-every=20"]).await?;
    let leader = cluster.leader().await?;
    let full = (1..=3).map(ProcessName::Coordinator).find(|name| *name != leader).context("a follower")?;
    // Its folder moves to the small disk.
    cluster.processes.stop_process(full).await?;
    let dir = cluster.processes.process_dir(full);
    let copy = cluster.path("copy");
    fs::rename(&dir, &copy)?;
    fs::create_dir(&dir)?;
    let Some(disk) = SmallDisk::mount(&dir)? else { return Ok(()) };
    anyhow::ensure!(Command::new("cp").arg("-a").arg(copy.join(".")).arg(&dir).status()?.success(), "copy the folder");
    cluster.processes.start_process(full).await?;
    let filler = disk.fill()?;

    let client = cluster.client();
    let address = {
        let ProcessName::Coordinator(number) = full else { anyhow::bail!("a coordinator") };
        cluster.processes.addresses()[usize::try_from(number)? - 1].clone()
    };
    let mut accepted = Vec::new();
    let alarm = loop {
        // None of them fails: a quorum has room.
        let spec = large_job();
        client.submit_job(&spec).await.context("submit a job while one disk is full")?;
        accepted.push(spec.id);
        if let Some(alarm) = alarms(&client, &address).await.into_iter().find(|alarm| alarm.contains("disk is full")) {
            break alarm;
        }
        anyhow::ensure!(accepted.len() < 3000, "the disk never became full");
    };
    assert!(alarm.contains(&dir.display().to_string()) && alarm.contains("make room"), "{alarm}");
    let own = cluster.processes.http_address(full)?;
    let ready = http::answer(&own, "/ready").await?;
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("disk is full"), "{ready}");
    let metrics = http::get(&own, "/metrics").await?;
    assert!(metrics.contains("tidemill_coordinator_disk_full 1"), "{metrics}");
    assert!(cluster.processes.pid(full).is_some(), "the process stays and can be asked");

    // Whoever starts it again and again, as a supervisor does, harms nothing.
    for _ in 0..3 {
        cluster.processes.kill(full).await?;
        if let Err(error) = cluster.processes.start_process(full).await {
            let reason = error.to_string();
            assert!(reason.contains("No space left") || reason.contains("disk"), "{reason}");
        }
    }
    client.submit_job(&waiting_job()).await.context("the others go on")?;
    cluster.processes.kill(full).await?;
    fs::remove_file(filler)?;
    cluster.processes.start_process(full).await?;
    let own = JobClient::new(vec![address]);
    until("it has caught up", || async {
        let jobs = own.read_jobs(Consistency::Stale).await.ok()?.value;
        accepted.iter().all(|id| jobs.iter().any(|job| job.id == *id)).then_some(())
    })
    .await?;
    until("the states are equal", || async {
        let statuses: Vec<_> =
            client.cluster_status().await.into_iter().filter_map(|(_, status)| status.ok()).collect();
        let first = statuses.first().map(|status| (status.applied_index, status.state_checksum));
        let equal = statuses.iter().all(|status| Some((status.applied_index, status.state_checksum)) == first);
        (statuses.len() == 3 && equal).then_some(())
    })
    .await
}

#[tokio::test]
async fn without_room_for_checkpoints_they_fail_with_the_reason_and_the_job_goes_on() -> Result<()> {
    let cluster = TestCluster::start(1, 1, 2, &[]).await?;
    let folder = cluster.path("small");
    fs::create_dir(&folder)?;
    let Some(disk) = SmallDisk::mount(&folder)? else { return Ok(()) };
    let orders = OrdersCluster::new(cluster, JOB, 1, 200_000)?.at("1000");
    let orders = orders.keeping(folder.to_str().context("a UTF-8 path")?);
    let submitted = orders.submit("out", 2, &[]).await?;
    let job = submitted.job;
    // While there is little state, it stands in the metadata.
    let large = |details: &JobDetails| {
        let checkpoints = details.checkpoints.as_ref();
        checkpoints
            .and_then(|checkpoints| checkpoints.retained.last())
            .is_some_and(|newest| newest.size_bytes > 8 << 10)
    };
    orders.cluster.until_job(job, "the state is large", large).await?;
    let filler = disk.fill()?;
    let activity = |details: &JobDetails| details.checkpoints.as_ref()?.activity.clone();
    let failing = |details: &JobDetails| activity(details).is_some_and(|activity| activity.failed >= 3);
    let during = orders.cluster.until_job(job, "checkpoints fail", failing).await?;
    let failure = activity(&during).and_then(|activity| activity.last_failure).context("the last failure")?;
    anyhow::ensure!(failure.reason.contains("No space left") && !failure.held_up_by.is_empty(), "{failure:?}");
    anyhow::ensure!(failure.reason.contains(folder.to_str().context("a UTF-8 path")?), "{failure:?}");
    let flows = |details: &JobDetails| details.records_in > during.records_in + 1000;
    orders.cluster.until_job(job, "records flow", flows).await?;
    fs::remove_file(filler)?;
    let after = orders.until_checkpoint(job, during.latest_checkpoint).await?;
    anyhow::ensure!(after.restarts == 0, "{after:?}");
    orders.release()?;
    orders.check_result(submitted, "out").await
}
