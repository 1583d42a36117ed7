//! Looks at the cluster while it runs: what each coordinator says, what the job says, which processes live.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidemill::job_client::{ClusterStatus, JobClient, JobDetails};
use tidemill_model::id::JobId;

use crate::clock;
use crate::cluster::Cluster;
use crate::host::{Host, Role};
use crate::process::procfs;
use crate::record::{ExecutorsLook, JobLook, LoadLook, Run, StatusLook};
use crate::workload::Stage;

/// How often each coordinator is asked.
const STATUS_PACE: Duration = Duration::from_millis(150);
/// How often the job is asked for.
const JOB_PACE: Duration = Duration::from_millis(300);
/// How often processes are looked at.
const PROCESS_PACE: Duration = Duration::from_millis(50);

/// What has been seen.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    looks: Arc<Mutex<Looks>>,
}

#[derive(Debug, Default)]
struct Looks {
    statuses: Vec<StatusLook>,
    jobs: Vec<JobLook>,
    executors: Vec<ExecutorsLook>,
    loads: Vec<LoadLook>,
}

impl Seen {
    fn with<T>(&self, change: impl FnOnce(&mut Looks) -> T) -> T {
        change(&mut self.looks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Moves everything into a run's record, in the order of time.
    pub fn move_into(&self, run: &mut Run) {
        self.with(|looks| {
            looks.statuses.sort_by_key(|look| look.at);
            run.statuses.append(&mut looks.statuses);
            run.jobs.append(&mut looks.jobs);
            run.executors.append(&mut looks.executors);
            run.loads.append(&mut looks.loads);
        });
    }
}

/// Begins to look at coordinators and the job, until the stage is over.
pub fn watch_cluster(cluster: &Cluster, job: JobId, stage: &Stage, seen: &Seen) {
    for (host, address) in cluster.addresses() {
        let (stage, seen) = (stage.clone(), seen.clone());
        cluster.clients.spawn(async move {
            let client = JobClient::new(vec![address]);
            while !stage.is_over() {
                for (_, answer) in client.cluster_status().await {
                    if let Ok(status) = answer {
                        let look = status_look(host, &status, job);
                        seen.with(|looks| looks.statuses.push(look));
                    }
                }
                tokio::time::sleep(STATUS_PACE).await;
            }
        });
    }
    let (client, stage, seen) = (cluster.client(Duration::from_secs(1)), stage.clone(), seen.clone());
    cluster.clients.spawn(async move {
        while !stage.is_over() {
            if let Ok(details) = client.get_job(job).await {
                seen.with(|looks| looks.jobs.push(job_look(&details)));
            }
            tokio::time::sleep(JOB_PACE).await;
        }
    });
}

fn status_look(node: Host, status: &ClusterStatus, job: JobId) -> StatusLook {
    let of_job = status.takeovers.iter().filter(|takeover| takeover.job == job);
    StatusLook {
        at: clock::now(),
        node,
        leader: status.leader().and_then(|leader| leader.name.parse().ok()),
        epoch: status.epoch.map(|epoch| epoch.0),
        applied: status.applied_index,
        checksum: status.state_checksum,
        takeovers: of_job
            .map(|takeover| (takeover.epoch.0, takeover.tasks_adopted, takeover.tasks_restarted))
            .collect(),
    }
}

fn job_look(details: &JobDetails) -> JobLook {
    let attempt = |attempt: &tidemill::job_client::AttemptDetails| {
        let state = attempt.report.state.name().to_owned();
        (attempt.report.attempt.to_string(), state, attempt.process_id)
    };
    JobLook {
        at: clock::now(),
        status: details.status.name().to_owned(),
        attempts: details.attempts.iter().map(attempt).collect(),
        restarts: details.restarts,
    }
}

/// Looks at the task managers' processes and their children on a thread of its own, until it is told to end.
#[derive(Debug)]
pub struct ProcessWatch {
    over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl ProcessWatch {
    /// Begins. Task managers keep their processes while it looks.
    #[must_use]
    pub fn start(cluster: &Cluster, seen: &Seen) -> Self {
        let process = |host: Host| cluster.process(host).map(|process| (host, process.id));
        let agents: Vec<(Host, u32)> = cluster.hosts(Role::TaskManager).into_iter().filter_map(process).collect();
        let over = Arc::new(AtomicBool::new(false));
        let (ended, seen) = (over.clone(), seen.clone());
        let thread = std::thread::spawn(move || {
            let mut last: BTreeMap<Host, ExecutorsLook> = BTreeMap::new();
            let processors =
                std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(1));
            while !ended.load(Ordering::Relaxed) {
                if let Some(runnable) = procfs::runnable() {
                    let look = LoadLook { at: clock::now(), runnable, processors };
                    seen.with(|looks| looks.loads.push(look));
                }
                for look in look(&agents) {
                    let known = last.get(&look.host);
                    let same = known.is_some_and(|known| {
                        (&known.task_manager, &known.executors) == (&look.task_manager, &look.executors)
                    });
                    if !same {
                        last.insert(look.host, look.clone());
                        seen.with(|looks| looks.executors.push(look));
                    }
                }
                clock::pause(PROCESS_PACE);
            }
        });
        Self { over, thread: Some(thread) }
    }
}

impl Drop for ProcessWatch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It only looks; a panic there has been printed.
            drop(thread.join());
        }
    }
}

fn look(agents: &[(Host, u32)]) -> Vec<ExecutorsLook> {
    let living = procfs::living();
    let at = clock::now();
    let of = |&(host, process_id): &(Host, u32)| {
        let children = living.values().filter(|stat| stat.parent == process_id).map(|stat| stat.key).collect();
        let task_manager = living.get(&process_id).map(|stat| stat.key);
        ExecutorsLook { at, host, task_manager, executors: children }
    };
    agents.iter().map(of).collect()
}
