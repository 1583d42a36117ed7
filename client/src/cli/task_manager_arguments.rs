//! The grammar of the commands about task managers.

use clap::{Args, Subcommand};

use super::arguments::TargetArguments;

/// `taskmanager`.
#[derive(Debug, Subcommand)]
pub(super) enum TaskManagerCommand {
    /// List the task managers: their slots, whether they drain, and the jobs that have slots there.
    List(ListCommand),
    /// Have a task manager left by everything that runs there, before it is stopped.
    #[command(after_help = "\
It gets nothing new. A job that runs there asks for slots on other task managers and runs on until it has all of them; \
then what is tied to the sub-tasks there is started anew, from the last completed checkpoint (a job without checkpoints: \
from its beginning). That counts as a restart in `status`, and not as a failure for the restart strategy. Where there is \
no room, `tidemill status JOB` says so.

The drain holds for the process that runs now, through any change of leaders: a task manager that is started again takes \
work.

Examples:
  tidemill taskmanager drain worker-3:6121 --wait    (then stop it)
  tidemill taskmanager undrain worker-3:6121")]
    Drain(DrainCommand),
    /// Let a task manager be used again; what has moved stays where it is.
    Undrain(UndrainCommand),
}

/// `taskmanager list`.
#[derive(Debug, Args)]
pub(super) struct ListCommand {
    #[command(flatten)]
    pub(super) target: TargetArguments,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// `taskmanager drain`.
#[derive(Debug, Args)]
pub(super) struct DrainCommand {
    #[command(flatten)]
    pub(super) target: TargetArguments,
    /// Its id or its name, as `tidemill taskmanager list` shows them.
    #[arg(value_name = "TASKMANAGER")]
    pub(super) task_manager: String,
    /// Return when no job has a slot there any more.
    #[arg(long)]
    pub(super) wait: bool,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// `taskmanager undrain`.
#[derive(Debug, Args)]
pub(super) struct UndrainCommand {
    #[command(flatten)]
    pub(super) target: TargetArguments,
    /// Its id or its name; its id also when it is not here.
    #[arg(value_name = "TASKMANAGER")]
    pub(super) task_manager: String,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}
