//! Leaderships follow each other for as long as the process lives.

use std::sync::Arc;
use std::time::Duration;

use kameo::actor::{ActorRef, Spawn};
use kameo::mailbox;
use tidemill_event_log::EventLog;
use tidemill_failpoint::FailPoint;
use tidemill_model::event::Event;
use tidemill_model::id::LeaderEpoch;
use tokio::sync::watch;

use super::context::{LeaderContext, LeaderSettings, MAILBOX_CAPACITY};
use super::dispatcher::Dispatcher;
use super::handle::LeaderHandle;
use super::resource_manager::ResourceManagerActor;
use crate::engine::replicated::{Command, CommandBody, Response};
use crate::runtime::clock::Clock;
use crate::runtime::replicated_log::{Applied, Leadership, ReplicatedLog};
use crate::runtime::spawn::spawn;

/// How long to wait before a leadership that failed to begin, or ended, is tried again.
const RETRY: Duration = Duration::from_millis(20);

/// Waits for leadership, makes it a `LeaderStarted` entry, runs its actors while it lasts, and begins again.
///
/// The receiver has the current leadership's handle, or none while another replica leads. It ends with the log.
pub fn run_leaderships(
    log: Arc<dyn ReplicatedLog>,
    settings: LeaderSettings,
    clock: Clock,
    events: EventLog,
) -> watch::Receiver<Option<LeaderHandle>> {
    let (published, handle) = watch::channel(None);
    let published = Arc::new(published);
    spawn("leaderships", async move {
        let mut leadership = log.leadership();
        loop {
            let current = *leadership.borrow_and_update();
            if let Leadership::Leader { term } = current {
                // In a task of its own: one that panics must not be the last.
                let (log, events, published) = (log.clone(), events.clone(), published.clone());
                let leadership = spawn("leadership", async move {
                    if let Some(handle) = begin(&log, term, settings, clock, events).await {
                        lead(handle, &published).await;
                    }
                });
                if let Err(error) = leadership.await {
                    tracing::error!(%error, term, "a leadership panicked");
                }
                // One that ends again and again must not fill the log.
                tokio::time::sleep(RETRY).await;
            } else if leadership.changed().await.is_err() {
                return;
            }
            if published.is_closed() {
                return;
            }
        }
    });
    handle
}

/// The leader's engines are built when its own entry is applied.
async fn begin(
    log: &Arc<dyn ReplicatedLog>,
    term: u64,
    settings: LeaderSettings,
    clock: Clock,
    events: EventLog,
) -> Option<LeaderHandle> {
    let body = CommandBody::LeaderStarted { node: log.node(), term };
    let command = Command { epoch: LeaderEpoch::default(), stamp: clock.wall(), body };
    let applied = log.propose(command).await;
    let Ok(Applied { response: Response::Started(epoch), .. }) = applied else {
        tracing::debug!(?applied, term, "leadership did not begin");
        return None;
    };
    tracing::info!(leader_epoch = %epoch, node_id = %log.node(), term, "leadership began");
    events.write(|| Event::LeaderStart { term: epoch, raft_term: term, node: log.node() });
    FailPoint::LeaderStartPreRecover.hit();
    let context = Arc::new(LeaderContext::new(log.clone(), epoch, term, clock, settings, events));
    let resource_manager =
        ResourceManagerActor::spawn_with_mailbox(context.clone(), mailbox::bounded(MAILBOX_CAPACITY));
    let arguments = (context.clone(), resource_manager.clone());
    let dispatcher = Dispatcher::spawn_with_mailbox(arguments, mailbox::bounded(MAILBOX_CAPACITY));
    // Job masters must be known before task managers report, or their attempts would look unwanted.
    dispatcher.wait_for_startup().await;
    Some(LeaderHandle { context, dispatcher, resource_manager })
}

async fn lead(handle: LeaderHandle, published: &watch::Sender<Option<LeaderHandle>>) {
    let (dispatcher, resource_manager) = (handle.dispatcher.clone(), handle.resource_manager.clone());
    let (context, epoch) = (handle.context.clone(), handle.epoch());
    published.send_replace(Some(handle));
    tokio::select! {
        biased;
        () = context.over() => {}
        () = published.closed() => {}
        () = dispatcher.wait_for_shutdown() => tracing::error!(leader_epoch = %epoch, "the dispatcher ended"),
        () = resource_manager.wait_for_shutdown() => {
            tracing::error!(leader_epoch = %epoch, "the resource manager ended");
        }
    }
    // Sessions end with their outbound halves: task managers look for the other side. Nothing is killed.
    published.send_replace(None);
    stop(&dispatcher).await;
    stop(&resource_manager).await;
    context.events.write(|| Event::LeaderStop { term: epoch, raft_term: context.term, node: context.log.node() });
    tracing::info!(leader_epoch = %epoch, "leadership ended");
}

async fn stop<A: kameo::Actor>(actor: &ActorRef<A>) {
    // It may have ended already.
    let _ = actor.stop_gracefully().await;
    actor.wait_for_shutdown().await;
}

#[cfg(test)]
mod tests;
