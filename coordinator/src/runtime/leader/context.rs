//! What all actors of one leadership share.

use std::sync::Arc;
use std::time::Duration;

use tidemill_event_log::EventLog;
use tidemill_model::id::{JobId, LeaderEpoch};
use tokio::sync::Notify;

use super::handle::Error;
use crate::engine::leader::{DetectorSettings, JobMasterSettings, SlotPlacement};
use crate::engine::replicated::{Command, CommandBody, JobState, Response};
use crate::runtime::clock::Clock;
use crate::runtime::replicated_log::{self, Leadership, ReplicatedLog};

/// How many messages an actor's mailbox holds. An actor whose peer's mailbox is full gives up and is restarted from
/// the replicated state; a task manager sends tens of messages a second, so only a stuck actor gets there.
pub(super) const MAILBOX_CAPACITY: usize = 8192;

/// Timers and limits of a leadership.
#[derive(Debug, Clone, Copy)]
pub struct LeaderSettings {
    /// How often task managers send a heartbeat.
    pub heartbeat_interval: Duration,
    /// Silence for this long is loss of a task manager.
    pub heartbeat_timeout: Duration,
    /// A broken stream is loss after this long, if the task manager's port refuses.
    pub heartbeat_grace: Duration,
    /// How long a new leader waits for silent task managers.
    pub reconcile_timeout: Duration,
    /// How many ended jobs are remembered.
    pub history_size: u32,
    /// How long after a job's end a process of it may still write to the checkpoint storage.
    pub late_writes: Duration,
    /// Which free slots jobs get.
    pub placement: SlotPlacement,
    /// How often engines are told that time has passed.
    pub tick: Duration,
}

impl Default for LeaderSettings {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_millis(500),
            heartbeat_timeout: Duration::from_secs(3),
            heartbeat_grace: Duration::from_millis(300),
            reconcile_timeout: Duration::from_secs(10),
            history_size: 100,
            late_writes: Duration::from_secs(2),
            placement: SlotPlacement::Spread,
            tick: Duration::from_millis(50),
        }
    }
}

impl LeaderSettings {
    pub(super) fn detector(&self) -> DetectorSettings {
        DetectorSettings { timeout: self.heartbeat_timeout, grace: self.heartbeat_grace, tick: self.tick }
    }

    pub(super) fn job_master(&self) -> JobMasterSettings {
        JobMasterSettings {
            reconcile_timeout: self.reconcile_timeout,
            history_size: self.history_size,
            late_writes: self.late_writes,
        }
    }
}

/// A command that this leadership had decided.
#[derive(Debug)]
pub(super) struct Decided {
    pub(super) response: Response,
    pub(super) log_index: u64,
}

/// The log, the epoch, the clock, and whether it is over.
pub(super) struct LeaderContext {
    pub(super) log: Arc<dyn ReplicatedLog>,
    pub(super) epoch: LeaderEpoch,
    pub(super) term: u64,
    pub(super) clock: Clock,
    pub(super) settings: LeaderSettings,
    pub(super) events: EventLog,
    over: Notify,
}

impl LeaderContext {
    pub(super) fn new(
        log: Arc<dyn ReplicatedLog>,
        epoch: LeaderEpoch,
        term: u64,
        clock: Clock,
        settings: LeaderSettings,
        events: EventLog,
    ) -> Self {
        Self { log, epoch, term, clock, settings, events, over: Notify::new() }
    }

    /// Proposes under this leadership's epoch and waits until it is applied.
    ///
    /// A proposal without an answer ends the leadership: an actor waits for it, and only a new leadership reads from
    /// the state what came of it. The term may last all the same, when a lease has lapsed and was renewed at once.
    pub(super) async fn propose(&self, body: CommandBody) -> Result<Decided, Error> {
        let stamp = self.clock.wall();
        let applied = self.log.propose(Command { epoch: self.epoch, stamp, body }).await;
        let decided = match applied {
            Ok(applied) if matches!(applied.response, Response::Stale { .. }) => Err(Error::NotLeader),
            Ok(applied) => Ok(Decided { response: applied.response, log_index: applied.index }),
            Err(replicated_log::Error::NotLeader { .. }) => Err(Error::NotLeader),
            Err(replicated_log::Error::Unknown { reason }) => Err(Error::Unknown { reason }),
            Err(replicated_log::Error::Stopped { reason }) => Err(Error::Stopped { reason }),
        };
        if decided.is_err() {
            self.end();
        }
        decided
    }

    /// Ends the leadership: something happened that only a new one can be sure to have seen.
    pub(super) fn end(&self) {
        self.over.notify_one();
    }

    /// Waits until the term in which this leadership began is over, or a proposal remained without an answer.
    pub(super) async fn over(&self) {
        let mut leadership = self.log.leadership();
        tokio::select! {
            biased;
            // An error means that the log has ended, and every leadership with it.
            _ = leadership.wait_for(|now| *now != Leadership::Leader { term: self.term }) => {}
            () = self.over.notified() => {}
        }
    }

    /// A job as it stands, and up to which index that is applied.
    pub(super) fn job(&self, job: JobId) -> (u64, Option<JobState>) {
        self.log.state().read_with_index(|index, state| (index, state.jobs.get(&job).cloned()))
    }

    pub(super) fn unfinished(&self) -> Vec<JobId> {
        self.log.state().read(|state| state.unfinished().map(|job| job.spec.id).collect())
    }
}
