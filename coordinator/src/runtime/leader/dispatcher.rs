//! The actor that keeps one job master for each unfinished job of the replicated state.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use kameo::actor::{ActorId, ActorRef, Spawn, WeakActorRef};
use kameo::error::{ActorStopReason, Infallible, PanicError};
use kameo::message::{Context, Message};
use kameo::supervision::RestartPolicy;
use kameo::{Actor, mailbox};
use tidemill_model::execution::{Failure, FailureKind};
use tidemill_model::id::JobId;
use tokio::sync::mpsc;

use super::context::{LeaderContext, MAILBOX_CAPACITY};
use super::job_master::{self, Decided, JobMasterActor, Undecided, deliver};
use super::resource_manager::{self, ResourceManagerActor};
use crate::engine::leader::{JobMasterEvent, Succession};
use crate::engine::replicated::{CommandBody, Response};
use crate::runtime::replicated_log::AppliedCommand;
use crate::runtime::spawn::spawn;

/// A job master that panics more often than this within [`RESTART_WINDOW`] gives up.
const RESTART_LIMIT: u32 = 5;
const RESTART_WINDOW: Duration = Duration::from_secs(10);

/// After this long the next master tries what the last one gave up.
const GIVEN_UP: Duration = Duration::from_secs(10);

/// The root of a leadership's job masters.
pub(super) struct Dispatcher {
    context: Arc<LeaderContext>,
    resource_manager: ActorRef<ResourceManagerActor>,
    masters: BTreeMap<JobId, Master>,
    /// Why jobs that are ending have no master for the moment, in words.
    given_up: BTreeMap<JobId, String>,
}

struct Master {
    actor: ActorRef<JobMasterActor>,
    undecided: Undecided,
}

/// A client's submission has been applied. Jobs come no other way while a leadership lasts: every submission under its
/// epoch passes through its own handle.
pub(super) struct Submitted(pub(super) JobId);

/// Asks for a job's master.
pub(super) struct Find(pub(super) JobId);

/// Asks why a job has no master.
pub(super) struct GivenUp(pub(super) JobId);

/// A job that was given up and does not fail by that gets another master.
struct BeginAgain(JobId);

/// A job has ended and released everything.
pub(super) struct Ended(pub(super) JobId);

impl Actor for Dispatcher {
    type Args = (Arc<LeaderContext>, ActorRef<ResourceManagerActor>);
    type Error = Infallible;

    async fn on_start((context, resource_manager): Self::Args, me: ActorRef<Self>) -> Result<Self, Infallible> {
        let mut dispatcher = Self { context, resource_manager, masters: BTreeMap::new(), given_up: BTreeMap::new() };
        // Before the masters read the state: what they read already they know by its index.
        let commands = dispatcher.context.log.state().follow(MAILBOX_CAPACITY);
        spawn("dispatcher-follow", follow(me.downgrade(), commands));
        for job in dispatcher.context.unfinished() {
            dispatcher.start(job, &me).await;
        }
        for master in dispatcher.masters.values() {
            // It is known to the resource manager once it has started, and not before.
            master.actor.wait_for_startup().await;
        }
        Ok(dispatcher)
    }

    /// `job-isolation`: a master that panics again and again costs its own job only.
    async fn on_link_died(
        &mut self,
        me: WeakActorRef<Self>,
        id: ActorId,
        reason: ActorStopReason,
    ) -> Result<ControlFlow<ActorStopReason>, Infallible> {
        let job = self.masters.iter().find(|(_, master)| master.actor.id() == id).map(|(&job, _)| job);
        if let (Some(job), ActorStopReason::Panicked(panic)) = (job, reason)
            && let Some(master) = self.masters.remove(&job)
        {
            self.give_up(job, master.undecided, &panic, me);
        }
        Ok(ControlFlow::Continue(()))
    }

    async fn on_stop(&mut self, _: WeakActorRef<Self>, _: ActorStopReason) -> Result<(), Infallible> {
        self.masters.values().for_each(|master| master.actor.kill());
        Ok(())
    }
}

/// Job masters hear of decisions in the order in which they were applied: their copy of a job would differ from the
/// replicas' otherwise, and with it what they restore.
async fn follow(dispatcher: WeakActorRef<Dispatcher>, mut commands: mpsc::Receiver<AppliedCommand>) {
    while let Some(command) = commands.recv().await {
        let Some(dispatcher) = dispatcher.upgrade() else { return };
        if dispatcher.tell(command).await.is_err() {
            return;
        }
    }
    // Another leadership follows, or this one could not keep up: it ends with its dispatcher.
    if let Some(dispatcher) = dispatcher.upgrade() {
        dispatcher.kill();
    }
}

impl Dispatcher {
    async fn start(&mut self, job: JobId, me: &ActorRef<Self>) {
        let undecided = Undecided::default();
        let arguments = job_master::Arguments {
            job,
            context: self.context.clone(),
            dispatcher: me.clone(),
            resource_manager: self.resource_manager.clone(),
            undecided: undecided.clone(),
        };
        let actor = JobMasterActor::supervise(me, arguments)
            .restart_policy(RestartPolicy::Transient)
            .restart_limit(RESTART_LIMIT, RESTART_WINDOW)
            .spawn_with_mailbox(mailbox::bounded(MAILBOX_CAPACITY))
            .await;
        tracing::debug!(job_id = %job, leader_epoch = %self.context.epoch, "job master started");
        self.given_up.remove(&job);
        self.masters.insert(job, Master { actor, undecided });
    }

