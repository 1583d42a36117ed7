//! Executors of one process that exchange elements over real loopback sockets.

mod hand_made_peer;

use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tidemill_model::execution::{Schedule, ScheduledAttempt, TaskManagerLocation};
use tidemill_model::id::{AttemptNumber, ExecutionVertexId, JobVertexId, SubtaskIndex, TaskManagerId, TaskManagerName};
use tidemill_model::job_graph::{JobEdge, JobGraph, JobVertex, OperatorDescriptor, Partitioning, SlotSharingGroup};
use tidemill_model::slot::SlotId;
use tidemill_proto::pb;
use tidemill_proto::pb::data_handshake_answer::Answer;

use super::handshake::MAX_HANDSHAKE_BYTES;
use super::{
    ChannelId, ConnectionLost, Handshake, Identity, Network, RemoteReceiver, RemoteSender, TcpNetwork, WireElement,
    message,
};
use crate::engine::credit::CREDITS_PER_CHANNEL;

/// Far beyond what any step takes: only a defect waits this long.
const LIMIT: Duration = Duration::from_secs(60);

const ATTEMPT: AttemptNumber = AttemptNumber(3);

/// An id of any sort with this number.
fn id<Id: FromStr<Err: std::fmt::Debug>>(number: u32) -> Id {
    format!("{number:032x}").parse().expect("32 digits")
}

/// The executor with this index; lower indices dial higher ones.
fn task_manager(index: u32) -> TaskManagerId {
    id(0x100 + index)
}

/// What executor 0 says when it dials executor 1.
fn handshake() -> Handshake {
    Handshake { cluster: id(0xC), job: id(0x1), attempt: ATTEMPT, from: task_manager(0), to: task_manager(1) }
}

fn channel(from: u32, to: u32) -> ChannelId {
    ChannelId { edge: 0, from: SubtaskIndex(from), to: SubtaskIndex(to) }
}

fn batch(number: u32) -> WireElement {
    WireElement::Batch(Bytes::copy_from_slice(&number.to_le_bytes()))
}

/// `v0 -> v1`, everyone with everyone.
fn graph(parallelism: u32) -> JobGraph {
    let vertex = |id| JobVertex {
        id: JobVertexId(id),
        operators: vec![OperatorDescriptor { name: "Operator".into(), uid: format!("operator-{id}") }],
        parallelism,
        max_parallelism: 128,
        record_types: vec!["u32".into()],
        slot_sharing_group: SlotSharingGroup::default(),
        co_location_group: None,
    };
    let edge = JobEdge { source: JobVertexId(0), target: JobVertexId(1), partitioning: Partitioning::Rebalance };
    JobGraph { vertices: vec![vertex(0), vertex(1)], edges: vec![edge] }
}

/// Sub-task i runs on executor i modulo their number.
fn schedule(parallelism: u32, addresses: &[String]) -> Schedule {
    let executors = u32::try_from(addresses.len()).expect("few");
    let place = |subtask: u32| SlotId { task_manager: task_manager(subtask % executors), index: subtask / executors };
    let attempts = graph(parallelism)
        .execution_vertices()
        .map(|vertex| (vertex, ScheduledAttempt { attempt: ATTEMPT, slot: place(vertex.subtask.0) }))
        .collect::<BTreeMap<ExecutionVertexId, _>>();
    let locations = addresses.iter().zip(0..).map(|(data_address, index)| {
        let name = TaskManagerName(format!("tm-{index}"));
        let id = task_manager(index);
        (id, TaskManagerLocation { id, name, data_address: data_address.clone() })
    });
    Schedule { attempts, task_managers: locations.collect() }
}

fn network(index: u32, parallelism: u32, addresses: &[String]) -> Arc<TcpNetwork> {
    let identity = Identity { cluster: id(0xC), job: id(0x1), attempt: ATTEMPT, task_manager: task_manager(index) };
    Arc::new(TcpNetwork::new(identity, &graph(parallelism), &schedule(parallelism, addresses)))
}

