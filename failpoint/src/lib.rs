//! Named places at which a build for fault injection can be made to stop, sleep or fail.
//!
//! Without the cargo feature `failpoints` a [`FailPoint`] is no code at all. With it, each can be given an action by the
//! variable `FAILPOINTS` (`name=action;name=action`) or, while a server runs, by `PUT /failpoints/NAME` on its HTTP port.
//! An action is `[chance%][count*]what`: `abort` (the process ends at once, like a crash), `panic`, `sleep(ms)`, `error`
//! (where the place can fail), `print`, `off`, or several joined by `->`.

#![deny(missing_docs)]

#[cfg(feature = "http")]
pub mod http;

use std::io;

/// Whether this build has fail points.
pub const ENABLED: bool = cfg!(feature = "failpoints");

/// The variable that gives points their first actions.
pub const VARIABLE: &str = "FAILPOINTS";

/// Why a point has not got its action.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No such point.
    #[error("set fail point {name:?}: there is none of that name; there are {}", names().join(", "))]
    Unknown {
        /// The name.
        name: String,
    },
    /// No such action.
    #[error(
        "set fail point {name}: action {action:?} is not understood: {reason}; write [chance%][count*]what, such as \
         1*abort, sleep(100), 10%error or off"
    )]
    Action {
        /// The point.
        name: &'static str,
        /// What was wanted.
        action: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A piece of the variable is no assignment.
    #[error("read {VARIABLE}: {piece:?} is not name=action")]
    Assignment {
        /// The piece.
        piece: String,
    },
}

macro_rules! points {
    ($(#[doc = $doc:literal] $point:ident = $name:literal;)*) => {
        /// A place in the code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum FailPoint {
            $(#[doc = $doc] $point,)*
        }

        impl FailPoint {
            /// Every point of every process.
            pub const ALL: &[Self] = &[$(Self::$point),*];

            /// Its name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$point => $name,)*
                }
            }
        }
    };
}

points! {
    /// Entries are written, and not yet on the disk.
    RaftAppendPreSync = "raft.append.pre_sync";
    /// Entries are on the disk, and nobody knows it yet.
    RaftAppendPostSync = "raft.append.post_sync";
    /// A vote is not yet on the disk.
    RaftVotePreSync = "raft.vote.pre_sync";
    /// A vote is on the disk, and the candidate does not know it yet.
    RaftVotePostSync = "raft.vote.post_sync";
    /// A committed entry is about to be applied.
    RaftApplyPre = "raft.apply.pre";
    /// A snapshot is about to be written.
    SnapshotBuildPre = "snapshot.build.pre";
    /// A snapshot has been written.
    SnapshotBuildPost = "snapshot.build.post";
    /// The leader's snapshot has come, and nothing of it is on the disk.
    SnapshotInstallPre = "snapshot.install.pre";
    /// The leader's snapshot is on the disk, and the state is still the old one.
    SnapshotInstallPost = "snapshot.install.post";
    /// A leadership's entry is applied, and its actors are not yet there.
    LeaderStartPreRecover = "leader.start.pre_recover";
    /// A submission is applied, and neither the job's master nor the client knows it.
    JobSubmitPostPropose = "job.submit.post_propose";
    /// A job's master is about to look at the time.
    JobMasterTick = "job.master.tick";
    /// A task manager is about to say hello.
    TaskManagerRegisterPre = "tm.register.pre";
    /// A leader is about to ask for a checkpoint.
    CheckpointTrigger = "ckpt.trigger";
    /// An executor has made its part of a checkpoint durable, and nobody knows it.
    CheckpointAck = "ckpt.ack";
    /// Everybody has acknowledged a checkpoint, and its completion is not decided.
    CheckpointPreCommit = "ckpt.pre_commit";
    /// A checkpoint is completed, and nobody has heard of it.
    CheckpointPostCommit = "ckpt.post_commit";
    /// An executor has heard that a checkpoint is completed, and its sinks have not.
    CheckpointNotify = "ckpt.notify";
    /// A sub-task is about to read what it starts from.
    RestorePre = "restore.pre";
    /// Files of checkpoints that nothing needs are about to be deleted.
    GarbagePreDelete = "gc.pre_delete";
    /// A sink has a transaction's output, and has not made it durable.
    SinkPrecommitPre = "sink.precommit.pre";
    /// A sink's transaction can be committed by whoever knows of it, and no checkpoint does.
    SinkPrecommitPost = "sink.precommit.post";
    /// Staged output or a transaction is complete, and not yet visible.
    SinkCommitPre = "sink.commit.pre";
    /// Output is visible, and nobody knows it yet.
    SinkCommitPost = "sink.commit.post";
}

