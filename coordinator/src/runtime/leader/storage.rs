//! What a job's master asks of the checkpoint storage.

use tidemill_model::id::JobId;
use tidemill_storage::{CheckpointStorage, Error};

use crate::engine::leader::StorageAnswer;
use crate::engine::replicated::Garbage;

/// A request about one job's folder.
pub(super) enum Request {
    Delete(Garbage),
    List,
}

/// Carries it out, and waits for as long as it takes.
pub(super) async fn carry_out(directory: String, job: JobId, request: Request) -> Result<StorageAnswer, Error> {
    let storage = open(directory).await?.job(job);
    match request {
        Request::Delete(garbage) => {
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

/// Opening a folder of a file system looks at the disk, which may take its time.
async fn open(directory: String) -> Result<CheckpointStorage, Error> {
    let opened = tokio::task::spawn_blocking(move || CheckpointStorage::open(&directory)).await;
    opened.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}
