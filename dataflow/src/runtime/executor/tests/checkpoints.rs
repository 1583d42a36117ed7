//! Checkpoints of a whole flow in one process: taken while it runs, and gone on from in another attempt.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use tidemill_model::checkpoint::CheckpointingMode;
use tidemill_model::id::CheckpointId;
use tidemill_model::job::RuntimeMode;

use super::*;
use crate::runtime::source::{FileSplits, NoTimes, TextSource, add_source};

const PARALLELISM: u32 = 2;

/// Lines of files, counted by their first letter; each count goes into rolling parts. Until it is `released`, lines take so
/// long that no attempt comes to the end.
fn counts(input: &Path, output: &Path, released: &Arc<AtomicBool>) -> Flow {
    let mut builder = FlowBuilder::new(Counters::default());
    let source = TextSource::new(FileSplits::once(input.to_owned()));
    let (source, operator, lines) = add_source(&mut builder, ("Source", Vec::new()), PARALLELISM, source, NoTimes);
    builder.set_uid(operator, "lines");
    let map = builder.add_operator(source, "Map", Vec::new());
    let released = Arc::clone(released);
    let one = move |line: String| {
        if !released.load(Ordering::Relaxed) {
            // Work, so that the job takes its time.
            (0..5_000).for_each(|_| std::hint::spin_loop());
        }
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
    let counted = Map::new(counted, |(letter, count): (u8, u64)| format!("{letter} {count}"), map);
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
    released: Arc<AtomicBool>,
}

impl Job {
    fn start(&self, attempt: u32, restore: Option<RestoreFrom>) -> (Executor, Receiver<ExecutorEvent>, JobDeployment) {
        let flow = counts(&self.folder.path().join("in"), &self.folder.path().join("out"), &self.released);
        let settings = CheckpointSettings {
            directory: self.folder.path().join("checkpoints").display().to_string(),
            mode: self.mode,
            ..CheckpointSettings::default()
        };
        let deployment = JobDeployment { restore, ..deployment(&flow, AttemptNumber(attempt)) };
        let (executor, events) = executor(flow);
        let mut executor = executor.with_checkpoints(Some(&settings));
        executor.deploy(&deployment);
        (executor, events, deployment)
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

fn command(action: CheckpointAction, id: u64, deployment: &JobDeployment) -> CheckpointCommand {
    CheckpointCommand { action, checkpoint: CheckpointId(id), attempts: deployment.start.clone() }
}

/// Waits until every attempt has acknowledged a checkpoint, or has finished before it.
fn acknowledged(
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

fn finish(
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

fn job(mode: CheckpointingMode) -> Job {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("in")).unwrap();
    for file in 0..4 {
        let lines: String =
            (0..40_000u32).map(|line| format!("{}{}\n", char::from(b'a' + (line % 26) as u8), line)).collect();
        fs::write(folder.path().join("in").join(file.to_string()), lines).unwrap();
    }
    Job { folder, mode, released: Arc::default() }
}

fn without_failure() -> Vec<String> {
    let job = job(CheckpointingMode::ExactlyOnce);
    job.released.store(true, Ordering::Relaxed);
    let (executor, events, deployment) = job.start(0, None);
    finish(&executor, &events, &deployment, BTreeMap::new());
    job.published()
}

/// Puts the bug back that the environment names, in builds that have bugs to put back.
fn put_bug_back() {
    #[cfg(feature = "mutants")]
    if let Ok(name) = std::env::var(tidemill_model::mutant::VARIABLE) {
        tidemill_model::mutant::activate(name.parse().unwrap());
    }
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
    put_bug_back();
    let published = with_failures(CheckpointingMode::ExactlyOnce);
    assert!(published == expected, "the output is that of a run without failures");
}

#[test]
fn with_at_least_once_nothing_is_lost() {
    let published = with_failures(CheckpointingMode::AtLeastOnce);
    // Each count was reached, however often.
    let mut expected = without_failure();
    expected.dedup();
    assert!(nothing_is_lost(&published, &expected), "every count is in the output");
}

/// What a job publishes that is restored several times.
fn with_failures(mode: CheckpointingMode) -> Vec<String> {
    let job = job(mode);
    let (mut restore, mut id, mut last_length) = (None, 0, 0);
    let mut attempt = 0;
    loop {
        let (mut executor, events, deployment) = job.start(attempt, restore.clone());
        let mut finished = BTreeMap::new();
        for fate in Fate::ALL {
            id += 1;
            executor.checkpoint(&command(CheckpointAction::Trigger, id, &deployment));
            let states = acknowledged(&events, &deployment, id, &mut finished);
            if matches!(fate, Fate::Known | Fate::Completed) {
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
        assert!(finished.len() < deployment.start.len(), "it was released too early");
        if attempt == 6 {
            job.released.store(true, Ordering::Relaxed);
            finish(&executor, &events, &deployment, finished);
            break;
        }
        executor.cancel(&deployment.start);
        drop(executor);
        attempt += 1;
    }
    job.published()
}
