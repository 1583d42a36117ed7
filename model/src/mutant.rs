//! Known bugs that can be put back, to prove that simulation and chaos runs would find them.
//!
//! The switch is the feature `mutants`, which no ordinary build has: without it [`active`] is a constant, and the
//! compiler drops what stands behind it. A simulation chooses a mutant for its thread ([`with`]), a binary for its
//! process ([`activate`], from the environment variable [`VARIABLE`]).

use std::fmt;
use std::str::FromStr;

/// The environment variable by which a binary that is built with the feature `mutants` is told its mutant.
pub const VARIABLE: &str = "TIDEMILL_MUTANT";

macro_rules! mutants {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)*) => {
        /// The closed list of bugs.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Mutant {
            $($(#[doc = $doc])+ $variant,)*
        }

        impl Mutant {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Its name, as [`VARIABLE`] and the matrix of mutants have it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// What is wrong, in words.
            #[must_use]
            pub fn description(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($doc),+).trim_ascii(),)*
                }
            }
        }
    };
}

mutants! {
    /// A leader deploys a schedule before it is applied.
    ActsBeforeCommit = "acts-before-commit",
    /// A task manager obeys leaders of lower epochs than it has heard of.
    LowerEpochAccepted = "lower-epoch-accepted",
    /// A command is applied although another leadership has begun since it was decided.
    LateProposalAccepted = "late-proposal-accepted",
    /// A `LeaderStarted` that has lingered takes office in a later term.
    LingeringLeaderStarted = "lingering-leader-started",
    /// A job is `FINISHED` before its sinks have committed.
    FinishedBeforeCommit = "finished-before-commit",
    /// A leader acknowledges a terminal state before it is applied, so that its task manager forgets it.
    ForgottenBeforeApply = "forgotten-before-apply",
    /// A task manager reports to a new leader and raises its fence only with that leader's first command.
    ReportBeforeFence = "report-before-fence",
    /// A new leader restarts the tasks that it finds running.
    RestartsAtTakeover = "restarts-at-takeover",
    /// A new leader adopts what a task manager runs by sub-task, without comparing attempts.
    AdoptsAnyAttempt = "adopts-any-attempt",
    /// Task managers are told apart by name instead of incarnation.
    ComparedByName = "compared-by-name",
    /// A task manager whose session breaks forgets the ends of attempts that the leader has not acknowledged.
    ResultDroppedAtFlap = "result-dropped-at-flap",
    /// Every leadership counts checkpoints from 1, in its memory.
    CheckpointCounterInMemory = "checkpoint-counter-in-memory",
    /// Sinks are told of a completed checkpoint before that is applied.
    NotifiesBeforeCommit = "notifies-before-commit",
    /// A checkpoint is completed after attempts that took part in it were replaced.
    CompletionAfterFailover = "completion-after-failover",
    /// A sink aborts the transaction of a checkpoint that is aborted, although a later checkpoint would commit it.
    SinkAbortsOnCheckpointAbort = "sink-aborts-on-checkpoint-abort",
    /// A task starts from the newest snapshot that lies in the storage, whether or not its checkpoint was completed.
    RestoresNewestDirectory = "restores-newest-directory",
    /// A task manager that drains is given new work.
    DrainingGivesSlots = "draining-gives-slots",
    /// Slots that are granted after a job has asked for others are forgotten, and stay taken.
    LateGrantDropped = "late-grant-dropped",
    /// A job's master that begins anew forgets the slots that its former self was granted, and they stay taken.
    FormerSlotsForgotten = "former-slots-forgotten",
    /// A job that commits is failed when its master panics again and again.
    CommitGivenUp = "commit-given-up",
    /// A leader that was itself stopped takes task managers for dead that it could not hear meanwhile.
    ExpiryAfterPause = "expiry-after-pause",
    /// What a task manager wrote after the end of its job, while no leader reached it, is left where it is.
    StragglersForgotten = "stragglers-forgotten",
    /// What is replaced starts from the checkpoint before the newest completed one.
    RestoresSecondNewest = "restores-second-newest",
    /// A sink publishes what it prepared at the barrier, whether or not the checkpoint is completed.
    SinkCommitsAtBarrier = "sink-commits-at-barrier",
    /// A source goes on one byte behind the place that it had read to.
    SourceOffsetOffByOne = "source-offset-off-by-one",
    /// A sink renames files whose content may not be on the disk yet.
    RenameWithoutSync = "rename-without-sync",
    /// An unaligned checkpoint leaves out what was in flight.
    InFlightForgotten = "in-flight-forgotten",
    /// A key group starts from the state of the one before it.
    ForeignKeyGroup = "foreign-key-group",
    /// A leader answers reads from what it has applied, without asking a quorum whether it still leads.
    ReadsWithoutQuorum = "reads-without-quorum",
}

