//! One pair of executors: their channels, what waits to be written, and the state of their connection.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use tidemill_model::execution::TaskManagerLocation;
use tidemill_model::id::TaskManagerId;

use super::ends::{Consumer, Inbound, Outbound, Received};
use super::{ChannelId, ConnectionLost, WireElement};
use crate::engine::credit::{self, CREDITS_PER_CHANNEL, InboundAccount, OutboundAccount};
use crate::engine::frame::{Frame, MAX_PAYLOAD_BYTES};
use crate::engine::topology::Topology;

/// A frame that the peer must not have sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// Against the rules of a channel.
    #[error(transparent)]
    Account(#[from] credit::Error),
    /// The job has no such channel in this direction between these two executors.
    #[error("accept frame: the job has no channel {channel} between these task managers in this direction")]
    UnknownChannel {
        /// The channel.
        channel: ChannelId,
    },
    /// A second `Open`, or none at first.
    #[error("accept frame: the connection must be opened once, before anything else")]
    Open,
    /// This connection is no longer the link's.
    #[error("accept frame: the connection was replaced or closed")]
    Superseded,
}

/// Identifies one accepted connection of a link, since a newer one may replace it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Generation(u64);

/// What became of an accepted connection.
#[derive(Debug)]
pub(super) enum Acceptance {
    /// It is the link's connection now, unless a newer one comes before the dialler opens it.
    Answer(Generation),
    /// It is not wanted.
    Refused(String),
}

/// The connection to one other executor, with all its channels.
#[derive(Debug)]
pub(super) struct Link {
    this: TaskManagerId,
    peer: TaskManagerLocation,
    topology: Arc<Topology>,
    state: Mutex<State>,
    /// Signals: something to write, or the link is lost.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    connection: Connection,
    accepted: u64,
    /// Invariant: per channel at most the elements and the credit frames that credits allow.
    outbox: VecDeque<Frame>,
    outbound: BTreeMap<ChannelId, Outbound>,
    inbound: BTreeMap<ChannelId, Inbound>,
}

#[derive(Debug)]
enum Connection {
    /// Nobody has dialled yet.
    Idle,
    /// A thread is dialling.
    Dialling,
    /// Accepted, but the dialler may not know it: no data has flowed, and a newer connection replaces this one.
    Answered { generation: Generation, stream: TcpStream },
    /// Elements flow.
    Open { stream: TcpStream },
    /// Over.
    Lost(ConnectionLost),
}

impl Link {
    pub(super) fn new(this: TaskManagerId, peer: TaskManagerLocation, topology: Arc<Topology>) -> Self {
        let state = State {
            connection: Connection::Idle,
            accepted: 0,
            outbox: VecDeque::new(),
            outbound: BTreeMap::new(),
            inbound: BTreeMap::new(),
        };
        Self { this, peer, topology, state: Mutex::new(state), changed: Condvar::new() }
    }

    pub(super) fn peer(&self) -> &TaskManagerLocation {
        &self.peer
    }

    /// Whether this side dials: the executor with the smaller id does.
    pub(super) fn dials(&self) -> bool {
        self.this < self.peer.id
    }

    /// Opens a channel to the peer.
    pub(super) fn open_outbound(&self, channel: ChannelId) -> Result<Receiver<()>, ConnectionLost> {
        if !self.topology.has(channel, self.this, self.peer.id) {
            return Err(self.failure(format!("the job has no channel {channel} to it")));
        }
        let mut state = self.lock();
        if let Connection::Lost(lost) = &state.connection {
            return Err(lost.clone());
        }
        if state.outbound.contains_key(&channel) {
            return Err(self.failure(format!("channel {channel} is open already")));
        }
        let (credits, taken) = bounded(usize::try_from(CREDITS_PER_CHANNEL).expect("a small number"));
        let outbound = Outbound { account: OutboundAccount::new(channel), credits };
        if let Connection::Open { .. } = &state.connection {
            outbound.add_credits(CREDITS_PER_CHANNEL);
        }
        state.outbound.insert(channel, outbound);
        Ok(taken)
    }

