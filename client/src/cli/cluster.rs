//! `tidemill cluster start`, `status`, `stop` and `init`.

use std::path::Path;
use std::process::ExitCode;

use super::arguments::{ClusterCommand, ClusterStatusCommand, InitCommand, StartCommand, StopCommand};
use super::error::{Error, FAILED, NO_CLUSTER};
use super::jobs::print;
use super::local_cluster::{Layout, LocalCluster, LocalClusterSpec, Programs};
use super::{json, members, text};
use crate::job_client::{self, ClusterStatus, JobClient};

/// What each coordinator said, by address.
pub(super) type Answers = Vec<(String, Result<ClusterStatus, job_client::Error>)>;

/// Runs a command about clusters.
pub(super) async fn run(before_command: Option<Vec<String>>, command: ClusterCommand) -> Result<ExitCode, Error> {
    match command {
        ClusterCommand::Start(command) => start(command).await,
        ClusterCommand::Status(command) => status(before_command, command).await,
        ClusterCommand::Stop(command) => stop(command).await,
        ClusterCommand::Init(command) => init(before_command, command).await,
        ClusterCommand::Members(command) => members::members(before_command, command).await,
        ClusterCommand::Add(command) => members::add(before_command, command).await,
        ClusterCommand::Remove(command) => members::remove(before_command, command).await,
        ClusterCommand::Replace(command) => members::replace(before_command, command).await,
        ClusterCommand::TransferLeader(command) => members::transfer_leader(before_command, command).await,
    }
}

async fn start(command: StartCommand) -> Result<ExitCode, Error> {
    let spec = LocalClusterSpec {
        dir: command.dir,
        coordinators: command.coordinators.map(u32::from),
        task_managers: command.taskmanagers,
        slots: command.slots.map(u32::from),
        settings: command.settings,
        programs: Programs::find()?,
        kill_on_drop: false,
    };
    let mut cluster = LocalCluster::start(spec).await?;
    print(&text::started(cluster.layout(), cluster.dir()))?;
    if command.wait {
        eprintln!("press Ctrl-C to stop the cluster");
        tokio::signal::ctrl_c().await.map_err(Error::Runtime)?;
        cluster.stop().await?;
        eprintln!("stopped");
    }
    Ok(ExitCode::SUCCESS)
}

async fn status(before_command: Option<Vec<String>>, command: ClusterStatusCommand) -> Result<ExitCode, Error> {
    let layout = command.dir.as_deref().map(load).transpose()?;
    let coordinators = match &layout {
        Some(layout) => layout.addresses(),
        None => command.cluster.resolve(before_command)?,
    };
    let answers = JobClient::new(coordinators).cluster_status().await;
    let output = if command.json { json::cluster(&answers) } else { text::cluster(&answers, layout.as_ref()) };
    print(&output)?;
    Ok(verdict(&answers))
}

/// What the leader said; of two that believe they lead, the later one is right.
pub(super) fn leading(answers: &Answers) -> Option<&ClusterStatus> {
    let statuses = answers.iter().filter_map(|(_, answer)| answer.as_ref().ok());
    statuses.filter(|status| status.from_leader()).max_by_key(|status| status.epoch)
}

/// 0 with a leader, 1 when the cluster was never made, 3 when nobody leads or answers.
pub(super) fn verdict(answers: &Answers) -> ExitCode {
    let uninitialized = |(_, answer): &(_, Result<_, _>)| *answer == Err(job_client::Error::NotInitialized);
    if leading(answers).is_some() {
        ExitCode::SUCCESS
    } else if answers.iter().all(uninitialized) {
        FAILED.into()
    } else {
        NO_CLUSTER.into()
    }
}

async fn stop(command: StopCommand) -> Result<ExitCode, Error> {
    // Stopping needs no programs: the binaries may have been moved away since.
    let programs = Programs { coordinator: "".into(), task_manager: "".into() };
    let stopped = LocalCluster::open(&command.dir, programs)?.stop().await?;
    if stopped.is_empty() {
        return print("nothing was running\n");
    }
    let names: Vec<String> = stopped.iter().map(ToString::to_string).collect();
    print(&format!("stopped {}\n", names.join(", ")))
}

async fn init(before_command: Option<Vec<String>>, command: InitCommand) -> Result<ExitCode, Error> {
    let cluster = JobClient::new(command.cluster.resolve(before_command)?).init_cluster().await?;
    print(&format!("cluster {cluster} is initialized\n"))
}

/// The local cluster of a folder.
pub(super) fn load(dir: &Path) -> Result<Layout, Error> {
    let programs = Programs { coordinator: "".into(), task_manager: "".into() };
    Ok(LocalCluster::open(dir, programs).map(|cluster| cluster.layout().clone())?)
}
