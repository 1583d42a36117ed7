//! Where the other sub-tasks of a job are, and the channels to them.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tidemill_model::execution::Schedule;
use tidemill_model::id::{ExecutionVertexId, TaskManagerId};

use crate::runtime::local_channel::{LocalReceiver, LocalSender, local_channel};
use crate::runtime::network::{ChannelId, ConnectionLost, Network, RemoteReceiver, RemoteSender};

/// Halves of local channels, by edge, from and to.
type Waiting = BTreeMap<(u32, u32, u32), Box<dyn Any + Send>>;

/// The halves whose other half is already taken.
#[derive(Default)]
struct Halves {
    senders: Waiting,
    receivers: Waiting,
}

/// The channels of one job and attempt number on one task manager.
pub(crate) struct Wiring {
    task_manager: TaskManagerId,
    schedule: Schedule,
    network: Arc<dyn Network>,
    halves: Mutex<Halves>,
}

/// The sending half of a channel.
pub(crate) enum SendingHalf<T> {
    Local(LocalSender<T>),
    Remote(RemoteSender),
}

/// The receiving half of a channel.
pub(crate) enum ReceivingHalf<T> {
    Local(LocalReceiver<T>),
    Remote(RemoteReceiver),
}

impl Wiring {
    pub(crate) fn new(task_manager: TaskManagerId, schedule: Schedule, network: Arc<dyn Network>) -> Self {
        Self { task_manager, schedule, network, halves: Mutex::default() }
    }

    /// The task manager that runs a sub-task, when it is another one.
    fn peer(&self, vertex: ExecutionVertexId) -> Option<TaskManagerId> {
        let peer = self.schedule.attempts.get(&vertex)?.slot.task_manager;
        (peer != self.task_manager).then_some(peer)
    }

    pub(crate) fn sender<T: Send + 'static>(
        &self,
        channel: ChannelId,
        consumer: ExecutionVertexId,
    ) -> Result<SendingHalf<T>, ConnectionLost> {
        if let Some(peer) = self.peer(consumer) {
            return self.network.sender(peer, channel).map(SendingHalf::Remote);
        }
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        let (sender, receiver) = match take(&mut halves.senders, channel) {
            Some(sender) => return Ok(SendingHalf::Local(sender)),
            None => local_channel::<T>(),
        };
        halves.receivers.insert(key(channel), Box::new(receiver));
        Ok(SendingHalf::Local(sender))
    }

    pub(crate) fn receiver<T: Send + 'static>(
        &self,
        channel: ChannelId,
        producer: ExecutionVertexId,
    ) -> Result<ReceivingHalf<T>, ConnectionLost> {
        if let Some(peer) = self.peer(producer) {
            return self.network.receiver(peer, channel).map(ReceivingHalf::Remote);
        }
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        let (sender, receiver) = match take(&mut halves.receivers, channel) {
            Some(receiver) => return Ok(ReceivingHalf::Local(receiver)),
            None => local_channel::<T>(),
        };
        halves.senders.insert(key(channel), Box::new(sender));
        Ok(ReceivingHalf::Local(receiver))
    }
}

fn key(channel: ChannelId) -> (u32, u32, u32) {
    (channel.edge, channel.from.0, channel.to.0)
}

fn take<H: 'static>(waiting: &mut Waiting, channel: ChannelId) -> Option<H> {
    let half = waiting.remove(&key(channel))?;
    half.downcast().ok().map(|half| *half)
}
