//! `tidemill savepoint` and `stop`: take savepoints, make one of an older checkpoint, and show what is in one.

use std::fmt::Write;
use std::io;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use tidemill_dataflow::engine::snapshot::{ContentIndex, SnapshotIndex};
use tidemill_model::id::{CheckpointId, JobId};
use tidemill_model::job::{JobStatus, StopMode};
use tidemill_model::savepoint::Savepoint;

use super::arguments::ClusterArguments;
use super::error::{Error, FAILED};
use super::jobs::{client, print};
use crate::job_client::{TakenSavepoint, savepoint_folder};

/// `savepoint`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Example:\n  tidemill savepoint JOB file:///backup/monday\n  tidemill run -s file:///backup/monday ./job"
)]
pub(super) struct SavepointCommand {
    #[command(subcommand)]
    other: Option<SavepointSubcommand>,
    #[command(flatten)]
    cluster: ClusterArguments,
    /// The job, as `tidemill list` shows it.
    #[arg(value_name = "JOB", required = true)]
    job: Option<JobId>,
    /// The folder that becomes the savepoint, as a URL or an absolute path.
    #[arg(value_name = "DIR", required = true)]
    directory: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum SavepointSubcommand {
    /// Show the operators and states in a savepoint.
    Inspect(InspectCommand),
    /// Make a savepoint of an older checkpoint of a job that has ended, when the newest is damaged.
    #[command(after_help = "\
A job whose checkpoint cannot be read fails, with the file's name, and keeps what checkpoints it has (`tidemill \
checkpoints JOB`; execution.checkpointing.num-retained says how many there are). To go on from an older one is for you to \
decide: the command says what is repeated, and asks for a sentence to be typed (or passed as --confirm).

Example:
  tidemill savepoint fall-back JOB 41 file:///backup/older
  tidemill run -s file:///backup/older ./job")]
    FallBack(FallBackCommand),
}

/// `savepoint inspect`.
#[derive(Debug, Args)]
pub(super) struct InspectCommand {
    /// The savepoint's folder, as a URL or an absolute path.
    #[arg(value_name = "PATH")]
    path: String,
}

/// `savepoint fall-back`.
#[derive(Debug, Args)]
pub(super) struct FallBackCommand {
    #[command(flatten)]
    cluster: ClusterArguments,
    /// The job, as `tidemill list` shows it.
    #[arg(value_name = "JOB")]
    job: JobId,
    /// One of its retained checkpoints, as `tidemill checkpoints` shows them.
    #[arg(value_name = "CHECKPOINT")]
    checkpoint: u64,
    /// The folder that becomes the savepoint, as a URL or an absolute path.
    #[arg(value_name = "DIR")]
    directory: String,
    /// The sentence, instead of typing it.
    #[arg(long, value_name = "SENTENCE")]
    confirm: Option<String>,
}

/// Carries the command out.
pub(super) async fn run(given: Option<Vec<String>>, command: SavepointCommand) -> Result<ExitCode, Error> {
    match command.other {
        Some(SavepointSubcommand::Inspect(InspectCommand { path })) => return inspect(&path).await,
        Some(SavepointSubcommand::FallBack(command)) => return fall_back(given, command).await,
        None => {}
    }
    let (Some(job), Some(directory)) = (command.job, command.directory) else {
        return Err(Error::Usage("savepoint: give a job and a folder, or `inspect` and a folder"));
    };
    let client = client(command.cluster.resolve(given)?);
    let taken = client.take_savepoint(job, &directory).await?;
    print(&text(job, &taken))
}

fn text(job: JobId, TakenSavepoint { savepoint, path }: &TakenSavepoint) -> String {
    format!("savepoint {path} is checkpoint {} of job {job}\n", savepoint.checkpoint)
}

/// Says what is repeated, and makes the savepoint when that is confirmed.
async fn fall_back(given: Option<Vec<String>>, command: FallBackCommand) -> Result<ExitCode, Error> {
    let FallBackCommand { cluster, job, checkpoint, directory, confirm } = command;
    let client = client(cluster.resolve(given)?);
    let plan = client.plan_fall_back(job, CheckpointId(checkpoint)).await?;
    print(&format!("{plan}\n"))?;
    let typed = match confirm {
        Some(typed) => typed,
        None => {
            print(&format!("\nTo go on, type: {}\n> ", plan.phrase()))?;
            let mut line = String::new();
            io::stdin().read_line(&mut line).map_err(Error::Input)?;
            line
        }
    };
    let taken = client.fall_back(&plan, &directory, &typed).await?;
    print(&format!("\n{}", text(job, &taken)))
}

/// `stop`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without --drain the job ends CANCELED at a savepoint that is taken for it: what its sinks have written up to there is \
published, and `tidemill run -s` goes on from there. The wish outlives failures and leaders; repeating the command is \
harmless.

Examples:
  tidemill stop JOB                          (its folder in the checkpoint storage becomes the savepoint)
  tidemill stop JOB file:///backup/monday    (copied there, and deleted where it was)
  tidemill stop JOB --drain                  (as if its sources had ended: windows fire, the job finishes)")]
pub(super) struct StopJobCommand {
    #[command(flatten)]
    cluster: ClusterArguments,
    /// The job, as `tidemill list` shows it.
    #[arg(value_name = "JOB")]
    job: JobId,
    /// The folder that becomes the savepoint, as a URL or an absolute path.
    #[arg(value_name = "DIR", conflicts_with = "drain")]
    directory: Option<String>,
    /// End the job as if its sources had no more input; there is nothing to go on from then.
    #[arg(long)]
    drain: bool,
}

/// Stops a job without losing what it has done.
pub(super) async fn stop(given: Option<Vec<String>>, command: StopJobCommand) -> Result<ExitCode, Error> {
    let StopJobCommand { cluster, job, directory, drain } = command;
    let client = client(cluster.resolve(given)?);
    if !drain {
        let taken = client.suspend_job(job, directory.as_deref()).await?;
        return print(&text(job, &taken));
    }
    client.stop_job(job, StopMode::Drain).await?;
    let end = client.watch_job(job, |_| ()).await?.status;
    print(&format!("job {job} has ended: {end}\n"))?;
    Ok(if matches!(end, JobStatus::Finished(_)) { ExitCode::SUCCESS } else { FAILED.into() })
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
                    // A periodic checkpoint that was made a savepoint: RocksDB's files do not say how many there are.
                    ContentIndex::Stored(_) | ContentIndex::Store(_) => 0,
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::arguments::{Arguments, Command};

    fn parse(line: &str) -> Result<SavepointCommand, clap::Error> {
        let command = Arguments::try_parse_from(line.split(' '))?.command;
        let Command::Savepoint(command) = command else { panic!("{command:?}") };
        Ok(command)
    }

    #[test]
    fn a_savepoint_is_taken_of_a_job_into_a_folder_or_looked_into() {
        let job = "0190f3a1b2c37d4e8f00112233445566";
        let take = parse(&format!("tidemill savepoint {job} /backup")).unwrap();
        assert_eq!((take.job, take.directory.as_deref()), (job.parse().ok(), Some("/backup")));
        assert!(take.other.is_none());
        let inspect = parse("tidemill savepoint inspect /backup").unwrap();
        let Some(SavepointSubcommand::Inspect(InspectCommand { path })) = inspect.other else {
            panic!("it is the sub-command")
        };
        let older = parse(&format!("tidemill savepoint fall-back {job} 41 /backup")).unwrap();
        let Some(SavepointSubcommand::FallBack(command)) = older.other else { panic!("it is the sub-command") };
        assert_eq!((command.checkpoint, command.directory.as_str(), command.confirm), (41, "/backup", None));
        assert_eq!((path.as_str(), inspect.job), ("/backup", None));
        for incomplete in ["tidemill savepoint", &format!("tidemill savepoint {job}"), "tidemill savepoint inspect"] {
            assert!(parse(incomplete).is_err(), "{incomplete}");
        }
    }
}
