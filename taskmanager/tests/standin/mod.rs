//! A coordinator that does what a test says, and a task manager process that registers with it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tidemill_proto::convert;
use tidemill_proto::pb::client_server::{Client, ClientServer};
use tidemill_proto::pb::coordinator_message::Message as FromLeader;
use tidemill_proto::pb::task_manager_message::Message as ToLeader;
use tidemill_proto::pb::task_manager_server::{TaskManager, TaskManagerServer};
use tidemill_proto::pb::{self, ErrorKind};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

pub(crate) const CLUSTER: u128 = 3;

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `condition` gives something.
pub(crate) async fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let poll = async {
        loop {
            match condition() {
                Some(value) => return value,
                None => sleep(Duration::from_millis(10)).await,
            }
        }
    };
    timeout(PATIENCE, poll).await.unwrap_or_else(|_| panic!("waited in vain until {what}"))
}

pub(crate) fn uuid(value: u128) -> Bytes {
    convert::uuid_bytes(uuid::Uuid::from_u128(value))
}

type Blobs = Arc<Mutex<BTreeMap<Bytes, Bytes>>>;
type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// One task manager's stream, as the leader holds it.
pub(crate) struct Session {
    inbound: Streaming<pb::TaskManagerMessage>,
    outbound: mpsc::Sender<Result<pb::CoordinatorMessage, Status>>,
    pub(crate) hello: pb::Hello,
}

impl Session {
    /// The next message that is no heartbeat; none when the task manager has left.
    pub(crate) async fn next(&mut self) -> Option<ToLeader> {
        loop {
            let message = timeout(PATIENCE, self.inbound.message()).await.expect("a message in time");
            match message {
                Ok(Some(pb::TaskManagerMessage { message: Some(ToLeader::Heartbeat(_)) })) => {}
                Ok(Some(pb::TaskManagerMessage { message })) => return message,
                Ok(None) | Err(_) => return None,
            }
        }
    }

    /// The next heartbeat that satisfies `condition`.
    pub(crate) async fn heartbeat(&mut self, condition: impl Fn(&pb::Heartbeat) -> bool) {
        loop {
            let message = timeout(PATIENCE, self.inbound.message()).await.expect("a message in time");
            let message = message.expect("the stream holds").expect("the stream goes on").message;
            if matches!(&message, Some(ToLeader::Heartbeat(beat)) if condition(beat)) {
                return;
            }
        }
    }

    /// The state of the next attempt report, which must be of this attempt.
    pub(crate) async fn state_of(&mut self, attempt: &pb::ExecutionAttemptId) -> pb::execution_state::State {
        loop {
            match self.next().await.expect("the stream goes on") {
                ToLeader::Attempt(report) => {
                    assert_eq!(report.attempt.as_ref(), Some(attempt));
                    return report.state.and_then(|state| state.state).expect("a state");
                }
                ToLeader::Executor(_) => {}
                other @ (ToLeader::Hello(_)
                | ToLeader::Report(_)
                | ToLeader::Heartbeat(_)
                | ToLeader::Finalized(_)
                | ToLeader::Checkpoint(_)) => {
                    panic!("expected a state of the attempt, got {other:?}")
                }
            }
        }
    }

    pub(crate) async fn send_as(&self, epoch: u64, task_manager_id: Bytes, message: FromLeader) {
        let message = pb::CoordinatorMessage { epoch, task_manager_id, message: Some(message) };
        self.outbound.send(Ok(message)).await.expect("the stream goes on");
    }

    pub(crate) async fn send(&self, epoch: u64, message: FromLeader) {
        self.send_as(epoch, self.hello.task_manager_id.clone(), message).await;
    }

    pub(crate) async fn welcome(&self, epoch: u64) {
        self.welcome_with_timeout(epoch, 60_000).await;
    }

    pub(crate) async fn welcome_with_timeout(&self, epoch: u64, heartbeat_timeout_ms: u64) {
        let cluster_id = uuid(CLUSTER);
        let welcome = pb::Welcome { cluster_id, heartbeat_interval_ms: 50, heartbeat_timeout_ms };
        self.send(epoch, FromLeader::Welcome(welcome)).await;
    }

    /// Welcomes, and takes the report.
    pub(crate) async fn register(&mut self, epoch: u64) -> pb::Report {
        self.welcome(epoch).await;
        let first = timeout(PATIENCE, self.inbound.message()).await.expect("a message in time");
        match first.expect("the stream holds").and_then(|message| message.message) {
            Some(ToLeader::Report(report)) => report,
            other => panic!("expected a report before anything else, got {other:?}"),
        }
    }
}

struct Services {
    sessions: mpsc::Sender<Session>,
    blobs: Blobs,
    /// Whom to name instead of serving sessions.
    leader: Option<String>,
}

