//! A stream of submissions that goes on while a test does something to the cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tidemill::job_client::JobClient;
use tidemill_model::id::{JobId, JobVertexId};
use tidemill_model::job::{JobSettings, JobSpec, Program};
use tidemill_model::job_graph::{JobGraph, JobVertex, OperatorDescriptor, SlotSharingGroup};
use tokio::task::JoinHandle;
use uuid::Uuid;

/// Between two submissions: a load, and not the machine's limit.
const PAUSE: Duration = Duration::from_millis(5);
/// More slots than any cluster of a test has.
const TOO_MANY: u32 = 10_000;

/// Submits jobs, one after the other, until it is stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    submitting: JoinHandle<Result<Vec<JobId>>>,
}

impl Load {
    /// Starts submitting.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "a test's own task, which is waited for")]
    pub fn start(client: JobClient) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let submitting = tokio::spawn(async move {
            let mut accepted = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let spec = waiting_job();
                client.submit_job(&spec).await.context("submit a job under load")?;
                accepted.push(spec.id);
                tokio::time::sleep(PAUSE).await;
            }
            Ok(accepted)
        });
        Self { stop, submitting }
    }

    /// Stops, and says which jobs were accepted.
    ///
    /// # Errors
    ///
    /// When one was not, although its client tried for a minute.
    pub async fn stop(self) -> Result<Vec<JobId>> {
        self.stop.store(true, Ordering::Relaxed);
        self.submitting.await.context("submitting panicked")?
    }
}

/// A job that can never be placed, and so only is there.
#[must_use]
pub fn waiting_job() -> JobSpec {
    let operator = OperatorDescriptor { name: "source".to_owned(), uid: "source".to_owned() };
    let vertex = JobVertex {
        id: JobVertexId(0),
        operators: vec![operator],
        parallelism: TOO_MANY,
        max_parallelism: TOO_MANY,
        record_types: vec!["u64".to_owned()],
        slot_sharing_group: SlotSharingGroup::default(),
        co_location_group: None,
    };
    JobSpec {
        id: JobId(Uuid::now_v7()),
        name: "waits".to_owned(),
        graph: JobGraph { vertices: vec![vertex], edges: Vec::new() },
        program: Program::InProcess,
        settings: JobSettings::default(),
    }
}
