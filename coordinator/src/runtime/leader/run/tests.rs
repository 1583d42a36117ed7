//! Leaderships over a log that loses an answer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use tidemill_model::id::NodeId;

use super::*;
use crate::engine::fixture::spec;
use crate::runtime::leader::Error;
use crate::runtime::memory_log::MemoryLog;
use crate::runtime::replicated_log::{self, SharedState};

/// Far more than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);

/// Applies a command and loses its answer when told to: what a lease does that lapses and is renewed at once.
#[derive(Default)]
struct ForgetfulLog {
    log: MemoryLog,
    forget: AtomicBool,
}

impl ReplicatedLog for ForgetfulLog {
    fn propose(&self, command: Command) -> BoxFuture<'_, Result<Applied, replicated_log::Error>> {
        let applied = self.log.propose(command);
        if self.forget.swap(false, Ordering::SeqCst) {
            return Box::pin(std::future::ready(Err(replicated_log::Error::NotLeader { leader: None })));
        }
        applied
    }

    fn linearize(&self) -> BoxFuture<'_, Result<(), replicated_log::Error>> {
        self.log.linearize()
    }

    fn state(&self) -> &SharedState {
        self.log.state()
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.log.leadership()
    }

    fn node(&self) -> NodeId {
        self.log.node()
    }
}

async fn next(leader: &mut watch::Receiver<Option<LeaderHandle>>, after: Option<LeaderEpoch>) -> LeaderHandle {
    let newer = |handle: &Option<LeaderHandle>| handle.as_ref().is_some_and(|handle| Some(handle.epoch()) > after);
    let found = tokio::time::timeout(LIMIT, leader.wait_for(newer)).await.expect("in time").expect("it goes on");
    found.clone().expect("it was waited for")
}

#[tokio::test]
async fn a_proposal_without_an_answer_ends_the_leadership_although_its_term_lasts() {
    let log = Arc::new(ForgetfulLog::default());
    let mut leader = run_leaderships(log.clone(), LeaderSettings::default(), Clock::default(), EventLog::off());
    let first = next(&mut leader, None).await;
    log.forget.store(true, Ordering::SeqCst);
    assert_eq!(first.submit(spec(5)).await, Err(Error::NotLeader));
    let second = next(&mut leader, Some(first.epoch())).await;
    assert_eq!(second.submit(spec(5)).await.map(|accepted| accepted.created), Ok(false));
    let waits = second.observe_job(spec(5).id).await.and_then(|job| job.waiting_reason);
    assert!(waits.is_some_and(|reason| reason.starts_with("needs 2 slots")), "its new master has asked for slots");
}