#[tonic::async_trait]
impl TaskManager for Services {
    type SessionStream = ReceiverStream<Result<pb::CoordinatorMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<pb::TaskManagerMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        if let Some(leader) = &self.leader {
            return Err(convert::status(ErrorKind::NotLeader, "not the leader", Some(leader.clone())));
        }
        let mut inbound = request.into_inner();
        let first = inbound.message().await?.and_then(|message| message.message);
        let Some(ToLeader::Hello(hello)) = first else { return Err(Status::invalid_argument("no hello")) };
        let (outbound, queue) = mpsc::channel(64);
        let _test_ended = self.sessions.send(Session { inbound, outbound, hello }).await;
        Ok(Response::new(ReceiverStream::new(queue)))
    }
}

fn unused<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("task managers do not call this"))
}

#[tonic::async_trait]
impl Client for Services {
    type WatchJobStream = BoxStream<pb::JobDetails>;
    type GetBlobStream = BoxStream<pb::BlobChunk>;
    type BackupStream = BoxStream<pb::BackupChunk>;

    async fn submit_job(&self, _: Request<pb::SubmitJobRequest>) -> Result<Response<pb::SubmitJobResponse>, Status> {
        unused()
    }
    async fn trigger_savepoint(&self, _: Request<pb::JobId>) -> Result<Response<pb::TriggerSavepointResponse>, Status> {
        unused()
    }
    async fn stop_job(&self, _: Request<pb::StopJobRequest>) -> Result<Response<pb::StopJobResponse>, Status> {
        unused()
    }
    async fn get_savepoint(
        &self,
        _: Request<pb::ReadSavepointRequest>,
    ) -> Result<Response<pb::SavepointDetails>, Status> {
        unused()
    }

    async fn get_job(&self, _: Request<pb::ReadJobRequest>) -> Result<Response<pb::JobDetails>, Status> {
        unused()
    }
    async fn watch_job(&self, _: Request<pb::ReadJobRequest>) -> Result<Response<Self::WatchJobStream>, Status> {
        unused()
    }
    async fn list_jobs(&self, _: Request<pb::ListJobsRequest>) -> Result<Response<pb::ListJobsResponse>, Status> {
        unused()
    }
    async fn cancel_job(&self, _: Request<pb::JobId>) -> Result<Response<pb::CancelJobResponse>, Status> {
        unused()
    }
    async fn chaos(&self, _: Request<pb::ChaosRequest>) -> Result<Response<pb::ChaosResponse>, Status> {
        unused()
    }
    async fn has_blob(&self, _: Request<pb::BlobId>) -> Result<Response<pb::HasBlobResponse>, Status> {
        unused()
    }
    async fn cluster_status(
        &self,
        _: Request<pb::ClusterStatusRequest>,
    ) -> Result<Response<pb::ClusterStatusResponse>, Status> {
        unused()
    }
    async fn backup(&self, _: Request<pb::BackupRequest>) -> Result<Response<Self::BackupStream>, Status> {
        unused()
    }
    async fn set_draining(&self, _: Request<pb::SetDrainingRequest>) -> Result<Response<pb::DrainingSet>, Status> {
        unused()
    }

    async fn change_membership(
        &self,
        _: Request<pb::MembershipChange>,
    ) -> Result<Response<pb::MembershipChanged>, Status> {
        unused()
    }
    async fn init_cluster(
        &self,
        _: Request<pb::InitClusterRequest>,
    ) -> Result<Response<pb::InitClusterResponse>, Status> {
        unused()
    }

    async fn put_blob(
        &self,
        request: Request<Streaming<pb::BlobChunk>>,
    ) -> Result<Response<pb::PutBlobResponse>, Status> {
        let mut chunks = request.into_inner();
        let first = chunks.next().await.ok_or_else(|| Status::invalid_argument("empty"))??;
        let mut data = first.data.to_vec();
        while let Some(chunk) = chunks.next().await {
            data.extend_from_slice(&chunk?.data);
        }
        assert_eq!(Sha256::digest(&data)[..], first.id[..], "a blob's id is its hash");
        self.blobs.lock().expect("no test panics while it holds the blobs").insert(first.id, data.into());
        Ok(Response::new(pb::PutBlobResponse {}))
    }

    async fn get_blob(&self, request: Request<pb::BlobId>) -> Result<Response<Self::GetBlobStream>, Status> {
        let id = request.into_inner().id;
        let blob = self.blobs.lock().expect("no test panics while it holds the blobs").get(&id).cloned();
        let blob = blob.ok_or_else(|| convert::status(ErrorKind::NotFound, "no such blob", None))?;
        let starts: Vec<usize> = (0..blob.len()).step_by(1 << 20).collect();
        let chunks = tokio_stream::iter(starts).map(move |start| {
            let data = blob.slice(start..blob.len().min(start + (1 << 20)));
            Ok(pb::BlobChunk { id: Bytes::new(), data })
        });
        Ok(Response::new(Box::pin(chunks)))
    }
}

