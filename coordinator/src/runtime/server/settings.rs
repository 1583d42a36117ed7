//! What a coordinator is told at its start.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use tidemill_model::config::{self, Configuration};

use crate::engine::leader::SlotPlacement;
use crate::runtime::leader::LeaderSettings;
use crate::runtime::raft::RaftSettings;

/// Settings that do not fit together.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Others could reach the coordinator although nothing keeps strangers out.
    #[error(
        "listen on {host}: it is not a loopback address, and this release has neither encryption nor authentication: \
         whoever reaches the port can run programs; bind to 127.0.0.1, or say --insecure when the network keeps \
         strangers out"
    )]
    Exposed {
        /// `coordinator.bind-host`.
        host: String,
    },
    /// Nobody could be told where the coordinator is.
    #[error(
        "advertise {host}: it is the address of every interface and no place to dial; set coordinator.host to the \
         name or address under which others reach this coordinator"
    )]
    Unspecified {
        /// `coordinator.bind-host`.
        host: String,
    },
}

/// The coordinator's part of the configuration.
#[derive(Debug, Clone)]
pub struct CoordinatorSettings {
    /// For people; none: host and Raft port.
    pub name: Option<String>,
    /// Where to listen.
    pub bind_host: String,
    /// What others dial.
    pub host: String,
    /// The ports; 0: whichever the system chooses.
    pub client_port: u16,
    /// For the other coordinators.
    pub raft_port: u16,
    /// For health checks and metrics.
    pub http_port: u16,
    /// The data directory.
    pub dir: PathBuf,
    /// Where to write events; none: nowhere.
    pub events_dir: Option<PathBuf>,
    /// The Raft addresses that `InitCluster` makes one cluster of; empty: this coordinator alone.
    pub join: Vec<String>,
    /// The log's timers.
    pub raft: RaftSettings,
    /// The leader's timers.
    pub leader: LeaderSettings,
    /// The largest blob, in bytes.
    pub blob_size_max: u64,
    /// The largest message of clients and task managers, in bytes.
    pub message_size_max: usize,
    /// Whether the operations of the chaos harness are let in.
    pub chaos_api: ChaosApi,
}

/// Whether the operations of the chaos harness are let in (`coordinator.chaos-api`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChaosApi {
    /// In production.
    Closed,
    /// Under test.
    Open,
}

impl CoordinatorSettings {
    /// Reads them from a validated configuration; `insecure` lifts the limit to loopback addresses.
    ///
    /// # Errors
    ///
    /// When the address to listen on is exposed or cannot be advertised.
    pub fn new(configuration: &Configuration, insecure: bool) -> Result<Self, Error> {
        let bind_host = configuration.get(&config::COORDINATOR_BIND_HOST);
        let host = configuration.get(&config::COORDINATOR_HOST);
        if !insecure && !is_loopback(&bind_host) {
            return Err(Error::Exposed { host: bind_host });
        }
        let unspecified = bind_host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified());
        let host = match host {
            Some(host) => host,
            None if unspecified => return Err(Error::Unspecified { host: bind_host }),
            None => bind_host.clone(),
        };
        Ok(Self {
            name: configuration.get(&config::COORDINATOR_NAME),
            bind_host,
            host,
            client_port: configuration.get(&config::COORDINATOR_CLIENT_PORT),
            raft_port: configuration.get(&config::COORDINATOR_RAFT_PORT),
            http_port: configuration.get(&config::COORDINATOR_HTTP_PORT),
            dir: PathBuf::from(configuration.get(&config::COORDINATOR_DIR)),
            events_dir: configuration.get(&config::EVENTS_DIR).map(PathBuf::from),
            join: configuration.get(&config::COORDINATOR_JOIN),
            raft: RaftSettings {
                heartbeat_interval: configuration.get(&config::COORDINATOR_RAFT_HEARTBEAT_INTERVAL),
                election_timeout_min: configuration.get(&config::COORDINATOR_RAFT_ELECTION_TIMEOUT_MIN),
                election_timeout_max: configuration.get(&config::COORDINATOR_RAFT_ELECTION_TIMEOUT_MAX),
                snapshot_every: u64::from(configuration.get(&config::COORDINATOR_RAFT_SNAPSHOT_EVERY)),
            },
            leader: LeaderSettings {
                heartbeat_interval: configuration.get(&config::HEARTBEAT_INTERVAL),
                heartbeat_timeout: configuration.get(&config::HEARTBEAT_TIMEOUT),
                heartbeat_grace: configuration.get(&config::HEARTBEAT_GRACE),
                reconcile_timeout: configuration.get(&config::COORDINATOR_RECONCILE_TIMEOUT),
                history_size: configuration.get(&config::COORDINATOR_HISTORY_SIZE),
                late_writes: LeaderSettings::default().late_writes,
                placement: if configuration.get(&config::CLUSTER_EVENLY_SPREAD_OUT_SLOTS) {
                    SlotPlacement::Spread
                } else {
                    SlotPlacement::Pack
                },
                ..LeaderSettings::default()
            },
            blob_size_max: configuration.get(&config::BLOB_MAX_SIZE),
            message_size_max: usize::try_from(configuration.get(&config::RPC_MAX_MESSAGE_SIZE)).unwrap_or(usize::MAX),
            chaos_api: if configuration.get(&config::COORDINATOR_CHAOS_API) {
                ChaosApi::Open
            } else {
                ChaosApi::Closed
            },
        })
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// HTTP/2 keep-alive of every server: an idle connection is probed so often,
pub(super) const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(1);
/// and given up when nothing comes back for so long.
pub(super) const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use tidemill_model::config::Scope;

    use super::*;

    fn settings(overrides: &[&str], insecure: bool) -> Result<CoordinatorSettings, Error> {
        let mut given = vec!["coordinator.dir=/data".to_owned()];
        given.extend(overrides.iter().map(|&text| text.to_owned()));
        let configuration = Configuration::parse(Scope::Coordinator, [], &given).expect("valid");
        CoordinatorSettings::new(&configuration, insecure)
    }

    #[test]
    fn a_non_loopback_address_needs_consent() {
        let error = settings(&["coordinator.bind-host=192.0.2.1"], false).expect_err("exposed").to_string();
        assert!(error.contains("192.0.2.1") && error.contains("--insecure"), "{error}");
        let settings = settings(&["coordinator.bind-host=192.0.2.1"], true).expect("consented");
        assert_eq!(settings.host, "192.0.2.1");
    }

    #[test]
    fn every_interface_is_no_address_to_dial() {
        assert!(matches!(settings(&["coordinator.bind-host=0.0.0.0"], true), Err(Error::Unspecified { .. })));
        let named = settings(&["coordinator.bind-host=0.0.0.0", "coordinator.host=c1"], true).expect("named");
        assert_eq!((named.bind_host.as_str(), named.host.as_str()), ("0.0.0.0", "c1"));
    }

    #[test]
    fn the_defaults_listen_on_loopback() {
        let settings = settings(&[], false).expect("the defaults fit");
        assert_eq!((settings.host.as_str(), settings.client_port), ("127.0.0.1", 6123));
    }
}
