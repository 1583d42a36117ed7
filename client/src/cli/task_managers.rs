//! `tidemill taskmanager list`, `drain` and `undrain`.

use std::process::ExitCode;
use std::time::Duration;

use super::error::Error;
use super::jobs::print;
use super::members::client;
use super::task_manager_arguments::{DrainCommand, ListCommand, TaskManagerCommand, UndrainCommand};
use super::{json, text};
use crate::job_client::{DrainingSet, JobClient};

/// How often `drain --wait` looks.
const LOOK: Duration = Duration::from_millis(300);

/// Carries one of the commands out.
pub(super) async fn run(before_command: Option<Vec<String>>, command: TaskManagerCommand) -> Result<ExitCode, Error> {
    match command {
        TaskManagerCommand::List(ListCommand { target, json }) => {
            let managers = client(target, before_command)?.task_managers().await?;
            print(&if json { json::task_manager_list(&managers) } else { text::task_managers(&managers) })
        }
        TaskManagerCommand::Drain(DrainCommand { target, task_manager, wait, json }) => {
            let client = client(target, before_command)?;
            let set = client.drain(&task_manager).await?;
            if wait {
                wait_until_left(&client, &set).await?;
            }
            let what = if wait { "is drained: nothing runs there" } else { "is draining" };
            report(&set, what, json)
        }
        TaskManagerCommand::Undrain(UndrainCommand { target, task_manager, json }) => {
            report(&client(target, before_command)?.undrain(&task_manager).await?, "may be used again", json)
        }
    }
}

/// Until no job holds a slot there, or it is gone.
async fn wait_until_left(client: &JobClient, set: &DrainingSet) -> Result<(), Error> {
    loop {
        let managers = client.task_managers().await?;
        if !managers.iter().any(|manager| manager.id == set.id && !manager.jobs.is_empty()) {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn report(set: &DrainingSet, what: &str, as_json: bool) -> Result<ExitCode, Error> {
    let DrainingSet { id, name } = set;
    print(&if as_json { json::draining(set) } else { format!("task manager {name} ({id}) {what}\n") })
}
