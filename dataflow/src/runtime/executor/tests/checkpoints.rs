//! Checkpoints of a whole flow in one process: taken while it runs, and gone on from in another attempt.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tidemill_model::checkpoint::{CheckpointKind, CheckpointingMode};
use tidemill_model::id::CheckpointId;
use tidemill_model::job::{RuntimeMode, StateBackend};

use tidemill_storage::CheckpointStorage;

use super::*;
use crate::known_bug;
use crate::runtime::checkpoint::Restored;
use crate::runtime::source::{FileSplits, NoTimes, TextSource, add_source};

const PARALLELISM: u32 = 2;

/// What takes so long, until it is released, that no attempt comes to the end.
#[derive(Clone, Copy, PartialEq)]
enum Slow {
    /// The operator behind the source: channels are empty.
    Source,
    /// The operator before the sink: channels are full.
    Sink,
}

impl Slow {
    /// How long it takes. A sink is given longer: however soon its checkpoints are, what is before it must not end.
    fn spins(self) -> u32 {
        match self {
            Self::Source => 5_000,
            Self::Sink => 20_000,
        }
    }

    fn pace(self, wanted: Self, released: &Arc<AtomicBool>) -> impl Fn() + Clone + Send + Sync + 'static {
        let released = Arc::clone(released);
        move || {
            if self == wanted && !released.load(Ordering::Relaxed) {
                // Work, so that the job takes its time.
                (0..wanted.spins()).for_each(|_| std::hint::spin_loop());
            }
        }
    }
}

/// Lines of files, counted by their first letter; each count goes into rolling parts.
fn counts(input: &Path, output: &Path, slow: Slow, released: &Arc<AtomicBool>) -> Flow {
    let mut builder = FlowBuilder::new(Counters::default());
    let source = TextSource::new(FileSplits::once(input.to_owned()));
    let (source, operator, lines) = add_source(&mut builder, ("Source", Vec::new()), PARALLELISM, source, NoTimes);
    builder.set_uid(operator, "lines");
    let map = builder.add_operator(source, "Map", Vec::new());
    let pace = slow.pace(Slow::Source, released);
    let one = move |line: String| {
        pace();
        (line.as_bytes()[0], 1u64)
    };
    let ones = Map::new(lines, one, map);
    let key = ComputedKey::new(|(letter, _): &(u8, u64)| *letter);
    let keyed = builder.exchange_by_key(source, ones, key.clone(), |_: &mut (u8, u64), _| (), PARALLELISM);
    let operator = builder.add_operator(keyed, "Count", Vec::new());
    builder.set_uid(operator, "count");
    let add = |kept: &mut (u8, u64), (_, count): (u8, u64)| kept.1 += count;
    let map = builder.add_operator(keyed, "Text", Vec::new());
    let counted = Rolling::new(key, ReduceFunction(add), operator);
    let pace = slow.pace(Slow::Sink, released);
    let text = move |(letter, count): (u8, u64)| {
        pace();
        format!("{letter} {count}")
    };
    let counted = Map::new(counted, text, map);
    let sink = builder.add_operator(keyed, "Sink", Vec::new());
    builder.set_uid(sink, "sink");
    let staged = builder.add_output(StagedOutput { path: output.to_owned(), overwrite: false }, keyed);
    builder.set_rolling(staged, 1 << 20, std::time::Duration::from_secs(100));
    builder.end_in_sink(keyed, counted, FileSink::new(staged, TextFormat, sink));
    builder.build(RuntimeMode::Streaming).unwrap()
}

/// What becomes of a checkpoint that every attempt has acknowledged.
#[derive(Clone, Copy)]
enum Fate {
    /// It is completed, and sinks commit it.
    Known,
    /// It is given up: what sinks prepared for it waits for the next one.
    Aborted,
    /// It is completed, and nobody hears of it: the next attempt commits it.
    Completed,
    /// Nobody completes it: what sinks prepared for it is taken back.
    Lost,
}

impl Fate {
    const ALL: [Self; 4] = [Self::Known, Self::Aborted, Self::Completed, Self::Lost];
}

struct Job {
    folder: tempfile::TempDir,
    mode: CheckpointingMode,
    unaligned_after: Option<Duration>,
    backend: StateBackend,
    released: Arc<AtomicBool>,
}

impl Job {
    fn start(&self, attempt: u32, restore: Option<RestoreFrom>) -> (Executor, Receiver<ExecutorEvent>, JobDeployment) {
        let slow = if self.unaligned_after.is_some() { Slow::Sink } else { Slow::Source };
        let flow = counts(&self.folder.path().join("in"), &self.folder.path().join("out"), slow, &self.released);
        let settings = CheckpointSettings {
            directory: self.folder.path().join("checkpoints").display().to_string(),
            mode: self.mode,
            unaligned_after: self.unaligned_after,
            ..CheckpointSettings::default()
        };
        let deployment = JobDeployment { restore, ..deployment(&flow, AttemptNumber(attempt)) };
        let (executor, events) = executor(flow);
        let state = self.folder.path().join("state");
        let mut executor = executor.with_checkpoints(Some(&settings)).with_state(self.backend, &state, 1 << 20);
        executor.deploy(&deployment);
        (executor, events, deployment)
    }

