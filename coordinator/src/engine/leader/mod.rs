//! The engines that only the leader runs: rebuilt at each takeover from the replicated state and from what
//! task managers report.

mod checkpoint_coordinator;
mod job_master;
mod message;
mod placement;
mod resource_manager;
mod slot_pool;
mod succession;

pub use checkpoint_coordinator::{CheckpointActivity, CheckpointFailure, PendingObservation, SubtaskSnapshot};
pub use job_master::{
    AttemptObservation, CheckpointNote, JobMaster, JobMasterAction, JobMasterEvent, JobMasterSettings, StorageAnswer,
};
pub use message::{
    AddressedCommand, ExecutorProcess, FinalizationKind, FinalizationReport, JobReport, SessionId, TaskManagerCommand,
    TaskManagerHello, TaskManagerMessage,
};
#[cfg(test)]
pub(crate) use placement::place;
pub use resource_manager::{
    DetectorSettings, ResourceManager, ResourceManagerAction, ResourceManagerEvent, TaskManagerObservation,
};
pub use slot_pool::{Grant, SlotPlacement, SlotPool, SlotRequestId};
pub use succession::Succession;