impl Mutant {
    /// Whether it lies in the log itself: a simulation models that, so only real processes show such a bug.
    #[must_use]
    pub fn is_of_the_log(self) -> bool {
        matches!(self, Self::ReadsWithoutQuorum)
    }
}

impl Mutant {
    /// Whether it lies in the tasks themselves: a simulation of the control plane has others.
    #[must_use]
    pub fn is_of_the_tasks(self) -> bool {
        matches!(
            self,
            Self::SinkCommitsAtBarrier
                | Self::SourceOffsetOffByOne
                | Self::RenameWithoutSync
                | Self::InFlightForgotten
                | Self::ForeignKeyGroup
        )
    }
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no mutant's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("find mutant {0:?}: there is none of that name")]
pub struct UnknownMutant(String);

impl FromStr for Mutant {
    type Err = UnknownMutant;

    fn from_str(name: &str) -> Result<Self, UnknownMutant> {
        let found = Self::ALL.iter().find(|mutant| mutant.name() == name);
        found.copied().ok_or_else(|| UnknownMutant(name.to_owned()))
    }
}

/// Whether this bug is put back, here and now.
#[cfg(not(feature = "mutants"))]
#[must_use]
pub const fn active(_mutant: Mutant) -> bool {
    false
}

#[cfg(feature = "mutants")]
pub use switch::{activate, active, with};

#[cfg(feature = "mutants")]
mod switch {
    use std::cell::Cell;
    use std::sync::OnceLock;

    use super::Mutant;

    thread_local! {
        static OF_THREAD: Cell<Option<Mutant>> = const { Cell::new(None) };
    }
    static OF_PROCESS: OnceLock<Mutant> = OnceLock::new();

    /// Whether this bug is put back, here and now.
    #[must_use]
    pub fn active(mutant: Mutant) -> bool {
        let chosen = OF_THREAD.get().or_else(|| OF_PROCESS.get().copied());
        chosen == Some(mutant)
    }

    /// Puts a bug back for as long as `run` takes on this thread.
    pub fn with<T>(mutant: Option<Mutant>, run: impl FnOnce() -> T) -> T {
        let before = OF_THREAD.replace(mutant);
        let result = run();
        OF_THREAD.set(before);
        result
    }

    /// Puts a bug back for the whole process, once.
    pub fn activate(mutant: Mutant) {
        // The first choice counts: a process has one mutant.
        let _ = OF_PROCESS.set(mutant);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutant_is_found_by_its_name_and_says_what_is_wrong() {
        for &mutant in Mutant::ALL {
            assert_eq!(mutant.name().parse(), Ok(mutant));
            assert!(mutant.description().ends_with('.'), "{mutant}");
        }
        assert!("no-such-bug".parse::<Mutant>().is_err());
    }

    #[test]
    fn nothing_is_put_back_unless_it_is_asked_for() {
        assert!(Mutant::ALL.iter().all(|mutant| !active(*mutant)));
    }
}
