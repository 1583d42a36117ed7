//! From the death of a leader to the next acknowledged submission, and to the adoption of all tasks of a running job.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tidemill::cli::local_cluster::{LocalCluster, ProcessName};
use tidemill_model::id::{BlobId, JobId};
use tidemill_proto::pb;

use super::ControlBench;
use super::figures::Figures;
use super::jobs::{self, Stub};
use crate::cluster::until;
use crate::demo::now;

/// The pause between two tries of one prober.
const PROBE_PAUSE: Duration = Duration::from_millis(2);
/// A try without an answer by then is made again: a survivor that is not yet the leader may hold it.
const PROBE_TIMEOUT: Duration = Duration::from_millis(250);
/// Far longer than any takeover.
const LIMIT: Duration = Duration::from_secs(60);
/// The running job's sub-tasks: two vertices of parallelism four.
const TASKS: u32 = 8;

/// The job's program, which goes with the cluster.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.0.kill().and_then(|()| self.0.wait()));
    }
}

pub(super) async fn measure(bench: &ControlBench) -> Result<String> {
    let mut cluster = bench.cluster("failover", 2, &[]).await?;
    let artifact = jobs::artifact(&cluster).await?;
    let (_program, job) = start_job(bench, &cluster).await?;
    let (mut writes, mut adoptions) = (Figures::default(), Figures::default());
    for number in 1..=bench.repetitions {
        let addresses = cluster.addresses();
        let (victim, epoch) = jobs::leader(&addresses).await?;
        let survivors: Vec<String> =
            addresses.iter().enumerate().filter(|(index, _)| *index != victim).map(|(_, one)| one.clone()).collect();
        let name = ProcessName::Coordinator(u32::try_from(victim)? + 1);
        let killed = now();
        let ended = cluster.kill(name);
        let write = first_submission(&survivors, artifact, killed);
        let adopted = adoption(&survivors, job, epoch, killed);
        let (ended, write, adopted) = tokio::join!(ended, write, adopted);
        ended?;
        let (write, adopted) = (write?, adopted?);
        println!("kill {number} ({name}): write after {:.0} ms, all adopted after {:.0} ms", ms(write), ms(adopted));
        writes.add(ms(write));
        adoptions.add(ms(adopted));
        cluster.start_process(name).await?;
        cancel_probes(&cluster, job).await?;
        settled(&cluster).await?;
    }
    cluster.stop().await?;
    let (count, p99) = (writes.count(), writes.quantile(0.99));
    println!("leader kill -> acknowledged submission: {writes} ms, p99 {p99:.0} ms, {count} kills");
    println!("leader kill -> all {TASKS} tasks adopted: {adoptions} ms, {count} kills");
    Ok(format!("kill->write {writes} ms, kill->adopted {adoptions} ms"))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// A job that emits some numbers and then waits for a file that never comes.
async fn start_job(bench: &ControlBench, cluster: &LocalCluster) -> Result<(Program, JobId)> {
    let mut command = Command::new(bench.bin_dir.join("tidemill-test-job"));
    command.args(["sequence", "200000", "20000"]).arg(bench.dir.join("failover/sums")).arg(bench.dir.join("no-gate"));
    command.args(["-p", "4", "--coordinators", &cluster.addresses().join(",")]);
    let program = Program(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("start the job")?);
    let client = cluster.client();
    let job = until("the job runs", || async {
        let job = client.list_jobs().await.ok()?.first()?.id;
        let details = client.get_job(job).await.ok()?;
        let running = details.attempts.iter().filter(|attempt| attempt.report.state.name() == "RUNNING").count();
        (u32::try_from(running) == Ok(TASKS)).then_some(job)
    })
    .await?;
    Ok((program, job))
}

/// The time to the first submission that any survivor acknowledges; each is asked again and again.
async fn first_submission(survivors: &[String], artifact: BlobId, killed: Instant) -> Result<Duration> {
    let mut probes = tokio::task::JoinSet::new();
    for address in survivors {
        let mut stub = jobs::stub(address)?;
        probes.spawn(async move {
            loop {
                // More slots than there are: it is accepted and waits.
                let submitted = jobs::submit(&mut stub, jobs::job(artifact, 100));
                if matches!(tokio::time::timeout(PROBE_TIMEOUT, submitted).await, Ok(Ok(_))) {
                    return now();
                }
                tokio::time::sleep(PROBE_PAUSE).await;
            }
        });
    }
    let first = tokio::time::timeout(LIMIT, probes.join_next()).await.context("no submission was acknowledged")?;
    Ok(first.context("a prober")??.duration_since(killed))
}

/// The time until a later leader than `epoch`'s has found all tasks running.
async fn adoption(survivors: &[String], job: JobId, epoch: u64, killed: Instant) -> Result<Duration> {
    let mut stubs = survivors.iter().map(|address| jobs::stub(address)).collect::<Result<Vec<Stub>>>()?;
    let wait = async {
        loop {
            for stub in &mut stubs {
                let asked = stub.cluster_status(pb::ClusterStatusRequest::default());
                let Ok(Ok(status)) = tokio::time::timeout(PROBE_TIMEOUT, asked).await else { continue };
                let takeovers = status.into_inner().takeovers;
                let wire = jobs::wire_id(job).id;
                if let Some(takeover) = takeovers.into_iter().find(|one| one.job == wire && one.epoch > epoch) {
                    return (now(), takeover);
                }
            }
            tokio::time::sleep(PROBE_PAUSE).await;
        }
    };
    let (seen, takeover) = tokio::time::timeout(LIMIT, wait).await.context("no takeover was recorded")?;
    let (adopted, restarted) = (takeover.tasks_adopted, takeover.tasks_restarted);
    ensure!((adopted, restarted) == (TASKS, 0), "{adopted} tasks were adopted, {restarted} restarted");
    Ok(seen.duration_since(killed))
}

/// Ends the jobs that were submitted as probes.
async fn cancel_probes(cluster: &LocalCluster, job: JobId) -> Result<()> {
    let client = cluster.client();
    until("the probes have ended", || async {
        let probes = client.list_jobs().await.ok()?.into_iter().filter(|one| one.id != job);
        let alive: Vec<JobId> = probes.filter(|one| !one.status.is_terminal()).map(|one| one.id).collect();
        for &probe in &alive {
            client.cancel_job(probe).await.ok()?;
        }
        alive.is_empty().then_some(())
    })
    .await
}

/// Waits until all three replicas have applied the same entries, so that any two can go on without the third.
async fn settled(cluster: &LocalCluster) -> Result<()> {
    let client = cluster.client();
    until("all replicas agree", || async {
        let answers = client.cluster_status().await;
        let indices: Vec<u64> = answers.into_iter().filter_map(|(_, one)| Some(one.ok()?.applied_index)).collect();
        (indices.len() == 3 && indices.iter().all(|index| *index == indices[0])).then_some(())
    })
    .await
}
