//! The configured coordinators, who leads them as far as is known, and channels to each.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tidemill_model::config::{COORDINATOR_ADDRESSES, Configuration, RPC_MAX_MESSAGE_SIZE};
use tidemill_proto::pb::client_client::ClientClient;
use tidemill_proto::pb::task_manager_client::TaskManagerClient;
use tonic::transport::{Channel, Endpoint};

/// How long one connection attempt may take: machines that answer do so at once.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// Together they notice a half-open connection within 3 s.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
struct State {
    leader: Option<String>,
    channels: BTreeMap<String, Channel>,
}

/// Whom to ask, the leader first.
#[derive(Debug)]
pub(crate) struct Coordinators {
    addresses: Vec<String>,
    message_limit: usize,
    state: Mutex<State>,
}

impl Coordinators {
    pub(crate) fn new(configuration: &Configuration) -> Self {
        let message_limit = usize::try_from(configuration.get(&RPC_MAX_MESSAGE_SIZE)).unwrap_or(usize::MAX);
        Self { addresses: configuration.get(&COORDINATOR_ADDRESSES), message_limit, state: Mutex::default() }
    }

    /// Every configured address, in the order of the configuration.
    pub(crate) fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// The leader, when one is known, then the others.
    pub(crate) fn leader_first(&self) -> Vec<String> {
        let leader = self.locked(|state| state.leader.clone());
        let others = self.addresses.iter().filter(|&address| Some(address) != leader.as_ref()).cloned();
        leader.iter().cloned().chain(others).collect()
    }

    /// Remembers who leads.
    pub(crate) fn set_leader(&self, leader: Option<String>) {
        self.locked(|state| state.leader = leader);
    }

    /// A connection of its own for a session, so that a silent one is not shared.
    pub(crate) async fn session(&self, address: &str) -> Result<TaskManagerClient<Channel>, tonic::transport::Error> {
        let channel = endpoint(address)?.connect().await?;
        let client = TaskManagerClient::new(channel);
        Ok(client.max_decoding_message_size(self.message_limit).max_encoding_message_size(self.message_limit))
    }

    /// For blobs; the connection is made when it is used and kept.
    pub(crate) fn client(&self, address: &str) -> Result<ClientClient<Channel>, tonic::transport::Error> {
        let known = self.locked(|state| state.channels.get(address).cloned());
        let channel = match known {
            Some(channel) => channel,
            None => {
                let channel = endpoint(address)?.connect_lazy();
                // Leaders may be named that are not configured, but a cluster has few.
                self.locked(|state| state.channels.insert(address.to_owned(), channel.clone()));
                channel
            }
        };
        Ok(ClientClient::new(channel).max_decoding_message_size(self.message_limit))
    }

    fn locked<R>(&self, use_state: impl FnOnce(&mut State) -> R) -> R {
        use_state(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn endpoint(address: &str) -> Result<Endpoint, tonic::transport::Error> {
    Ok(Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true))
}
