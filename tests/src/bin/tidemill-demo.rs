//! `make demo`: a replicated cluster runs a real job, and does not notice when its master dies.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use tidemill_tests::demo::Demo;

/// Starts three coordinators and two task managers, counts the words of real and generated text, kills the leader with
/// SIGKILL on the way, and checks everything that should hold then.
#[derive(Parser)]
struct Arguments {
    /// The folder for text, output and the cluster's data; a temporary one if not given.
    #[arg(long)]
    dir: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => {
            println!("DEMO PASSED");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("DEMO FAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<()> {
    let own = std::env::current_exe().context("find this program")?;
    let bin_dir = own.parent().context("this program's folder")?.to_owned();
    let temporary = tempfile::tempdir().context("make a folder")?;
    let dir = arguments.dir.unwrap_or_else(|| temporary.path().to_owned());
    Demo { dir, bin_dir }.run().await
}
