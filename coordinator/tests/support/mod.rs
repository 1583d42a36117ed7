//! Clusters of coordinators in one process: real openraft, RocksDB and tonic on loopback.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tidemill_coordinator::runtime::leader::LeaderSettings;
use tidemill_coordinator::runtime::raft::{RaftLog, RaftSettings};
use tidemill_coordinator::runtime::replicated_log::{Leadership, ReplicatedLog};
use tidemill_coordinator::runtime::server::{ChaosApi, Coordinator, CoordinatorSettings};
use tidemill_model::id::{ClusterId, JobId, JobVertexId};
use tidemill_model::job::{JobSettings, JobSpec, Program};
use tidemill_model::job_graph::{JobGraph, JobVertex, OperatorDescriptor, SlotSharingGroup};
use tidemill_proto::convert;
use tidemill_proto::pb::client_client::ClientClient;
use tidemill_proto::pb::membership_change::Change;
use tidemill_proto::pb::{self, ErrorKind};
use tokio::net::TcpSocket;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

/// Far above anything that a busy machine needs; only a defect gets here.
const LIMIT: Duration = Duration::from_secs(60);

/// One coordinator's place: a directory and ports that stay over restarts.
pub struct Place {
    pub name: String,
    /// Where others reach it.
    pub host: &'static str,
    pub dir: TempDir,
    /// Bound and never listening: nobody else is given the ports while the coordinator is stopped.
    reserved: Arc<[TcpSocket; 2]>,
}

/// Some places, and the coordinators that run there.
pub struct Cluster {
    pub places: Vec<Place>,
    pub running: BTreeMap<usize, Coordinator>,
    pub snapshot_every: u64,
    pub chaos_api: ChaosApi,
}

fn reserve() -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("the coordinator may bind it too");
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
    socket
}

impl Place {
    pub fn new(name: &str) -> Self {
        let reserved = Arc::new([reserve(), reserve()]);
        Self {
            name: name.to_owned(),
            host: "127.0.0.1",
            dir: tempfile::tempdir().expect("a temporary folder"),
            reserved,
        }
    }

    fn port(&self, index: usize) -> u16 {
        self.reserved[index].local_addr().expect("bound").port()
    }

    pub fn raft_address(&self) -> String {
        format!("{}:{}", self.host, self.port(1))
    }

    pub fn client_address(&self) -> String {
        format!("127.0.0.1:{}", self.port(0))
    }

    /// Another directory behind the same addresses.
    pub fn with_other_dir(&self) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        Self { name: self.name.clone(), host: self.host, dir, reserved: self.reserved.clone() }
    }

    pub fn settings(&self, join: Vec<String>, snapshot_every: u64) -> CoordinatorSettings {
        CoordinatorSettings {
            name: Some(self.name.clone()),
            bind_host: "127.0.0.1".to_owned(),
            host: self.host.to_owned(),
            client_port: self.port(0),
            raft_port: self.port(1),
            http_port: 0,
            dir: PathBuf::from(self.dir.path()),
            events_dir: None,
            join,
            raft: RaftSettings {
                heartbeat_interval: Duration::from_millis(50),
                election_timeout_min: Duration::from_millis(300),
                election_timeout_max: Duration::from_millis(600),
                snapshot_every,
            },
            leader: LeaderSettings::default(),
            blob_size_max: 4 << 20,
            message_size_max: 2 << 20,
            chaos_api: ChaosApi::Open,
        }
    }
}

impl Cluster {
    /// Places for so many coordinators, none of them running.
    pub fn of(count: usize) -> Self {
        let places = (1..=count).map(|index| Place::new(&format!("c{index}"))).collect();
        Self { places, running: BTreeMap::new(), snapshot_every: 10_000, chaos_api: ChaosApi::Open }
    }

    /// A running, initialised cluster.
    pub async fn start(count: usize) -> (Self, ClusterId) {
        let mut cluster = Self::of(count);
        cluster.run_all().await;
        let id = cluster.init(0).await.expect("they all answer");
        (cluster, id)
    }

    pub fn join(&self) -> Vec<String> {
        self.places.iter().map(Place::raft_address).collect()
    }

    pub async fn run(&mut self, index: usize) {
        let mut settings = self.places[index].settings(self.join(), self.snapshot_every);
        settings.chaos_api = self.chaos_api;
        let coordinator = Coordinator::start(settings).await.expect("it starts");
        self.running.insert(index, coordinator);
    }

    pub async fn run_all(&mut self) {
        for index in 0..self.places.len() {
            self.run(index).await;
        }
    }

    /// Ends a coordinator without handing anything over.
    pub async fn stop(&mut self, index: usize) {
        self.running.remove(&index).expect("it runs").stop().await;
    }

    pub async fn stop_all(&mut self) {
        for (_, coordinator) in std::mem::take(&mut self.running) {
            coordinator.stop().await;
        }
    }

    pub async fn init(&self, index: usize) -> Result<ClusterId, Status> {
        let answer = self.client(index).init_cluster(pb::InitClusterRequest {}).await?.into_inner();
        Ok(convert::cluster_id(&answer.cluster_id, "cluster_id")?)
    }

    pub fn client(&self, index: usize) -> ClientClient<Channel> {
        ClientClient::new(channel(&self.places[index].client_address())).max_encoding_message_size(64 << 20)
    }

    pub fn log(&self, index: usize) -> Arc<RaftLog> {
        self.running[&index].node().replica().expect("a member").log
    }

