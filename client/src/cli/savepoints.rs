//! `tidemill savepoint`: takes one, or shows what is in one.

use std::fmt::Write;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use tidemill_dataflow::engine::snapshot::{ContentIndex, SnapshotIndex};
use tidemill_model::id::JobId;
use tidemill_model::savepoint::Savepoint;

use super::arguments::ClusterArguments;
use super::error::Error;
use super::jobs::{client, print};
use crate::job_client::savepoint_folder;

/// `savepoint`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Example:\n  tidemill savepoint JOB file:///backup/monday\n  tidemill run -s file:///backup/monday ./job"
)]
pub(super) struct SavepointCommand {
    #[command(subcommand)]
    pub(super) inspect: Option<SavepointSubcommand>,
    #[command(flatten)]
    take: Option<TakeArguments>,
}

#[derive(Debug, Args)]
pub(super) struct TakeArguments {
    #[command(flatten)]
    cluster: ClusterArguments,
    /// The job, as `tidemill list` shows it.
    #[arg(value_name = "JOB")]
    job: JobId,
    /// The folder that becomes the savepoint, as a URL or an absolute path.
    #[arg(value_name = "DIR")]
    directory: String,
}

#[derive(Debug, Subcommand)]
pub(super) enum SavepointSubcommand {
    /// Show the operators and states in a savepoint.
    Inspect(InspectCommand),
}

/// `savepoint inspect`.
#[derive(Debug, Args)]
pub(super) struct InspectCommand {
    /// The savepoint's folder, as a URL or an absolute path.
    #[arg(value_name = "PATH")]
    path: String,
}

/// Carries the command out.
pub(super) async fn run(given: Option<Vec<String>>, command: SavepointCommand) -> Result<ExitCode, Error> {
    if let Some(SavepointSubcommand::Inspect(InspectCommand { path })) = command.inspect {
        return inspect(&path).await;
    }
    let Some(TakeArguments { cluster, job, directory }) = command.take else {
        return Err(Error::Usage("savepoint: give a job and a folder, or `inspect` and a folder"));
    };
    let client = client(cluster.resolve(given)?);
    let savepoint = client.take_savepoint(job, &directory).await?;
    print(&format!("savepoint {directory} is checkpoint {} of job {job}\n", savepoint.checkpoint))
}

async fn inspect(path: &str) -> Result<ExitCode, Error> {
    let folder = savepoint_folder(path)?;
    let savepoint = folder.read_savepoint().await?;
    let mut text = String::new();
    let Savepoint { job, name, checkpoint, vertices, .. } = &savepoint;
    writeln!(text, "checkpoint {checkpoint} of job {job} ({name:?})").expect("a String takes all text");
    for vertex in vertices {
        let mut states: Vec<(String, String, Vec<String>, u64)> = Vec::new();
        for subtask in &vertex.subtasks {
            let Some(handle) = subtask.0.first() else { continue };
            let index = SnapshotIndex::decode(&folder.read(handle).await?)?;
            for state in index.states {
                let keys = match &state.content {
                    ContentIndex::Keyed(groups) => groups.iter().map(|group| group.keys).sum(),
                    ContentIndex::Value(_) => 1,
                };
                match states.iter_mut().find(|known| known.0 == state.id.operator && known.1 == state.id.name) {
                    Some(known) => known.3 += keys,
                    None => states.push((state.id.operator, state.id.name, state.types, keys)),
                }
            }
        }
        let parallelism = vertex.subtasks.len();
        for operator in &vertex.operators {
            let (name, uid, groups) = (&operator.name, &operator.uid, vertex.max_parallelism);
            writeln!(text, "\noperator {uid:?} ({name}), {parallelism} sub-tasks, {groups} key groups")
                .expect("a String takes all text");
            for (_, state, types, count) in states.iter().filter(|state| state.0 == *uid) {
                writeln!(text, "  state {state:?}: {count} entries of {}", types.join(", "))
                    .expect("a String takes all text");
            }
        }
    }
    print(&text)
}
