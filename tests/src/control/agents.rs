//! Task managers without executors: they speak the protocol and say that everything runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tidemill_model::execution::{AttemptReport, ExecutionState, JobDeployment, TerminalState};
use tidemill_model::id::{ExecutionAttemptId, JobId};
use tidemill_proto::pb::coordinator_message::Message as FromLeader;
use tidemill_proto::pb::task_manager_client::TaskManagerClient;
use tidemill_proto::pb::task_manager_message::Message as ToLeader;
use tidemill_proto::version::PROTOCOL_VERSION;
use tidemill_proto::{convert, pb};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

/// Messages that may wait for the leader: the states of all attempts of one agent.
const OUTBOUND_QUEUE: usize = 4096;
/// The pause between two rounds over all coordinators, as a task manager's first one.
const PAUSE: Duration = Duration::from_millis(20);
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// What the leaders wanted of all agents.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Attempts to start.
    pub(super) deployed: AtomicU64,
    /// Attempts to stop, and jobs to release.
    pub(super) stopped: AtomicU64,
}

/// The agents; they end when it is dropped.
pub(super) struct Agents {
    pub(super) counts: Arc<Counts>,
    _tasks: JoinSet<()>,
}

impl Agents {
    /// Starts agents that look for the leader among the coordinators.
    pub(super) fn start(count: u32, slots: u32, coordinators: &[String]) -> Self {
        let counts = Arc::new(Counts::default());
        let mut tasks = JoinSet::new();
        for number in 0..count {
            let agent = Agent {
                hello: pb::Hello {
                    task_manager_id: convert::uuid_bytes(uuid::Uuid::new_v4()),
                    name: format!("agent-{number}"),
                    data_address: format!("127.0.0.1:{}", 20_000 + number),
                    slots,
                    slot_memory_bytes: 1 << 20,
                    process_id: std::process::id(),
                    protocol_version: PROTOCOL_VERSION,
                    ..pb::Hello::default()
                },
                attempts: BTreeMap::new(),
                counts: Arc::clone(&counts),
            };
            tasks.spawn(agent.run(coordinators.to_vec()));
        }
        Self { counts, _tasks: tasks }
    }
}

struct Agent {
    hello: pb::Hello,
    attempts: BTreeMap<JobId, Vec<ExecutionAttemptId>>,
    counts: Arc<Counts>,
}

impl Agent {
    /// One session after the other; which coordinator leads is found by asking each.
    async fn run(mut self, coordinators: Vec<String>) {
        loop {
            for address in &coordinators {
                // Why a session ended does not matter: the next one is looked for.
                drop(self.session(address).await);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn session(&mut self, address: &str) -> Result<()> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
        let channel = endpoint.connect_timeout(Duration::from_millis(500)).connect().await?;
        let client = TaskManagerClient::<Channel>::new(channel);
        let mut client =
            client.max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX);
        let (outbound, queue) = mpsc::channel(OUTBOUND_QUEUE);
        outbound.send(message(ToLeader::Hello(self.hello.clone()))).await?;
        let queue = tokio_stream::wrappers::ReceiverStream::new(queue);
        let mut inbound = client.session(queue).await?.into_inner();
        let first = inbound.message().await?.context("no welcome")?;
        let Some(FromLeader::Welcome(welcome)) = first.message else { anyhow::bail!("no welcome") };
        self.hello.fence = first.epoch;
        outbound.send(message(ToLeader::Report(self.report()))).await?;
        let mut beats = tokio::time::interval(Duration::from_millis(welcome.heartbeat_interval_ms.max(10)));
        let mut sequence = 0;
        loop {
            tokio::select! {
                received = inbound.message() => {
                    let received = received?.context("the stream ended")?;
                    if let Some(wanted) = received.message {
                        self.obey(wanted, &outbound).await?;
                    }
                }
                _ = beats.tick() => {
                    sequence += 1;
                    let beat = pb::Heartbeat { sequence, ..pb::Heartbeat::default() };
                    outbound.send(message(ToLeader::Heartbeat(beat))).await?;
                }
            }
        }
    }

    fn report(&self) -> pb::Report {
        let attempts = self.attempts.values().flatten();
        pb::Report {
            attempts: attempts.map(|&attempt| state(attempt, ExecutionState::Running)).collect(),
            hosted: self.attempts.keys().map(|job| convert::uuid_bytes(job.0)).collect(),
            ..pb::Report::default()
        }
    }

    async fn obey(&mut self, wanted: FromLeader, outbound: &mpsc::Sender<pb::TaskManagerMessage>) -> Result<()> {
        match wanted {
            FromLeader::Deploy(deploy) => {
                let deployment = JobDeployment::try_from(deploy.deployment.context("a deployment")?)?;
                self.counts.deployed.fetch_add(deployment.start.len() as u64, Ordering::Relaxed);
                for attempt in deployment.start {
                    self.attempts.entry(attempt.job).or_default().push(attempt);
                    outbound.send(message(ToLeader::Attempt(state(attempt, ExecutionState::Running)))).await?;
                }
            }
            FromLeader::Cancel(cancel) => {
                for attempt in cancel.attempts {
                    self.counts.stopped.fetch_add(1, Ordering::Relaxed);
                    let attempt = ExecutionAttemptId::try_from(attempt)?;
                    self.attempts.entry(attempt.job).or_default().retain(|known| *known != attempt);
                    let ended = ExecutionState::Terminal(TerminalState::Canceled);
                    outbound.send(message(ToLeader::Attempt(state(attempt, ended)))).await?;
                }
            }
            FromLeader::Release(release) => {
                self.counts.stopped.fetch_add(1, Ordering::Relaxed);
                self.attempts.remove(&convert::job_id(&release.job, "ReleaseJob.job")?);
            }
            FromLeader::Welcome(_)
            | FromLeader::Heartbeat(_)
            | FromLeader::Acknowledge(_)
            | FromLeader::Finalize(_)
            | FromLeader::Checkpoint(_) => {}
        }
        Ok(())
    }
}

fn state(attempt: ExecutionAttemptId, state: ExecutionState) -> pb::AttemptReport {
    AttemptReport { attempt, state }.into()
}

fn message(message: ToLeader) -> pb::TaskManagerMessage {
    pb::TaskManagerMessage { message: Some(message) }
}
