//! `tidemill run` and `tidemill info`: they become the job program, which knows how to do the rest.

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use tidemill_model::config::{EXECUTION_STATE_RECOVERY_IGNORE_UNCLAIMED, EXECUTION_STATE_RECOVERY_PATH};

use super::arguments::{COORDINATORS_VARIABLE, InfoCommand, RunCommand};
use super::error::Error;

/// Runs a job program as a client of the cluster; returns only when it could not be started.
pub(super) fn run(before_command: Option<Vec<String>>, command: &RunCommand) -> Result<ExitCode, Error> {
    let coordinators = command.cluster.resolve_ref(before_command)?;
    become_program(&command.program, &coordinators, &run_arguments(command))
}

/// Lets a job program print its plan; returns only when it could not be started.
///
/// It is told of the coordinators, which it does not ask, so that the plan is the one that `run` would submit.
pub(super) fn info(before_command: Option<Vec<String>>, command: &InfoCommand) -> Result<ExitCode, Error> {
    let coordinators = command.cluster.resolve_ref(before_command)?;
    become_program(&command.program, &coordinators, &info_arguments(command))
}

pub(super) fn run_arguments(command: &RunCommand) -> Vec<OsString> {
    let mut own = job_arguments(command.parallelism, &command.settings);
    if let Some(path) = &command.savepoint {
        own.extend(["-D".into(), format!("{}={path}", EXECUTION_STATE_RECOVERY_PATH.key()).into()]);
    }
    if command.allow_non_restored_state {
        own.extend(["-D".into(), format!("{}=true", EXECUTION_STATE_RECOVERY_IGNORE_UNCLAIMED.key()).into()]);
    }
    if command.detached {
        own.push("--detached".into());
    }
    with_program_arguments(own, &command.arguments)
}

pub(super) fn info_arguments(command: &InfoCommand) -> Vec<OsString> {
    let mut own = job_arguments(command.parallelism, &command.settings);
    own.push("--plan".into());
    with_program_arguments(own, &command.arguments)
}

/// What every job program takes out of its arguments; they are recorded with the job, so executors see them too.
fn job_arguments(parallelism: Option<NonZeroU32>, settings: &[String]) -> Vec<OsString> {
    let parallelism = parallelism.into_iter().flat_map(|count| ["--parallelism".into(), count.to_string().into()]);
    let settings = settings.iter().flat_map(|setting| ["-D".into(), setting.into()]);
    parallelism.chain(settings).collect()
}

/// The double dash keeps a program's own `-p` from being taken for ours.
fn with_program_arguments(mut own: Vec<OsString>, arguments: &[OsString]) -> Vec<OsString> {
    if !arguments.is_empty() {
        own.push("--".into());
        own.extend_from_slice(arguments);
    }
    own
}

/// Replaces this process, so that signals, output and the exit code are the program's own.
fn become_program(program: &Path, coordinators: &[String], arguments: &[OsString]) -> Result<ExitCode, Error> {
    let mut command = Command::new(here_or_in_path(program));
    command.args(arguments).env(COORDINATORS_VARIABLE, coordinators.join(","));
    let reason = match command.exec() {
        error if error.kind() == std::io::ErrorKind::NotFound => {
            "there is no such file, nor a program of that name in $PATH".to_owned()
        }
        error => format!("{error}; it must be an executable file built for this machine"),
    };
    Err(Error::Program { program: program.display().to_string(), reason })
}

/// A bare name means the file here when there is one, as people expect who have just built it.
fn here_or_in_path(program: &Path) -> PathBuf {
    let is_bare = program.parent() == Some(Path::new(""));
    if is_bare && program.is_file() { Path::new(".").join(program) } else { program.to_owned() }
}
