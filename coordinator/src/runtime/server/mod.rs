//! The coordinator as a process: its data directory, its replica of the log, its services.
//!
//! Services are thin: they convert, call and convert. What is decided is decided in the engines.

mod admin;
mod backup;
mod blob_exchange;
mod blob_store;
mod bootstrap;
mod chaos;
mod checkpoint_overview;
mod client_service;
mod cluster_details;
mod coordinator;
mod data_directory;
mod draining;
mod http;
mod job_details;
mod membership;
mod metrics;
mod node;
mod raft_service;
mod reads;
mod recovery;
mod refusal;
mod session_messages;
mod settings;
mod task_manager_service;

pub use backup::{Backup, Error as BackupError, Header as BackupHeader};
pub use blob_store::{BlobStore, Error as BlobError};
pub use bootstrap::Error as BootstrapError;
pub use coordinator::{Coordinator, Error};
pub use data_directory::{DataDirectory, Error as DataDirectoryError, Identity};
pub use membership::{Changed, Error as MembershipError, MembershipChange};
pub use node::{Node, Replica};
pub use recovery::{Begun, Error as RecoveryError, Plan as RecoveryPlan};
pub use settings::{ChaosApi, CoordinatorSettings, Error as SettingsError};
