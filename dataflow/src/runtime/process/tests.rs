//! Executors behind socket pairs, and one real child process, with a small real flow.

mod child;
mod connections;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IoSlice, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::str::FromStr;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use rustix::net::{AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType};
use tidemill_model::checkpoint::SubtaskState;
use tidemill_model::execution::{
    AttemptReport, ExecutionState, Finalization, JobDeployment, Schedule, ScheduledAttempt, TaskManagerLocation,
    TerminalState,
};
use tidemill_model::id::{AttemptNumber, ExecutionAttemptId, JobId, SubtaskIndex, TaskManagerName};
use tidemill_model::job::{JobSettings, Program, RuntimeMode};
use tidemill_model::job_graph::JobGraph;
use tidemill_model::slot::SlotId;
use tidemill_proto::pb::data_handshake_answer::Answer;
use tidemill_proto::pb::executor_command::{CancelTasks, Command, FinalizeExecutor};
use tidemill_proto::pb::executor_event::Event as PbEvent;
use tidemill_proto::{convert, pb};

use super::control::MAX_MESSAGE_BYTES;
use super::*;
use crate::flow::FlowBuilder;
use crate::key_selector::ComputedKey;
use crate::operator::{ReduceFunction, Rolling};
use crate::pipe::FromSource;
use crate::runtime::counter::Counters;
use crate::runtime::executor::CollectedRecords;
use crate::runtime::network::Handshake;
use crate::runtime::sink::{CollectSink, read_collected};
use crate::runtime::source::SequenceSource;

/// Far beyond what any step takes: only a defect waits this long.
const LIMIT: Duration = Duration::from_secs(60);

const ATTEMPT: AttemptNumber = AttemptNumber(2);

fn id<Id: FromStr<Err: std::fmt::Debug>>(number: usize) -> Id {
    format!("{number:032x}").parse().expect("32 digits")
}

/// Numbers from 0 to `end`, keyed by their last digit, and the greatest so far of each key.
fn greatest(parallelism: u32, end: Option<u64>) -> Arc<Flow> {
    let mut builder = FlowBuilder::new(Counters::default());
    let source = builder.add_vertex(parallelism);
    let numbers = builder.add_operator(source, "Source: numbers", Vec::new());
    let rate = if end.is_none() {
        builder.mark_unbounded(numbers);
        Some(1_000)
    } else {
        None
    };
    let digit = ComputedKey::new(|number: &u64| number % 10);
    let keep = |greatest: &mut u64, number: u64| *greatest = number.max(*greatest);
    let pipe = FromSource::new(SequenceSource::new(0, end, rate));
    let target = builder.exchange_by_key(source, pipe, digit.clone(), keep, parallelism);
    let reduce = builder.add_operator(target, "Reduce", Vec::new());
    let sink = builder.add_operator(target, "Sink: collect", Vec::new());
    let collect = builder.next_collect_index();
    builder.end_in_sink(
        target,
        Rolling::new(digit, ReduceFunction(keep), reduce),
        CollectSink::<u64>::new(collect, sink),
    );
    Arc::new(builder.build(RuntimeMode::Streaming).expect("a valid graph"))
}

fn spec(graph: &JobGraph) -> JobSpec {
    let settings = JobSettings { runtime_mode: RuntimeMode::Streaming, ..JobSettings::default() };
    JobSpec { id: id(1), name: "greatest".into(), graph: graph.clone(), program: Program::InProcess, settings }
}

/// Sub-task i on executor i modulo their number; what executor `index` is to start of it.
fn deployment(graph: &JobGraph, addresses: &[String], index: usize) -> JobDeployment {
    let mut schedule = Schedule::default();
    let mut start = Vec::new();
    for vertex in graph.execution_vertices() {
        let place = usize::try_from(vertex.subtask.0).expect("small") % addresses.len();
        let slot = SlotId { task_manager: id(100 + place), index: vertex.subtask.0 };
        schedule.attempts.insert(vertex, ScheduledAttempt { attempt: ATTEMPT, slot });
        if place == index {
            start.push(ExecutionAttemptId { job: id(1), vertex, attempt: ATTEMPT });
        }
    }
    for (place, data_address) in addresses.iter().enumerate() {
        let name = TaskManagerName(format!("tm-{place}"));
        let location = TaskManagerLocation { id: id(100 + place), name, data_address: data_address.clone() };
        schedule.task_managers.insert(location.id, location);
    }
    JobDeployment { job: id(1), schedule, start, restore: None }
}

