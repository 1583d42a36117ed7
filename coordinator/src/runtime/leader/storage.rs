//! What a job's master asks of the checkpoint storage.

use std::time::Duration;

use tidemill_failpoint::FailPoint;
use tidemill_model::id::JobId;
use tidemill_storage::{CheckpointStorage, Error, Patience};

use crate::engine::leader::StorageAnswer;
use crate::engine::replicated::Garbage;

/// A request about one job's folder.
pub(super) enum Request {
    Delete(Garbage),
    List,
}

/// Carries it out, and waits for as long as it takes.
pub(super) async fn carry_out(directory: String, job: JobId, request: Request) -> Result<StorageAnswer, Error> {
    let storage = open(directory, Patience::Long).await?.job(job);
    match request {
        Request::Delete(garbage) => {
            FailPoint::GarbagePreDelete.hit();
            match &garbage {
                Garbage::Files(paths) => storage.delete(paths).await?,
                Garbage::Folder => storage.delete_all().await?,
            }
            tracing::debug!(job_id = %job, %garbage, "deleted in the checkpoint storage");
            Ok(StorageAnswer::Deleted(garbage))
        }
        Request::List => {
            let mut paths = storage.list_unfinished().await?;
            paths.extend(storage.list().await?.into_iter().map(|(path, _)| path));
            Ok(StorageAnswer::Listed(paths))
        }
    }
}

/// How long a storage may take to answer before a job is refused that would rely on it.
const CHECK_LIMIT: Duration = Duration::from_secs(10);

/// Whether a job can keep checkpoints there: told at submission rather than by its first checkpoint; else why not.
pub(super) async fn check(directory: &str) -> Result<(), String> {
    let check = async { open(directory.to_owned(), Patience::Short).await?.check().await };
    match tokio::time::timeout(CHECK_LIMIT, check).await {
        Ok(checked) => checked.map_err(|error| error.to_string()),
        Err(_) => Err(format!("use checkpoint folder {directory:?}: it has not answered for {CHECK_LIMIT:?}")),
    }
}

/// Opening a folder of a file system looks at the disk, which may take its time.
async fn open(directory: String, patience: Patience) -> Result<CheckpointStorage, Error> {
    let opened = tokio::task::spawn_blocking(move || CheckpointStorage::open_with(&directory, patience)).await;
    opened.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}
