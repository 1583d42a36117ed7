//! What is deleted in the job's folder of the checkpoint storage: one thing at a time, and less and less often while the
//! storage is out of order.

use std::time::Duration;

use tidemill_model::id::CheckpointId;
use tidemill_model::time::Instant;

use super::{CheckpointCoordinator, Proposal, Wish};
use crate::engine::replicated::{Checkpoints, Garbage};

/// How many files are deleted at a time.
const DELETED_AT_ONCE: usize = 1000;

/// The pause after the first failure; each further one is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Where the cleaning stands.
#[derive(Debug, Default)]
pub(super) struct Cleaning {
    step: Step,
    /// How many steps have failed in a row.
    failures: u32,
    /// Checkpoints up to this one may have come to nothing, with files that no list has.
    aborted: Option<CheckpointId>,
    /// The folder of the ended job was deleted once: another time, for what was written late, and then it counts.
    emptied: bool,
}

#[derive(Debug, Default)]
enum Step {
    #[default]
    Idle,
    /// The storage, or Raft, has been asked for something.
    UnderWay,
    PausedUntil(Instant),
}

impl Cleaning {
    fn is_free(&self, now: Instant) -> bool {
        match self.step {
            Step::Idle => true,
            Step::UnderWay => false,
            Step::PausedUntil(until) => now >= until,
        }
    }

    /// Files of checkpoints up to `id` may be in the folder without being listed.
    pub(super) fn suspect(&mut self, id: CheckpointId) {
        if id > CheckpointId::default() {
            self.aborted = self.aborted.max(Some(id));
        }
    }

    /// What was under way is done.
    pub(super) fn done(&mut self) {
        (self.step, self.failures) = (Step::Idle, 0);
    }

    /// Something may have been written since the folder was emptied.
    pub(super) fn begin_again(&mut self) {
        self.emptied = false;
    }

    fn failed(&mut self, now: Instant) {
        let pause = PAUSE_MIN.saturating_mul(2_u32.saturating_pow(self.failures)).min(PAUSE_MAX);
        self.failures = self.failures.saturating_add(1);
        self.step = Step::PausedUntil(now + pause);
    }

    /// Whether the files of checkpoints that came to nothing can be told from those that may still be needed: they are
    /// older than everything that is retained.
    fn can_look(&self, replicated: &Checkpoints) -> bool {
        let oldest = replicated.completed.first_key_value().map(|(&id, _)| id);
        self.aborted.is_some_and(|aborted| oldest.is_some_and(|oldest| oldest > aborted))
    }
}

impl CheckpointCoordinator {
    /// Wants the next step of the cleaning, if there is one.
    ///
    /// A task builds its next snapshot on the newest completed checkpoint that it was told of. A file that only older
    /// ones need may go when every attempt has been told of the one that made it garbage, and everything pending was
    /// triggered after that.
    pub(in crate::engine::leader) fn clean(&mut self, now: Instant, replicated: &Checkpoints, wishes: &mut Vec<Wish>) {
        if self.inherited.is_some() || !self.cleaning.is_free(now) {
            return;
        }
        let pending = self.pending.values().map(|pending| pending.base).min();
        let told = pending.map_or(replicated.notified, |base| base.min(replicated.notified));
        let deletable = replicated.garbage.iter().filter(|(_, since)| **since <= told);
        let paths: Vec<String> = deletable.map(|(path, _)| path.clone()).take(DELETED_AT_ONCE).collect();
        let wish = if replicated.folder_is_garbage {
            Wish::Delete(Garbage::Folder)
        } else if !paths.is_empty() {
            Wish::Delete(Garbage::Files(paths))
        } else if self.cleaning.can_look(replicated) {
            Wish::ListFiles
        } else {
            return;
        };
        self.cleaning.step = Step::UnderWay;
        wishes.push(wish);
    }

    /// These files are in the folder: those of checkpoints that came to nothing go.
    pub(in crate::engine::leader) fn listed(
        &mut self,
        replicated: &Checkpoints,
        paths: Vec<String>,
        wishes: &mut Vec<Wish>,
    ) {
        let Some((&oldest, _)) = replicated.completed.first_key_value() else { return self.cleaning.done() };
        let useless = |path: &String| checkpoint_of(path).is_some_and(|id| id < oldest) && !replicated.knows(path);
        let mut useless: Vec<String> = paths.into_iter().filter(useless).collect();
        if useless.len() > DELETED_AT_ONCE {
            useless.truncate(DELETED_AT_ONCE);
        } else {
            self.cleaning.aborted = self.cleaning.aborted.filter(|aborted| *aborted >= oldest);
        }
        if useless.is_empty() {
            self.cleaning.done();
        } else {
            wishes.push(Wish::Delete(Garbage::Files(useless)));
        }
    }

    /// The runtime has deleted something; what a list has must leave it.
    pub(in crate::engine::leader) fn deleted(
        &mut self,
        now: Instant,
        replicated: &Checkpoints,
        garbage: Garbage,
        wishes: &mut Vec<Wish>,
    ) {
        let late_writes = self.late_writes;
        if garbage == Garbage::Folder && late_writes > Duration::ZERO && !self.cleaning.emptied {
            self.cleaning.emptied = true;
            self.cleaning.step = Step::PausedUntil(now + late_writes);
            return;
        }
        let listed = match &garbage {
            Garbage::Files(paths) => paths.iter().any(|path| replicated.garbage.contains_key(path)),
            Garbage::Folder => replicated.folder_is_garbage,
        };
        if listed {
            wishes.push(Wish::Propose(Proposal::Deleted(garbage)));
        } else {
            self.cleaning.done();
        }
    }

    /// The storage is out of order: the same is tried again later.
    pub(in crate::engine::leader) fn cleaning_failed(&mut self, now: Instant) {
        self.cleaning.failed(now);
    }
}

/// The checkpoint for which a file was written: the first part of its path.
fn checkpoint_of(path: &str) -> Option<CheckpointId> {
    path.split_once('/')?.0.parse().ok().map(CheckpointId)
}
