//! Looks at a job over a sequence while it runs: what is committed, which checkpoints there are.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidemill::job_client::{JobClient, JobDetails};
use tidemill_model::event::EventFile;
use tidemill_model::id::{CheckpointId, JobId};
use tokio::task::JoinHandle;

use super::record::{CheckpointLook, FileLook, OutputLook, names};
use super::{COUNTS, NUMBERS};
use crate::clock;
use crate::cluster::Cluster;

/// How often it looks.
const PACE: Duration = Duration::from_millis(250);
/// How long a leader may take to answer.
const TIMEOUT: Duration = Duration::from_secs(1);

/// What has been seen.
#[derive(Debug, Default)]
pub(super) struct Looks {
    pub(super) output: Vec<OutputLook>,
    pub(super) checkpoints: Vec<CheckpointLook>,
    /// The files of the last look at the output, each with what it looked like from outside.
    known: BTreeMap<String, (Outside, FileLook)>,
}

/// What tells without reading it that a file has changed: its length, the time of its last change, its inode.
type Outside = (u64, i64, u64);

/// Whether files are read that look the same from outside.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    Quick,
    Thorough,
}

/// Looks, until it is dropped.
pub(super) struct Watch {
    looks: Arc<Mutex<Looks>>,
    folder: PathBuf,
    tasks: Vec<JoinHandle<()>>,
}

impl Watch {
    /// Watches the output below a folder.
    pub(super) fn start(cluster: &Cluster, folder: &Path) -> Self {
        let looks: Arc<Mutex<Looks>> = Arc::default();
        let (seen, watched) = (looks.clone(), folder.to_owned());
        let task = cluster.clients.spawn(async move {
            loop {
                look_at_output(&watched, &seen, Look::Quick);
                tokio::time::sleep(PACE).await;
            }
        });
        Self { looks, folder: folder.to_owned(), tasks: vec![task] }
    }

    /// Watches a job's checkpoints, too.
    pub(super) fn job(&mut self, cluster: &Cluster, job: JobId, checkpoints: &Path) {
        let (client, looks, folder) = (cluster.client(TIMEOUT), self.looks.clone(), checkpoints.join(job.to_string()));
        self.tasks.push(cluster.clients.spawn(async move {
            loop {
                if let Some(look) = look_at_checkpoints(&client, job, &folder).await {
                    looks.lock().unwrap_or_else(PoisonError::into_inner).checkpoints.push(look);
                }
                tokio::time::sleep(PACE).await;
            }
        }));
    }

    /// Looks a last time; what has been seen.
    pub(super) fn end(self) -> Looks {
        self.tasks.iter().for_each(JoinHandle::abort);
        look_at_output(&self.folder, &self.looks, Look::Thorough);
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        looks.checkpoints.sort_by_key(|look| look.to);
        std::mem::take(&mut *looks)
    }
}

fn look_at_output(folder: &Path, looks: &Mutex<Looks>, look: Look) {
    let mut looks = looks.lock().unwrap_or_else(PoisonError::into_inner);
    let mut found = BTreeMap::new();
    for sink in [NUMBERS, COUNTS] {
        // A folder that is not there yet has nothing.
        for name in names(&folder.join(sink)).unwrap_or_default().into_iter().filter(|name| !name.starts_with('.')) {
            let path = folder.join(sink).join(&name);
            let Ok(metadata) = fs::metadata(&path) else { continue };
            let outside = (metadata.len(), metadata.mtime_nsec().wrapping_add(metadata.mtime()), metadata.ino());
            let name = format!("{sink}/{name}");
            let known = looks.known.get(&name).filter(|known| look == Look::Quick && known.0 == outside);
            match known.map_or_else(|| read(&path), |known| Some(known.1)) {
                Some(file) => drop(found.insert(name, (outside, file))),
                None => continue,
            }
        }
    }
    let gone = looks.known.keys().filter(|name| !found.contains_key(*name)).map(|name| (name.clone(), None));
    let new = found.iter().filter(|(name, (_, file))| looks.known.get(*name).is_none_or(|known| known.1 != *file));
    let changed: BTreeMap<_, _> = gone.chain(new.map(|(name, (_, file))| (name.clone(), Some(*file)))).collect();
    if !changed.is_empty() {
        looks.output.push(OutputLook { at: clock::now(), changed });
    }
    looks.known = found;
}

fn read(path: &Path) -> Option<FileLook> {
    let content = fs::read(path).ok()?;
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    Some(FileLook { bytes: u64::try_from(content.len()).unwrap_or(u64::MAX), hash: hasher.finish() })
}

async fn look_at_checkpoints(client: &JobClient, job: JobId, folder: &Path) -> Option<CheckpointLook> {
    let from = clock::now();
    let before = client.get_job(job).await.ok()?;
    let files = list(folder);
    let after = client.get_job(job).await.ok()?;
    if after.status.is_terminal() {
        // Its checkpoints go with it, or become somebody's.
        return None;
    }
    let files = files.filter(|_| retained(&before) == retained(&after));
    Some(CheckpointLook {
        job,
        from,
        to: clock::now(),
        latest: after.latest_checkpoint,
        retained: retained(&after),
        files,
    })
}

fn retained(details: &JobDetails) -> Vec<CheckpointId> {
    let overview = details.checkpoints.as_ref();
    overview.map(|overview| overview.retained.iter().map(|kept| kept.id).collect()).unwrap_or_default()
}

/// The files below a folder with their lengths; none, when it cannot be listed, such as before the first checkpoint.
fn list(folder: &Path) -> Option<Vec<EventFile>> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(below) = folders.pop() {
        for entry in fs::read_dir(folder.join(&below)).ok()?.flatten() {
            let path = below.join(entry.file_name());
            // What is deleted meanwhile is not there.
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(path),
                Ok(metadata) => {
                    found.push(EventFile { path: path.to_string_lossy().into_owned(), bytes: metadata.len() });
                }
                Err(_) => {}
            }
        }
    }
    Some(found)
}
