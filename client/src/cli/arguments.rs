//! The grammar of the command line.

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use tidemill_model::id::JobId;

use super::admin::AdminCommand;
use super::checkpoints::CheckpointsCommand;
use super::error::Error;
use super::member_arguments::{AddCommand, MembersCommand, RemoveCommand, ReplaceCommand, TransferLeaderCommand};
use super::savepoints::{SavepointCommand, StopJobCommand};
use super::sinks::SinksCommand;
use super::task_manager_arguments::TaskManagerCommand;
use crate::job_client::Consistency;

/// The environment variable that names the coordinators.
pub(super) const COORDINATORS_VARIABLE: &str = "TIDEMILL_COORDINATORS";
/// Where a coordinator with default settings listens.
const DEFAULT_COORDINATOR: &str = "127.0.0.1:6123";

const EXAMPLES: &str = "\
Try it on this machine:
  tidemill cluster start --dir /tmp/tide --coordinators 3 --taskmanagers 2 --slots 2
  export TIDEMILL_COORDINATORS=...          (printed by `cluster start`)
  tidemill run -p 4 ./word_count -- input.txt counts.csv
  tidemill list
  tidemill cluster status
  tidemill cluster stop --dir /tmp/tide

Exit codes:
  0  done
  1  the thing asked for failed: a job failed, or does not exist
  2  the command line is wrong
  3  the cluster cannot be reached, or has no leader: try again";

/// Runs and watches jobs on a Tidemill cluster, and clusters on this machine.
#[derive(Debug, Parser)]
#[command(name = "tidemill", version, after_help = EXAMPLES, propagate_version = true, arg_required_else_help = true)]
pub(super) struct Arguments {
    /// Client addresses of the coordinators; any that answers is enough to find the leader [default:
    /// $TIDEMILL_COORDINATORS, else 127.0.0.1:6123].
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',', id = "all_coordinators")]
    pub(super) coordinators: Option<Vec<String>>,
    /// What to do.
    #[command(subcommand)]
    pub(super) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Start, stop, initialize and look at clusters.
    #[command(subcommand, arg_required_else_help = true)]
    Cluster(ClusterCommand),
    /// Back a cluster up, restore it, or recover one whose quorum is gone for good.
    #[command(subcommand, arg_required_else_help = true)]
    Admin(AdminCommand),
    /// List task managers, and have one left by what runs there before it is stopped.
    #[command(subcommand, arg_required_else_help = true)]
    Taskmanager(TaskManagerCommand),
    /// Run a job program on the cluster and follow it to its end.
    Run(RunCommand),
    /// Print the plan of a job program without running it.
    Info(InfoCommand),
    /// List the jobs of the cluster, ended ones included.
    List(ListCommand),
    /// Show a job: its status, history, sub-tasks and where they run.
    Status(StatusCommand),
    /// Take a savepoint of a job, a folder that another job can start from, or show what is in one.
    Savepoint(SavepointCommand),
    /// Show a job's checkpoints: which are kept, what is under way, why the last one failed, each sub-task's part.
    Checkpoints(CheckpointsCommand),
    /// Show what sinks have written and not yet published.
    #[command(subcommand, arg_required_else_help = true)]
    Sinks(SinksCommand),
    /// Stop a job at a savepoint from which another can go on, or as if its sources had ended.
    Stop(StopJobCommand),
    /// Cancel a job; its unfinished output is removed.
    Cancel(CancelCommand),
}

/// Which cluster.
#[derive(Debug, Args)]
pub(super) struct ClusterArguments {
    /// Client addresses of the coordinators [default: $TIDEMILL_COORDINATORS, else 127.0.0.1:6123].
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',')]
    coordinators: Option<Vec<String>>,
}

impl ClusterArguments {
    /// The coordinators: the command's own, those given before the command, the environment's, or the default.
    pub(super) fn resolve(self, before_command: Option<Vec<String>>) -> Result<Vec<String>, Error> {
        let variable = std::env::var(COORDINATORS_VARIABLE).ok();
        choose_coordinators(self.coordinators.or(before_command), variable.as_deref())
    }

    /// The same, with the command's own by reference.
    pub(super) fn resolve_ref(&self, before_command: Option<Vec<String>>) -> Result<Vec<String>, Error> {
        Self { coordinators: self.coordinators.clone() }.resolve(before_command)
    }
}

pub(super) fn choose_coordinators(given: Option<Vec<String>>, variable: Option<&str>) -> Result<Vec<String>, Error> {
    let from_variable = || variable.map(|list| list.split(',').map(str::to_owned).collect());
    let list: Vec<String> = given.or_else(from_variable).unwrap_or_default();
    let list: Vec<String> = list.iter().map(|address| address.trim().to_owned()).filter(|a| !a.is_empty()).collect();
    if list.is_empty() {
        return Ok(vec![DEFAULT_COORDINATOR.to_owned()]);
    }
    match list.iter().find(|address| !is_address(address)) {
        Some(address) => Err(Error::Address { address: address.clone() }),
        None => Ok(list),
    }
}

fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

/// Commands about clusters.
#[derive(Debug, Subcommand)]
pub(super) enum ClusterCommand {
    /// Start a cluster of processes on this machine, or start a stopped one again.
    #[command(after_help = "\
Everything lies in DIR: cluster.toml (ports, pids), a folder for each process, logs/. A stopped cluster starts again \
from its data, on the same ports, with all its jobs.

Examples:
  tidemill cluster start --dir /tmp/tide
  tidemill cluster start --dir /tmp/tide --coordinators 3 --taskmanagers 4 --slots 2 -D heartbeat.timeout='1 s'")]
    Start(StartCommand),
    /// Show coordinators, task managers, slots and takeovers.
    #[command(after_help = "\
Exit code 0 means that the cluster has a leader, 3 that it has none or nobody answers.

Examples:
  tidemill cluster status --coordinators a:6123,b:6123,c:6123
  tidemill cluster status --dir /tmp/tide --json")]
    Status(ClusterStatusCommand),
    /// Stop a cluster that `cluster start` started; its data and jobs stay.
    Stop(StopCommand),
    /// List the coordinators: who votes, who leads, who lags.
    #[command(after_help = "\
ROLE is leader, voter or learner (one that receives the log and is not counted yet). LAG is how many entries of the \
leader's log a coordinator has not applied.

Example:
  tidemill cluster members --coordinators a:6123,b:6123,c:6123")]
    Members(MembersCommand),
    /// Make a waiting coordinator a member.
    #[command(after_help = "\
Start the coordinator with an empty data directory and a name of its own; it waits. It gets a node id that no other ever \
had, receives the log and every artifact as a learner, and only then votes. The command returns when it does; when it is \
interrupted, give it again.

Example:
  tidemill-coordinator -D coordinator.name=c4 -D coordinator.dir=/var/lib/tidemill -D coordinator.host=c4 ...
  tidemill cluster add c4:6124")]
    Add(AddCommand),
    /// Remove a coordinator; the leader hands leadership over first.
    #[command(after_help = "\
Refused when those that stay would have no quorum that answers. The removed process goes on and is ignored: stop it, and \
empty its directory before it is used again.

Example:
  tidemill cluster remove c4")]
    Remove(RemoveCommand),
    /// Put a waiting coordinator in another one's place, in one step: for a machine or a disk that is lost.
    #[command(after_help = "\
The new one may have the old one's name and addresses, but starts with an empty data directory and gets a node id of its \
own: the old one's votes are not forgotten, they are retired.

Example:
  tidemill cluster replace c2 c2:6124")]
    Replace(ReplaceCommand),
    /// Hand leadership to another coordinator; running jobs notice nothing.
    #[command(
        name = "transfer-leader",
        after_help = "\
Examples:
  tidemill cluster transfer-leader          (to whoever is furthest)
  tidemill cluster transfer-leader c2"
    )]
    TransferLeader(TransferLeaderCommand),
    /// Make a cluster of coordinators that wait for it; once in its life.
    #[command(after_help = "\
Every coordinator must be running and be configured with the same `coordinator.join` list. Repeating the command on \
the same coordinators is harmless.

Example:
  tidemill cluster init --coordinators a:6123,b:6123,c:6123")]
    Init(InitCommand),
}

/// `cluster start`.
#[derive(Debug, Args)]
pub(super) struct StartCommand {
    /// How many coordinators; 3 survive the loss of one, 5 of two [default: 3].
    #[arg(long, value_name = "N")]
    pub(super) coordinators: Option<NonZeroU32>,
    /// How many task managers [default: 2].
    #[arg(long, value_name = "N")]
    pub(super) taskmanagers: Option<u32>,
    /// How many task slots each task manager has [default: 2].
    #[arg(long, value_name = "N")]
    pub(super) slots: Option<NonZeroU32>,
    /// The cluster's folder.
    #[arg(long, value_name = "DIR")]
    pub(super) dir: PathBuf,
    /// An option for every process; may be given several times.
    #[arg(short = 'D', value_name = "KEY=VALUE")]
    pub(super) settings: Vec<String>,
    /// Stay in the foreground, and stop the cluster at Ctrl-C.
    #[arg(long)]
    pub(super) wait: bool,
}

