//! The chaos harness's command line: the exit code is 0 for valid, 1 for invalid, 2 when nothing is proven, 3 when the
//! harness itself failed; the last line on standard output counts the findings.

use std::process::ExitCode;

use clap::Parser;
use tidemill_jepsen::commands::{Arguments, execute};

/// The harness failed: nothing is said about the cluster.
const HARNESS_ERROR: u8 = 3;

fn main() -> ExitCode {
    match execute(&Arguments::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            println!("0 passed, 1 failed, 0 skipped");
            ExitCode::from(HARNESS_ERROR)
        }
    }
}
