//! The `tidemill` command line: what it understands, and how its commands end.

mod admin;
mod arguments;
mod checkpoints;
mod cluster;
mod error;
mod jobs;
mod json;
pub mod local_cluster;
mod member_arguments;
mod members;
mod program;
mod savepoints;
mod sinks;
mod task_manager_arguments;
mod task_managers;
#[cfg(test)]
mod tests;
mod text;

use std::process::ExitCode;

use clap::Parser;

use self::admin::AdminCommand;
use self::arguments::{Arguments, Command};
use self::error::Error;

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        // Help and versions come as errors too; clap knows where to print what.
        Err(error) => error.exit(),
    };
    match run(arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tidemill: {error}");
            error.exit_code()
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    let given = arguments.coordinators;
    match arguments.command {
        Command::Cluster(command) => block_on(cluster::run(given, command)),
        Command::Admin(AdminCommand::Backup(command)) => block_on(admin::backup(given, command)),
        Command::Admin(AdminCommand::Restore(command)) => admin::restore(command),
        Command::Admin(AdminCommand::Recover(command)) => admin::recover(command),
        Command::Taskmanager(command) => block_on(task_managers::run(given, command)),
        Command::Run(command) => program::run(given, &command),
        Command::Info(command) => program::info(given, &command),
        Command::List(command) => {
            let consistency = command.read.consistency();
            block_on(jobs::list(command.cluster.resolve(given)?, consistency, command.json))
        }
        Command::Status(command) => {
            let consistency = command.read.consistency();
            block_on(jobs::status(command.cluster.resolve(given)?, command.job, consistency, command.json))
        }
        Command::Savepoint(command) => block_on(savepoints::run(given, command)),
        Command::Stop(command) => block_on(savepoints::stop(given, command)),
        Command::Sinks(command) => block_on(sinks::run(given, command)),
        Command::Checkpoints(command) => block_on(checkpoints::run(given, command)),
        Command::Cancel(command) => block_on(jobs::cancel(command.cluster.resolve(given)?, command.job, command.wait)),
    }
}

fn block_on(work: impl Future<Output = Result<ExitCode, Error>>) -> Result<ExitCode, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(Error::Runtime)?.block_on(work)
}
