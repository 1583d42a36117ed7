//! The checkpoints of one job under one leadership: triggered, acknowledged, completed, made known, subsumed.
//!
//! It observes and wants; what counts is decided at apply. An id is used only after the entry that reserves it, a
//! completion is made known only after the entry that commits it, and a file is deleted only when nothing that is
//! committed or may still be committed builds on it.

mod cleaning;
mod history;
mod participants;
mod pending;
mod wish;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use tidemill_model::checkpoint::{
    AbortReason, CheckpointKind, CheckpointOutcome, CheckpointReport, CheckpointSettings, SubtaskState,
};
use tidemill_model::id::{CheckpointId, ExecutionAttemptId, ExecutionVertexId};
use tidemill_model::mutant::{self, Mutant};
use tidemill_model::time::Instant;

pub use self::history::{CheckpointActivity, CheckpointFailure, PendingObservation, SubtaskSnapshot};

use self::cleaning::Cleaning;
use self::history::History;
pub(super) use self::participants::Participants;
use self::pending::PendingCheckpoint;
pub(super) use self::wish::{Proposal, Wish};
use crate::engine::replicated::{Checkpoints, CommandBody, Response};

/// How many ids are reserved with one entry.
const RESERVED_AT_ONCE: u64 = 64;

/// Who has to confirm that it heard of a completion.
#[derive(Debug)]
struct Notification {
    id: CheckpointId,
    waiting: BTreeSet<ExecutionAttemptId>,
    /// That nobody is waited for is being recorded.
    proposed: bool,
}

/// The engine of one job's checkpoints.
#[derive(Debug)]
pub(super) struct CheckpointCoordinator {
    settings: CheckpointSettings,
    /// How long after the job's end something of it may still be written.
    late_writes: Duration,
    /// The ids that this leadership may still use: it reserved them itself, since an earlier one may have used any other.
    ids: Range<u64>,
    reserving: bool,
    pending: BTreeMap<CheckpointId, PendingCheckpoint>,
    /// What attempts say that they acknowledged of checkpoints that an earlier leadership triggered; none once that is
    /// settled. Invariant: this leadership triggers nothing before.
    inherited: Option<BTreeMap<CheckpointId, BTreeMap<ExecutionAttemptId, SubtaskState>>>,
    last_trigger: Option<Instant>,
    last_end: Option<Instant>,
    /// How many have failed since the last one that was completed.
    failures: u32,
    notification: Option<Notification>,
    /// Somebody wants a savepoint of the job.
    savepoint_wanted: bool,
    cleaning: Cleaning,
    history: History,
}

impl CheckpointCoordinator {
    /// A leadership's coordinator; nothing is pending yet.
    pub(super) fn new(settings: CheckpointSettings, late_writes: Duration) -> Self {
        Self {
            settings,
            late_writes,
            ids: if mutant::active(Mutant::CheckpointCounterInMemory) { 1..u64::MAX } else { 0..0 },
            reserving: false,
            pending: BTreeMap::new(),
            inherited: Some(BTreeMap::new()),
            last_trigger: None,
            last_end: None,
            failures: 0,
            notification: None,
            savepoint_wanted: false,
            cleaning: Cleaning::default(),
            history: History::default(),
        }
    }

    /// The next checkpoint is to be a savepoint, and soon.
    pub(super) fn want_savepoint(&mut self) {
        self.savepoint_wanted = true;
    }

    /// An attempt that takes part says something.
    pub(super) fn reported(&mut self, now: Instant, report: CheckpointReport, wishes: &mut Vec<Wish>) {
        let CheckpointReport { attempt, checkpoint: id, outcome } = report;
        match outcome {
            CheckpointOutcome::Acknowledged(state) => match self.pending.get_mut(&id) {
                Some(pending) => pending.acknowledge(now, attempt, state),
                // Late, of one that was aborted or completed before, unless an earlier leadership triggered it.
                None => {
                    if let Some(inherited) = &mut self.inherited {
                        inherited.entry(id).or_default().insert(attempt, state);
                    }
                }
            },
            CheckpointOutcome::Declined(reason) => {
                if self.pending.get(&id).is_some_and(|pending| pending.expects(attempt)) {
                    self.abort(now, id, AbortReason::Declined { vertex: attempt.vertex, reason }, wishes);
                }
            }
            CheckpointOutcome::Notified => {
                if let Some(notification) = self.notification.as_mut().filter(|notification| id >= notification.id) {
                    notification.waiting.remove(&attempt);
                }
            }
        }
    }

