//! What one seed stands for: the cluster, its jobs, and which faults it will see.

use std::time::Duration;

use tidemill_model::checkpoint::CheckpointSettings;
use tidemill_model::id::{BlobId, JobId, JobVertexId};
use tidemill_model::job::{ArtifactProgram, JobSettings, JobSpec, Program};
use tidemill_model::job_graph::{JobEdge, JobGraph, JobVertex, OperatorDescriptor, Partitioning, SlotSharingGroup};
use tidemill_model::restart::RestartStrategy;
use uuid::Uuid;

use super::clock::{BEGINNING, MILLISECOND, SECOND, Time};
use super::random::Random;
use super::scenario::Scenario;

/// The vertex of the sources and that of the sinks.
pub(crate) const SOURCES: JobVertexId = JobVertexId(0);
pub(crate) const SINKS: JobVertexId = JobVertexId(1);

/// The largest parallelism of a job.
const PARALLELISM: u64 = 3;

/// Which processes see faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Coordinators and the ways to them only: running jobs must not notice.
    Coordinators,
    /// Everything.
    Everything,
}

/// One simulated job and its client.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) spec: JobSpec,
    /// How many records each source emits; none: it never ends.
    pub(crate) records: Option<u64>,
    /// The program panics when a source gets to this record.
    pub(crate) poison: Option<u64>,
    pub(crate) submit_at: Time,
    pub(crate) cancel_at: Option<Time>,
}

/// One simulation.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) profile: Profile,
    pub(crate) coordinators: usize,
    pub(crate) task_managers: usize,
    pub(crate) slots: u32,
    pub(crate) jobs: Vec<Job>,
    /// When the first fault comes, and when the last one is healed.
    pub(crate) quiet_start: Time,
    pub(crate) duration: Time,
    pub(crate) reconcile_timeout: Duration,
    pub(crate) orphan_timeout: Duration,
    pub(crate) cancellation_timeout: Duration,
    /// Played instead of faults by chance.
    pub(crate) scenario: Option<Scenario>,
    /// Slots that are left when every job without an end and one other have theirs.
    spare: u64,
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x7D3E_11A7_0F5E_ED00);
        let profile = if random.chance(350) { Profile::Coordinators } else { Profile::Everything };
        let coordinators = random.pick(&[3, 3, 3, 3, 5, 1]).expect("not empty");
        let task_managers = 2 + random.index(3);
        let slots = 2 + u32::from(random.chance(500));
        let capacity = u64::try_from(task_managers).expect("small") * u64::from(slots);
        let count = random.between(2, 5);
        let mut endless: u64 = 0;
        let mut jobs: Vec<Job> = (0..count).map(|number| job(number, capacity, &mut random)).collect();
        // Those without an end leave slots enough for each of the others.
        for job in jobs.iter_mut().filter(|job| job.records.is_none() && job.cancel_at.is_none()) {
            endless += u64::from(job.spec.graph.slots_needed());
            if endless + PARALLELISM > capacity {
                endless -= u64::from(job.spec.graph.slots_needed());
                job.cancel_at = Some(job.submit_at + 5 * SECOND);
            }
        }
        Self {
            seed,
            profile,
            coordinators,
            task_managers,
            slots,
            jobs,
            quiet_start: random.between(200, 2500) * MILLISECOND,
            duration: random.between(18, 32) * SECOND,
            reconcile_timeout: Duration::from_secs(10),
            orphan_timeout: Duration::from_secs(if random.chance(200) && profile == Profile::Everything {
                15
            } else {
                600
            }),
            cancellation_timeout: Duration::from_secs(4),
            scenario: None,
            spare: capacity.saturating_sub(endless + PARALLELISM),
        }
    }

    /// Whether all jobs find room when one task manager gives no slots.
    pub(crate) fn can_spare_one(&self) -> bool {
        self.spare >= u64::from(self.slots)
    }
}