    /// How often it starts again.
    fn restarts(&self) -> u32 {
        if self.unaligned_after.is_some() { 3 } else { 6 }
    }

    fn published(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for entry in fs::read_dir(self.folder.path().join("out")).unwrap().flatten() {
            if !entry.file_name().to_string_lossy().starts_with('.') {
                lines.extend(fs::read_to_string(entry.path()).unwrap().lines().map(str::to_owned));
            }
        }
        lines.sort();
        lines
    }
}

pub(super) fn command(action: CheckpointAction, id: u64, deployment: &JobDeployment) -> CheckpointCommand {
    CheckpointCommand { action, checkpoint: CheckpointId(id), attempts: deployment.start.clone() }
}

/// Waits until every attempt has acknowledged a checkpoint, or has finished before it.
pub(super) fn acknowledged(
    events: &Receiver<ExecutorEvent>,
    deployment: &JobDeployment,
    id: u64,
    finished: &mut BTreeMap<ExecutionVertexId, SubtaskState>,
) -> BTreeMap<ExecutionVertexId, SubtaskState> {
    let mut states = finished.clone();
    while states.len() < deployment.start.len() {
        match events.recv().unwrap() {
            ExecutorEvent::Checkpoint(CheckpointReport { attempt, checkpoint, outcome }) => match outcome {
                CheckpointOutcome::Acknowledged(state) if checkpoint.0 == id => {
                    states.insert(attempt.vertex, state);
                }
                CheckpointOutcome::Declined(reason) => panic!("{attempt} declined {checkpoint}: {reason}"),
                CheckpointOutcome::Acknowledged(_) | CheckpointOutcome::Notified => {}
            },
            ExecutorEvent::Attempt { report, .. } => {
                if let ExecutionState::Terminal(TerminalState::Finished { state, .. }) = report.state {
                    finished.insert(report.attempt.vertex, state.clone());
                    states.entry(report.attempt.vertex).or_insert(state);
                } else {
                    assert!(!report.state.is_terminal(), "{} ended: {:?}", report.attempt, report.state);
                }
            }
        }
    }
    states
}

pub(super) fn finish(
    executor: &Executor,
    events: &Receiver<ExecutorEvent>,
    deployment: &JobDeployment,
    mut finished: BTreeMap<ExecutionVertexId, SubtaskState>,
) {
    let states = acknowledged(events, deployment, u64::MAX, &mut finished);
    let attempts = deployment.schedule.attempt_numbers();
    let checkpoint = Some(RestoreFrom { checkpoint: CheckpointId(1_000), states });
    executor.finalize(&Finalization::Commit { attempts, checkpoint }).unwrap();
}

fn job(mode: CheckpointingMode, unaligned_after: Option<Duration>) -> Job {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("in")).unwrap();
    for file in 0..4 {
        let lines: String =
            (0..40_000u32).map(|line| format!("{}{}\n", char::from(b'a' + (line % 26) as u8), line)).collect();
        fs::write(folder.path().join("in").join(file.to_string()), lines).unwrap();
    }
    Job { folder, mode, unaligned_after, backend: StateBackend::Heap, released: Arc::default() }
}

fn without_failure() -> Vec<String> {
    let job = job(CheckpointingMode::ExactlyOnce, None);
    job.released.store(true, Ordering::Relaxed);
    let (executor, events, deployment) = job.start(0, None);
    finish(&executor, &events, &deployment, BTreeMap::new());
    job.published()
}

/// Whether each line is there at least as often as without failures.
fn nothing_is_lost(published: &[String], expected: &[String]) -> bool {
    let mut published = published.iter();
    expected.iter().all(|line| published.any(|other| other == line))
}

#[test]
fn what_is_restored_goes_on_exactly_where_the_checkpoint_was() {
    let expected = without_failure();
    assert_eq!(expected.len(), 160_000);
    known_bug::put_back();
    let job = job(CheckpointingMode::ExactlyOnce, None);
    let outcome = with_failures(&job);
    assert!(outcome.published == expected, "the output is that of a run without failures");
    assert_eq!(outcome.restarts, job.restarts(), "no attempt came to the end before the last one");
}

