//! Known bugs that can be put back: those that servers are built with, and those that the preloaded library makes of any.

use std::fmt;
use std::str::FromStr;

use tidemill_model::mutant::Mutant;

use crate::caps;
use crate::cluster::Cluster;
use crate::host::Role;
use crate::shim::{Control, Slot};

/// One bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// In servers that are built with the feature `mutants`.
    Server(Mutant),
    /// In what servers leave to the disk.
    Disk(DiskBug),
}

/// A bug of coordinators that any disk with power hides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskBug {
    /// Appends to the Raft log are acknowledged without having been synced.
    UnsyncedLog,
    /// A file is renamed to its final name before what is in it has been synced.
    UnsyncedIdentity,
}

impl DiskBug {
    const ALL: [Self; 2] = [Self::UnsyncedLog, Self::UnsyncedIdentity];

    fn name(self) -> &'static str {
        match self {
            Self::UnsyncedLog => "unsynced-log",
            Self::UnsyncedIdentity => "unsynced-identity",
        }
    }

    /// What the names of the files contain whose syncs are skipped.
    fn files(self) -> &'static str {
        match self {
            Self::UnsyncedLog => ".log",
            Self::UnsyncedIdentity => "IDENTITY",
        }
    }

    /// Whether servers have it from the beginning, or only in phases that cut their power: a log that was never synced
    /// would leave nothing to start from.
    fn is_there_from_the_start(self) -> bool {
        match self {
            Self::UnsyncedLog => false,
            Self::UnsyncedIdentity => true,
        }
    }

    /// Before the servers are started.
    ///
    /// # Errors
    ///
    /// When servers cannot be told.
    pub fn before_boot(self, cluster: &Cluster) -> anyhow::Result<()> {
        self.on_each(cluster, |control| {
            control.only(self.files())?;
            control.set(Slot::SkipSync, u64::from(self.is_there_from_the_start()))
        })
    }

    /// When a phase begins that cuts the power of servers.
    ///
    /// # Errors
    ///
    /// When servers cannot be told.
    pub fn before_power_loss(self, cluster: &Cluster) -> anyhow::Result<()> {
        self.on_each(cluster, |control| control.set(Slot::SkipSync, 1))
    }

    /// When such a phase ends; how many syncs were skipped until then.
    ///
    /// # Errors
    ///
    /// When servers cannot be told.
    pub fn after_power_loss(self, cluster: &Cluster) -> anyhow::Result<u64> {
        let mut skipped = 0;
        self.on_each(cluster, |control| {
            skipped += control.get(Slot::Skipped)?;
            control.set(Slot::SkipSync, 0)
        })?;
        Ok(skipped)
    }

    fn on_each(self, cluster: &Cluster, mut what: impl FnMut(&Control) -> anyhow::Result<()>) -> anyhow::Result<()> {
        cluster.hosts(Role::Coordinator).into_iter().try_for_each(|host| what(cluster.control(host)?))
    }
}

impl Bug {
    /// Why it cannot be put back here; none: it can.
    #[must_use]
    pub fn missing(self) -> Option<String> {
        match self {
            Self::Server(_) => None,
            Self::Disk(_) => caps::lacks("disk").or_else(|| caps::lacks("shim")),
        }
    }
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(mutant) => mutant.fmt(f),
            Self::Disk(bug) => f.write_str(bug.name()),
        }
    }
}

impl FromStr for Bug {
    type Err = <Mutant as FromStr>::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match DiskBug::ALL.into_iter().find(|bug| bug.name() == text) {
            Some(bug) => Ok(Self::Disk(bug)),
            None => text.parse().map(Self::Server),
        }
    }
}
