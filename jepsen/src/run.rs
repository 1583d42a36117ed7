//! One run from beginning to end: boot, phases, final reads, stop, and everything written down.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use tidemill_model::id::JobId;

use crate::binaries::Binaries;
use crate::bug::DiskBug;
use crate::client::{Client, Preference, Recorder, Request};
use crate::clock;
use crate::cluster::{Cluster, Containment, Folders};
use crate::history::CallKind;
use crate::host::{Host, Role};
use crate::nemesis;
use crate::observe::{self, ProcessWatch, Seen};
use crate::process::{self, procfs};
use crate::record::{PhaseTimes, Run};
use crate::schedule::{Fault, Form, Phase, Schedule, Work};
use crate::seed::Stream;
use crate::sequence::conduct::Conduct;
use crate::topo::Net;
use crate::workload::{Stage, metadata, registers};

/// Records a second that flow through the streaming job.
const STREAM_RATE: u64 = 50_000;
/// How many workers use registers and lists, wherever there is a leader.
const REGISTER_WORKERS: u64 = 4;
/// How many workers use jobs.
const JOB_WORKERS: u64 = 2;
/// The pause of a worker between two operations.
const PACE: Duration = Duration::from_millis(70);
/// The pause of a worker that stays with one coordinator.
const PINNED_PACE: Duration = Duration::from_millis(150);
/// How long the cluster is left alone before the last reads.
const QUIET: Duration = Duration::from_secs(2);
/// How long executors may live after their job has been cancelled.
const END_LIMIT: Duration = Duration::from_secs(20);

/// How a run is carried out.
pub struct Setup {
    /// The run's name.
    pub run: String,
    /// The network, built.
    pub net: Box<dyn Net>,
    /// How processes are contained.
    pub containment: Containment,
    /// The binaries.
    pub binaries: Binaries,
    /// A bug that the preloaded library makes.
    pub bug: Option<DiskBug>,
    /// The run's folder.
    pub folder: PathBuf,
}

/// The hosts of a schedule.
#[must_use]
pub fn hosts(schedule: &Schedule) -> Vec<Host> {
    let coordinators = (1..=schedule.coordinators).map(Host::coordinator);
    let task_managers = (1..=schedule.task_managers).map(Host::task_manager);
    coordinators.chain(task_managers).chain([Host::client()]).collect()
}

/// Carries a schedule out, and records what happens, as far as it gets.
///
/// # Errors
///
/// When the harness cannot go on; what the cluster does wrong is no error but part of the record.
pub fn carry_out(setup: Setup, schedule: &Schedule, run: &mut Run) -> anyhow::Result<()> {
    process::adopt_orphans()?;
    let folder = setup.folder.clone();
    let sub = |name: &str| folder.join(name);
    let folders = Folders {
        data: sub("data"),
        logs: sub("logs"),
        output: sub("output"),
        events: sub("events"),
        checkpoints: sub("checkpoints"),
    };
    for path in [&folders.data, &folders.logs, &folders.output, &folders.events, &folders.checkpoints] {
        fs::create_dir_all(path).with_context(|| format!("make {}", path.display()))?;
    }
    let mut cluster =
        Cluster::new(&setup.run, setup.net, &hosts(schedule), setup.containment, setup.binaries, folders.clone())?;
    setup.bug.map_or(Ok(()), |bug| bug.before_boot(&cluster))?;
    println!("boot");
    cluster.boot()?;
    let job = cluster.submit_stream(STREAM_RATE)?;
    let slots = usize::from(schedule.task_managers) * 2;
    cluster.until("records come out of every sub-task", |_| {
        let output = read_output(&folders.output)?;
        Ok((output.buckets.values().filter(|buckets| buckets.len() > 2).count() >= slots).then_some(()))
    })?;
    let stepper = Stepper::new(&cluster, job, setup.bug, (folder, schedule.seed));
    let stepped = stepper.carry_out(&mut cluster, schedule, run);
    run.leftovers.extend(cluster.stop()?);
    run.output = read_output(&folders.output)?;
    run.complaints.extend(crate::check::logs::complaints(&folders.logs)?);
    // The network and the cgroups go with the cluster.
    cluster.clients.stop();
    stepped
}