/// What the stand-in for an agent does with the next connections, first come first served; then it passes them on.
type Script = Vec<Answer>;

/// Two executors behind the data ports of two stand-ins for agents.
struct Pair {
    networks: [Arc<TcpNetwork>; 2],
    /// Every connection that was passed on, so that a test can break it.
    passed: Arc<Mutex<Vec<TcpStream>>>,
}

impl Pair {
    fn new(parallelism: u32) -> Self {
        Self::with_script(parallelism, Vec::new())
    }

    fn with_script(parallelism: u32, script: Script) -> Self {
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let addresses = listeners.each_ref().map(|port| port.local_addr().expect("bound").to_string());
        let networks = [0, 1].map(|index| network(index, parallelism, &addresses));
        let passed = Arc::new(Mutex::new(Vec::new()));
        let [_, listener] = listeners;
        let (accepting, passing) = (Arc::downgrade(&networks[1]), Arc::clone(&passed));
        std::thread::spawn(move || {
            let mut script = script.into_iter();
            for stream in listener.incoming() {
                let stream = stream.expect("accepted");
                let handshake = message::read::<pb::DataHandshake>(&stream, MAX_HANDSHAKE_BYTES).expect("read");
                let handshake = Handshake::try_from(handshake.expect("not closed")).expect("whole");
                let Some(network) = accepting.upgrade() else { return };
                match script.next() {
                    Some(Answer::Unspecified) => drop(stream),
                    Some(answer) => {
                        let answer = pb::DataHandshakeAnswer { answer: answer.into(), reason: "scripted".into() };
                        message::write(&stream, &answer, MAX_HANDSHAKE_BYTES).expect("written");
                    }
                    None => {
                        passing.lock().expect("whole").push(stream.try_clone().expect("cloned"));
                        network.accept(handshake, stream);
                    }
                }
            }
        });
        Self { networks, passed }
    }

    /// Both halves of a channel, whichever way it goes.
    fn open(&self, channel: ChannelId) -> (RemoteSender, RemoteReceiver) {
        let executor = |subtask: SubtaskIndex| usize::try_from(subtask.0 % 2).expect("small");
        let (from, to) = (executor(channel.from), executor(channel.to));
        let number = |executor: usize| task_manager(u32::try_from(executor).expect("small"));
        let sender = self.networks[from].sender(number(to), channel).expect("a channel of the job");
        (sender, self.networks[to].receiver(number(from), channel).expect("a channel of the job"))
    }

    fn break_connections(&self) {
        for stream in self.passed.lock().expect("whole").iter() {
            stream.shutdown(std::net::Shutdown::Both).expect("was open");
        }
    }
}

fn send(sender: &mut RemoteSender, element: WireElement) {
    sender.credits().recv_timeout(LIMIT).expect("a credit");
    sender.send(element).expect("connected");
}

fn receive(receiver: &RemoteReceiver) -> WireElement {
    let element = receiver.elements().recv_timeout(LIMIT).expect("an element").expect("connected");
    receiver.release();
    element
}

/// The error that a channel ends with, after the elements that had come before it.
fn loss(receiver: &RemoteReceiver) -> ConnectionLost {
    loop {
        if let Err(lost) = receiver.elements().recv_timeout(LIMIT).expect("an error in the end") {
            return lost;
        }
    }
}

/// The reason of the sending half, after the credits that it still has.
fn loss_of_sender(sender: &RemoteSender) -> ConnectionLost {
    while sender.credits().recv_timeout(LIMIT) == Ok(()) {}
    sender.lost()
}

