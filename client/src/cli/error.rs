//! How a command fails, and what its exit code then is.

use std::process::ExitCode;

use super::local_cluster;
use crate::job_client;

/// The thing asked for failed.
pub(super) const FAILED: u8 = 1;
/// The command line was wrong.
const USAGE: u8 = 2;
/// The cluster cannot be reached, or has no leader.
pub(super) const NO_CLUSTER: u8 = 3;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The cluster could not be asked, or refused.
    #[error(transparent)]
    Client(#[from] job_client::Error),
    /// There is no savepoint.
    #[error(transparent)]
    Savepoint(Box<job_client::SavepointError>),
    /// There is nothing to fall back to.
    #[error(transparent)]
    FallBack(Box<job_client::FallBackError>),
    /// It is not known what sinks have open.
    #[error(transparent)]
    PendingSinks(Box<job_client::PendingSinksError>),
    /// A savepoint cannot be read.
    #[error(transparent)]
    Storage(Box<tidemill_storage::Error>),
    /// A table of contents in a savepoint cannot be read.
    #[error(transparent)]
    Snapshot(#[from] tidemill_dataflow::engine::snapshot::Error),
    /// Arguments are missing.
    #[error("{0}")]
    Usage(&'static str),
    /// The local cluster does not do what it was told.
    #[error(transparent)]
    LocalCluster(#[from] local_cluster::Error),
    /// A program was not started.
    #[error("run program {program}: {reason}")]
    Program {
        /// As it was given.
        program: String,
        /// Why.
        reason: String,
    },
    /// An address is not `host:port`.
    #[error("read coordinators: {address:?} is not host:port; give a list such as --coordinators a:6123,b:6123,c:6123")]
    Address {
        /// The text.
        address: String,
    },
    /// The command line's own runtime did not start.
    #[error("start client: {0}")]
    Runtime(#[source] std::io::Error),
    /// The result was not written.
    #[error("write to standard output: {0}")]
    Output(#[from] std::io::Error),
    /// The operator's answer was not read.
    #[error("read confirmation: {0}")]
    Input(#[source] std::io::Error),
}

impl From<job_client::SavepointError> for Error {
    fn from(error: job_client::SavepointError) -> Self {
        Self::Savepoint(Box::new(error))
    }
}

impl From<job_client::FallBackError> for Error {
    fn from(error: job_client::FallBackError) -> Self {
        Self::FallBack(Box::new(error))
    }
}

impl From<job_client::PendingSinksError> for Error {
    fn from(error: job_client::PendingSinksError) -> Self {
        Self::PendingSinks(Box::new(error))
    }
}

impl From<tidemill_storage::Error> for Error {
    fn from(error: tidemill_storage::Error) -> Self {
        Self::Storage(Box::new(error))
    }
}

impl Error {
    /// What the shell shall see.
    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Client(error) | Self::LocalCluster(local_cluster::Error::Client(error)) if error.retryable() => {
                NO_CLUSTER.into()
            }
            Self::LocalCluster(local_cluster::Error::Setting(_)) | Self::Address { .. } | Self::Usage(_) => {
                USAGE.into()
            }
            Self::Client(_)
            | Self::Savepoint(_)
            | Self::FallBack(_)
            | Self::PendingSinks(_)
            | Self::Storage(_)
            | Self::Snapshot(_)
            | Self::LocalCluster(_)
            | Self::Program { .. }
            | Self::Runtime(_)
            | Self::Output(_)
            | Self::Input(_) => FAILED.into(),
        }
    }
}
