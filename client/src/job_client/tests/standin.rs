//! A stand-in for a cluster's coordinators: real servers on loopback that share one set of jobs and blobs.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::Stream;
use futures::stream::{self, StreamExt};
use tidemill_model::id::JobId;
use tidemill_proto::pb::client_server::{Client, ClientServer};
use tidemill_proto::{convert, pb};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio_stream::wrappers::{TcpListenerStream, WatchStream};
use tonic::{Request, Response, Status};

type Answer<T> = Result<Response<T>, Status>;
type Chunks<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// How the stand-ins stand to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Leadership {
    /// This one leads, and the others name it.
    Leader(usize),
    /// Everybody says that there is none.
    Nobody,
    /// No `cluster init` was run.
    NotInitialized,
}

/// What all stand-ins share.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) leadership: watch::Sender<Leadership>,
    pub(crate) jobs: Mutex<BTreeMap<Bytes, watch::Sender<pb::JobDetails>>>,
    pub(crate) specs: Mutex<BTreeMap<Bytes, pb::JobSpec>>,
    pub(crate) blobs: Mutex<BTreeMap<Bytes, Bytes>>,
    pub(crate) uploads: Mutex<Vec<usize>>,
    /// What becomes of each job that is submitted.
    pub(crate) fate: Mutex<pb::job_status::Status>,
    pub(crate) task_managers: Mutex<Vec<pb::TaskManagerStatus>>,
    /// Each call that reached a stand-in: its index and the call.
    pub(crate) calls: Mutex<Vec<(usize, &'static str)>>,
    addresses: Mutex<Vec<String>>,
}

/// The running stand-ins.
pub(crate) struct Standins {
    pub(crate) world: Arc<World>,
    stops: Vec<Option<oneshot::Sender<()>>>,
}

impl Standins {
    pub(crate) async fn start(count: usize, leadership: Leadership) -> Self {
        let mut listeners = Vec::new();
        for _ in 0..count {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
        }
        Self::start_on(listeners, leadership)
    }

    pub(crate) fn start_on(listeners: Vec<TcpListener>, leadership: Leadership) -> Self {
        let world = Arc::new(World {
            leadership: watch::Sender::new(leadership),
            jobs: Mutex::default(),
            specs: Mutex::default(),
            blobs: Mutex::default(),
            uploads: Mutex::default(),
            fate: Mutex::new(pb::job_status::Status::Created(pb::Empty {})),
            calls: Mutex::default(),
            task_managers: Mutex::default(),
            addresses: Mutex::default(),
        });
        let mut standins = Self { world, stops: Vec::new() };
        for (index, listener) in listeners.into_iter().enumerate() {
            standins.world.addresses.lock().unwrap().push(listener.local_addr().unwrap().to_string());
            standins.serve(index, listener);
        }
        standins
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        self.world.addresses.lock().unwrap().clone()
    }

    /// Ends a stand-in; its connections break and its port refuses.
    pub(crate) fn stop(&mut self, index: usize) {
        self.stops[index].take();
    }

    pub(crate) fn set_job(&self, details: pb::JobDetails) {
        let mut jobs = self.world.jobs.lock().unwrap();
        match jobs.get(&details.id) {
            Some(job) => drop(job.send_replace(details)),
            None => drop(jobs.insert(details.id.clone(), watch::Sender::new(details))),
        }
    }

    pub(crate) fn calls(&self, call: &str) -> Vec<usize> {
        let calls = self.world.calls.lock().unwrap();
        calls.iter().filter(|(_, name)| *name == call).map(|(index, _)| *index).collect()
    }

    fn serve(&mut self, index: usize, listener: TcpListener) {
        let (stop, stopped) = oneshot::channel::<()>();
        let service = ClientServer::new(Standin { index, world: Arc::clone(&self.world) });
        let server = tonic::transport::Server::builder().add_service(service);
        let run = async move {
            // Dropping the server future breaks no connection that is being served; a graceful stop refuses new ones.
            let stopped = async move { drop(stopped.await) };
            server.serve_with_incoming_shutdown(TcpListenerStream::new(listener), stopped).await.unwrap();
        };
        #[expect(clippy::disallowed_methods, reason = "the stand-in is no part of the client")]
        tokio::spawn(run);
        self.stops.push(Some(stop));
    }
}

struct Standin {
    index: usize,
    world: Arc<World>,
}

impl Standin {
    fn lead(&self, call: &'static str) -> Result<(), Status> {
        self.world.calls.lock().unwrap().push((self.index, call));
        refusal(&self.world, self.index)
    }

