//! The service for task managers: one session each, as long as the leadership and the stream last.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream, Stream, StreamExt};
use tidemill_proto::pb;
use tokio::sync::{mpsc, oneshot};
use tonic::{Request, Response, Status, Streaming};

use super::node::{Node, Replica};
use super::refusal;
use super::session_messages::{self, command};
use crate::engine::leader::AddressedCommand;
use crate::runtime::leader::{LeaderHandle, SessionInbox};
use crate::runtime::spawn::spawn;

/// Commands that wait for one task manager: a leader's burst of deployments fits in, and one that does not read
/// for longer is dropped by its heartbeat.
const OUTBOUND_QUEUE: usize = 1024;

/// How long a task manager may take to introduce itself.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// What task managers may call.
#[derive(Clone)]
pub(super) struct TaskManagerService {
    node: Arc<Node>,
}

impl TaskManagerService {
    pub(super) fn new(node: Arc<Node>) -> Self {
        Self { node }
    }

    /// Hands messages on until either side ends; a status when the task manager must be told why.
    async fn pump(
        &self,
        replica: Replica,
        handle: LeaderHandle,
        inbox: SessionInbox,
        mut inbound: Streaming<pb::TaskManagerMessage>,
    ) -> Option<Status> {
        let mut stopping = self.node.stopping();
        let mut leader = replica.leader.clone();
        let epoch = handle.epoch();
        loop {
            let received = tokio::select! {
                biased;
                _ = stopping.wait_for(|stopping| *stopping) => return Some(self.node.not_leading()),
                _ = leader.wait_for(|now| now.as_ref().map(LeaderHandle::epoch) != Some(epoch)) => {
                    return Some(self.node.not_leading());
                }
                received = inbound.message() => received,
            };
            let Ok(Some(message)) = received else { return None };
            let message = match session_messages::message(message) {
                Ok(message) => message,
                Err(error) => {
                    tracing::warn!(%error, "a task manager sent what it must not");
                    return Some(error.into());
                }
            };
            if inbox.deliver(message).await.is_err() {
                return Some(self.node.not_leading());
            }
        }
    }
}

#[tonic::async_trait]
impl pb::task_manager_server::TaskManager for TaskManagerService {
    type SessionStream = BoxStream<'static, Result<pb::CoordinatorMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<pb::TaskManagerMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (replica, handle) = self.node.leading()?;
        let mut inbound = request.into_inner();
        let first = tokio::time::timeout(HELLO_TIMEOUT, inbound.message()).await;
        let first = first.map_err(|_| refusal::user("open session: no hello came in time"))??;
        let Some(pb::task_manager_message::Message::Hello(hello)) = first.and_then(|first| first.message) else {
            return Err(refusal::user("open session: the first message is not a hello"));
        };
        let (cluster, hello) = session_messages::hello(hello)?;
        if let Some(expected) = cluster.filter(|cluster| *cluster != replica.cluster) {
            let message = format!(
                "open session: the task manager belongs to cluster {expected}, this is cluster {}; correct its \
                 coordinator.addresses, or empty its directory",
                replica.cluster
            );
            return Err(refusal::user(message));
        }
        let (outbound, commands) = mpsc::channel(OUTBOUND_QUEUE);
        let opened = handle.open_session(hello, outbound).await;
        let inbox = opened.map_err(|error| self.node.refused_by_leader(&error))?;
        let (end, ended) = oneshot::channel();
        let (service, cluster, settings) = (self.clone(), replica.cluster, self.node.settings().leader);
        let pump = async move {
            let status = service.pump(replica, handle, inbox, inbound).await;
            // The stream may have ended already.
            let _ = end.send(status);
        };
        spawn("session", pump);
        let node = Arc::clone(&self.node);
        let commands = outgoing(commands, ended, node);
        Ok(Response::new(commands.map(move |sent| sent.map(|sent| command(sent, cluster, &settings))).boxed()))
    }
}

/// Commands until the leader drops its half, which means that the leadership is over, or the pump ends.
fn outgoing(
    commands: mpsc::Receiver<AddressedCommand>,
    ended: oneshot::Receiver<Option<Status>>,
    node: Arc<Node>,
) -> impl Stream<Item = Result<AddressedCommand, Status>> {
    stream::unfold(Some((commands, ended, node)), async move |state| {
        let (mut commands, mut ended, node) = state?;
        tokio::select! {
            biased;
            command = commands.recv() => match command {
                Some(command) => Some((Ok(command), Some((commands, ended, node)))),
                None => Some((Err(node.not_leading()), None)),
            },
            status = &mut ended => {
                let status = status.ok().flatten()?;
                Some((Err(status), None))
            }
        }
    })
}
