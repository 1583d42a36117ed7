//! `tidemill cluster members`, `add`, `remove`, `replace` and `transfer-leader`.

use std::process::ExitCode;

use super::arguments::TargetArguments;
use super::cluster::load;
use super::error::Error;
use super::jobs::print;
use super::member_arguments::{AddCommand, MembersCommand, RemoveCommand, ReplaceCommand, TransferLeaderCommand};
use super::{json, text};
use crate::job_client::{JobClient, MembershipChanged};

/// Lists the coordinators.
pub(super) async fn members(before_command: Option<Vec<String>>, command: MembersCommand) -> Result<ExitCode, Error> {
    let members = client(command.target, before_command)?.members().await?;
    print(&if command.json { json::members(&members) } else { text::members(&members) })
}

/// Adds one.
pub(super) async fn add(before_command: Option<Vec<String>>, command: AddCommand) -> Result<ExitCode, Error> {
    let changed = client(command.target, before_command)?.add_member(&command.raft_address).await?;
    report(&changed, "is a voter now", command.json)
}

/// Removes one.
pub(super) async fn remove(before_command: Option<Vec<String>>, command: RemoveCommand) -> Result<ExitCode, Error> {
    let changed = client(command.target, before_command)?.remove_member(&command.member).await?;
    report(&changed, "is removed; stop it, and empty its directory before it is used again", command.json)
}

/// Puts one in another's place.
pub(super) async fn replace(before_command: Option<Vec<String>>, command: ReplaceCommand) -> Result<ExitCode, Error> {
    let client = client(command.target, before_command)?;
    let changed = client.replace_member(&command.member, &command.raft_address).await?;
    report(&changed, &format!("is a voter now in the place of {}", command.member), command.json)
}

/// Hands leadership over.
pub(super) async fn transfer_leader(
    before_command: Option<Vec<String>>,
    command: TransferLeaderCommand,
) -> Result<ExitCode, Error> {
    let changed = client(command.target, before_command)?.transfer_leader(command.member.as_deref()).await?;
    report(&changed, "leads now", command.json)
}

fn report(changed: &MembershipChanged, what: &str, as_json: bool) -> Result<ExitCode, Error> {
    let MembershipChanged { node, name, .. } = changed;
    print(&if as_json { json::membership(changed) } else { format!("coordinator {name} (node {node}) {what}\n") })
}

/// A client of the cluster that a command names.
pub(super) fn client(target: TargetArguments, before_command: Option<Vec<String>>) -> Result<JobClient, Error> {
    let coordinators = match &target.dir {
        Some(dir) => load(dir)?.addresses(),
        None => target.cluster.resolve(before_command)?,
    };
    Ok(JobClient::new(coordinators))
}
