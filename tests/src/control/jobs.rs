//! Jobs that a benchmark submits without a program behind them, and the calls that it makes for them.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use tidemill_model::id::{BlobId, JobId, JobVertexId};
use tidemill_model::job::{ArtifactProgram, JobSettings, JobSpec, Program};
use tidemill_model::job_graph::{JobEdge, JobGraph, JobVertex, OperatorDescriptor, Partitioning, SlotSharingGroup};
use tidemill_proto::pb::client_client::ClientClient;
use tidemill_proto::{convert, pb};
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

/// How long a call may take before it counts as failed.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// A client of one coordinator, with a connection of its own.
pub(super) type Stub = ClientClient<Channel>;

/// Dials at the first call.
pub(super) fn stub(address: &str) -> Result<Stub> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    let endpoint = endpoint.tcp_nodelay(true).connect_timeout(Duration::from_millis(500)).timeout(CALL_TIMEOUT);
    Ok(ClientClient::new(endpoint.connect_lazy()).max_decoding_message_size(64 << 20))
}

/// A source of this parallelism and a keyed sum behind it, as a program with some arguments would submit them: it
/// needs `parallelism` slots and has twice as many tasks.
pub(super) fn job(artifact: BlobId, parallelism: u32) -> JobSpec {
    let vertex = |id, name: &str| JobVertex {
        id: JobVertexId(id),
        operators: vec![OperatorDescriptor { name: name.into(), uid: name.to_lowercase() }],
        parallelism,
        max_parallelism: 128,
        record_types: vec!["(u64, u64)".into()],
        slot_sharing_group: SlotSharingGroup::default(),
        co_location_group: None,
    };
    let edge = JobEdge { source: JobVertexId(0), target: JobVertexId(1), partitioning: Partitioning::Hash };
    JobSpec {
        id: JobId(Uuid::now_v7()),
        name: "benchmark".into(),
        graph: JobGraph { vertices: vec![vertex(0, "Source"), vertex(1, "Sum")], edges: vec![edge] },
        program: Program::Artifact(ArtifactProgram {
            artifact,
            name: "benchmark".into(),
            args: vec!["--input".into(), "/data/input".into()],
            environment: BTreeMap::from([("RUST_LOG".into(), "info".into())]),
            working_directory: "/home/user".into(),
            execute_index: 0,
            earlier_results: Vec::new(),
        }),
        settings: JobSettings::default(),
    }
}

/// Submits a job; whether it was made by this call.
pub(super) async fn submit(stub: &mut Stub, spec: JobSpec) -> Result<bool, tonic::Status> {
    let answer = stub.submit_job(pb::SubmitJobRequest { spec: Some(spec.into()) }).await?;
    Ok(answer.into_inner().created)
}

/// Cancels jobs, many at once, and waits until the leader has none left that has not ended.
pub(super) async fn cancel_all(address: &str) -> Result<()> {
    let stub = stub(address)?;
    loop {
        let jobs = stub.clone().list_jobs(pb::ListJobsRequest::default()).await?.into_inner().jobs;
        let alive: Vec<_> = jobs.into_iter().filter(|job| !has_ended(job)).collect();
        if alive.is_empty() {
            return Ok(());
        }
        let mut calls = tokio::task::JoinSet::new();
        for job in alive {
            if calls.len() >= 64 {
                // One that ends by itself meanwhile is as good.
                drop(calls.join_next().await);
            }
            let mut stub = stub.clone();
            calls.spawn(async move { stub.cancel_job(pb::JobId { id: job.id }).await });
        }
        while calls.join_next().await.is_some() {}
    }
}

fn has_ended(job: &pb::JobSummary) -> bool {
    let status = job.status.clone().map(tidemill_model::job::JobStatus::try_from);
    matches!(status, Some(Ok(status)) if status.is_terminal())
}

/// Which of the coordinators leads, and its epoch.
pub(super) async fn leader(addresses: &[String]) -> Result<(usize, u64)> {
    crate::cluster::until("a leader", || async {
        for (index, address) in addresses.iter().enumerate() {
            let Ok(mut stub) = stub(address) else { continue };
            let Ok(status) = stub.cluster_status(pb::ClusterStatusRequest::default()).await else { continue };
            let status = status.into_inner();
            let own = status.nodes.iter().find(|node| node.node_id == status.node_id);
            if status.epoch > 0 && own.is_some_and(|node| node.leader) {
                return Some((index, status.epoch));
            }
        }
        None
    })
    .await
}

/// Stores an artifact that will never be started.
pub(super) async fn artifact(cluster: &tidemill::cli::local_cluster::LocalCluster) -> Result<BlobId> {
    cluster.client().put_blob(bytes::Bytes::from_static(b"never started")).await.context("store an artifact")
}

/// The id in the form of the wire.
pub(super) fn wire_id(job: JobId) -> pb::JobId {
    pb::JobId { id: convert::uuid_bytes(job.0) }
}