#[test]
fn what_was_in_flight_at_an_unaligned_checkpoint_comes_again() {
    let expected = without_failure();
    known_bug::put_back();
    // At once, and when some barriers have come.
    for after in [Duration::ZERO, Duration::from_millis(20)] {
        let job = job(CheckpointingMode::ExactlyOnce, Some(after));
        let outcome = with_failures(&job);
        assert!(outcome.published == expected, "the output is that of a run without failures");
        assert_eq!(outcome.restarts, job.restarts(), "no attempt came to the end before the last one");
        assert!(outcome.in_flight > 0, "records were in flight");
    }
}

#[cfg(feature = "rocksdb")]
#[test]
fn state_on_disk_goes_on_exactly_where_the_checkpoint_was() {
    let expected = without_failure();
    // Aligned, and with what was in flight.
    for unaligned_after in [None, Some(Duration::ZERO)] {
        let job = job(CheckpointingMode::ExactlyOnce, unaligned_after);
        let job = Job { backend: StateBackend::RocksDb { slot_memory_bytes: None }, ..job };
        assert!(with_failures(&job).published == expected, "the output is that of a run without failures on the heap");
        let left = fs::read_dir(job.folder.path().join("state")).unwrap().count();
        assert_eq!(left, 0, "no folder of a store is left");
    }
}

#[cfg(not(feature = "rocksdb"))]
#[test]
fn a_program_without_rocksdb_says_how_to_get_it() {
    let backend = StateBackend::RocksDb { slot_memory_bytes: None };
    let job = Job { backend, ..job(CheckpointingMode::ExactlyOnce, None) };
    let (_executor, events, _) = job.start(0, None);
    let failure = std::iter::from_fn(|| events.recv().ok()).find_map(|event| match event {
        ExecutorEvent::Attempt { report: AttemptReport { state: ExecutionState::Terminal(end), .. }, .. } => {
            match end {
                TerminalState::Failed(failure) => Some(failure),
                TerminalState::Finished { .. } | TerminalState::Canceled => None,
            }
        }
        ExecutorEvent::Attempt { .. } | ExecutorEvent::Checkpoint(_) => None,
    });
    let message = failure.unwrap().message;
    assert!(message.contains("state.backend.type = rocksdb") && message.contains("the feature `rocksdb`"), "{message}");
}

#[test]
fn with_at_least_once_nothing_is_lost() {
    let job = job(CheckpointingMode::AtLeastOnce, None);
    let Outcome { published, restarts, .. } = with_failures(&job);
    assert_eq!(restarts, job.restarts(), "no attempt came to the end before the last one");
    // Each count was reached, however often.
    let mut expected = without_failure();
    expected.dedup();
    assert!(nothing_is_lost(&published, &expected), "every count is in the output");
}

/// What became of a job that was restored several times.
struct Outcome {
    published: Vec<String>,
    /// How often it was restored.
    restarts: u32,
    /// How often a sub-task was restored to which something had been in flight.
    in_flight: usize,
}

/// How many of the snapshots have something that was in flight.
fn in_flight(job: &Job, states: &BTreeMap<ExecutionVertexId, SubtaskState>) -> usize {
    let storage = CheckpointStorage::open(&job.folder.path().join("checkpoints").display().to_string()).unwrap();
    let storage = storage.job(super::job());
    let has = |state: &&SubtaskState| {
        let restored = Restored::of_one((*state).clone(), &storage).unwrap();
        restored.states().any(|id| id.name.starts_with("in flight from "))
    };
    states.values().filter(has).count()
}

fn with_failures(job: &Job) -> Outcome {
    let mut in_flight_count = 0;
    let (mut restore, mut id, mut last_length) = (None, 0, 0);
    let mut attempt = 0;
    loop {
        let (mut executor, events, deployment) = job.start(attempt, restore.clone());
        let mut finished = BTreeMap::new();
        for fate in Fate::ALL {
            id += 1;
            executor.checkpoint(&command(CheckpointAction::Trigger(CheckpointKind::Periodic), id, &deployment));
            let states = acknowledged(&events, &deployment, id, &mut finished);
            if matches!(fate, Fate::Known | Fate::Completed) {
                in_flight_count += in_flight(job, &states);
                restore = Some(RestoreFrom { checkpoint: CheckpointId(id), states });
            }
            match fate {
                Fate::Known => executor.checkpoint(&command(CheckpointAction::NotifyComplete, id, &deployment)),
                Fate::Aborted => executor.checkpoint(&command(CheckpointAction::Abort, id, &deployment)),
                Fate::Completed | Fate::Lost => {}
            }
        }
        let length = job.published().len();
        assert!(length >= last_length, "output never shrinks");
        last_length = length;
        if attempt == job.restarts() || finished.len() == deployment.start.len() {
            job.released.store(true, Ordering::Relaxed);
            finish(&executor, &events, &deployment, finished);
            break;
        }
        executor.cancel(&deployment.start);
        drop(executor);
        attempt += 1;
    }
    Outcome { published: job.published(), restarts: attempt, in_flight: in_flight_count }
}
