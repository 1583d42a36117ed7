//! Ids on the wire: UUIDs as 16 bytes in network order, hashes as their 32 bytes.

use bytes::Bytes;
use tidemill_model::id::{BlobId, ClusterId, DirectoryId, JobId, TaskManagerId};
use tidemill_model::job_graph::Fingerprint;
use uuid::Uuid;

use super::Error;
use crate::pb;

/// The wire form of a UUID.
#[must_use]
pub fn uuid_bytes(uuid: Uuid) -> Bytes {
    Bytes::copy_from_slice(uuid.as_bytes())
}

/// The wire form of a blob id.
#[must_use]
pub fn blob_bytes(id: BlobId) -> Bytes {
    Bytes::copy_from_slice(&id.0)
}

/// The wire form of a graph's fingerprint.
#[must_use]
pub fn fingerprint_bytes(fingerprint: Fingerprint) -> Bytes {
    Bytes::copy_from_slice(&fingerprint.0)
}

/// Reads a job id; `field` is `Message.field`, for the error.
///
/// # Errors
///
/// When there are not 16 bytes.
pub fn job_id(bytes: &Bytes, field: &'static str) -> Result<JobId, Error> {
    array(bytes, field).map(|bytes| JobId(Uuid::from_bytes(bytes)))
}

/// Reads the id of a task manager's incarnation; `field` is `Message.field`, for the error.
///
/// # Errors
///
/// When there are not 16 bytes.
pub fn task_manager_id(bytes: &Bytes, field: &'static str) -> Result<TaskManagerId, Error> {
    array(bytes, field).map(|bytes| TaskManagerId(Uuid::from_bytes(bytes)))
}

/// Reads a cluster id; `field` is `Message.field`, for the error.
///
/// # Errors
///
/// When there are not 16 bytes.
pub fn cluster_id(bytes: &Bytes, field: &'static str) -> Result<ClusterId, Error> {
    array(bytes, field).map(|bytes| ClusterId(Uuid::from_bytes(bytes)))
}

/// Reads a directory id; `field` is `Message.field`, for the error.
///
/// # Errors
///
/// When there are not 16 bytes.
pub fn directory_id(bytes: &Bytes, field: &'static str) -> Result<DirectoryId, Error> {
    array(bytes, field).map(|bytes| DirectoryId(Uuid::from_bytes(bytes)))
}

/// Reads a blob id; `field` is `Message.field`, for the error.
///
/// # Errors
///
/// When there are not 32 bytes.
pub fn blob_id(bytes: &Bytes, field: &'static str) -> Result<BlobId, Error> {
    array(bytes, field).map(BlobId)
}

/// Reads a graph's fingerprint; `field` is `Message.field`, for the error.
///
/// # Errors
///
/// When there are not 32 bytes.
pub fn fingerprint(bytes: &Bytes, field: &'static str) -> Result<Fingerprint, Error> {
    array(bytes, field).map(Fingerprint)
}

fn array<const LENGTH: usize>(bytes: &Bytes, field: &'static str) -> Result<[u8; LENGTH], Error> {
    bytes[..].try_into().map_err(|_| Error::Length { field, actual: bytes.len(), expected: LENGTH })
}

impl From<JobId> for pb::JobId {
    fn from(id: JobId) -> Self {
        Self { id: uuid_bytes(id.0) }
    }
}

impl TryFrom<pb::JobId> for JobId {
    type Error = Error;

    fn try_from(id: pb::JobId) -> Result<Self, Error> {
        job_id(&id.id, "JobId.id")
    }
}

impl From<BlobId> for pb::BlobId {
    fn from(id: BlobId) -> Self {
        Self { id: blob_bytes(id) }
    }
}

impl TryFrom<pb::BlobId> for BlobId {
    type Error = Error;

    fn try_from(id: pb::BlobId) -> Result<Self, Error> {
        blob_id(&id.id, "BlobId.id")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip() {
        let job = JobId(Uuid::from_u128(7));
        assert_eq!(JobId::try_from(pb::JobId::from(job)), Ok(job));
        assert_eq!(cluster_id(&uuid_bytes(job.0), "f"), Ok(ClusterId(job.0)));
        assert_eq!(directory_id(&uuid_bytes(job.0), "f"), Ok(DirectoryId(job.0)));
        assert_eq!(task_manager_id(&uuid_bytes(job.0), "f"), Ok(TaskManagerId(job.0)));
        let blob = BlobId([3; 32]);
        assert_eq!(BlobId::try_from(pb::BlobId::from(blob)), Ok(blob));
        let print = Fingerprint([4; 32]);
        assert_eq!(fingerprint(&fingerprint_bytes(print), "f"), Ok(print));
    }

    #[test]
    fn an_id_of_the_wrong_length_names_the_field() {
        let error = job_id(&Bytes::from_static(b"short"), "JobSpec.id").expect_err("5 bytes");
        assert_eq!(error.to_string(), "decode JobSpec.id: 5 bytes, expected 16");
        let error = BlobId::try_from(pb::BlobId { id: Bytes::from(vec![0; 33]) }).expect_err("33 bytes");
        assert_eq!(error, Error::Length { field: "BlobId.id", actual: 33, expected: 32 });
    }
}