/// What an agent holds of an executor.
struct Agent {
    control: UnixStream,
    connections: OwnedFd,
}

/// An executor's ends of the sockets.
type ExecutorEnds = (UnixStream, OwnedFd);

impl Agent {
    /// Makes the sockets and writes what waits for the executor on them.
    fn new(index: usize, spec: JobSpec) -> (Self, ExecutorEnds) {
        let (control, executor_control) = UnixStream::pair().expect("sockets");
        control.set_read_timeout(Some(LIMIT)).expect("an option");
        let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
        let (connections, executor_connections) =
            rustix::net::socketpair(AddressFamily::UNIX, kind, flags, None).expect("sockets");
        (&control).write_all(MAGIC).expect("room");
        let agent = Self { control, connections };
        agent.say(Command::Start(pb::ExecutorStart {
            spec: Some(spec.into()),
            cluster_id: convert::uuid_bytes(id::<ClusterId>(0xC).0),
            task_manager_id: convert::uuid_bytes(id::<TaskManagerId>(100 + index).0),
            memory_bytes: 1 << 20,
            memory_limit_bytes: None,
            local_state_folder: None,
            folder: String::new(),
        }));
        (agent, (executor_control, executor_connections))
    }

    /// With an executor on a thread of this process, which is ready.
    fn with_thread(index: usize, flow: &Arc<Flow>) -> (Self, JoinHandle<Result<(), Error>>) {
        let (agent, (control, connections)) = Self::new(index, spec(flow.graph()));
        let role = ExecutorRole::new(control, connections).expect("a start");
        assert_eq!((role.spec(), role.memory_bytes()), (&spec(flow.graph()), 1 << 20));
        let flow = Arc::clone(flow);
        let fingerprint = convert::fingerprint_bytes(flow.graph().fingerprint());
        let served = std::thread::spawn(move || service::serve(role, flow));
        assert_eq!(agent.hear(), PbEvent::Ready(pb::executor_event::Ready { fingerprint }));
        (agent, served)
    }

    fn say(&self, command: Command) {
        let command = pb::ExecutorCommand { command: Some(command) };
        message::write(&self.control, &command, MAX_MESSAGE_BYTES).expect("written");
    }

    fn hear(&self) -> PbEvent {
        let event = message::read::<pb::ExecutorEvent>(&self.control, MAX_MESSAGE_BYTES).expect("an event");
        event.expect("not closed").event.expect("of a known kind")
    }

    /// The next report of an attempt, and what came with it.
    fn hear_report(&self) -> (AttemptReport, Vec<pb::CollectedRecords>) {
        loop {
            match self.hear() {
                PbEvent::Attempt(changed) => {
                    let report = changed.report.expect("a report").try_into().expect("whole");
                    return (report, changed.collected);
                }
                PbEvent::Progress(_) => {}
                other @ (PbEvent::Ready(_) | PbEvent::Finalized(_) | PbEvent::Refused(_) | PbEvent::Checkpoint(_)) => {
                    panic!("{other:?}")
                }
            }
        }
    }

    /// Listens until `attempts` attempts have ended: how they did, and the collected records.
    fn hear_ends(&self, attempts: usize) -> (BTreeMap<ExecutionAttemptId, TerminalState>, Vec<u64>) {
        let (mut ends, mut records) = (BTreeMap::new(), Vec::new());
        while ends.len() < attempts {
            let (report, collected) = self.hear_report();
            if let ExecutionState::Terminal(end) = report.state {
                ends.insert(report.attempt, end);
            }
            for part in collected {
                records.extend(read_collected::<u64>(part.records).expect("whole"));
            }
        }
        (ends, records)
    }