#[test]
fn thousands_of_elements_arrive_in_order_in_both_directions() {
    const ELEMENTS: u32 = 5_000;
    let pair = Pair::new(4);
    let remote = (0..4).flat_map(|from| (0..4).map(move |to| channel(from, to))).filter(|c| c.from.0 % 2 != c.to.0 % 2);
    let element = |number: u32| match number % 10 {
        3 => WireElement::Watermark(i64::from(number)),
        7 => WireElement::Barrier(u64::from(number)),
        _ => WireElement::Batch(
            vec![u8::try_from(number % 251).expect("small"); usize::try_from(number * 3).expect("fits")].into(),
        ),
    };
    let halves: Vec<_> = remote.map(|channel| pair.open(channel)).collect();
    assert_eq!(halves.len(), 8);
    std::thread::scope(|scope| {
        for (mut sender, receiver) in halves {
            scope.spawn(move || {
                (0..ELEMENTS).for_each(|number| send(&mut sender, element(number)));
                send(&mut sender, WireElement::EndOfInput);
            });
            scope.spawn(move || {
                (0..ELEMENTS).for_each(|number| assert_eq!(receive(&receiver), element(number)));
                assert_eq!(receive(&receiver), WireElement::EndOfInput);
            });
        }
    });
}

#[test]
fn a_stalled_channel_stops_its_own_producer_only() {
    let pair = Pair::new(4);
    let (mut stalled, stalled_receiver) = pair.open(channel(0, 1));
    let (mut flowing, flowing_receiver) = pair.open(channel(0, 3));
    for number in 0..CREDITS_PER_CHANNEL {
        send(&mut stalled, batch(number));
    }
    for number in 0..1_000 {
        send(&mut flowing, batch(number));
        assert_eq!(receive(&flowing_receiver), batch(number));
    }
    assert!(stalled.credits().is_empty(), "nothing was released, so nothing more may be sent");
    for number in 0..CREDITS_PER_CHANNEL {
        assert_eq!(receive(&stalled_receiver), batch(number));
    }
    send(&mut stalled, WireElement::EndOfInput);
    assert_eq!(receive(&stalled_receiver), WireElement::EndOfInput);
}

#[test]
fn a_channel_on_a_connection_that_is_open_already_has_its_credits_at_once() {
    let pair = Pair::new(4);
    let (mut first, first_receiver) = pair.open(channel(0, 1));
    send(&mut first, batch(1));
    assert_eq!(receive(&first_receiver), batch(1));
    let (mut second, second_receiver) = pair.open(channel(2, 1));
    assert_eq!(second.credits().len(), usize::try_from(CREDITS_PER_CHANNEL).expect("small"));
    send(&mut second, batch(2));
    assert_eq!(receive(&second_receiver), batch(2));
}

#[test]
fn sending_without_a_credit_is_refused_and_harms_nothing() {
    let pair = Pair::new(2);
    let (mut sender, receiver) = pair.open(channel(0, 1));
    for number in 0..CREDITS_PER_CHANNEL {
        send(&mut sender, batch(number));
    }
    let error = sender.send(batch(99)).expect_err("no credit");
    assert_eq!(error.reason, "check channel e0[0->1]: an element was sent without a credit");
    for number in 0..CREDITS_PER_CHANNEL {
        assert_eq!(receive(&receiver), batch(number));
    }
}

#[test]
fn elements_that_come_before_the_consumer_opens_the_channel_wait_for_it() {
    let pair = Pair::new(4);
    let [first, second] = &pair.networks;
    let mut early = first.sender(task_manager(1), channel(0, 1)).expect("a channel");
    // On the same connection behind the early elements: when this one has arrived, so have they.
    let (mut marker, marker_receiver) = pair.open(channel(2, 3));
    (0..3).for_each(|number| send(&mut early, batch(number)));
    send(&mut early, WireElement::EndOfInput);
    send(&mut marker, WireElement::EndOfInput);
    assert_eq!(receive(&marker_receiver), WireElement::EndOfInput);
    let late = second.receiver(task_manager(0), channel(0, 1)).expect("a channel");
    (0..3).for_each(|number| assert_eq!(receive(&late), batch(number)));
    assert_eq!(receive(&late), WireElement::EndOfInput);
}