    /// Attempts are being replaced: nothing that they took part in can be completed.
    pub(super) fn superseded(&mut self, now: Instant, replaced: &BTreeSet<ExecutionAttemptId>, wishes: &mut Vec<Wish>) {
        let pending: Vec<CheckpointId> = self.pending.keys().copied().collect();
        for id in pending {
            self.drop_pending(now, id, AbortReason::Superseded, wishes);
        }
        for acknowledged in self.inherited.iter_mut().flat_map(BTreeMap::values_mut) {
            acknowledged.retain(|attempt, _| !replaced.contains(attempt));
        }
        if let Some(notification) = &mut self.notification {
            notification.waiting.retain(|attempt| !replaced.contains(attempt));
        }
    }

    /// The stream of these attempts' task manager broke and is back, with all that they had acknowledged: what was sent
    /// meanwhile may be lost. A completion is made known again. A checkpoint is given up, and the next one begins at once:
    /// if its trigger is lost, it would wait for its time-out.
    pub(super) fn reconnected(
        &mut self,
        now: Instant,
        attempts: &BTreeSet<ExecutionAttemptId>,
        wishes: &mut Vec<Wish>,
    ) {
        let lost = |pending: &PendingCheckpoint| {
            let expected = |attempt: &&ExecutionAttemptId| pending.expects(**attempt);
            let here: BTreeSet<ExecutionVertexId> = attempts.iter().filter(expected).map(|id| id.vertex).collect();
            let missing = pending.missing().into_iter().filter(|vertex| here.contains(vertex));
            missing.collect::<Vec<ExecutionVertexId>>()
        };
        let lost: Vec<_> = self.pending.iter().map(|(&id, pending)| (id, lost(pending))).collect();
        for (id, missing) in lost.into_iter().filter(|(_, missing)| !missing.is_empty()) {
            self.drop_pending(now, id, AbortReason::StreamBroken { missing }, wishes);
            self.last_trigger = None;
        }
        if let Some(Notification { id, waiting, .. }) = &self.notification {
            let again: BTreeSet<ExecutionAttemptId> = waiting.intersection(attempts).copied().collect();
            if !again.is_empty() {
                wishes.push(Wish::Notify(*id, again));
            }
        }
    }

    /// A decision of this leadership is applied, or refused at apply.
    pub(super) fn applied(&mut self, now: Instant, body: &CommandBody, response: &Response, wishes: &mut Vec<Wish>) {
        let done = *response == Response::Done;
        match body {
            CommandBody::ReserveCheckpoints { upto, .. } => {
                self.reserving = false;
                if done {
                    self.ids = (upto.0 + 1).saturating_sub(RESERVED_AT_ONCE)..upto.0 + 1;
                    // What earlier leaderships have given up is written nowhere.
                    self.cleaning.suspect(CheckpointId(upto.0.saturating_sub(RESERVED_AT_ONCE)));
                }
            }
            CommandBody::CompleteCheckpoint { id, .. } if done => self.completed(now, *id, wishes),
            // Attempts were replaced before it was committed.
            CommandBody::CompleteCheckpoint { id, .. } => {
                self.drop_pending(now, *id, AbortReason::Superseded, wishes);
            }
            CommandBody::RecordGarbageDeleted { .. } => self.cleaning.done(),
            CommandBody::RecordStraggler { .. } => self.cleaning.begin_again(),
            CommandBody::RecordNotified { .. }
            | CommandBody::RecordSchedule { .. }
            | CommandBody::RecordTerminal { .. }
            | CommandBody::FailOver { .. }
            | CommandBody::Relocate { .. }
            | CommandBody::SetDraining { .. }
            | CommandBody::FailJob { .. }
            | CommandBody::CancelJob { .. }
            | CommandBody::StopJob { .. }
            | CommandBody::StartCommitting { .. }
            | CommandBody::EndJob { .. }
            | CommandBody::RecordTakeover { .. }
            | CommandBody::LeaderStarted { .. }
            | CommandBody::RegisterBlob { .. }
            | CommandBody::Chaos(_)
            | CommandBody::SubmitJob { .. } => {}
        }
    }