    fn finalize(&self, finalization: Finalization) -> PbEvent {
        let (action, attempts, checkpoint) = convert::finalization_to_pb(finalization);
        self.say(Command::Finalize(FinalizeExecutor { action: action.into(), attempts, checkpoint }));
        loop {
            match self.hear() {
                PbEvent::Progress(_) => {}
                event @ (PbEvent::Attempt(_)
                | PbEvent::Finalized(_)
                | PbEvent::Ready(_)
                | PbEvent::Refused(_)
                | PbEvent::Checkpoint(_)) => {
                    return event;
                }
            }
        }
    }
}

#[test]
fn an_executor_runs_a_job_from_ready_to_its_finalization() {
    let flow = greatest(2, Some(1_000));
    let (agent, served) = Agent::with_thread(0, &flow);
    let deployment = deployment(flow.graph(), &["127.0.0.1:1".to_owned()], 0);
    agent.say(Command::Deploy(deployment.clone().into()));
    let (ends, records) = agent.hear_ends(4);
    assert!(ends.values().all(|end| matches!(end, TerminalState::Finished { .. })), "{ends:?}");
    assert_eq!(records.len(), 1_000);
    let commit = Finalization::Commit { attempts: deployment.schedule.attempt_numbers(), checkpoint: None };
    agent.say(Command::Deploy(deployment.into()));
    let (again, _) = agent.hear_ends(4);
    assert_eq!(ends, again, "a repeated deployment repeats the reports and starts nothing");
    let finalized = pb::executor_event::Finalized { action: pb::Finalization::Commit.into(), failure: None };
    assert_eq!(agent.finalize(commit), PbEvent::Finalized(finalized));
    drop(agent);
    assert!(served.join().expect("no panic").is_ok());
}

#[test]
fn the_progress_that_was_told_before_the_last_end_is_the_whole_progress() {
    let flow = greatest(1, Some(5_000));
    let (agent, _served) = Agent::with_thread(0, &flow);
    agent.say(Command::Deploy(deployment(flow.graph(), &["127.0.0.1:1".to_owned()], 0).into()));
    let (mut progress, mut ends) = (None, 0);
    while ends < 2 {
        match agent.hear() {
            PbEvent::Progress(told) => progress = Some((told.records_in, told.records_out)),
            PbEvent::Attempt(changed) => {
                let report = AttemptReport::try_from(changed.report.expect("a report")).expect("whole");
                ends += i32::from(report.state.is_terminal());
            }
            other @ (PbEvent::Ready(_) | PbEvent::Finalized(_) | PbEvent::Refused(_) | PbEvent::Checkpoint(_)) => {
                panic!("{other:?}")
            }
        }
    }
    assert_eq!(progress, Some((5_000, 5_000)));
}

#[test]
fn an_executor_without_tasks_finalizes() {
    let flow = greatest(1, Some(1));
    let (agent, _served) = Agent::with_thread(0, &flow);
    let finalized = pb::executor_event::Finalized { action: pb::Finalization::Abort.into(), failure: None };
    assert_eq!(agent.finalize(Finalization::Abort { checkpoint: None }), PbEvent::Finalized(finalized));
}

#[test]
fn commands_that_are_for_another_executor_end_it() {
    let flow = greatest(1, Some(1));
    let good = deployment(flow.graph(), &["127.0.0.1:1".to_owned()], 0);
    let error = |commands: Vec<Command>| {
        let (agent, served) = Agent::with_thread(0, &flow);
        commands.into_iter().for_each(|command| agent.say(command));
        served.join().expect("no panic").expect_err("must end").to_string()
    };
    let nothing = JobDeployment { start: Vec::new(), ..good.clone() };
    assert!(error(vec![Command::Deploy(nothing.into())]).contains("a deployment of no attempts"));
    let mut other_job = JobDeployment { job: id::<JobId>(9), ..good.clone() };
    other_job.start.iter_mut().for_each(|attempt| attempt.job = id::<JobId>(9));
    assert!(error(vec![Command::Deploy(other_job.into())]).contains("a deployment of job 00000000"));
    let mut next = good.clone();
    next.start.iter_mut().for_each(|attempt| attempt.attempt = ATTEMPT.next());
    let mut mixed = good.clone();
    mixed.start.push(next.start[0]);
    assert!(error(vec![Command::Deploy(mixed.into())]).contains("a deployment of several attempt numbers"));
    assert_eq!(
        error(vec![Command::Deploy(good.into()), Command::Deploy(next.into())]),
        "read command of the task manager: a deployment of attempt 3 in a process of attempt 2"
    );
    let start = pb::ExecutorStart::default();
    assert_eq!(error(vec![Command::Start(start)]), "read command of the task manager: a second start");
}

