//! Runs a flow without end on executors of this process, with real connections where there are two.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, select};
use tidemill_dataflow::flow::Flow;
use tidemill_dataflow::runtime::executor::{Executor, ExecutorEvent};
use tidemill_dataflow::runtime::network::{Handshake, Identity, Network, NoNetwork, TcpNetwork};
use tidemill_model::execution::{ExecutionState, JobDeployment, Schedule, ScheduledAttempt, TaskManagerLocation};
use tidemill_model::id::{AttemptNumber, ExecutionAttemptId, ExecutionVertexId, TaskManagerId, TaskManagerName};
use tidemill_model::slot::SlotId;

use crate::cpu;

/// Room for all events of the few tasks that these jobs have.
const EVENTS: usize = 64;

/// A job at work.
pub(crate) struct Job {
    blocks: Option<Receiver<Duration>>,
    executors: Vec<Executor>,
    events: Receiver<ExecutorEvent>,
    attempts: Vec<ExecutionAttemptId>,
}

impl Job {
    /// Starts a flow in one executor.
    pub(crate) fn start(flow: Flow, blocks: Receiver<Duration>) -> Self {
        Self::deploy(flow, blocks, &[String::new()], |_, _| Arc::new(NoNetwork))
    }

    /// Starts a flow in two executors, vertex by vertex in turn, which are connected over the loopback interface.
    pub(crate) fn start_over_tcp(flow: Flow, blocks: Receiver<Duration>) -> Self {
        let ports = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let addresses = ports.each_ref().map(|port| port.local_addr().expect("it is bound").to_string());
        let graph = flow.graph().clone();
        let mut ports = ports.into_iter();
        Self::deploy(flow, blocks, &addresses, |task_manager, schedule| {
            let (cluster, job, attempt) = (id(1), id(2), AttemptNumber(0));
            let network = TcpNetwork::new(Identity { cluster, job, attempt, task_manager }, &graph, schedule);
            let network = Arc::new(network);
            let port = ports.next().expect("one for each executor");
            let accepting = Arc::downgrade(&network);
            // In a cluster this is the agent's work. Nobody waits for the thread: it ends with the process.
            std::thread::spawn(move || {
                for stream in port.incoming() {
                    let (Ok(stream), Some(network)) = (stream, accepting.upgrade()) else { return };
                    network.accept(read_handshake(&stream), stream);
                }
            });
            network
        })
    }

    fn deploy(
        flow: Flow,
        blocks: Receiver<Duration>,
        addresses: &[String],
        mut network: impl FnMut(TaskManagerId, &Schedule) -> Arc<dyn Network>,
    ) -> Self {
        let (events_tx, events) = bounded(EVENTS);
        let schedule = schedule(&flow, addresses);
        let flow = Arc::new(flow);
        let mut executors = Vec::new();
        for &task_manager in schedule.task_managers.keys() {
            let network = network(task_manager, &schedule);
            executors.push(Executor::new(id(2), Arc::clone(&flow), task_manager, network, events_tx.clone()));
        }
        let attempts = schedule.attempt_ids(id(2)).map(|(attempt, _)| attempt).collect();
        for (executor, &here) in executors.iter_mut().zip(schedule.task_managers.keys()) {
            let attempts = schedule.attempt_ids(id(2));
            let start = attempts.filter(|(_, slot)| slot.task_manager == here).map(|(attempt, _)| attempt).collect();
            executor.deploy(&JobDeployment { job: id(2), schedule: schedule.clone(), start, restore: None });
        }
        Self { blocks: Some(blocks), executors, events, attempts }
    }

    /// Lets this many blocks go by; answers the CPU time of the sink's chain.
    pub(crate) fn chain_cpu(&self, blocks: u64) -> Duration {
        (0..blocks).map(|_| self.next_block()).sum()
    }

    /// Lets this many blocks go by; answers the CPU time of the whole process.
    pub(crate) fn process_cpu(&self, blocks: u64) -> Duration {
        let before = cpu::of_process();
        self.chain_cpu(blocks);
        cpu::of_process() - before
    }

    fn next_block(&self) -> Duration {
        let blocks = self.blocks.as_ref().expect("it is taken when the job is dropped");
        loop {
            select! {
                recv(blocks) -> block => return block.expect("the flow has a meter"),
                recv(self.events) -> event => {
                    let ExecutorEvent::Attempt { report, .. } = event.expect("the executors are there") else { continue };
                    assert!(!matches!(report.state, ExecutionState::Terminal(_)), "a task ended: {report:?}");
                }
            }
        }
    }
}

impl Drop for Job {
    /// Stops all tasks, and waits until their memory is free.
    fn drop(&mut self) {
        drop(self.blocks.take());
        // A producer whose consumer has ended waits to be told why.
        self.executors.iter_mut().for_each(|executor| executor.cancel(&self.attempts));
        let mut running = self.attempts.len();
        while running > 0 && !std::thread::panicking() {
            let Ok(ExecutorEvent::Attempt { report, .. }) = self.events.recv() else { return };
            running -= usize::from(matches!(report.state, ExecutionState::Terminal(_)));
        }
        self.executors.clear();
    }
}

/// The sub-tasks of vertex v are on executor v modulo their number.
fn schedule(flow: &Flow, addresses: &[String]) -> Schedule {
    let executors = u32::try_from(addresses.len()).expect("one or two");
    let task_manager = |index: u32| id::<TaskManagerId>(16 + index);
    let place = |vertex: ExecutionVertexId| {
        let slot = SlotId { task_manager: task_manager(vertex.vertex.0 % executors), index: vertex.subtask.0 };
        (vertex, ScheduledAttempt { attempt: AttemptNumber(0), slot })
    };
    let locations = (0..).zip(addresses).map(|(index, data_address)| {
        let (id, name) = (task_manager(index), TaskManagerName(format!("tm-{index}")));
        (id, TaskManagerLocation { id, name, data_address: data_address.clone() })
    });
    let task_managers = locations.collect::<BTreeMap<_, _>>();
    Schedule { attempts: flow.graph().execution_vertices().map(place).collect(), task_managers }
}

/// The first message on a data connection, behind its length.
fn read_handshake(mut stream: &TcpStream) -> Handshake {
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("a dialler says who it is");
    let mut message = vec![0; usize::try_from(u32::from_le_bytes(length)).expect("small")];
    stream.read_exact(&mut message).expect("a dialler says who it is");
    Handshake::decode(&message).expect("the dialler is of this job")
}

/// An id of any sort with this number.
fn id<Id: FromStr<Err: std::fmt::Debug>>(number: u32) -> Id {
    format!("{number:032x}").parse().expect("32 digits")
}