    /// Whether a savepoint is under way.
    pub(super) fn takes_savepoint(&self) -> bool {
        self.savepoint_wanted || self.pending.values().any(|pending| pending.kind == CheckpointKind::Savepoint)
    }

    /// The job has ended: nothing is pending any more, and nothing builds on anything.
    pub(super) fn abandon(&mut self) {
        self.pending.clear();
        self.inherited = None;
        self.notification = None;
    }

    /// Persist, then act: it is committed, so whoever took part may know.
    fn completed(&mut self, now: Instant, id: CheckpointId, wishes: &mut Vec<Wish>) {
        let pending = self.pending.remove(&id);
        pending.iter().for_each(|pending| self.history.completed(id, pending));
        let taken_part = pending.map(|pending| pending.attempts()).unwrap_or_default();
        let older: Vec<CheckpointId> = self.pending.range(..id).map(|(&older, _)| older).collect();
        for older in older {
            self.drop_pending(now, older, AbortReason::Subsumed, wishes);
        }
        self.failures = 0;
        self.last_end = Some(now);
        self.notify(id, taken_part, wishes);
    }

    fn notify(&mut self, id: CheckpointId, attempts: BTreeSet<ExecutionAttemptId>, wishes: &mut Vec<Wish>) {
        self.notification = Some(Notification { id, waiting: attempts.clone(), proposed: false });
        if !attempts.is_empty() {
            wishes.push(Wish::Notify(id, attempts));
        }
    }

    /// A failure that counts.
    fn abort(&mut self, now: Instant, id: CheckpointId, reason: AbortReason, wishes: &mut Vec<Wish>) {
        self.failures += 1;
        let exhausted = self.failures > self.settings.failures_tolerable;
        let text = format!("checkpoint {id}: {reason}; {} in a row have failed", self.failures);
        self.drop_pending(now, id, reason, wishes);
        if exhausted {
            wishes.push(Wish::Fail(text));
        }
    }

    fn drop_pending(&mut self, now: Instant, id: CheckpointId, reason: AbortReason, wishes: &mut Vec<Wish>) {
        if let Some(pending) = self.pending.remove(&id) {
            self.savepoint_wanted |= pending.kind == CheckpointKind::Savepoint;
            self.cleaning.suspect(id);
            self.history.aborted(id, &reason);
            self.last_end = Some(now);
            wishes.push(Wish::Abort(id, reason));
        }
    }

    /// Looks at the time and at what has come in, and wants the next steps of a job whose attempts are all there.
    pub(super) fn drive(
        &mut self,
        now: Instant,
        replicated: &Checkpoints,
        participants: &Participants,
        wishes: &mut Vec<Wish>,
    ) {
        self.settle_inherited(now, replicated, participants, wishes);
        self.expire(now, wishes);
        if wishes.iter().any(|wish| matches!(wish, Wish::Fail(_))) {
            return;
        }
        self.complete(now, participants, wishes);
        self.make_known(replicated, participants, wishes);
        self.trigger(now, replicated, participants, wishes);
        self.clean(now, replicated, wishes);
    }

    /// A checkpoint of an earlier leadership is completed if every attempt has acknowledged it, and aborted otherwise.
    fn settle_inherited(
        &mut self,
        now: Instant,
        replicated: &Checkpoints,
        participants: &Participants,
        wishes: &mut Vec<Wish>,
    ) {
        if participants.unready > 0 {
            return;
        }
        for (id, acknowledged) in self.inherited.take().into_iter().flatten() {
            if !replicated.completable(id) {
                continue;
            }
            let pending = PendingCheckpoint::inherited(now, participants, acknowledged);
            if pending.missing().is_empty() {
                self.pending.insert(id, pending);
            } else {
                wishes.push(Wish::Abort(id, AbortReason::LeaderChanged));
            }
        }
    }

