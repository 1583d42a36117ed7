//! What the writer writes when more has come than it could write.

use tidemill_model::checkpoint::CheckpointSettings;
use tidemill_model::id::{AttemptNumber, ExecutionVertexId, JobVertexId, SubtaskIndex};
use tidemill_storage::CheckpointStorage;

use super::*;
use crate::engine::snapshot::StateId;
use crate::runtime::checkpoint::Content;
use crate::state::Frozen;

/// One sub-task, and what it tells a writer.
struct Subtask {
    attempt: ExecutionAttemptId,
    messages: Vec<Message>,
}

impl Subtask {
    fn new() -> Self {
        let vertex = ExecutionVertexId { vertex: JobVertexId(1), subtask: SubtaskIndex(0) };
        let job = "0190f3a1b2c37d4e8f00112233445566".parse().expect("a job");
        Self { attempt: ExecutionAttemptId { job, vertex, attempt: AttemptNumber(0) }, messages: Vec::new() }
    }

    /// A checkpoint is triggered, and its barrier comes.
    fn checkpoint(mut self, id: u64) -> Self {
        let (attempt, checkpoint) = (self.attempt, CheckpointId(id));
        let kind = CheckpointKind::Periodic;
        self.messages.push(Message::Trigger { checkpoint, kind, attempts: vec![attempt] });
        let parts = vec![StatePart {
            id: StateId { operator: "source".to_owned(), name: "position".to_owned() },
            types: vec!["u64".to_owned()],
            content: Content::Value(Box::new(Frozen(id))),
        }];
        self.messages.push(Message::Snapshot { attempt, checkpoint, parts });
        self
    }

    fn hears(mut self, message: Message) -> Self {
        self.messages.push(message);
        self
    }

    /// The checkpoints that it has acknowledged when a writer has obeyed everything.
    fn acknowledged(self, concurrent_max: u32) -> Vec<u64> {
        let folder = tempfile::tempdir().expect("a folder");
        let directory = folder.path().display().to_string();
        let storage = CheckpointStorage::open(&directory).expect("a storage").job(self.attempt.job);
        let settings = CheckpointSettings { directory, concurrent_max, ..CheckpointSettings::default() };
        let (sender, messages) = bounded(MESSAGES);
        assert!(self.messages.into_iter().all(|message| sender.send(message).is_ok()));
        drop(sender);
        let (events, reports) = bounded(MESSAGES);
        let writer = Writer::new(Checkpointing { settings, storage }, "process".to_owned(), events);
        waiting_runtime().expect("a runtime").block_on(writer.run(&messages));
        let acknowledged = |event| match event {
            ExecutorEvent::Checkpoint(CheckpointReport {
                checkpoint,
                outcome: CheckpointOutcome::Acknowledged(_),
                ..
            }) => checkpoint.0,
            ExecutorEvent::Checkpoint(_) | ExecutorEvent::Attempt { .. } => panic!("something else was reported"),
        };
        reports.iter().map(acknowledged).collect()
    }
}

#[test]
fn what_nobody_waits_for_any_more_is_not_written() {
    let subtask = || Subtask::new().checkpoint(1).checkpoint(65).checkpoint(129);
    assert_eq!(subtask().acknowledged(1), [129]);
    assert_eq!(subtask().acknowledged(2), [65, 129]);
    assert_eq!(subtask().acknowledged(3), [1, 65, 129]);
}

#[test]
fn what_came_to_nothing_is_not_written_though_its_barrier_came_before() {
    let subtask = Subtask::new().checkpoint(1).checkpoint(2);
    assert_eq!(subtask.hears(Message::Aborted(CheckpointId(1))).acknowledged(5), [2]);
}

#[test]
fn what_ended_leaves_its_room_to_others() {
    let subtask = Subtask::new().checkpoint(1).checkpoint(2).hears(Message::Aborted(CheckpointId(2))).checkpoint(3);
    assert_eq!(subtask.acknowledged(2), [1, 3]);
}
