//! The demo: a three-master cluster counts words while its leader is killed, and every claim is checked.

mod text;
mod verdict;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tidemill::cli::local_cluster::{LocalCluster, LocalClusterSpec, ProcessName, Programs};
use tidemill::job_client::{JobClient, JobDetails, Takeover};
use tidemill_model::id::{JobId, LeaderEpoch};

use crate::cluster::{is_alive, until};
use verdict::check_counts;

/// The time for which records shall flow after the kill.
const AFTER_KILL: Duration = Duration::from_secs(30);
/// The most copies of the generated text, however fast the machine is.
const MOST_COPIES: u32 = 400;
/// The leader is killed once this many lines have been read.
const LINES_BEFORE_KILL: u64 = 200_000;

/// Where things are.
#[derive(Debug, Clone)]
pub struct Demo {
    /// The folder for text, output and the cluster's data.
    pub dir: PathBuf,
    /// The folder of the built binaries and `examples/`.
    pub bin_dir: PathBuf,
}

/// What was seen of the running job before and after the kill.
struct Seen {
    details: JobDetails,
    epoch: LeaderEpoch,
    leader: String,
}

impl Demo {
    /// Runs everything; an error is the reason why the demo failed.
    ///
    /// # Errors
    ///
    /// Whatever did not hold.
    pub async fn run(&self) -> Result<()> {
        let input = self.dir.join("text");
        let text = text::write(&input, &self.example("generate_text"))?;
        println!("text: {} files of the machine's documentation, {} of generated words", text.real_files, text.copies);
        let copies = self.calibrate(&text)?;
        let text = text.with_copies(copies)?;
        println!("input: {:.1} MB in {}", text.bytes()? as f64 / 1e6, input.display());

        let mut cluster = self.start_cluster().await?;
        let outcome = self.kill_the_leader(&mut cluster, &input).await;
        let stopped = cluster.stop().await.context("stop the cluster");
        let pids: Vec<u32> = outcome?;
        stopped?;
        until("no process is left", || async { (!pids.iter().any(|&pid| is_alive(pid))).then_some(()) }).await?;
        println!("processes left: 0");
        check_counts(&text, &self.dir.join("counts"))
    }

    fn example(&self, name: &str) -> PathBuf {
        self.bin_dir.join("examples").join(name)
    }

    /// How often the generated text has to be there so that the job outlives the kill by [`AFTER_KILL`]:
    /// an embedded run over one copy tells this machine's speed.
    fn calibrate(&self, text: &text::Text) -> Result<u32> {
        let begun = now();
        let output = self.dir.join("calibration");
        let status = Command::new(self.example("word_count"))
            .args([&text.generated(), &output])
            .args(["-p", "4"])
            .stdout(Stdio::null())
            .status()
            .context("run word_count embedded")?;
        ensure!(status.success(), "the embedded word count failed: {status}");
        let seconds = now().duration_since(begun).as_secs_f64();
        println!("embedded word count of one copy: {seconds:.1} s");
        let wanted = AFTER_KILL.mul_f64(1.5).as_secs_f64() / seconds.max(0.1);
        Ok((1..MOST_COPIES).find(|&copies| f64::from(copies) >= wanted).unwrap_or(MOST_COPIES))
    }

    async fn start_cluster(&self) -> Result<LocalCluster> {
        let programs = Programs {
            coordinator: self.bin_dir.join("tidemill-coordinator"),
            task_manager: self.bin_dir.join("tidemill-taskmanager"),
        };
        let cluster = LocalCluster::start(LocalClusterSpec {
            dir: self.dir.join("cluster"),
            coordinators: Some(3),
            task_managers: Some(2),
            slots: Some(2),
            settings: Vec::new(),
            programs,
            kill_on_drop: true,
        })
        .await?;
        println!("cluster: 3 coordinators, 2 task managers with 2 slots each; {}", cluster.addresses().join(","));
        Ok(cluster)
    }