    /// Waits until one of the running coordinators leads, with its actors.
    pub async fn leader(&self) -> usize {
        eventually("a leader", async || {
            self.running.iter().find_map(|(index, coordinator)| {
                let replica = coordinator.node().replica()?;
                let leads = matches!(*replica.log.leadership().borrow(), Leadership::Leader { .. });
                let serves = replica.leader.borrow().is_some();
                (leads && serves).then_some(*index)
            })
        })
        .await
    }

    /// A running coordinator that does not lead.
    pub async fn follower(&self) -> usize {
        let leader = self.leader().await;
        *self.running.keys().find(|&&index| index != leader).expect("more than one runs")
    }

    pub async fn status(&self, index: usize) -> Result<pb::ClusterStatusResponse, Status> {
        Ok(self.client(index).cluster_status(pb::ClusterStatusRequest::default()).await?.into_inner())
    }

    /// Changes the membership at whoever leads, as a client would: any refusal to lead is a reason to look again.
    pub async fn change(&self, change: Change) -> Result<pb::MembershipChanged, Status> {
        eventually("an answer to a change of membership", async || {
            let leader = self.leader().await;
            let request = pb::MembershipChange { change: Some(change.clone()) };
            match self.client(leader).change_membership(request).await {
                Ok(changed) => Some(Ok(changed.into_inner())),
                Err(status) if lacks_leader(&status) => None,
                Err(status) => Some(Err(status)),
            }
        })
        .await
    }

    /// Another place, with a coordinator that waits there.
    pub async fn run_another(&mut self) -> usize {
        let index = self.places.len();
        self.places.push(Place::new(&format!("c{}", index + 1)));
        self.run(index).await;
        index
    }

    /// The coordinators as the leader lists them, by name.
    pub async fn members(&self) -> BTreeMap<String, pb::NodeStatus> {
        let leader = self.leader().await;
        let nodes = self.status(leader).await.expect("it answers").nodes;
        nodes.into_iter().map(|node| (node.name.clone(), node)).collect()
    }

    /// Has a job accepted by whoever leads, as a client would: any refusal to lead is a reason to look again.
    pub async fn submit(&self) -> JobId {
        let spec = job();
        let id = spec.id;
        eventually("an accepted job", async || {
            let leader = self.leader().await;
            let request = pb::SubmitJobRequest { spec: Some(spec.clone().into()) };
            match self.client(leader).submit_job(request).await {
                Ok(_) => Some(()),
                Err(status) => {
                    assert!(lacks_leader(&status), "{status}");
                    None
                }
            }
        })
        .await;
        id
    }

    /// Waits until all running replicas have applied the same index, and compares their states.
    pub async fn assert_equal_states(&self) {
        let checksums = eventually("equal applied indexes", async || {
            let mut seen = Vec::new();
            for &index in self.running.keys() {
                let status = self.status(index).await.ok()?;
                seen.push((status.applied_index, status.state_checksum));
            }
            seen.iter().all(|(index, _)| *index == seen[0].0).then_some(seen)
        })
        .await;
        assert!(checksums.iter().all(|seen| *seen == checksums[0]), "states differ at one index: {checksums:?}");
    }

    /// Waits until every running replica has applied what the leader has now.
    pub async fn assert_reached_by_all(&self) {
        let leader = self.leader().await;
        let reached = self.status(leader).await.expect("it answers").applied_index;
        for &index in self.running.keys() {
            eventually("a replica that has applied it", async || {
                (self.status(index).await.ok()?.applied_index >= reached).then_some(())
            })
            .await;
        }
    }

    pub fn has_job(&self, index: usize, job: JobId) -> bool {
        self.log(index).state().read(|state| state.jobs.contains_key(&job))
    }

    /// What the HTTP port answers.
    pub async fn http(&self, index: usize, path: &str) -> String {
        http(self.running[&index].http_address(), path).await
    }
}

pub fn channel(address: &str) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).expect("an address").connect_lazy()
}

/// A job without an artifact: it waits for slots.
pub fn job() -> JobSpec {
    let operator = OperatorDescriptor { name: "source".to_owned(), uid: "source".to_owned() };
    let vertex = JobVertex {
        id: JobVertexId(0),
        operators: vec![operator],
        parallelism: 1,
        max_parallelism: 128,
        record_types: vec!["u64".to_owned()],
        slot_sharing_group: SlotSharingGroup::default(),
        co_location_group: None,
    };
    JobSpec {
        id: JobId(Uuid::now_v7()),
        name: "job".to_owned(),
        graph: JobGraph { vertices: vec![vertex], edges: Vec::new() },
        program: Program::InProcess,
        settings: JobSettings::default(),
    }
}

/// Whether a refusal only says that somebody else is to be asked, or later.
pub fn lacks_leader(status: &Status) -> bool {
    matches!(kind(status), ErrorKind::NotLeader | ErrorKind::NoLeader) || status.code() == tonic::Code::Unavailable
}

pub fn kind(status: &Status) -> ErrorKind {
    convert::error_detail(status).map_or(ErrorKind::Unspecified, |detail| detail.kind())
}

/// Looks again until there is something.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let found = tokio::time::timeout(LIMIT, looking).await;
    found.unwrap_or_else(|_| panic!("waited {LIMIT:?} for {what}"))
}

pub async fn http(address: SocketAddr, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let asked = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    });
    asked.await.expect("no panic")
}
