//! Stores what `collect()` sub-tasks gathered as blobs at the leader, before the leader hears that they finished.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tidemill_model::execution::{CollectedPart, Failure, FailureKind};
use tidemill_model::id::{BlobId, ExecutionAttemptId};
use tidemill_proto::{convert, pb};
use tokio_stream::StreamExt;
use tracing::warn;

use super::backoff::Backoff;
use super::coordinators::Coordinators;
use crate::engine::{Collected, Event};

/// The size of the pieces in which a blob travels: far below any message limit.
const CHUNK_BYTES: usize = 256 << 10;

const BACKOFF_INITIAL: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Stores all parts, however long that takes, unless one is refused; aborted when nobody waits for them any more.
pub(crate) async fn store(
    attempt: ExecutionAttemptId,
    collected: Vec<Collected>,
    coordinators: Arc<Coordinators>,
) -> Event {
    let mut parts = Vec::with_capacity(collected.len());
    for Collected { collect_index, subtask, records } in collected {
        let records = Bytes::from_owner(records);
        let blob = hash(records.clone()).await;
        if let Err(message) = put(blob, &records, &coordinators).await {
            let failure = Failure { kind: FailureKind::InvalidInput, vertex: None, operator: None, message };
            return Event::CollectedRefused { attempt, failure };
        }
        parts.push(CollectedPart { collect_index, subtask, blob });
    }
    Event::CollectedStored { attempt, parts }
}

async fn hash(records: Bytes) -> BlobId {
    let digest = move || BlobId(Sha256::digest(&records).into());
    tokio::task::spawn_blocking(digest).await.expect("hashing does not panic, and nobody aborts it")
}

/// Why a coordinator did not take a blob.
enum Refusal {
    /// Trying again cannot help.
    Final(String),
    Passing(String),
}

/// The error is a refusal that trying again would not change.
async fn put(blob: BlobId, records: &Bytes, coordinators: &Coordinators) -> Result<(), String> {
    let mut backoff = Backoff::new(BACKOFF_INITIAL, BACKOFF_MAX);
    loop {
        for address in coordinators.leader_first() {
            match put_at(blob, records, &address, coordinators).await {
                Ok(()) => return Ok(()),
                Err(Refusal::Final(reason)) => return Err(format!("store collected records: {reason}")),
                Err(Refusal::Passing(reason)) => warn!(%blob, %address, "store collected records: {reason}"),
            }
        }
        backoff.pause().await;
    }
}

async fn put_at(blob: BlobId, records: &Bytes, address: &str, coordinators: &Coordinators) -> Result<(), Refusal> {
    let passing = |error: tonic::transport::Error| Refusal::Passing(error.to_string());
    let mut client = coordinators.client(address).map_err(passing)?;
    let first = pb::BlobChunk { id: convert::blob_bytes(blob), data: Bytes::new() };
    let records = records.clone();
    let starts = (0..records.len()).step_by(CHUNK_BYTES);
    let rest = starts.map(move |start| {
        let end = records.len().min(start + CHUNK_BYTES);
        pb::BlobChunk { id: Bytes::new(), data: records.slice(start..end) }
    });
    let chunks = tokio_stream::once(first).chain(tokio_stream::iter(rest));
    client.put_blob(chunks).await.map(drop).map_err(|status| {
        // Such as one that is larger than `blob.max-size`.
        if convert::error_detail(&status).is_some_and(|detail| detail.kind() == pb::ErrorKind::User) {
            Refusal::Final(status.message().to_owned())
        } else {
            Refusal::Passing(status.to_string())
        }
    })
}