    fn give_up(&mut self, job: JobId, undecided: Undecided, panic: &PanicError, me: WeakActorRef<Self>) {
        let reason = panic.with_str(str::to_owned).unwrap_or_else(|| "a panic without words".to_owned());
        tracing::error!(job_id = %job, leader_epoch = %self.context.epoch, reason, "job master gives up");
        let words = format!(
            "its master on the leading coordinator panicked {} times within {} s, at last with: {reason}; see that \
             coordinator's log",
            RESTART_LIMIT + 1,
            RESTART_WINDOW.as_secs()
        );
        let until = format!("{words}; another one tries again after {} s", GIVEN_UP.as_secs());
        self.given_up.insert(job, until);
        spawn("give-up", succeed(self.context.clone(), job, undecided, words, me));
    }
}

/// Carries out what the engine says of a job whose master has given up.
async fn succeed(
    context: Arc<LeaderContext>,
    job: JobId,
    undecided: Undecided,
    message: String,
    dispatcher: WeakActorRef<Dispatcher>,
) {
    // Its last proposal may make it one that commits.
    undecided.settled().await;
    let (_, state) = context.job(job);
    if state.is_some_and(|state| Succession::of(&state.status) == Succession::Fail) {
        let cause = Failure { kind: FailureKind::Panic, vertex: None, operator: None, message };
        match context.propose(CommandBody::FailJob { job, cause }).await {
            // The dispatcher hears of it from the log, and has the job's tasks end.
            Ok(decided) if decided.response == Response::Done => return,
            // A cancellation came first.
            Ok(_) => {}
            Err(_) => return,
        }
    }
    tokio::time::sleep(GIVEN_UP).await;
    if let Some(dispatcher) = dispatcher.upgrade() {
        // An error means that the leadership is over.
        let _ = dispatcher.tell(BeginAgain(job)).await;
    }
}

impl Message<Submitted> for Dispatcher {
    type Reply = ();

    async fn handle(&mut self, Submitted(job): Submitted, context: &mut Context<Self, ()>) {
        let (_, state) = self.context.job(job);
        let unfinished = state.is_some_and(|state| !state.status.is_terminal());
        if unfinished && !self.masters.contains_key(&job) {
            let me = context.actor_ref().clone();
            self.start(job, &me).await;
        }
    }
}

impl Message<BeginAgain> for Dispatcher {
    type Reply = ();

    async fn handle(&mut self, BeginAgain(job): BeginAgain, context: &mut Context<Self, ()>) {
        let (_, state) = self.context.job(job);
        let unfinished = state.is_some_and(|state| state.needs_master());
        if unfinished && !self.masters.contains_key(&job) {
            let me = context.actor_ref().clone();
            self.start(job, &me).await;
        } else {
            self.given_up.remove(&job);
        }
    }
}

impl Message<GivenUp> for Dispatcher {
    type Reply = Option<String>;

    async fn handle(&mut self, GivenUp(job): GivenUp, _: &mut Context<Self, Self::Reply>) -> Self::Reply {
        self.given_up.get(&job).cloned()
    }
}

impl Message<Find> for Dispatcher {
    type Reply = Option<ActorRef<JobMasterActor>>;

    async fn handle(&mut self, Find(job): Find, _: &mut Context<Self, Self::Reply>) -> Self::Reply {
        self.masters.get(&job).map(|master| master.actor.clone())
    }
}

impl Message<AppliedCommand> for Dispatcher {
    type Reply = ();

    async fn handle(&mut self, command: AppliedCommand, context: &mut Context<Self, ()>) {
        let AppliedCommand { index, epoch, body, now, response } = command;
        if epoch != self.context.epoch {
            return;
        }
        if let CommandBody::SetDraining { task_manager, draining } = body {
            let changed = resource_manager::SetDraining { task_manager, draining };
            return deliver(self.resource_manager.tell(changed).try_send());
        }
        // One that has no master yet will be started from a state that contains this.
        match (body.job(), &body) {
            (Some(job), CommandBody::FailJob { .. })
                if response == Response::Done && !self.masters.contains_key(&job) =>
            {
                let me = context.actor_ref().clone();
                self.start(job, &me).await;
            }
            (Some(job), _) => {
                if let Some(master) = self.masters.get(&job) {
                    let event = JobMasterEvent::Applied { body, stamp: now, response };
                    deliver(master.actor.tell(Decided { index, event }).try_send());
                }
            }
            (None, _) => {}
        }
    }
}

impl Message<Ended> for Dispatcher {
    type Reply = ();

    async fn handle(&mut self, Ended(job): Ended, _: &mut Context<Self, ()>) {
        if let Some(master) = self.masters.remove(&job) {
            // Already stopped is as good.
            let _ = master.actor.stop_gracefully().await;
            tracing::info!(job_id = %job, leader_epoch = %self.context.epoch, "job master ended");
        }
    }
}
