//! The grammar of the commands about who the coordinators are.

use clap::Args;

use super::arguments::TargetArguments;

/// `cluster members`.
#[derive(Debug, Args)]
pub(super) struct MembersCommand {
    #[command(flatten)]
    pub(super) target: TargetArguments,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// `cluster add`.
#[derive(Debug, Args)]
pub(super) struct AddCommand {
    #[command(flatten)]
    pub(super) target: TargetArguments,
    /// The Raft address of the waiting coordinator.
    #[arg(value_name = "HOST:PORT")]
    pub(super) raft_address: String,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// `cluster remove`.
#[derive(Debug, Args)]
pub(super) struct RemoveCommand {
    #[command(flatten)]
    pub(super) target: TargetArguments,
    /// Its name or node id, as `tidemill cluster members` shows them.
    #[arg(value_name = "MEMBER")]
    pub(super) member: String,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// `cluster replace`.
#[derive(Debug, Args)]
pub(super) struct ReplaceCommand {
    #[command(flatten)]
    pub(super) target: TargetArguments,
    /// The name or node id of the one to replace.
    #[arg(value_name = "MEMBER")]
    pub(super) member: String,
    /// The Raft address of the waiting coordinator.
    #[arg(value_name = "HOST:PORT")]
    pub(super) raft_address: String,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// `cluster transfer-leader`.
#[derive(Debug, Args)]
pub(super) struct TransferLeaderCommand {
    #[command(flatten)]
    pub(super) target: TargetArguments,
    /// The name or node id of the one that shall lead [default: whoever is furthest].
    #[arg(value_name = "MEMBER")]
    pub(super) member: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}
