//! One run of a workload: its process, what it printed, and what the cluster's processes took.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tidemill::cli::local_cluster::{LocalCluster, ProcessName};

/// How often the executors' memory is looked at: their peak is the kernel's own figure, it only must be read in time.
const MEMORY_POLL: Duration = Duration::from_millis(50);

/// What a run took.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) workload: String,
    /// `loop`, `embedded` or `cluster`.
    pub(super) form: &'static str,
    pub(super) events: u64,
    pub(super) parallelism: u64,
    pub(super) seconds: f64,
    pub(super) cpu_seconds: f64,
    /// The largest of its processes.
    pub(super) memory_mb: f64,
    pub(super) count: Option<u64>,
    pub(super) digest: Option<String>,
    /// p50, p99, p99.9 and the greatest latency in milliseconds.
    pub(super) latencies: Option<[f64; 4]>,
}

impl Run {
    /// A run in one process, whose CPU and memory it prints itself.
    pub(super) fn alone(form: &'static str, command: Command) -> Result<Self> {
        let run = Self::parse(form, &output(command)?)?;
        ensure!(run.cpu_seconds > 0.0 && run.memory_mb > 0.0, "{form}: CPU time or memory is missing");
        Ok(run)
    }

    /// A run whose work the task managers' executors do.
    pub(super) fn on_cluster(command: Command, cpu: &ClusterCpu) -> Result<Self> {
        let before = cpu.seconds();
        let (text, memory_mb) = cpu.watch_memory(|| output(command))?;
        let mut run = Self::parse("cluster", &text)?;
        run.cpu_seconds = cpu.seconds() - before;
        run.memory_mb = memory_mb;
        Ok(run)
    }

    fn parse(form: &'static str, text: &str) -> Result<Self> {
        let json: Value = serde_json::from_str(text).with_context(|| format!("parse {text:?}"))?;
        let number = |name: &str| json[name].as_f64().with_context(|| format!("{name} in {text}"));
        let latency = |name: &str| json[name].as_f64();
        let latencies = (|| Some([latency("p50_ms")?, latency("p99_ms")?, latency("p99_9_ms")?, latency("max_ms")?]))();
        Ok(Self {
            workload: json["workload"].as_str().context("workload")?.to_owned(),
            form,
            events: json["n"].as_u64().context("n")?,
            parallelism: json["p"].as_u64().context("p")?,
            seconds: number("seconds")?,
            // On a cluster the program does not know; the caller does.
            cpu_seconds: json["cpu_s"].as_f64().unwrap_or_default(),
            memory_mb: json["rss_mb"].as_f64().unwrap_or_default(),
            count: json["count"].as_u64(),
            digest: json["digest"].as_str().map(str::to_owned),
            latencies,
        })
    }

    /// Millions of events per second.
    pub(super) fn rate(&self) -> f64 {
        self.events as f64 / self.seconds / 1e6
    }

    /// Millions of events per second of CPU time.
    pub(super) fn cpu_rate(&self) -> f64 {
        self.events as f64 / self.cpu_seconds / 1e6
    }

    /// One line.
    pub(super) fn json(&self) -> String {
        let Self { workload, form, events, parallelism, seconds, cpu_seconds, memory_mb, .. } = self;
        let digest = self.digest.as_ref().map_or(String::new(), |digest| format!(r#","digest":"{digest}""#));
        let count = self.count.map_or(String::new(), |count| format!(r#","count":{count}"#));
        let latencies = self.latencies.map_or(String::new(), |[p50, p99, p999, max]| {
            format!(r#","p50_ms":{p50},"p99_ms":{p99},"p99_9_ms":{p999},"max_ms":{max}"#)
        });
        format!(
            r#"{{"workload":"{workload}","engine":"{form}","n":{events},"p":{parallelism},"seconds":{seconds:.3},"events_per_s":{:.0},"cpu_s":{cpu_seconds:.3},"events_per_cpu_s":{:.0}{count}{digest},"checkpoints":0,"rss_mb":{memory_mb:.1}{latencies}}}"#,
            self.rate() * 1e6,
            self.cpu_rate() * 1e6,
        )
    }
}

fn output(mut command: Command) -> Result<String> {
    let output = command.stderr(Stdio::inherit()).output().context("start the workload")?;
    ensure!(output.status.success(), "{command:?} ended with {}", output.status);
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// The CPU time and the memory of a cluster's task managers and their executors.
pub(super) struct ClusterCpu {
    task_managers: Vec<u32>,
}

impl ClusterCpu {
    pub(super) fn of(cluster: &LocalCluster) -> Self {
        let names = cluster.layout().names().filter(|name| matches!(name, ProcessName::TaskManager(_)));
        Self { task_managers: names.filter_map(|name| cluster.pid(name)).collect() }
    }

    /// Of the task managers, and of those executors of theirs that have ended and were waited for.
    pub(super) fn seconds(&self) -> f64 {
        let ticks: u64 = self.task_managers.iter().map(|pid| cpu_ticks(*pid)).sum();
        ticks as f64 / rustix::param::clock_ticks_per_second() as f64
    }

    /// Runs something, and answers the peak memory in megabytes of the largest executor meanwhile, too.
    fn watch_memory<R>(&self, run: impl FnOnce() -> Result<R>) -> Result<(R, f64)> {
        let (ended, peak) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let watcher = {
            let (ended, peak, task_managers) = (Arc::clone(&ended), Arc::clone(&peak), self.task_managers.clone());
            std::thread::spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    let executors = task_managers.iter().flat_map(|pid| children(*pid));
                    peak.fetch_max(executors.map(peak_kilobytes).max().unwrap_or(0), Ordering::Relaxed);
                    std::thread::sleep(MEMORY_POLL);
                }
            })
        };
        let result = run();
        ended.store(true, Ordering::Relaxed);
        watcher.join().ok().context("the watcher panicked")?;
        Ok((result?, peak.load(Ordering::Relaxed) as f64 / 1000.0))
    }
}

/// User and system time of a process and of its children that have been waited for, in clock ticks.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    // Fields 14 to 17 of the line; the first one behind the name is number 3.
    fields.split_whitespace().skip(11).take(4).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

fn children(pid: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()).collect()
}

fn peak_kilobytes(pid: u32) -> u64 {
    status_kilobytes(pid, "VmHWM:")
}

/// How much memory a process has now.
pub(super) fn resident_kilobytes(pid: u32) -> u64 {
    status_kilobytes(pid, "VmRSS:")
}

fn status_kilobytes(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    line.split_whitespace().next().and_then(|kilobytes| kilobytes.parse().ok()).unwrap_or(0)
}