    fn job(&self, id: &Bytes) -> Result<watch::Receiver<pb::JobDetails>, Status> {
        let jobs = self.world.jobs.lock().unwrap();
        let missing = || convert::status(pb::ErrorKind::NotFound, "find job: there is none with this id", None);
        jobs.get(id).map(watch::Sender::subscribe).ok_or_else(missing)
    }
}

fn refusal(world: &World, index: usize) -> Result<(), Status> {
    match world.leadership.borrow().clone() {
        Leadership::Leader(leader) if leader == index => Ok(()),
        Leadership::Leader(leader) => {
            let leader = world.addresses.lock().unwrap()[leader].clone();
            Err(convert::status(pb::ErrorKind::NotLeader, "another one leads", Some(leader)))
        }
        Leadership::Nobody => Err(convert::status(pb::ErrorKind::NoLeader, "an election is held", None)),
        Leadership::NotInitialized => Err(convert::status(pb::ErrorKind::NotInitialized, "not initialized", None)),
    }
}

#[tonic::async_trait]
impl Client for Standin {
    type WatchJobStream = Chunks<pb::JobDetails>;
    type GetBlobStream = Chunks<pb::BlobChunk>;
    type BackupStream = Chunks<pb::BackupChunk>;

    async fn submit_job(&self, request: Request<pb::SubmitJobRequest>) -> Answer<pb::SubmitJobResponse> {
        self.lead("submit_job")?;
        let spec = request.into_inner().spec.unwrap();
        let details = pb::JobDetails {
            id: spec.id.clone(),
            name: spec.name.clone(),
            status: Some(pb::JobStatus { status: Some(self.world.fate.lock().unwrap().clone()) }),
            graph: spec.graph.clone(),
            ..pb::JobDetails::default()
        };
        self.world.jobs.lock().unwrap().entry(details.id.clone()).or_insert(watch::Sender::new(details));
        let created = self.world.specs.lock().unwrap().insert(spec.id.clone(), spec).is_none();
        Ok(Response::new(pb::SubmitJobResponse { created, log_index: 1 }))
    }

    async fn get_job(&self, request: Request<pb::ReadJobRequest>) -> Answer<pb::JobDetails> {
        self.lead("get_job")?;
        let details = self.job(&request.into_inner().id)?.borrow().clone();
        Ok(Response::new(details))
    }

    async fn get_savepoint(&self, _request: Request<pb::ReadSavepointRequest>) -> Answer<pb::SavepointDetails> {
        Ok(Response::new(pb::SavepointDetails::default()))
    }

    async fn trigger_savepoint(&self, _request: Request<pb::JobId>) -> Answer<pb::TriggerSavepointResponse> {
        Ok(Response::new(pb::TriggerSavepointResponse {}))
    }

    async fn stop_job(&self, _request: Request<pb::StopJobRequest>) -> Answer<pb::StopJobResponse> {
        Ok(Response::new(pb::StopJobResponse { log_index: 1 }))
    }

    async fn watch_job(&self, request: Request<pb::ReadJobRequest>) -> Answer<Self::WatchJobStream> {
        self.lead("watch_job")?;
        let details = WatchStream::new(self.job(&request.into_inner().id)?).map(Ok);
        // A leader closes its watches when another one leads.
        let (world, index) = (Arc::clone(&self.world), self.index);
        let lost = WatchStream::new(self.world.leadership.subscribe())
            .filter_map(move |_| futures::future::ready(refusal(&world, index).err().map(Err)));
        Ok(Response::new(Box::pin(stream::select(details, lost))))
    }

    async fn list_jobs(&self, _request: Request<pb::ListJobsRequest>) -> Answer<pb::ListJobsResponse> {
        self.lead("list_jobs")?;
        let jobs = self.world.jobs.lock().unwrap();
        let summary = |details: pb::JobDetails| pb::JobSummary {
            id: details.id,
            name: details.name,
            status: details.status,
            submitted_ms: details.submitted_ms,
        };
        let jobs = jobs.values().map(|job| summary(job.borrow().clone())).collect();
        Ok(Response::new(pb::ListJobsResponse { jobs, log_index: 1, read: None }))
    }

    async fn cancel_job(&self, request: Request<pb::JobId>) -> Answer<pb::CancelJobResponse> {
        self.lead("cancel_job")?;
        self.job(&request.into_inner().id)?;
        Ok(Response::new(pb::CancelJobResponse { log_index: 1 }))
    }