    fn expire(&mut self, now: Instant, wishes: &mut Vec<Wish>) {
        let timeout = self.settings.timeout;
        let late = |pending: &PendingCheckpoint| !pending.proposed && now.since(pending.triggered) >= timeout;
        let expired = self.pending.iter().filter(|(_, pending)| late(pending));
        let expired: Vec<_> = expired.map(|(&id, pending)| (id, pending.missing())).collect();
        for (id, missing) in expired {
            self.abort(now, id, AbortReason::Expired { missing }, wishes);
        }
    }

    fn complete(&mut self, now: Instant, participants: &Participants, wishes: &mut Vec<Wish>) {
        for (&id, pending) in &mut self.pending {
            if pending.proposed || !pending.is_complete(participants) {
                continue;
            }
            pending.proposed = true;
            if mutant::active(Mutant::NotifiesBeforeCommit) {
                wishes.push(Wish::Notify(id, participants.running.values().copied().collect()));
            }
            wishes.push(Wish::Propose(Proposal::Complete {
                id,
                attempts: participants.attempts(),
                states: pending.states(participants),
                duration: now.since(pending.triggered),
                kind: pending.kind,
            }));
        }
    }

    /// Completions are made known by every leadership until all that took part have confirmed it.
    fn make_known(&mut self, replicated: &Checkpoints, participants: &Participants, wishes: &mut Vec<Wish>) {
        let Some(latest) = replicated.latest().filter(|&latest| latest > replicated.notified) else { return };
        let known = self.notification.as_ref().is_some_and(|notification| notification.id >= latest);
        if !known && participants.unready == 0 {
            self.notify(latest, participants.running.values().copied().collect(), wishes);
        }
        let Some(notification) = &mut self.notification else { return };
        // What has finished published everything with its last snapshot, which the final checkpoint commits.
        notification.waiting.retain(|attempt| participants.running.get(&attempt.vertex) == Some(attempt));
        if notification.waiting.is_empty() && !std::mem::replace(&mut notification.proposed, true) {
            wishes.push(Wish::Propose(Proposal::Notified(latest)));
        }
    }

    fn trigger(&mut self, now: Instant, replicated: &Checkpoints, participants: &Participants, wishes: &mut Vec<Wish>) {
        let settings = &self.settings;
        // After a failure even a savepoint waits: what made it fail may last.
        let due = (self.savepoint_wanted && self.failures == 0)
            || self.last_trigger.is_none_or(|last| now.since(last) >= settings.interval)
                && self.last_end.is_none_or(|last| now.since(last) >= settings.pause_min);
        let room = self.pending.len() < usize::try_from(settings.concurrent_max).unwrap_or(usize::MAX);
        if !due || !room || participants.unready > 0 || participants.running.is_empty() {
            return;
        }
        let Some(id) = self.next_id(replicated, wishes) else { return };
        self.last_trigger = Some(now);
        let wanted = std::mem::take(&mut self.savepoint_wanted);
        let kind = if wanted { CheckpointKind::Savepoint } else { CheckpointKind::Periodic };
        self.pending.insert(id, PendingCheckpoint::triggered(now, kind, participants, replicated.notified));
        wishes.push(Wish::Trigger(id, kind));
    }

    /// Takes the next id that this leadership may use; has some reserved when there is none.
    pub(super) fn next_id(&mut self, replicated: &Checkpoints, wishes: &mut Vec<Wish>) -> Option<CheckpointId> {
        self.ids.start = self.ids.start.max(replicated.min_completable.0);
        if let Some(id) = self.ids.next() {
            return Some(CheckpointId(id));
        }
        if !std::mem::replace(&mut self.reserving, true) {
            let upto = CheckpointId(replicated.reserved.0 + RESERVED_AT_ONCE);
            wishes.push(Wish::Propose(Proposal::Reserve(upto)));
        }
        None
    }
}
