//! The control plane's benchmark: how long a dead leader is missed, how many submissions are acknowledged, and how a
//! thousand jobs are taken over.

mod agents;
mod etcd;
mod events;
mod failover;
pub mod figures;
mod jobs;
mod soak;
mod submissions;
mod takeover;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tidemill::cli::local_cluster::{LocalCluster, LocalClusterSpec, Programs};

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// A leader is killed while a job runs.
    Failover,
    /// Submissions beside puts to etcd.
    Submissions,
    /// A leader with a thousand running jobs is killed.
    Takeover,
    /// Leader changes while executors have all cores busy.
    Soak,
}

/// What is measured, and where.
#[derive(Debug, Clone)]
pub struct ControlBench {
    /// The folder for the clusters' data; it decides which disk is measured.
    pub dir: PathBuf,
    /// The folder of the built binaries.
    pub bin_dir: PathBuf,
    /// How often each figure is taken.
    pub repetitions: usize,
    /// Which parts.
    pub parts: Vec<Part>,
    /// `key=value` options for all servers.
    pub settings: Vec<String>,
    /// How many jobs the last part takes over.
    pub jobs: u32,
    /// For how long elections are counted.
    pub seconds: u64,
}

impl ControlBench {
    /// Measures, prints what it finds as it goes, and returns a line of it all.
    ///
    /// # Errors
    ///
    /// When a cluster does not do what it should: a benchmark of something broken shows nothing.
    pub async fn run(&self) -> Result<String> {
        std::fs::create_dir_all(&self.dir).with_context(|| format!("make {}", self.dir.display()))?;
        let mut summary = Vec::new();
        for part in &self.parts {
            summary.push(match part {
                Part::Failover => failover::measure(self).await.context("kill leaders under a running job")?,
                Part::Submissions => submissions::measure(self).await.context("submit jobs")?,
                Part::Soak => soak::measure(self).await.context("count elections under load")?,
                Part::Takeover => takeover::measure(self).await.context("take over many jobs")?,
            });
        }
        Ok(summary.join("; "))
    }

    /// A fresh cluster of three coordinators.
    async fn cluster(&self, name: &str, task_managers: u32, more: &[String]) -> Result<LocalCluster> {
        let dir = self.fresh(name)?;
        let programs = Programs {
            coordinator: self.bin_dir.join("tidemill-coordinator"),
            task_manager: self.bin_dir.join("tidemill-taskmanager"),
        };
        let settings = self.settings.iter().chain(more).cloned().collect();
        let (coordinators, task_managers, slots) = (Some(3), Some(task_managers), Some(2));
        let spec = LocalClusterSpec { dir, coordinators, task_managers, slots, settings, programs, kill_on_drop: true };
        Ok(LocalCluster::start(spec).await?)
    }

    /// An empty folder of this name.
    fn fresh(&self, name: &str) -> Result<PathBuf> {
        let dir = self.dir.join(name);
        remove(&dir)?;
        std::fs::create_dir_all(&dir)?;
        Ok(dir)
    }
}

fn remove(dir: &Path) -> Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", dir.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