impl FailPoint {
    /// The point of this name.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn named(name: &str) -> Result<Self, Error> {
        let found = Self::ALL.iter().find(|point| point.name() == name).copied();
        found.ok_or_else(|| Error::Unknown { name: name.to_owned() })
    }

    /// Does what the point was told to do; an `error` is left out where nothing can fail.
    #[inline]
    pub fn hit(self) {
        let _nothing_can_fail = active::evaluate(self);
    }

    /// Does what the point was told to do.
    ///
    /// # Errors
    ///
    /// When it was told to fail.
    #[inline]
    pub fn check(self) -> io::Result<()> {
        active::evaluate(self)
    }

    /// Tells the point what to do from now on.
    ///
    /// # Errors
    ///
    /// When the action is not understood.
    pub fn set(self, action: &str) -> Result<(), Error> {
        let refused = |reason| Error::Action { name: self.name(), action: action.to_owned(), reason };
        active::set(self, action).map_err(refused)
    }
}

/// Gives points the actions that the variable `FAILPOINTS` names; without effect in a build that has no points.
///
/// # Errors
///
/// When it is not understood.
pub fn set_from_environment() -> Result<(), Error> {
    if !ENABLED {
        return Ok(());
    }
    let Ok(text) = std::env::var(VARIABLE) else { return Ok(()) };
    for piece in text.split(';').map(str::trim).filter(|piece| !piece.is_empty()) {
        let assignment = piece.split_once('=');
        let (name, action) = assignment.ok_or_else(|| Error::Assignment { piece: piece.to_owned() })?;
        FailPoint::named(name.trim())?.set(action.trim())?;
    }
    Ok(())
}

/// Every point that has an action, as `name=action;name=action`: what [`set_from_environment`] reads.
#[must_use]
pub fn settings() -> String {
    let set: Vec<String> = active::list().into_iter().map(|(name, action)| format!("{name}={action}")).collect();
    set.join(";")
}

fn names() -> Vec<&'static str> {
    FailPoint::ALL.iter().map(|point| point.name()).collect()
}

#[cfg(feature = "failpoints")]
mod active {
    use std::io;

    use super::FailPoint;

    /// What `abort` and `error` are to the crate `fail`, which leaves both to us.
    const ABORT: &str = "return(abort)";
    const ERROR: &str = "return(error)";

    pub(super) fn evaluate(point: FailPoint) -> io::Result<()> {
        fail::fail_point!(point.name(), |what| match what.as_deref() {
            // As a crash: no destructor, no flush.
            Some("abort") => std::process::abort(),
            Some(_) | None => Err(io::Error::other(format!("fail point {}", point.name()))),
        });
        Ok(())
    }

    pub(super) fn set(point: FailPoint, action: &str) -> Result<(), String> {
        let steps: Vec<String> = action.split("->").map(step).collect();
        fail::cfg(point.name(), &steps.join("->"))
    }

    /// `3*abort` in the words of `fail`.
    fn step(text: &str) -> String {
        let text = text.trim();
        let ours = [("abort", ABORT), ("error", ERROR)];
        let known = ours.iter().find_map(|(word, theirs)| Some(format!("{}{theirs}", text.strip_suffix(word)?)));
        known.unwrap_or_else(|| text.to_owned())
    }

    pub(super) fn list() -> Vec<(String, String)> {
        let ours = |action: String| action.replace(ABORT, "abort").replace(ERROR, "error");
        fail::list().into_iter().map(|(name, action)| (name, ours(action))).collect()
    }
}

#[cfg(not(feature = "failpoints"))]
mod active {
    use std::io;

    use super::FailPoint;

    #[inline]
    pub(super) fn evaluate(_: FailPoint) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn set(_: FailPoint, _: &str) -> Result<(), String> {
        Err("this build has no fail points".to_owned())
    }

    pub(super) fn list() -> Vec<(String, String)> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_point_is_refused_with_the_names_that_there_are() {
        let error = FailPoint::named("raft.append").expect_err("there is none").to_string();
        assert!(error.contains("raft.append.pre_sync") && error.contains("\"raft.append\""), "{error}");
        assert_eq!(FailPoint::named("raft.apply.pre"), Ok(FailPoint::RaftApplyPre));
    }

    #[cfg(not(feature = "failpoints"))]
    #[test]
    fn a_default_build_has_no_points() {
        let refused = FailPoint::RaftApplyPre.set("panic").expect_err("no points");
        assert!(refused.to_string().contains("this build has no fail points"), "{refused}");
        FailPoint::RaftApplyPre.check().expect("nothing happens");
        assert_eq!(settings(), "");
    }

    #[cfg(feature = "failpoints")]
    #[test]
    fn a_point_does_what_it_is_told() {
        let point = FailPoint::SinkCommitPre;
        point.check().expect("nothing was said");
        point.set("1*error").expect("an action");
        assert_eq!(settings(), "sink.commit.pre=1*error");
        let error = point.check().expect_err("it was told to fail");
        assert_eq!(error.to_string(), "fail point sink.commit.pre");
        point.check().expect("once");
        point.set("panic").expect("an action");
        assert!(std::panic::catch_unwind(|| point.hit()).is_err());
        point.set("off").expect("an action");
        point.hit();
        let refused = point.set("explode").expect_err("no action").to_string();
        assert!(refused.starts_with("set fail point sink.commit.pre: action \"explode\""), "{refused}");
    }
}
