//! Runs the benchmark's workloads embedded and on a local cluster, beside a hand-written loop, and prints a table.

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use tidemill_tests::bench::Bench;

/// Runs W1, W2, W5 and W6 in one process and on a local cluster of two task managers with one slot each, W2 and W5 as a
/// hand-written loop, too; checks their digests and prints what each took, above what peers reached.
#[derive(Parser)]
struct Arguments {
    /// The folder for text, output and the cluster; the text is kept and used again.
    #[arg(long)]
    dir: PathBuf,
    /// The folder of the built binaries and `examples/`.
    #[arg(long)]
    bin_dir: PathBuf,
    /// Only these workloads.
    #[arg(long, value_delimiter = ',', default_value = "w1,w2,w5,w6")]
    workloads: Vec<String>,
    /// How many events W2 and W5 have: 50,000,000, or 20,000,000 for W2 and 12,000,000 for W5 with --small.
    #[arg(long)]
    small: bool,
    /// How many bytes of text W1 counts the words of.
    #[arg(long, default_value_t = 500_000_000)]
    bytes: u64,
    /// For how many seconds W6 is measured.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let Arguments { dir, bin_dir, workloads, small, bytes, seconds } = Arguments::parse();
    Bench { dir, bin_dir, workloads, small, bytes, seconds }.run().await
}