/// What a run's phases share.
struct Stepper {
    bug: Option<DiskBug>,
    /// The run's folder.
    folder: PathBuf,
    /// The streaming job, until it is cancelled.
    stream: Option<JobId>,
    stage: Stage,
    recorder: Recorder,
    seen: Seen,
    workers: Vec<tokio::task::JoinHandle<()>>,
    watch: ProcessWatch,
    chance: Stream,
}

impl Stepper {
    fn new(cluster: &Cluster, job: JobId, bug: Option<DiskBug>, (folder, seed): (PathBuf, u64)) -> Self {
        let (stage, recorder, seen) = (Stage::new(), Recorder::default(), Seen::default());
        observe::watch_cluster(cluster, job, &stage, &seen);
        let watch = ProcessWatch::start(cluster, &seen);
        let addresses = cluster.addresses();
        let client = |preference| Client::new(recorder.clone(), &addresses, preference);
        let chance = |worker: &str, number: u64| Stream::new(seed.wrapping_add(number), worker);
        let (keys, jobs) = (registers::Keys::default(), metadata::Jobs::default());
        let mut workers = Vec::new();
        for number in 0..REGISTER_WORKERS {
            let (client, chance) = (client(Preference::Roaming), chance("registers", number));
            workers.push(cluster.clients.spawn(registers::run(client, stage.clone(), keys.clone(), chance, PACE)));
        }
        for number in 0..JOB_WORKERS {
            let (client, chance) = (client(Preference::Roaming), chance("jobs", number));
            workers.push(cluster.clients.spawn(metadata::run(client, stage.clone(), jobs.clone(), chance, PACE)));
        }
        // Somebody is beside each coordinator, also beside one that is cut off.
        for host in cluster.hosts(Role::Coordinator) {
            let (client, chance) = (client(Preference::Pinned(host)), chance("pinned", u64::from(host.number)));
            let worker = registers::run(client, stage.clone(), keys.clone(), chance, PINNED_PACE);
            workers.push(cluster.clients.spawn(worker));
        }
        let stream = Some(job);
        Self { bug, folder, stream, stage, recorder, seen, workers, watch, chance: Stream::new(seed, "targets") }
    }

    /// Whatever goes wrong, what has been recorded until then is kept.
    fn carry_out(mut self, cluster: &mut Cluster, schedule: &Schedule, run: &mut Run) -> anyhow::Result<()> {
        let stepped = self.step_through(cluster, schedule, run);
        let ended = self.end_stream(cluster, run);
        self.stage.end();
        drop(self.watch);
        run.history = self.recorder.history();
        self.seen.move_into(run);
        stepped.and(ended)
    }

    fn step_through(&mut self, cluster: &mut Cluster, schedule: &Schedule, run: &mut Run) -> anyhow::Result<()> {
        for phase in &schedule.phases {
            self.phase(cluster, phase, run)?;
        }
        self.stage.enter("quiet");
        cluster.net.heal()?;
        clock::pause(QUIET);
        run.complaints.extend(cluster.that_do_not_follow()?);
        self.stage.end();
        let workers = std::mem::take(&mut self.workers);
        cluster.clients.run(async move {
            for worker in workers {
                // A worker that panicked has said so, and its history ends there.
                drop(worker.await);
            }
        })?;
        println!("last reads");
        self.last_reads(cluster)
    }

    fn phase(&mut self, cluster: &mut Cluster, phase: &Phase, run: &mut Run) -> anyhow::Result<()> {
        println!("{} ({} ms)", phase.name, phase.time_ms);
        let from = clock::now();
        self.stage.enter(&phase.name);
        match phase.work {
            Work::Stream => self.break_things(cluster, phase, run)?,
            Work::Sequence(form) => self.sequence(cluster, phase, form, run)?,
        }
        let (name, to) = (phase.name.clone(), clock::now());
        run.phases.push(PhaseTimes { name, from, to, minimum: phase.minimum, work: phase.work });
        Ok(())
    }

