//! The embedded cluster's log: one replica, in memory, always leading.

use std::sync::{Mutex, PoisonError};

use futures::future::BoxFuture;
use tidemill_model::id::NodeId;
use tokio::sync::watch;

use super::replicated_log::{Applied, Error, Leadership, ReplicatedLog, SharedState};
use crate::engine::replicated::Command;

/// The only term there is.
const TERM: u64 = 1;

/// A [`ReplicatedLog`] with a single replica and nothing on disk: as durable as its process, which is the cluster.
#[derive(Debug)]
pub struct MemoryLog {
    state: SharedState,
    last_index: Mutex<u64>,
    leadership: watch::Sender<Leadership>,
}

impl Default for MemoryLog {
    fn default() -> Self {
        let leadership = watch::Sender::new(Leadership::Leader { term: TERM });
        Self { state: SharedState::default(), last_index: Mutex::new(0), leadership }
    }
}

impl ReplicatedLog for MemoryLog {
    fn propose(&self, command: Command) -> BoxFuture<'_, Result<Applied, Error>> {
        let mut last_index = self.last_index.lock().unwrap_or_else(PoisonError::into_inner);
        *last_index += 1;
        let index = *last_index;
        let response = self.state.apply(index, TERM, &command);
        Box::pin(std::future::ready(Ok(Applied { index, response })))
    }

    fn linearize(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn state(&self) -> &SharedState {
        &self.state
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    fn node(&self) -> NodeId {
        NodeId(1)
    }
}
