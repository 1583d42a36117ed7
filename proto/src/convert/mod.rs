//! The conversions between wire messages and the model: total outwards, validated inwards.
//!
//! `From<model::X> for pb::X` never fails; `TryFrom<pb::X> for model::X` names the field that does not fit, so
//! that no message of a peer reaches an engine half understood.

mod checkpoint;
mod error;
mod execution;
mod id;
mod job;
mod job_graph;
mod settings;
mod status;

pub use error::Error;
pub use execution::{finalization_from_pb, finalization_to_pb};
pub use id::{
    blob_bytes, blob_id, cluster_id, directory_id, fingerprint, fingerprint_bytes, job_id, task_manager_id, uuid_bytes,
};
pub use status::{error_detail, status};

/// The value of a field that every sender sets.
fn required<T>(value: Option<T>, field: &'static str) -> Result<T, Error> {
    value.ok_or(Error::Missing { field })
}

/// Converts a list, element by element.
fn list<From, To>(values: Vec<From>) -> Result<Vec<To>, Error>
where
    To: TryFrom<From, Error = Error>,
{
    values.into_iter().map(To::try_from).collect()
}

/// A duration in whole milliseconds, as the wire carries it.
fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
