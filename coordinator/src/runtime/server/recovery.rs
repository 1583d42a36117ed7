//! A new cluster out of what is left of an old one: from a backup, or from one survivor of a lost quorum.
//!
//! Both are offline, say first what may be lost or repeated, and begin a cluster with an id of its own, so that nothing
//! of the old one ever talks to it: its other coordinators, should they come back, and its task managers, until they
//! are restarted. The new log begins far beyond the old one's end, so that every epoch is greater than all before.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tidemill_model::id::{BlobId, ClusterId, NodeId};
use uuid::Uuid;

use super::backup::{self, Backup};
use super::blob_store::{self, BlobStore};
use super::data_directory::{self, DataDirectory};
use crate::engine::replicated::ClusterState;
use crate::runtime::raft::{Beginning, Member, StorageError, Survivor, begin_cluster};

/// The number of the one coordinator that a recovered cluster begins with.
const FIRST_NODE: NodeId = NodeId(1);

/// Unfinished jobs that a report names.
const JOBS_NAMED: usize = 20;

/// Why nothing was recovered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory refuses.
    #[error(transparent)]
    Directory(#[from] data_directory::Error),
    /// The database refuses.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The backup refuses.
    #[error(transparent)]
    Backup(#[from] backup::Error),
    /// The blobs refuse.
    #[error(transparent)]
    Blobs(#[from] blob_store::Error),
    /// There is nothing to recover.
    #[error("recover {}: this directory is not a member of a cluster; name the data directory of a survivor", dir.display())]
    NoMember {
        /// The directory.
        dir: PathBuf,
    },
    /// There is something to lose.
    #[error("restore into {}: this directory is a member of cluster {cluster} already; name an empty one", dir.display())]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
        /// Of which cluster it is.
        cluster: ClusterId,
    },
    /// The operator did not type what was asked for.
    #[error("begin a new cluster: not confirmed; nothing was changed. To go on, type or pass --confirm {phrase:?}")]
    NotConfirmed {
        /// What to type.
        phrase: String,
    },
    /// A folder cannot be moved.
    #[error("move {} to {}: {source}; check the permissions and the disk", from.display(), to.display())]
    Move {
        /// From where.
        from: PathBuf,
        /// To where.
        to: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// What would be done, and what it costs.
pub struct Plan {
    /// For the operator to read.
    pub report: String,
    /// What the operator has to type.
    pub phrase: String,
    directory: DataDirectory,
    dir: PathBuf,
    member: Member,
    state: ClusterState,
    beginning: Beginning,
    backup: Option<Backup>,
}

/// The cluster that was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// Its id.
    pub cluster: ClusterId,
    /// Its only coordinator.
    pub member: Member,
    /// Where the old database is kept, if there was one.
    pub kept: Option<PathBuf>,
}

impl Plan {
    /// Of the directory of one survivor.
    ///
    /// # Errors
    ///
    /// When it is no member, is in use or damaged.
    pub async fn recover(dir: &Path) -> Result<Self, Error> {
        let directory = DataDirectory::open(dir)?;
        let no_member = || Error::NoMember { dir: dir.to_owned() };
        let (cluster, node) = directory.identity().member.ok_or_else(no_member)?;
        let survivor = Survivor::read(&directory.raft_path(), cluster, node).await?;
        let member = survivor.members.get(&node).cloned().ok_or_else(no_member)?;
        let blobs = BlobStore::open(&dir.join("blobs"), u64::MAX)?;
        let report = recovery_report(cluster, node, &survivor, &missing(&survivor.state, &blobs));
        Ok(Self {
            report,
            phrase: format!("new cluster from node {node} of {cluster}"),
            directory,
            dir: dir.to_owned(),
            member,
            beginning: Beginning::after(survivor.term, survivor.last_index),
            state: survivor.state,
            backup: None,
        })
    }

    /// Of a backup, into an empty directory of a coordinator with these addresses.
    ///
    /// # Errors
    ///
    /// When the backup is damaged, or the directory is a member already.
    pub fn restore(file: &Path, dir: &Path, member: Member) -> Result<Self, Error> {
        let backup = Backup::open(file)?;
        let directory = DataDirectory::open(dir)?;
        if let Some((cluster, _)) = directory.identity().member {
            return Err(Error::NotEmpty { dir: dir.to_owned(), cluster });
        }
        let header = &backup.header;
        Ok(Self {
            report: restore_report(&backup),
            phrase: format!("new cluster from backup of {} at {}", header.cluster, header.index),
            directory,
            dir: dir.to_owned(),
            member,
            beginning: Beginning::after(header.term, header.index),
            state: backup.state.clone(),
            backup: Some(backup),
        })
    }

    /// Carries it out, if the operator typed the phrase.
    ///
    /// # Errors
    ///
    /// When it was not typed, or the disk says no.
    pub async fn carry_out(mut self, typed: &str) -> Result<Begun, Error> {
        if typed.trim() != self.phrase {
            return Err(Error::NotConfirmed { phrase: self.phrase });
        }
        let cluster = ClusterId(Uuid::new_v4());
        if let Some(backup) = &mut self.backup {
            let blobs = BlobStore::open(&self.dir.join("blobs"), u64::MAX)?;
            backup.store_blobs(&blobs).await?;
        }
        for blob in self.state.blobs.values_mut() {
            blob.holders = [FIRST_NODE].into();
        }
        let (raft, fresh) = (self.directory.raft_path(), self.dir.join("raft.new"));
        if fresh.exists() {
            fs::remove_dir_all(&fresh).map_err(|source| Error::Move {
                from: fresh.clone(),
                to: raft.clone(),
                source,
            })?;
        }
        let owner = (cluster, FIRST_NODE);
        begin_cluster(&fresh, owner, self.member.clone(), &self.state, self.beginning).await?;
        let kept = self.dir.join(format!("raft.before-{cluster}"));
        let kept = raft.exists().then_some(kept);
        if let Some(kept) = &kept {
            move_folder(&raft, kept)?;
        }
        move_folder(&fresh, &raft)?;
        self.directory.begin_cluster(cluster, FIRST_NODE)?;
        Ok(Begun { cluster, member: self.member, kept })
    }
}

fn move_folder(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(|source| Error::Move { from: from.to_owned(), to: to.to_owned(), source })
}

/// Registered blobs that are not in the folder.
fn missing(state: &ClusterState, blobs: &BlobStore) -> Vec<BlobId> {
    state.blobs.keys().copied().filter(|&blob| !blobs.contains(blob)).collect()
}

fn recovery_report(cluster: ClusterId, node: NodeId, survivor: &Survivor, missing: &[BlobId]) -> String {
    let Survivor { last_index, committed_index, term, .. } = survivor;
    let others = survivor.members.iter().filter(|(id, _)| **id != node);
    let others: Vec<String> = others.map(|(id, member)| format!("{} (node {id})", member.name)).collect();
    let undecided = last_index.saturating_sub(*committed_index);
    let mut text = format!(
        "Node {node} of cluster {cluster}: its log ends at index {last_index}, term {term}; up to {committed_index} it \
         knows it decided.\n\n\
         A new cluster begins with this coordinator alone.\n\
         \x20 Lost: whatever the other coordinators ({}) decided after index {last_index}. Submissions, cancellations, \
         completed checkpoints and ends of jobs that clients were told of may be among it.\n\
         \x20 Made true: the last {undecided} entries of this log, which may never have been decided.\n\
         \x20 Repeated: each unfinished job starts again from the newest checkpoint that is in this log. Records after \
         it are processed again; output that was published after it, or by a job whose end is lost, may appear twice.\n",
        if others.is_empty() { "none".to_owned() } else { others.join(", ") },
    );
    if !missing.is_empty() {
        let names: Vec<String> = missing.iter().map(ToString::to_string).collect();
        writeln!(
            text,
            "  Gone: {} blobs are not on this disk: {}. Jobs that need them will fail.",
            names.len(),
            names.join(", ")
        )
        .expect("a String takes all text");
    }
    text + &jobs_report(&survivor.state) + AFTERWARDS
}

fn restore_report(backup: &Backup) -> String {
    let header = &backup.header;
    let text = format!(
        "Backup of cluster {} at index {}, written by node {} at {} ms since 1970; {} blobs.\n\n\
         A new cluster begins with this coordinator alone.\n\
         \x20 Lost: everything that was decided after index {}. Jobs submitted since are unknown; jobs cancelled or ended \
         since are not.\n\
         \x20 Repeated: each job that was unfinished then starts again from the newest checkpoint that is in the backup. \
         Records after it are processed again; output that was published since may appear twice. If that checkpoint's \
         files were removed since, because a later one took its place, the job fails and says so.\n",
        header.cluster,
        header.index,
        header.node,
        header.written.0,
        header.blobs.len(),
        header.index,
    );
    text + &jobs_report(&backup.state) + AFTERWARDS
}

const AFTERWARDS: &str = "\n\
Before: be certain that no coordinator of the old cluster runs or will run again, and stop every task manager: what \
they run is not this cluster's.\n\
After: start this coordinator, then the task managers (they join the new cluster), then new coordinators with empty \
directories, and add those with `tidemill cluster add`. Empty the directories of the old ones.\n";

fn jobs_report(state: &ClusterState) -> String {
    let unfinished: Vec<String> =
        state.unfinished().map(|job| format!("    {} {:?}: {}", job.spec.id, job.spec.name, job.status)).collect();
    let mut text = format!("  Unfinished jobs: {}\n", unfinished.len());
    for line in unfinished.iter().take(JOBS_NAMED) {
        writeln!(text, "{line}").expect("a String takes all text");
    }
    if unfinished.len() > JOBS_NAMED {
        writeln!(text, "    ... and {} more", unfinished.len() - JOBS_NAMED).expect("a String takes all text");
    }
    text
}
