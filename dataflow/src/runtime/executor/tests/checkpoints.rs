//! Checkpoints of a whole flow in one process: taken while it runs, and gone on from in another attempt.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use tidemill_model::checkpoint::CheckpointingMode;
use tidemill_model::id::CheckpointId;
use tidemill_model::job::RuntimeMode;

use super::*;
use crate::runtime::source::{FileSplits, NoTimes, TextSource, add_source};

const PARALLELISM: u32 = 2;

/// Lines of files, counted by their first letter; each count goes into rolling parts.
fn counts(input: &Path, output: &Path) -> Flow {
    let mut builder = FlowBuilder::new(Counters::default());
    let source = TextSource::new(FileSplits::once(input.to_owned()));
    let (source, operator, lines) = add_source(&mut builder, ("Source", Vec::new()), PARALLELISM, source, NoTimes);
    builder.set_uid(operator, "lines");
    let map = builder.add_operator(source, "Map", Vec::new());
    let ones = Map::new(lines, |line: String| (line.as_bytes()[0], 1u64), map);
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

struct Job {
    folder: tempfile::TempDir,
    mode: CheckpointingMode,
}

impl Job {
    fn start(&self, attempt: u32, restore: Option<RestoreFrom>) -> (Executor, Receiver<ExecutorEvent>, JobDeployment) {
        let flow = counts(&self.folder.path().join("in"), &self.folder.path().join("out"));
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
            (0..80_000u32).map(|line| format!("{}{}\n", char::from(b'a' + (line % 26) as u8), line)).collect();
        fs::write(folder.path().join("in").join(file.to_string()), lines).unwrap();
    }
    Job { folder, mode }
}

fn without_failure() -> Vec<String> {
    let job = job(CheckpointingMode::ExactlyOnce);
    let (executor, events, deployment) = job.start(0, None);
    finish(&executor, &events, &deployment, BTreeMap::new());
    job.published()
}

#[test]
fn what_is_restored_goes_on_exactly_where_the_checkpoint_was() {
    let expected = without_failure();
    assert_eq!(expected.len(), 320_000);
    let job = job(CheckpointingMode::ExactlyOnce);
    let (mut restore, mut id, mut last_length) = (None, 0, 0);
    let mut attempt = 0;
    loop {
        let (mut executor, events, deployment) = job.start(attempt, restore.clone());
        let mut finished = BTreeMap::new();
        // Two checkpoints; the second is not made known, so that the next attempt commits it.
        for known in [true, false] {
            id += 1;
            executor.checkpoint(&command(CheckpointAction::Trigger, id, &deployment));
            let states = acknowledged(&events, &deployment, id, &mut finished);
            restore = Some(RestoreFrom { checkpoint: CheckpointId(id), states });
            if known {
                executor.checkpoint(&command(CheckpointAction::NotifyComplete, id, &deployment));
            }
        }
        let length = job.published().len();
        assert!(length >= last_length, "output never shrinks");
        last_length = length;
        if finished.len() == deployment.start.len() || attempt == 12 {
            finish(&executor, &events, &deployment, finished);
            break;
        }
        executor.cancel(&deployment.start);
        drop(executor);
        attempt += 1;
    }
    assert!(attempt > 1, "it was restored several times");
    assert!(job.published() == expected, "the output is that of a run without failures");
}