    /// Opens a channel from the peer, of which elements may be here already.
    pub(super) fn open_inbound(&self, channel: ChannelId) -> Result<Receiver<Received>, ConnectionLost> {
        if !self.topology.has(channel, self.peer.id, self.this) {
            return Err(self.failure(format!("the job has no channel {channel} from it")));
        }
        let mut state = self.lock();
        // A channel that the peer used before is complete or carries its own error, even when the link is lost.
        let lost = match &state.connection {
            Connection::Lost(lost) => Some(lost.clone()),
            Connection::Idle | Connection::Dialling | Connection::Answered { .. } | Connection::Open { .. } => None,
        };
        let inbound = match (state.inbound.get_mut(&channel), lost) {
            (Some(inbound), _) => inbound,
            (None, Some(lost)) => return Err(lost),
            (None, None) => state.inbound.entry(channel).or_insert_with(|| Inbound::new(channel)),
        };
        let Consumer::Awaited(waiting) = &mut inbound.consumer else {
            return Err(self.failure(format!("channel {channel} is open already")));
        };
        let (queue, elements) = bounded(usize::try_from(CREDITS_PER_CHANNEL + 1).expect("a small number"));
        for received in waiting.drain(..) {
            queue.try_send(received).expect("has room for all credits and an error");
        }
        inbound.consumer = Consumer::Present(queue);
        Ok(elements)
    }

    /// Queues an element to be written.
    pub(super) fn send(&self, channel: ChannelId, element: WireElement) -> Result<(), ConnectionLost> {
        if let WireElement::Batch(records) = &element
            && records.len() > MAX_PAYLOAD_BYTES
        {
            let reason = format!("a batch has {} bytes, at most {MAX_PAYLOAD_BYTES} are allowed", records.len());
            return Err(self.failure(reason));
        }
        let mut state = self.lock();
        if let Connection::Lost(lost) = &state.connection {
            return Err(lost.clone());
        }
        let outbound =
            state.outbound.get_mut(&channel).ok_or_else(|| self.failure(format!("channel {channel} is not open")))?;
        let ends = element == WireElement::EndOfInput;
        let sequence = outbound.account.send(ends).map_err(|error| self.failure(error.to_string()))?;
        state.outbox.push_back(Frame::Element { channel, sequence, element });
        self.changed.notify_all();
        Ok(())
    }

    /// Books that the consumer of a channel has used up an element.
    pub(super) fn release(&self, channel: ChannelId) {
        self.give_back(channel, InboundAccount::release);
    }

    /// Lends the producer of a channel a credit, if it has none left.
    pub(super) fn lend(&self, channel: ChannelId) {
        self.give_back(channel, InboundAccount::lend);
    }

    fn give_back(&self, channel: ChannelId, credits: impl Fn(&mut InboundAccount) -> Option<(u64, u32)>) {
        let mut state = self.lock();
        let Connection::Open { .. } = &state.connection else { return };
        let Some(inbound) = state.inbound.get_mut(&channel) else { return };
        if let Some((sequence, count)) = credits(&mut inbound.account) {
            state.outbox.push_back(Frame::Credit { channel, sequence, count });
            self.changed.notify_all();
        }
    }

    /// Takes in a frame from the open connection.
    pub(super) fn receive(&self, frame: Frame) -> Result<(), Error> {
        let mut state = self.lock();
        let Connection::Open { .. } = &state.connection else { return Err(Error::Superseded) };
        match frame {
            Frame::Open => Err(Error::Open),
            Frame::Element { channel, sequence, element } => {
                self.receive_element(&mut state, channel, sequence, element)
            }
            Frame::Credit { channel, sequence, count } => {
                let outbound = state.outbound.get_mut(&channel).ok_or(Error::UnknownChannel { channel })?;
                outbound.account.grant(sequence, count)?;
                outbound.add_credits(count);
                Ok(())
            }
        }
    }

    fn receive_element(
        &self,
        state: &mut State,
        channel: ChannelId,
        sequence: u64,
        element: WireElement,
    ) -> Result<(), Error> {
        if !state.inbound.contains_key(&channel) && !self.topology.has(channel, self.peer.id, self.this) {
            return Err(Error::UnknownChannel { channel });
        }
        let inbound = state.inbound.entry(channel).or_insert_with(|| Inbound::new(channel));
        inbound.account.receive(sequence, element == WireElement::EndOfInput)?;
        // Full only if the consumer released more than it took, which the account cannot see.
        inbound.consumer.take(Ok(element)).map_err(|_| credit::Error::WithoutCredit { channel }.into())
    }

    /// Claims the right to dial: true once, if this side is the one that dials.
    pub(super) fn start_dialling(&self) -> bool {
        let mut state = self.lock();
        let starts = self.dials() && matches!(state.connection, Connection::Idle);
        if starts {
            state.connection = Connection::Dialling;
        }
        starts
    }