/// `cluster status`.
#[derive(Debug, Args)]
pub(super) struct ClusterStatusCommand {
    #[command(flatten)]
    pub(super) cluster: ClusterArguments,
    /// The folder of a local cluster, instead of --coordinators.
    #[arg(long, value_name = "DIR", conflicts_with = "coordinators")]
    pub(super) dir: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// `cluster stop`.
#[derive(Debug, Args)]
pub(super) struct StopCommand {
    /// The cluster's folder.
    #[arg(long, value_name = "DIR")]
    pub(super) dir: PathBuf,
}

/// Which cluster, by its coordinators or as a folder on this machine.
#[derive(Debug, Args)]
pub(super) struct TargetArguments {
    #[command(flatten)]
    pub(super) cluster: ClusterArguments,
    /// The folder of a local cluster, instead of --coordinators.
    #[arg(long, value_name = "DIR", conflicts_with = "coordinators")]
    pub(super) dir: Option<PathBuf>,
}

/// How consistent a read shall be.
#[derive(Debug, Args)]
pub(super) struct ReadArguments {
    /// What the answer must know: everything acknowledged before (linearizable), the same by the leader's lease
    /// (lease), or just what the coordinator that answers has (stale).
    #[arg(long, value_name = "linearizable|lease|stale", default_value_t)]
    consistency: Consistency,
    /// Short for --consistency stale: works without a leader, and says how old the answer may be.
    #[arg(long, conflicts_with = "consistency")]
    stale: bool,
}

impl ReadArguments {
    pub(super) fn consistency(&self) -> Consistency {
        if self.stale { Consistency::Stale } else { self.consistency }
    }
}

/// `cluster init`.
#[derive(Debug, Args)]
pub(super) struct InitCommand {
    #[command(flatten)]
    pub(super) cluster: ClusterArguments,
}

/// `run`.
#[derive(Debug, Args)]
#[command(after_help = "\
The program is an ordinary executable that links the `tidemill` crate; it is uploaded as it is. Its exit code is this \
command's. Ctrl-C ends the program here, but not the job: cancel it with `tidemill cancel`.

Examples:
  tidemill run ./word_count -- input.txt counts.csv
  tidemill run -p 8 -d -D execution.runtime-mode=streaming ./word_count -- input.txt counts.csv")]
pub(super) struct RunCommand {
    #[command(flatten)]
    pub(super) cluster: ClusterArguments,
    /// The job program: a path, or a name that is looked up in $PATH.
    #[arg(value_name = "PROGRAM")]
    pub(super) program: PathBuf,
    /// The parallelism of operators that do not set their own.
    #[arg(short, long, value_name = "N")]
    pub(super) parallelism: Option<NonZeroU32>,
    /// Return when the job is accepted.
    #[arg(short, long)]
    pub(super) detached: bool,
    /// An option of the job; may be given several times.
    #[arg(short = 'D', value_name = "KEY=VALUE")]
    pub(super) settings: Vec<String>,
    /// Start from this savepoint: its folder, as a URL or an absolute path.
    #[arg(short = 's', long = "from-savepoint", value_name = "PATH")]
    pub(super) savepoint: Option<String>,
    /// Leave state behind whose operator the program does not have.
    #[arg(long, requires = "savepoint")]
    pub(super) allow_non_restored_state: bool,
    /// The program's own arguments.
    #[arg(last = true, value_name = "ARGS")]
    pub(super) arguments: Vec<OsString>,
}

/// `info`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tidemill info ./word_count -- input.txt counts.csv")]
pub(super) struct InfoCommand {
    #[command(flatten)]
    pub(super) cluster: ClusterArguments,
    /// The job program: a path, or a name that is looked up in $PATH.
    #[arg(value_name = "PROGRAM")]
    pub(super) program: PathBuf,
    /// The parallelism of operators that do not set their own.
    #[arg(short, long, value_name = "N")]
    pub(super) parallelism: Option<NonZeroU32>,
    /// An option of the job; may be given several times.
    #[arg(short = 'D', value_name = "KEY=VALUE")]
    pub(super) settings: Vec<String>,
    /// The program's own arguments.
    #[arg(last = true, value_name = "ARGS")]
    pub(super) arguments: Vec<OsString>,
}

/// `list`.
#[derive(Debug, Args)]
pub(super) struct ListCommand {
    #[command(flatten)]
    pub(super) cluster: ClusterArguments,
    #[command(flatten)]
    pub(super) read: ReadArguments,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// `status`.
#[derive(Debug, Args)]
pub(super) struct StatusCommand {
    #[command(flatten)]
    pub(super) cluster: ClusterArguments,
    #[command(flatten)]
    pub(super) read: ReadArguments,
    /// The job's id, as `tidemill list` shows it.
    #[arg(value_name = "JOB")]
    pub(super) job: JobId,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// `cancel`.
#[derive(Debug, Args)]
pub(super) struct CancelCommand {
    #[command(flatten)]
    pub(super) cluster: ClusterArguments,
    /// The job's id, as `tidemill list` shows it.
    #[arg(value_name = "JOB")]
    pub(super) job: JobId,
    /// Wait until the job has ended.
    #[arg(long)]
    pub(super) wait: bool,
}