/// A job without an end that takes checkpoints often, on four sub-tasks.
pub(crate) fn endless_job() -> Job {
    let mut job = job(0, 4, &mut Random::new(1));
    job.spec.graph = JobGraph {
        vertices: vec![vertex(SOURCES, "Source", 4), vertex(SINKS, "Sink", 4)],
        edges: vec![JobEdge { source: SOURCES, target: SINKS, partitioning: Partitioning::Hash }],
    };
    job.spec.settings.checkpointing = Some(CheckpointSettings {
        interval: Duration::from_millis(400),
        failures_tolerable: u32::MAX,
        ..CheckpointSettings::default()
    });
    Job { records: None, poison: None, submit_at: SECOND, cancel_at: None, ..job }
}

fn job(number: u64, capacity: u64, random: &mut Random) -> Job {
    let parallelism = |random: &mut Random| u32::try_from(random.between(1, PARALLELISM.min(capacity))).expect("small");
    let sources = parallelism(random);
    let forward = random.chance(300);
    let sinks = if forward { sources } else { parallelism(random) };
    let partitioning = if forward { Partitioning::Forward } else { Partitioning::Hash };
    let submit_at = random.between(0, 14_000) * MILLISECOND;
    let kind = random.below(100);
    let records = (kind < 70).then(|| random.between(1, 400));
    let poison = records.filter(|_| kind < 6).map(|records| random.below(records));
    let cancels = records.is_none() || kind % 10 == 9;
    let cancel_at = cancels.then(|| submit_at + random.between(10, 20_000) * MILLISECOND);
    // Some jobs without an end go on to the end of it all.
    let cancel_at = cancel_at.filter(|_| records.is_some() || random.chance(600));
    let graph = JobGraph {
        vertices: vec![vertex(SOURCES, "Source", sources), vertex(SINKS, "Sink", sinks)],
        edges: vec![JobEdge { source: SOURCES, target: SINKS, partitioning }],
    };
    let restart = RestartStrategy::FixedDelay { attempts: 1000, delay: Duration::from_millis(random.between(0, 400)) };
    let checkpointing = random.chance(600).then(|| CheckpointSettings {
        interval: Duration::from_millis(random.between(200, 1500)),
        pause_min: Duration::from_millis(random.between(0, 200)),
        timeout: Duration::from_millis(random.between(800, 4000)),
        concurrent_max: u32::try_from(random.between(1, 3)).expect("small"),
        failures_tolerable: if random.chance(800) { u32::MAX } else { 2 },
        retained: u32::try_from(random.between(1, 3)).expect("small"),
        ..CheckpointSettings::default()
    });
    let settings = JobSettings { restart, checkpointing, ..JobSettings::default() };
    let program = Program::Artifact(artifact(number));
    let spec = JobSpec { id: job_id(number), name: format!("job-{number}"), graph, program, settings };
    Job { spec, records, poison, submit_at, cancel_at }
}

fn vertex(id: JobVertexId, name: &str, parallelism: u32) -> JobVertex {
    JobVertex {
        id,
        operators: vec![OperatorDescriptor { name: name.into(), uid: name.into() }],
        parallelism,
        max_parallelism: 128,
        record_types: Vec::new(),
        slot_sharing_group: SlotSharingGroup::default(),
        co_location_group: None,
    }
}

fn artifact(number: u64) -> ArtifactProgram {
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&number.to_le_bytes());
    ArtifactProgram {
        artifact: BlobId(hash),
        name: "program".into(),
        args: Vec::new(),
        environment: std::collections::BTreeMap::new(),
        working_directory: "/".into(),
        execute_index: 0,
        earlier_results: Vec::new(),
    }
}

/// A UUIDv7 made at the beginning of the simulation, told apart by its random part.
fn job_id(number: u64) -> JobId {
    let version_and_variant = (7 << 76) | (2 << 62);
    JobId(Uuid::from_u128((u128::from(BEGINNING + number) << 80) | version_and_variant | u128::from(number + 1)))
}
