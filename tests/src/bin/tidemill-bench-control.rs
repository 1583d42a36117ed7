//! Measures the control plane: leader kills, submissions beside etcd, the takeover of many jobs.

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use tidemill_tests::control::{ControlBench, Part};

/// Kills leaders under a running job, submits jobs beside puts to a three-member etcd on the same disk, and has a
/// thousand jobs on simulated task managers taken over; the last line sums it up.
///
/// Figures are `median (least-most)` over all repetitions.
#[derive(Parser)]
struct Arguments {
    /// The folder for the clusters' data; it decides which disk is measured.
    #[arg(long)]
    dir: PathBuf,
    /// The folder of the built binaries.
    #[arg(long)]
    bin_dir: PathBuf,
    /// How often each figure is taken.
    #[arg(long, default_value_t = 20)]
    repetitions: usize,
    /// Only these parts.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "failover,submissions,takeover")]
    parts: Vec<Part>,
    /// How many jobs are taken over, of ten tasks each.
    #[arg(long, default_value_t = 1000)]
    jobs: u32,
    /// For how many seconds the part `soak` counts elections.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// `key=value` options for all servers, such as coordinator.raft.election-timeout-max=300ms.
    #[arg(short = 'D', value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let Arguments { dir, bin_dir, repetitions, parts, jobs, seconds, settings } = Arguments::parse();
    let summary = ControlBench { dir, bin_dir, repetitions, parts, settings, jobs, seconds }.run().await?;
    println!("bench-control: {summary}");
    Ok(())
}