    async fn put_blob(&self, request: Request<tonic::Streaming<pb::BlobChunk>>) -> Answer<pb::PutBlobResponse> {
        self.lead("put_blob")?;
        let mut chunks = request.into_inner();
        let (mut id, mut bytes, mut sizes) = (Bytes::new(), Vec::new(), Vec::new());
        while let Some(chunk) = chunks.message().await? {
            if sizes.is_empty() {
                id = chunk.id;
            }
            sizes.push(chunk.data.len());
            bytes.extend_from_slice(&chunk.data);
        }
        self.world.blobs.lock().unwrap().insert(id, bytes.into());
        *self.world.uploads.lock().unwrap() = sizes;
        Ok(Response::new(pb::PutBlobResponse {}))
    }

    async fn has_blob(&self, request: Request<pb::BlobId>) -> Answer<pb::HasBlobResponse> {
        let exists = self.world.blobs.lock().unwrap().contains_key(&request.into_inner().id);
        Ok(Response::new(pb::HasBlobResponse { exists }))
    }

    async fn get_blob(&self, request: Request<pb::BlobId>) -> Answer<Self::GetBlobStream> {
        self.world.calls.lock().unwrap().push((self.index, "get_blob"));
        let id = request.into_inner().id;
        let missing = || convert::status(pb::ErrorKind::NotFound, "find blob: it is not here", None);
        // The first stand-in has lost its disk.
        let blob = self.world.blobs.lock().unwrap().get(&id).filter(|_| self.index != 0).cloned();
        let blob = blob.ok_or_else(missing)?;
        let chunks: Vec<_> =
            blob.chunks(1000).map(|data| Ok(chunk(Bytes::new(), Bytes::copy_from_slice(data)))).collect();
        Ok(Response::new(Box::pin(stream::iter(chunks))))
    }

    async fn cluster_status(&self, _request: Request<pb::ClusterStatusRequest>) -> Answer<pb::ClusterStatusResponse> {
        let leadership = self.world.leadership.borrow().clone();
        if leadership == Leadership::NotInitialized {
            return Err(refusal(&self.world, self.index).unwrap_err());
        }
        let node = |(index, address): (usize, &String)| pb::NodeStatus {
            node_id: u64::try_from(index).unwrap(),
            name: format!("coordinator-{index}"),
            client_address: address.clone(),
            raft_address: address.clone(),
            leader: leadership == Leadership::Leader(index),
            voter: true,
            ..pb::NodeStatus::default()
        };
        let nodes = self.world.addresses.lock().unwrap().iter().enumerate().map(node).collect();
        Ok(Response::new(pb::ClusterStatusResponse {
            cluster_id: Bytes::from_static(&[7; 16]),
            epoch: 5,
            nodes,
            task_managers: self.world.task_managers.lock().unwrap().clone(),
            node_id: u64::try_from(self.index).unwrap(),
            ..pb::ClusterStatusResponse::default()
        }))
    }

    async fn init_cluster(&self, _request: Request<pb::InitClusterRequest>) -> Answer<pb::InitClusterResponse> {
        self.world.calls.lock().unwrap().push((self.index, "init_cluster"));
        self.world.leadership.send_if_modified(|leadership| {
            let first = *leadership == Leadership::NotInitialized;
            if first {
                *leadership = Leadership::Leader(self.index);
            }
            first
        });
        Ok(Response::new(pb::InitClusterResponse { cluster_id: Bytes::from_static(&[7; 16]) }))
    }

    async fn backup(&self, _request: Request<pb::BackupRequest>) -> Answer<Self::BackupStream> {
        self.lead("backup")?;
        Ok(Response::new(Box::pin(stream::empty())))
    }

    async fn chaos(&self, _request: Request<pb::ChaosRequest>) -> Answer<pb::ChaosResponse> {
        self.lead("chaos")?;
        Ok(Response::new(pb::ChaosResponse::default()))
    }

    async fn set_draining(&self, _request: Request<pb::SetDrainingRequest>) -> Answer<pb::DrainingSet> {
        self.lead("set_draining")?;
        Ok(Response::new(pb::DrainingSet::default()))
    }

    async fn change_membership(&self, _request: Request<pb::MembershipChange>) -> Answer<pb::MembershipChanged> {
        self.lead("change_membership")?;
        Ok(Response::new(pb::MembershipChanged::default()))
    }
}

fn chunk(id: Bytes, data: Bytes) -> pb::BlobChunk {
    pb::BlobChunk { id, data }
}

/// The details of a job in this status.
pub(crate) fn details(job: JobId, status: pb::job_status::Status) -> pb::JobDetails {
    pb::JobDetails {
        id: convert::uuid_bytes(job.0),
        name: "word count".to_owned(),
        status: Some(pb::JobStatus { status: Some(status) }),
        graph: Some(pb::JobGraph::default()),
        ..pb::JobDetails::default()
    }
}