#[test]
fn damaged_control_messages_are_errors() {
    let flow = greatest(1, Some(1));
    let error = |bytes: &[u8]| {
        let (agent, served) = Agent::with_thread(0, &flow);
        (&agent.control).write_all(bytes).expect("written");
        drop(agent);
        served.join().expect("no panic").expect_err("must end").to_string()
    };
    assert!(error(&[9, 0, 0]).contains("unexpected end of file"));
    assert!(error(&[2, 0, 0, 0, 1]).contains("unexpected end of file"));
    assert!(error(&[0xff; 5]).contains("4294967295 bytes, at most 134217728 are allowed"));
    assert!(error(&[1, 0, 0, 0, 0xff]).contains("decode message"));
    assert!(error(&[0, 0, 0, 0]).contains("a command of an unknown kind"));
}

#[test]
fn a_role_needs_the_magic_and_a_start() {
    let role = |bytes: &[u8]| {
        let (agent, executor) = UnixStream::pair().expect("sockets");
        (&agent).write_all(bytes).expect("room");
        drop(agent);
        let connections = executor.try_clone().expect("cloned").into();
        ExecutorRole::new(executor, connections).expect_err("no role").to_string()
    };
    assert!(role(b"TIDEMILL").contains("read the control socket"));
    assert!(role(b"TIDEMILL-EXECUTOR-9\n").contains("does not begin with the magic"));
    assert!(role(MAGIC).contains("the first message is not a start"));
}

#[test]
fn another_graph_is_a_mismatch_that_shows_both() {
    let (submitted, built) = (greatest(1, Some(1)), greatest(2, Some(1)));
    assert_eq!(mismatch(&spec(submitted.graph()), &submitted), None);
    let failure = mismatch(&spec(submitted.graph()), &built).expect("they differ");
    assert_eq!(failure.kind, FailureKind::GraphMismatch);
    assert!(failure.message.contains("Source: numbers (parallelism 1)"), "{failure}");
    assert!(failure.message.contains("Source: numbers (parallelism 2)"), "{failure}");
}

#[test]
fn an_end_with_too_many_collected_records_becomes_a_failure() {
    let (agent, executor) = UnixStream::pair().expect("sockets");
    let socket = ControlSocket::new(executor);
    let flow = greatest(1, Some(1));
    let attempt = deployment(flow.graph(), &["127.0.0.1:1".to_owned()], 0).start[0];
    let state = TerminalState::Finished {
        accumulators: BTreeMap::new(),
        collected: Vec::new(),
        state: SubtaskState::default(),
    };
    let records = Bytes::from(vec![0; MAX_MESSAGE_BYTES]);
    let collected = vec![CollectedRecords { collect_index: 0, subtask: SubtaskIndex(0), records }];
    let report = AttemptReport { attempt, state: ExecutionState::Terminal(state) };
    socket.write(Event::Attempt { report, collected }).expect("a smaller message");
    let connections = agent.try_clone().expect("cloned").into();
    let (report, collected) = Agent { control: agent, connections }.hear_report();
    assert!(collected.is_empty());
    let ExecutionState::Terminal(TerminalState::Failed(failure)) = report.state else { panic!("{report:?}") };
    assert!(failure.message.contains("write to a file sink"), "{failure}");
}