#[test]
fn a_broken_connection_ends_every_channel_on_both_sides() {
    let pair = Pair::new(4);
    let (mut there, there_receiver) = pair.open(channel(0, 1));
    let (mut back, back_receiver) = pair.open(channel(1, 0));
    let (mut ended, ended_receiver) = pair.open(channel(2, 1));
    // On the same connection before the others: when they have arrived, so has it.
    send(&mut ended, WireElement::EndOfInput);
    send(&mut there, batch(1));
    send(&mut back, batch(2));
    assert_eq!(receive(&there_receiver), batch(1));
    assert_eq!(receive(&back_receiver), batch(2));
    pair.break_connections();
    assert!(loss(&there_receiver).peer.starts_with("tm-0 (127.0.0.1:"));
    assert!(loss(&back_receiver).peer.starts_with("tm-1 (127.0.0.1:"));
    assert_ne!(loss_of_sender(&there).reason, "the connection is not lost");
    assert!(there.send(batch(3)).is_err());
    assert_ne!(loss_of_sender(&back).reason, "the connection is not lost");
    // The end of input was there before the break, and makes it irrelevant for its channel.
    assert_eq!(receive(&ended_receiver), WireElement::EndOfInput);
    let later = pair.networks[0].sender(task_manager(1), channel(0, 3));
    assert_eq!(later.map(drop), Err(there.lost()));
}

#[test]
fn closing_one_network_ends_the_channels_of_the_other() {
    let pair = Pair::new(2);
    let (mut sender, receiver) = pair.open(channel(0, 1));
    send(&mut sender, batch(1));
    assert_eq!(receive(&receiver), batch(1));
    let [first, _second] = pair.networks;
    drop(first);
    assert_eq!(sender.lost().reason, "this executor closed its network");
    assert_eq!(loss(&receiver).reason, "the peer closed the connection");
}

#[test]
fn a_dialler_tries_again_until_the_executor_is_there() {
    let script = vec![Answer::NotYet, Answer::Unspecified, Answer::NotYet, Answer::Unspecified];
    let pair = Pair::with_script(2, script);
    let (mut sender, receiver) = pair.open(channel(0, 1));
    send(&mut sender, batch(1));
    assert_eq!(receive(&receiver), batch(1));
    assert_eq!(pair.passed.lock().expect("whole").len(), 1);
}

#[test]
fn a_refused_dialler_fails_its_channels_at_once() {
    let pair = Pair::with_script(2, vec![Answer::Refused]);
    let (sender, _receiver) = pair.open(channel(0, 1));
    let back = pair.networks[0].receiver(task_manager(1), channel(1, 0));
    assert_eq!(loss_of_sender(&sender).reason, "the peer refused: scripted");
    let lost = back.map_or_else(|lost| lost, |back| loss(&back));
    assert_eq!(lost.reason, "the peer refused: scripted");
}

#[test]
fn channels_that_the_job_does_not_have_are_refused() {
    let pair = Pair::new(2);
    let [first, _] = &pair.networks;
    let reason = |result: Result<RemoteSender, ConnectionLost>| result.expect_err("no such channel").reason;
    let open = |peer: u32, channel: ChannelId| reason(first.sender(task_manager(peer), channel));
    assert_eq!(open(1, channel(0, 0)), "the job has no channel e0[0->0] to it");
    assert_eq!(open(1, channel(0, 9)), "the job has no channel e0[0->9] to it");
    assert_eq!(open(1, ChannelId { edge: 1, ..channel(0, 1) }), "the job has no channel e1[0->1] to it");
    assert_eq!(open(7, channel(0, 1)), "the schedule does not name this task manager");
    let _once = first.sender(task_manager(1), channel(0, 1)).expect("a channel");
    assert_eq!(open(1, channel(0, 1)), "channel e0[0->1] is open already");
}