/// A leader, or a follower that names one.
pub(crate) struct Coordinator {
    pub(crate) address: String,
    sessions: mpsc::Receiver<Session>,
    blobs: Blobs,
}

impl Coordinator {
    pub(crate) async fn start(blobs: Blobs, leader: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let (sender, sessions) = mpsc::channel(16);
        let shared = Arc::new(Services { sessions: sender, blobs: Arc::clone(&blobs), leader });
        let server = tonic::transport::Server::builder()
            .add_service(TaskManagerServer::from_arc(Arc::clone(&shared)))
            .add_service(ClientServer::from_arc(shared))
            .serve_with_incoming(TcpListenerStream::new(listener));
        #[expect(clippy::disallowed_methods, reason = "a test's server ends with its runtime")]
        tokio::spawn(server);
        Self { address, sessions, blobs }
    }

    pub(crate) async fn leader() -> Self {
        Self::start(Blobs::default(), None).await
    }

    pub(crate) fn blobs(&self) -> Blobs {
        Arc::clone(&self.blobs)
    }

    /// Takes in a blob; its id.
    pub(crate) fn put(&self, data: Bytes) -> Bytes {
        let id = Bytes::copy_from_slice(&Sha256::digest(&data));
        self.blobs.lock().expect("no test panics while it holds the blobs").insert(id.clone(), data);
        id
    }

    pub(crate) async fn session(&mut self) -> Session {
        timeout(PATIENCE, self.sessions.recv()).await.expect("a session in time").expect("the server goes on")
    }
}

/// The fake executor that `cargo test` builds beside this test.
pub(crate) fn fake_executor() -> Bytes {
    let test = std::env::current_exe().expect("it runs");
    let target = test.parent().and_then(Path::parent).expect("target/debug/deps/test");
    let path = target.join("examples/fake_executor");
    let bytes = fs::read(&path);
    bytes.unwrap_or_else(|error| panic!("{path:?}: {error}; build it: cargo build --example fake_executor")).into()
}

/// A task manager's process; killed when it is dropped.
pub(crate) struct Agent {
    child: Child,
    pub(crate) directory: PathBuf,
    pub(crate) data: String,
    http: String,
    _folder: tempfile::TempDir,
}

pub(crate) fn command(directory: &Path, coordinators: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill-taskmanager"));
    for option in [
        "taskmanager.data.port=0".to_owned(),
        "taskmanager.http.port=0".to_owned(),
        "taskmanager.numberOfTaskSlots=2".to_owned(),
        format!("taskmanager.dir={}", directory.display()),
        format!("coordinator.addresses={}", coordinators.join(",")),
    ] {
        command.arg("-D").arg(option);
    }
    command.stdin(Stdio::null());
    command
}

impl Agent {
    pub(crate) fn start(coordinators: &[&str], options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let directory = folder.path().join("tm");
        let mut command = command(&directory, coordinators);
        for option in options {
            command.arg("-D").arg(option);
        }
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the task manager starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let field = |name: &str| {
            let field = line.split_whitespace().find_map(|word| word.strip_prefix(name));
            field.unwrap_or_else(|| panic!("{name} in {line:?}")).to_owned()
        };
        assert!(line.starts_with("tidemill-taskmanager ready name="), "{line}");
        assert_eq!(field("pid="), child.id().to_string());
        let (data, http) = (field("data="), field("http="));
        Self { child, directory, data, http, _folder: folder }
    }

    /// The whole answer to an HTTP request.
    pub(crate) fn get(&self, path: &str) -> String {
        let mut socket = TcpStream::connect(&self.http).expect("http listens");
        write!(socket, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("asked");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("answered");
        answer
    }

    /// What only SIGKILL does: no chance to clean up.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it can be waited for");
    }

    /// SIGTERM, and its exit.
    pub(crate) async fn terminate(&mut self) -> std::process::ExitStatus {
        let pid = i32::try_from(self.child.id()).expect("a process number");
        let pid = rustix::process::Pid::from_raw(pid).expect("not zero");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
        until("the task manager has exited", || self.child.try_wait().expect("it can be waited for")).await
    }

    pub(crate) fn job_folder(&self, job: u128) -> PathBuf {
        self.directory.join("jobs").join(uuid::Uuid::from_u128(job).simple().to_string())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Whether a process runs: a dead one that nobody has reaped does not.
pub(crate) fn runs(pid: u32) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Err(_) => false,
        Ok(stat) => !matches!(stat.rsplit(')').next().map(str::trim_start), Some(rest) if rest.starts_with(['Z', 'X'])),
    }
}
