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

use super::context::{LeaderContext, MAILBOX_CAPACITY};
use super::job_master::{self, Happened, JobMasterActor, deliver};
use super::resource_manager::ResourceManagerActor;
use crate::engine::leader::JobMasterEvent;
use crate::engine::replicated::{CommandBody, Response};

/// A job master that panics more often than this within [`RESTART_WINDOW`] stays down until the next leadership.
const RESTART_LIMIT: u32 = 5;
const RESTART_WINDOW: Duration = Duration::from_secs(10);

/// The root of a leadership's job masters.
pub(super) struct Dispatcher {
    context: Arc<LeaderContext>,
    resource_manager: ActorRef<ResourceManagerActor>,
    masters: BTreeMap<JobId, ActorRef<JobMasterActor>>,
}

/// A client's submission has been applied. Jobs come no other way while a leadership lasts: every submission under its
/// epoch passes through its own handle.
pub(super) struct Submitted(pub(super) JobId);

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
        for job in dispatcher.context.unfinished() {
            dispatcher.start(job, &me).await;
        }
        for master in dispatcher.masters.values() {
            // It is known to the resource manager once it has started, and not before.
            master.wait_for_startup().await;
        }
        Ok(dispatcher)
    }

    async fn on_stop(&mut self, _: WeakActorRef<Self>, _: kameo::error::ActorStopReason) -> Result<(), Infallible> {
        self.masters.values().for_each(ActorRef::kill);
        Ok(())
    }
}

impl Dispatcher {
    async fn start(&mut self, job: JobId, me: &ActorRef<Self>) {
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
        tracing::debug!(job_id = %job, leader_epoch = %self.context.epoch, "job master started");
        self.masters.insert(job, master);
    }
}

impl Message<Submitted> for Dispatcher {
    type Reply = ();

    async fn handle(&mut self, Submitted(job): Submitted, context: &mut Context<Self, ()>) {
        let unfinished = self.context.job(job).is_some_and(|state| !state.status.is_terminal());
        if unfinished && !self.masters.contains_key(&job) {
            let me = context.actor_ref().clone();
            self.start(job, &me).await;
        }
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
