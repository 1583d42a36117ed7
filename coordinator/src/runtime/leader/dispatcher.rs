//! The actor that keeps one job master for each unfinished job of the replicated state.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kameo::actor::{ActorRef, Spawn, WeakActorRef};
use kameo::error::Infallible;
use kameo::message::{Context, Message};
use kameo::supervision::RestartPolicy;
use kameo::{Actor, mailbox};
use tidemill_model::id::JobId;
use tidemill_model::time::Timestamp;
use tokio::sync::watch;

use super::context::{LeaderContext, MAILBOX_CAPACITY};
use super::job_master::{self, Happened, JobMasterActor, deliver};
use super::resource_manager::ResourceManagerActor;
use crate::engine::leader::JobMasterEvent;
use crate::engine::replicated::{CommandBody, Response};
use crate::runtime::spawn::spawn;

/// A job master that panics more often than this within [`RESTART_WINDOW`] stays down until the next leadership.
const RESTART_LIMIT: u32 = 5;
const RESTART_WINDOW: Duration = Duration::from_secs(10);

/// The root of a leadership's job masters.
pub(super) struct Dispatcher {
    context: Arc<LeaderContext>,
    resource_manager: ActorRef<ResourceManagerActor>,
    masters: BTreeMap<JobId, ActorRef<JobMasterActor>>,
}

/// The replicated state has changed: start what is missing.
struct Synchronize;

/// Asks for a job's master.
pub(super) struct Find(pub(super) JobId);

/// A client's cancellation has been applied.
pub(super) struct Canceled {
    pub(super) job: JobId,
    pub(super) stamp: Timestamp,
}

/// A job has ended and released everything.
pub(super) struct Ended(pub(super) JobId);

impl Actor for Dispatcher {
    type Args = (Arc<LeaderContext>, ActorRef<ResourceManagerActor>);
    type Error = Infallible;

    async fn on_start((context, resource_manager): Self::Args, me: ActorRef<Self>) -> Result<Self, Infallible> {
        let mut dispatcher = Self { context, resource_manager, masters: BTreeMap::new() };
        dispatcher.synchronize(&me).await;
        let applied = dispatcher.context.log.state().applied_index();
        spawn("dispatcher-watch", watch(me.downgrade(), applied));
        Ok(dispatcher)
    }

    async fn on_stop(&mut self, _: WeakActorRef<Self>, _: kameo::error::ActorStopReason) -> Result<(), Infallible> {
        self.masters.values().for_each(ActorRef::kill);
        Ok(())
    }
}

async fn watch(dispatcher: WeakActorRef<Dispatcher>, mut applied: watch::Receiver<u64>) {
    while applied.changed().await.is_ok() {
        let Some(dispatcher) = dispatcher.upgrade() else { return };
        if dispatcher.tell(Synchronize).await.is_err() {
            return;
        }
    }
}

impl Dispatcher {
    async fn synchronize(&mut self, me: &ActorRef<Self>) {
        for job in self.context.unfinished() {
            if self.masters.contains_key(&job) {
                continue;
            }
            let arguments = job_master::Arguments {
                job,
                context: self.context.clone(),
                dispatcher: me.clone(),
                resource_manager: self.resource_manager.clone(),
            };
            let master = JobMasterActor::supervise(me, arguments)
                .restart_policy(RestartPolicy::Transient)
                .restart_limit(RESTART_LIMIT, RESTART_WINDOW)
                .spawn_with_mailbox(mailbox::bounded(MAILBOX_CAPACITY))
                .await;
            // It is known to the resource manager once it has started, and not before.
            master.wait_for_startup().await;
            tracing::info!(job_id = %job, leader_epoch = %self.context.epoch, "job master started");
            self.masters.insert(job, master);
        }
    }
}

impl Message<Synchronize> for Dispatcher {
    type Reply = ();

    async fn handle(&mut self, _: Synchronize, context: &mut Context<Self, ()>) {
        let me = context.actor_ref().clone();
        self.synchronize(&me).await;
    }
}

impl Message<Find> for Dispatcher {
    type Reply = Option<ActorRef<JobMasterActor>>;

    async fn handle(&mut self, Find(job): Find, _: &mut Context<Self, Self::Reply>) -> Self::Reply {
        self.masters.get(&job).cloned()
    }
}

impl Message<Canceled> for Dispatcher {
    type Reply = ();

    async fn handle(&mut self, Canceled { job, stamp }: Canceled, _: &mut Context<Self, ()>) {
        if let Some(master) = self.masters.get(&job) {
            let body = CommandBody::CancelJob { job };
            let event = JobMasterEvent::Applied { body, stamp, response: Response::Done };
            deliver(master.tell(Happened(event)).try_send());
        }
    }
}

impl Message<Ended> for Dispatcher {
    type Reply = ();

    async fn handle(&mut self, Ended(job): Ended, _: &mut Context<Self, ()>) {
        if let Some(master) = self.masters.remove(&job) {
            // Already stopped is as good.
            let _ = master.stop_gracefully().await;
            tracing::info!(job_id = %job, leader_epoch = %self.context.epoch, "job master ended");
        }
    }
}