    fn break_things(&mut self, cluster: &mut Cluster, phase: &Phase, run: &mut Run) -> anyhow::Result<()> {
        let from = clock::now();
        let loses_power = phase.faults.iter().any(|entry| entry.fault == Fault::PowerLoss);
        let bug = self.bug.filter(|_| loses_power);
        bug.map_or(Ok(()), |bug| bug.before_power_loss(cluster))?;
        for entry in &phase.faults {
            wait_until(from + clock::nanos(entry.begins()));
            run.faults.push(nemesis::fire(cluster, &phase.name, entry, &mut self.chance)?);
        }
        wait_until(from + clock::nanos(Duration::from_millis(phase.time_ms)));
        if let Some(bug) = bug {
            println!("  {} syncs were skipped", bug.after_power_loss(cluster)?);
        }
        run.complaints.extend(cluster.ended_by_themselves()?);
        Ok(())
    }

    /// The jobs over a sequence need the streaming job's slots.
    fn sequence(&mut self, cluster: &mut Cluster, phase: &Phase, form: Form, run: &mut Run) -> anyhow::Result<()> {
        self.end_stream(cluster, run)?;
        let mut conduct = Conduct::new(cluster, &self.folder, &phase.name, form)?;
        let mut stepped = conduct.begin(cluster);
        if stepped.is_ok() {
            stepped = self.break_things(cluster, phase, run);
        }
        let ended = conduct.end(cluster);
        run.sequences.push(conduct.into_record());
        stepped.and(ended)
    }

    fn end_stream(&mut self, cluster: &mut Cluster, run: &mut Run) -> anyhow::Result<()> {
        self.stream.take().map_or(Ok(()), |job| end_stream(cluster, job, run))
    }

    /// Reads every key once more, so that nothing that was lost stays unseen.
    fn last_reads(&self, cluster: &Cluster) -> anyhow::Result<()> {
        let mut keys: Vec<(String, String, CallKind)> = Vec::new();
        for op in self.recorder.history() {
            let kind = match op.call_kind {
                CallKind::Read | CallKind::Write { .. } | CallKind::Cas { .. } => CallKind::Read,
                CallKind::Append { .. } | CallKind::ReadList => CallKind::ReadList,
                CallKind::Submit | CallKind::Cancel | CallKind::Get => CallKind::Get,
                CallKind::List => CallKind::List,
            };
            let read = (op.phase, op.key, kind);
            if !keys.contains(&read) {
                keys.push(read);
            }
        }
        let mut client = Client::new(self.recorder.clone(), &cluster.addresses(), Preference::Roaming);
        cluster.clients.run(async move {
            for (phase, key, kind) in keys {
                let request = match kind {
                    CallKind::Get => match key.parse() {
                        Ok(job) => Request::Get(job),
                        Err(_) => continue,
                    },
                    CallKind::List => Request::List,
                    CallKind::Read
                    | CallKind::Write { .. }
                    | CallKind::Cas { .. }
                    | CallKind::Append { .. }
                    | CallKind::ReadList
                    | CallKind::Submit
                    | CallKind::Cancel => Request::Chaos(kind),
                };
                // Three coordinators, one of which leads; once more for an election.
                for _ in 0..6 {
                    if client.call(&phase, &key, request.clone()).await {
                        break;
                    }
                }
            }
        })
    }
}

fn wait_until(time: u64) {
    let now = clock::now();
    if time > now {
        clock::pause(Duration::from_nanos(time - now));
    }
}

/// Cancels the streaming job and waits until its executors are gone; what is left of it is a leftover.
fn end_stream(cluster: &mut Cluster, job: JobId, run: &mut Run) -> anyhow::Result<()> {
    let client = cluster.client(Duration::from_secs(20));
    if let Err(error) = cluster.clients.run(async move { client.cancel_job(job).await })? {
        run.leftovers.push(format!("the streaming job: its cancellation failed: {error}"));
    }
    let deadline = clock::now() + clock::nanos(END_LIMIT);
    loop {
        let agents: Vec<u32> = cluster
            .hosts(Role::TaskManager)
            .into_iter()
            .filter_map(|host| cluster.process(host).map(|process| process.id))
            .collect();
        let executors: Vec<_> = agents.into_iter().flat_map(procfs::children).collect();
        if executors.is_empty() {
            return Ok(());
        }
        if clock::now() > deadline {
            run.leftovers.extend(executors.iter().map(|key| format!("executor {} of the cancelled job", key.id)));
            return Ok(());
        }
        clock::pause(Duration::from_millis(50));
    }
}

fn read_output(folder: &Path) -> anyhow::Result<crate::record::Output> {
    let mut output = crate::record::Output::default();
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        output.read(&name, &fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?);
    }
    Ok(output)
}