    /// Waits before dialling again; false when there is no need to any more.
    pub(super) fn dial_again_after(&self, pause: Duration) -> bool {
        let state = self.lock();
        let dialling = |state: &mut State| matches!(state.connection, Connection::Dialling);
        let (state, _) =
            self.changed.wait_timeout_while(state, pause, dialling).unwrap_or_else(PoisonError::into_inner);
        matches!(state.connection, Connection::Dialling)
    }

    /// The dialled connection was accepted: elements may flow.
    pub(super) fn dialled(&self, stream: TcpStream) -> Result<(), Error> {
        let mut state = self.lock();
        let Connection::Dialling = &state.connection else { return Err(Error::Superseded) };
        // First of all, so that the acceptor knows that this connection will not be replaced.
        state.outbox.push_front(Frame::Open);
        self.open(&mut state, stream);
        Ok(())
    }

    /// Offers a connection that the peer dialled.
    pub(super) fn accept(&self, stream: TcpStream) -> Acceptance {
        let mut state = self.lock();
        match &state.connection {
            Connection::Dialling => return Acceptance::Refused("this side dials".into()),
            Connection::Open { .. } => return Acceptance::Refused("these executors are connected already".into()),
            Connection::Lost(lost) => return Acceptance::Refused(format!("the connection was lost: {}", lost.reason)),
            // Its dialler gave up on it, or it would not have dialled again.
            Connection::Answered { stream: older, .. } => drop(older.shutdown(Shutdown::Both)),
            Connection::Idle => {}
        }
        state.accepted += 1;
        let generation = Generation(state.accepted);
        state.connection = Connection::Answered { generation, stream };
        Acceptance::Answer(generation)
    }

    /// The dialler has confirmed an accepted connection: elements may flow.
    pub(super) fn confirmed(&self, generation: Generation, stream: TcpStream) -> Result<(), Error> {
        let mut state = self.lock();
        if !state.connection.is_answered(generation) {
            return Err(Error::Superseded);
        }
        self.open(&mut state, stream);
        Ok(())
    }

    /// An accepted connection broke before it was confirmed: its dialler will dial again.
    pub(super) fn unconfirmed(&self, generation: Generation) {
        let mut state = self.lock();
        if state.connection.is_answered(generation) {
            state.connection = Connection::Idle;
        }
    }

    fn open(&self, state: &mut State, stream: TcpStream) {
        state.connection = Connection::Open { stream };
        for outbound in state.outbound.values() {
            outbound.add_credits(CREDITS_PER_CHANNEL);
        }
        self.changed.notify_all();
    }

    /// Waits for frames to write; none when the link is lost.
    pub(super) fn next_frames(&self) -> Option<VecDeque<Frame>> {
        let idle = |state: &mut State| state.outbox.is_empty() && matches!(state.connection, Connection::Open { .. });
        let mut state = self.changed.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        let open = matches!(state.connection, Connection::Open { .. });
        open.then(|| std::mem::take(&mut state.outbox))
    }

    /// Ends the link: every channel that has not ended learns of it. The first reason stands.
    pub(super) fn lose(&self, reason: String) {
        let mut state = self.lock();
        let lost = self.failure(reason);
        match &state.connection {
            Connection::Lost(_) => return,
            Connection::Answered { stream, .. } | Connection::Open { stream } => {
                // An error means that it is closed already, which is what is wanted.
                drop(stream.shutdown(Shutdown::Both));
            }
            Connection::Idle | Connection::Dialling => {}
        }
        tracing::debug!(task_manager_id = %self.peer.id, "{lost}");
        state.connection = Connection::Lost(lost.clone());
        state.outbox.clear();
        state.outbound.clear();
        for inbound in state.inbound.values_mut().filter(|inbound| !inbound.account.ended()) {
            // Full only for a consumer that broke the rules and has an error coming in any case.
            drop(inbound.consumer.take(Err(lost.clone())));
        }
        state.inbound.retain(|_, inbound| matches!(inbound.consumer, Consumer::Awaited(_)));
        self.changed.notify_all();
    }

    /// Why the link ended.
    pub(super) fn lost(&self) -> ConnectionLost {
        match &self.lock().connection {
            Connection::Lost(lost) => lost.clone(),
            Connection::Idle | Connection::Dialling | Connection::Answered { .. } | Connection::Open { .. } => {
                self.failure("the connection is not lost".into())
            }
        }
    }

    fn failure(&self, reason: String) -> ConnectionLost {
        ConnectionLost { peer: format!("{} ({})", self.peer.name, self.peer.data_address), reason }
    }

    /// No code under this lock calls foreign code, so a poisoned state is still whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    fn is_answered(&self, by: Generation) -> bool {
        matches!(self, Self::Answered { generation, .. } if *generation == by)
    }
}
