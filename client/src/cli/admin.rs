//! `tidemill admin backup`, `restore` and `recover`.
//!
//! The latter two work on a data directory while no coordinator runs on it; `tidemill-coordinator`, which knows its
//! form, does the work.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::{Args, Subcommand};
use serde_json::json;

use super::arguments::TargetArguments;
use super::error::Error;
use super::jobs::print;
use super::local_cluster::Programs;
use super::members::client;

/// Commands for the worst day.
#[derive(Debug, Subcommand)]
pub(super) enum AdminCommand {
    /// Write everything that the cluster knows, artifacts included, to a file.
    #[command(after_help = "\
The file appears when it is whole; it carries a checksum. Checkpoints and output lie elsewhere and are not in it.

Example:
  tidemill admin backup /backup/tidemill-$(date +%F)")]
    Backup(BackupCommand),
    /// Begin a new cluster from a backup, in the empty data directory of a coordinator that does not run.
    #[command(after_help = "\
Says what is lost and what may be repeated, and asks for a sentence to be typed (or passed as --confirm). The new \
cluster has an id of its own: old coordinators and task managers that were not restarted are refused.

Example:
  tidemill admin restore /backup/tidemill-2026-01-31 --dir /var/lib/tidemill --name c1 --raft c1:6124 --client c1:6123")]
    Restore(RestoreCommand),
    /// Begin a new cluster from one survivor, when most coordinators are gone for good.
    #[command(after_help = "\
Only when no majority can ever come back: with a majority, start the others, or use `tidemill cluster replace`. Run it \
on the data directory of the survivor whose log ends last (compare what it prints without --force-new-cluster on each), \
while no coordinator runs. Says what is lost and what may be repeated, and asks for a sentence to be typed.

Example:
  tidemill admin recover --dir /var/lib/tidemill
  tidemill admin recover --dir /var/lib/tidemill --force-new-cluster")]
    Recover(RecoverCommand),
}

/// `admin backup`.
#[derive(Debug, Args)]
pub(super) struct BackupCommand {
    #[command(flatten)]
    pub(super) target: TargetArguments,
    /// The file to write.
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// `admin restore`.
#[derive(Debug, Args)]
pub(super) struct RestoreCommand {
    /// The backup.
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// The coordinator's data directory, empty.
    #[arg(long, value_name = "DIR")]
    pub(super) dir: PathBuf,
    /// Its `coordinator.name`.
    #[arg(long)]
    pub(super) name: String,
    /// Where the other coordinators will reach it.
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) raft: String,
    /// Where clients and task managers will reach it.
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) client: String,
    /// The sentence, instead of typing it.
    #[arg(long, value_name = "TEXT")]
    pub(super) confirm: Option<String>,
}

/// `admin recover`.
#[derive(Debug, Args)]
pub(super) struct RecoverCommand {
    /// The survivor's data directory.
    #[arg(long, value_name = "DIR")]
    pub(super) dir: PathBuf,
    /// Really do it; without it, only say what would happen.
    #[arg(long)]
    pub(super) force_new_cluster: bool,
    /// The sentence, instead of typing it.
    #[arg(long, value_name = "TEXT")]
    pub(super) confirm: Option<String>,
}

/// Writes a backup.
pub(super) async fn backup(before_command: Option<Vec<String>>, command: BackupCommand) -> Result<ExitCode, Error> {
    let summary = client(command.target, before_command)?.backup(&command.file).await?;
    let file = command.file.display();
    print(&if command.json {
        let summary = json!({
            "file": file.to_string(),
            "cluster": summary.cluster.to_string(),
            "log_index": summary.log_index,
            "jobs": summary.jobs,
            "blobs": summary.blobs,
            "bytes": summary.bytes,
        });
        format!("{summary:#}\n")
    } else {
        let (cluster, index, jobs, blobs) = (summary.cluster, summary.log_index, summary.jobs, summary.blobs);
        format!(
            "wrote {file}: cluster {cluster} up to log index {index}, {jobs} jobs, {blobs} blobs, {} bytes\n",
            summary.bytes
        )
    })
}

/// Has the coordinator's program restore a backup.
pub(super) fn restore(command: RestoreCommand) -> Result<ExitCode, Error> {
    let RestoreCommand { file, dir, name, raft, client, confirm } = command;
    let mut arguments: Vec<OsString> = vec!["restore".into(), file.into(), "--dir".into(), dir.into()];
    for (key, value) in [("--name", name), ("--raft", raft), ("--client", client)] {
        arguments.extend([key.into(), value.into()]);
    }
    run_coordinator(arguments, confirm)
}

/// Has the coordinator's program begin a new cluster from a survivor.
pub(super) fn recover(command: RecoverCommand) -> Result<ExitCode, Error> {
    let mut arguments: Vec<OsString> = vec!["recover".into(), "--dir".into(), command.dir.into()];
    if command.force_new_cluster {
        arguments.push("--force-new-cluster".into());
    }
    run_coordinator(arguments, command.confirm)
}

fn run_coordinator(mut arguments: Vec<OsString>, confirm: Option<String>) -> Result<ExitCode, Error> {
    if let Some(confirm) = confirm {
        arguments.extend(["--confirm".into(), confirm.into()]);
    }
    let program = Programs::find()?.coordinator;
    let failed = |reason: String| Error::Program { program: program.display().to_string(), reason };
    let status = Command::new(&program).args(arguments).status().map_err(|error| failed(error.to_string()))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.map(ExitCode::from).ok_or_else(|| failed(format!("it ended by {status}")))
}
