//! Elections that nobody needed: how often the leader changes while executors have all cores busy.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tidemill_model::event::Event;

use super::ControlBench;
use super::events::EventTail;
use super::jobs;
use crate::cluster::until;

/// How often a line is printed.
const REPORT_EVERY: Duration = Duration::from_secs(60);

/// The job's program, which goes with the cluster.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.0.kill().and_then(|()| self.0.wait()));
    }
}

pub(super) async fn measure(bench: &ControlBench) -> Result<String> {
    let dir = bench.fresh("soak-events")?;
    let mut cluster = bench.cluster("soak", 2, &[format!("events.dir={}", dir.display())]).await?;
    let mut events = EventTail::of(dir);
    let mut command = Command::new(bench.bin_dir.join("tidemill-test-job"));
    // More numbers than any run gets through, faster than any machine counts them.
    command.args(["sequence", "1000000000000000", "1000000000000"]).arg(bench.dir.join("soak/sums"));
    command.args(["-p", "4", "--coordinators", &cluster.addresses().join(",")]);
    let _program = Program(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("start the job")?);
    let client = cluster.client();
    until("the job runs", || async { client.list_jobs().await.ok()?.first().map(drop) }).await?;
    let (_, first) = jobs::leader(&cluster.addresses()).await?;
    let mut changes = 0_usize;
    let (busy_before, all_before) = cpu_ticks()?;
    let mut left = Duration::from_secs(bench.seconds);
    while !left.is_zero() {
        let step = left.min(REPORT_EVERY);
        tokio::time::sleep(step).await;
        left -= step;
        let started = |event: &Event| matches!(event, Event::LeaderStart { term, .. } if term.0 > first);
        changes += events.read()?.iter().filter(|record| started(&record.event)).count();
        println!("{:.0} s left, {changes} leader changes", left.as_secs_f64());
    }
    let (busy, all) = cpu_ticks()?;
    let used = 100.0 * (busy - busy_before) as f64 / (all - all_before).max(1) as f64;
    let job = client.list_jobs().await?.first().map(|job| job.id).context("the job")?;
    let details = client.get_job(job).await?;
    ensure!(details.restarts == 0, "the job was restarted {} times", details.restarts);
    let (seconds, records) = (bench.seconds, details.records_in);
    println!("{seconds} s, {used:.0} % of all cores used, {records} records: {changes} leader changes");
    cluster.stop().await?;
    Ok(format!("soak {seconds} s at {used:.0} % CPU: {changes} leader changes"))
}

/// The machine's busy and all ticks so far.
fn cpu_ticks() -> Result<(u64, u64)> {
    let stat = std::fs::read_to_string("/proc/stat").context("read /proc/stat")?;
    let line = stat.lines().next().context("a line of all cores")?;
    let ticks: Vec<u64> = line.split_whitespace().skip(1).take(8).map(str::parse).collect::<Result<_, _>>()?;
    let all: u64 = ticks.iter().sum();
    // The fourth and fifth are idle and waiting for the disk.
    let idle: u64 = ticks.get(3..5).context("a line of eight figures")?.iter().sum();
    Ok((all - idle, all))
}
