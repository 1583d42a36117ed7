//! The agent, event by event, with the whole list of actions each time.

mod cancellation;
mod checkpoints;
mod deployment;
mod ending;
mod finalization;
mod generations;
mod leadership;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use expect_test::{Expect, expect};
use tidemill_model::checkpoint::SubtaskState;
use tidemill_model::execution::{
    AttemptReport, CollectedPart, ExecutionState, Failure, FailureKind, Finalization, JobDeployment, Schedule,
    ScheduledAttempt, TaskManagerLocation, TerminalState,
};
use tidemill_model::id::{
    AttemptNumber, BlobId, ClusterId, ExecutionAttemptId, ExecutionVertexId, JobId, JobVertexId, LeaderEpoch,
    SubtaskIndex, TaskManagerId, TaskManagerName,
};
use tidemill_model::job::{ArtifactProgram, JobSettings, JobSpec, Program};
use tidemill_model::job_graph::{Fingerprint, JobGraph, JobVertex, OperatorDescriptor, SlotSharingGroup};
use tidemill_model::slot::{SlotId, SlotOffer};
use tidemill_model::time::Instant;
use uuid::Uuid;

use super::*;

const HERE: TaskManagerId = TaskManagerId(Uuid::from_u128(1));
const ELSEWHERE: TaskManagerId = TaskManagerId(Uuid::from_u128(2));
const CLUSTER: ClusterId = ClusterId(Uuid::from_u128(3));
const JOB: JobId = JobId(Uuid::from_u128(4));
const ARTIFACT: BlobId = BlobId([0xab; 32]);
const ONE: ExecutorId = ExecutorId(1);
const TWO: ExecutorId = ExecutorId(2);

fn vertex(subtask: u32) -> ExecutionVertexId {
    ExecutionVertexId { vertex: JobVertexId(0), subtask: SubtaskIndex(subtask) }
}

fn id(subtask: u32, attempt: u32) -> ExecutionAttemptId {
    ExecutionAttemptId { job: JOB, vertex: vertex(subtask), attempt: AttemptNumber(attempt) }
}

fn spec() -> JobSpec {
    let operators = vec![OperatorDescriptor { name: "Source".into(), uid: "source".into() }];
    let record_types = vec!["u64".into()];
    let id = JobVertexId(0);
    let vertices = vec![JobVertex {
        id,
        operators,
        parallelism: 2,
        max_parallelism: 128,
        record_types,
        slot_sharing_group: SlotSharingGroup::default(),
        co_location_group: None,
    }];
    let program = ArtifactProgram {
        artifact: ARTIFACT,
        name: "job".into(),
        args: Vec::new(),
        environment: BTreeMap::new(),
        working_directory: "/".into(),
        execute_index: 0,
        earlier_results: Vec::new(),
    };
    JobSpec {
        id: JOB,
        name: "job".into(),
        graph: JobGraph { vertices, edges: Vec::new() },
        program: Program::Artifact(program),
        settings: JobSettings::default(),
    }
}

fn deployment(attempt: u32, subtasks: &[u32]) -> JobDeployment {
    let scheduled = |index: u32| {
        let slot = SlotId { task_manager: HERE, index };
        (vertex(index), ScheduledAttempt { attempt: AttemptNumber(attempt), slot })
    };
    let location =
        TaskManagerLocation { id: HERE, name: TaskManagerName("tm".into()), data_address: "127.0.0.1:1".into() };
    let schedule =
        Schedule { attempts: (0..2).map(scheduled).collect(), task_managers: BTreeMap::from([(HERE, location)]) };
    let start = subtasks.iter().map(|&subtask| id(subtask, attempt)).collect();
    JobDeployment { job: JOB, schedule, start, restore: None }
}

/// An agent with a clock that a test moves by hand.
struct Bench {
    agent: Agent,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let settings = Settings {
            task_manager: HERE,
            offer: SlotOffer { count: 4, memory_bytes: 100 },
            slot_process_bytes: Some(1000),
            orphan_timeout: Duration::from_secs(600),
            cancellation_timeout: Duration::from_secs(30),
        };
        let now = Instant::default();
        Self { agent: Agent::new(settings, now), now }
    }

    /// Registered at the leader of epoch 5.
    fn registered() -> Self {
        let mut bench = Self::new();
        bench.step(Event::Welcomed { epoch: LeaderEpoch(5), task_manager: HERE, cluster: CLUSTER });
        bench
    }

    /// Runs both sub-tasks of attempt 0.
    fn running() -> Self {
        let mut bench = Self::registered();
        bench.deploy(0, &[0, 1]);
        bench.bring_up(ONE);
        for subtask in 0..2 {
            bench.change(ONE, subtask, 0, ExecutionState::Running);
        }
        bench
    }

    fn bring_up(&mut self, executor: ExecutorId) -> String {
        let mut text = self.step(Event::ArtifactReady { artifact: ARTIFACT });
        let process_id = 100 + u32::try_from(executor.0).expect("small");
        text += &self.step(Event::ExecutorStarted { executor, process_id });
        text + &self.step(Event::ExecutorReady { executor, fingerprint: spec().fingerprint() })
    }

    fn step(&mut self, event: Event) -> String {
        self.agent.step(self.now, event).iter().map(|action| format!("{action}\n")).collect()
    }

    fn directed(&mut self, directive: Directive) -> String {
        self.step(Event::Directed { epoch: LeaderEpoch(5), task_manager: HERE, directive })
    }

    fn deploy(&mut self, attempt: u32, subtasks: &[u32]) -> String {
        let deployment = deployment(attempt, subtasks);
        self.directed(Directive::Deploy { spec: Box::new(spec()), deployment })
    }

    fn cancel(&mut self, attempt: u32) -> String {
        self.directed(Directive::Cancel { attempts: vec![id(0, attempt), id(1, attempt)] })
    }

    fn finalize(&mut self, finalization: Finalization) -> String {
        self.directed(Directive::Finalize { spec: Box::new(spec()), finalization })
    }

    fn release(&mut self) -> String {
        self.directed(Directive::Release { job: JOB })
    }

    fn change(&mut self, executor: ExecutorId, subtask: u32, attempt: u32, state: ExecutionState) -> String {
        self.change_with(executor, subtask, attempt, state, Vec::new())
    }

    fn change_with(
        &mut self,
        executor: ExecutorId,
        subtask: u32,
        attempt: u32,
        state: ExecutionState,
        collected: Vec<Collected>,
    ) -> String {
        let report = AttemptReport { attempt: id(subtask, attempt), state };
        self.step(Event::AttemptChanged { executor, change: AttemptChange { report, collected } })
    }

    fn exit(&mut self, executor: ExecutorId, status: ExitStatus) -> String {
        self.die(executor, status, "", 0)
    }

    fn die(&mut self, executor: ExecutorId, status: ExitStatus, last_words: &str, memory_peak_bytes: u64) -> String {
        let exit = ExecutorExit { status, last_words: last_words.to_owned(), memory_peak_bytes };
        self.step(Event::ExecutorExited { executor, exit })
    }

    fn reconnect(&mut self, epoch: u64) -> String {
        let mut text = self.step(Event::SessionLost);
        text += &self.step(Event::Welcomed { epoch: LeaderEpoch(epoch), task_manager: HERE, cluster: CLUSTER });
        text
    }
}

fn finished() -> ExecutionState {
    ExecutionState::Terminal(TerminalState::Finished {
        accumulators: BTreeMap::new(),
        collected: Vec::new(),
        state: SubtaskState::default(),
    })
}

fn check(actual: String, expected: Expect) {
    expected.assert_eq(&actual);
}