    /// Returns every process id that must be gone at the end.
    async fn kill_the_leader(&self, cluster: &mut LocalCluster, input: &Path) -> Result<Vec<u32>> {
        let output = self.dir.join("counts");
        let mut job = Command::new(self.example("word_count"))
            .args([input, output.as_path()])
            .args(["-p", "4", "--coordinators", &cluster.addresses().join(",")])
            .stdout(Stdio::null())
            .spawn()
            .context("start word_count in the client role")?;
        let client = cluster.client();
        let id = until("the job is there", || async { Some(client.list_jobs().await.ok()?.first()?.id) }).await?;
        let before = self.observe(&client, id, |details| details.records_in >= LINES_BEFORE_KILL).await?;
        let running = before.details.attempts.iter().filter(|attempt| !attempt.report.state.is_terminal()).count();
        println!(
            "before: {} leads (epoch {}), {running} attempts run, {} lines read",
            before.leader, before.epoch, before.details.records_in
        );

        let victim = victim(cluster, &before)?;
        let survivors: Vec<String> =
            cluster.addresses().into_iter().filter(|address| *address != before.leader).collect();
        let killed = now();
        cluster.kill(victim).await?;
        let write = first_write(&survivors, killed).await?;
        println!("kill -9 {victim}; first acknowledged write after {:.0} ms", write.as_secs_f64() * 1e3);

        let takeover = until("the takeover is recorded", || async {
            let status = client.leader_status().await.ok()?;
            status.takeovers.into_iter().find(|takeover| takeover.job == id && takeover.epoch > before.epoch)
        })
        .await?;
        let at_takeover = client.get_job(id).await?.records_in.max(before.details.records_in);
        let after = self.observe(&client, id, |details| details.records_in > at_takeover).await?;
        self.check_takeover(&before, &after, &takeover, running)?;
        let status = job.wait()?;
        let flowed = now().duration_since(killed);
        ensure!(status.success(), "word_count in the client role failed: {status}");
        println!("the client noticed nothing: exit 0, {:.1} s after the kill", flowed.as_secs_f64());
        ensure!(flowed >= AFTER_KILL, "the job ended less than {AFTER_KILL:?} after the kill: nothing shown");
        let restarts = client.get_job(id).await?.restarts;
        ensure!(restarts == 0, "the job was restarted {restarts} times");
        let executors = after.details.attempts.iter().filter_map(|attempt| attempt.process_id);
        Ok(cluster.layout().running().into_iter().map(|(_, pid)| pid).chain(executors).collect())
    }

    async fn observe(&self, client: &JobClient, job: JobId, wanted: impl Fn(&JobDetails) -> bool) -> Result<Seen> {
        until("records flow", || async {
            let details = client.get_job(job).await.ok().filter(&wanted)?;
            let status = client.leader_status().await.ok()?;
            let leader = status.leader()?.client_address.clone();
            Some(Seen { details, epoch: status.epoch?, leader })
        })
        .await
    }

    fn check_takeover(&self, before: &Seen, after: &Seen, takeover: &Takeover, running: usize) -> Result<()> {
        let emitted = after.details.records_in - before.details.records_in;
        println!("after: {} leads (epoch {})", after.leader, after.epoch);
        println!(
            "tasks adopted: {} of {running} running, tasks restarted: {}",
            takeover.tasks_adopted, takeover.tasks_restarted
        );
        println!("lines read under the new epoch so far: {emitted}");
        ensure!(after.leader != before.leader && after.epoch > before.epoch, "the leader did not change");
        ensure!(
            running > 0 && usize::try_from(takeover.tasks_adopted)? == running,
            "not every running attempt was adopted"
        );
        ensure!(takeover.tasks_restarted == 0, "attempts were restarted");
        ensure!(emitted > 0, "no record was emitted under the new epoch");
        let places = |seen: &Seen| -> Vec<_> {
            seen.details.attempts.iter().map(|attempt| (attempt.report.attempt, attempt.process_id)).collect()
        };
        ensure!(places(before) == places(after), "an attempt or its process changed");
        let mut processes: Vec<_> = after.details.attempts.iter().filter_map(|attempt| attempt.process_id).collect();
        processes.sort_unstable();
        processes.dedup();
        println!("executor process ids unchanged: {processes:?}");
        Ok(())
    }
}

fn victim(cluster: &LocalCluster, seen: &Seen) -> Result<ProcessName> {
    let index =
        cluster.addresses().iter().position(|address| *address == seen.leader).context("the leader's address")?;
    Ok(ProcessName::Coordinator(u32::try_from(index)? + 1))
}

/// The time from `since` to the first write that any of the coordinators acknowledges. Fresh attempts all the time, at
/// each of them, so that a client's back-off is not measured.
///
/// # Errors
///
/// When no write is acknowledged for two minutes.
pub async fn first_write(coordinators: &[String], since: Instant) -> Result<Duration> {
    let mut probes = tokio::task::JoinSet::new();
    for address in coordinators {
        let address = address.clone();
        probes.spawn(async move {
            for number in 0_u64.. {
                let client = JobClient::new(vec![address.clone()]).with_timeout(Duration::from_millis(250));
                let blob = format!("probe {number} of {address} at {since:?}");
                if client.put_blob(blob.into_bytes().into()).await.is_ok() {
                    return now();
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            now()
        });
    }
    let first = tokio::time::timeout(Duration::from_secs(120), probes.join_next()).await?;
    Ok(first.context("a probe")??.duration_since(since))
}

/// The monotonic clock, for figures that are printed.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the demo and the benchmarks measure wall time")]
pub fn now() -> Instant {
    Instant::now()
}
