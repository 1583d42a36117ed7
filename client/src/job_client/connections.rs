//! One lazy channel per coordinator, and what a failed call means for the search.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tidemill_proto::version::NameVersion;
use tidemill_proto::{convert, pb};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};

use super::error::Error;
use super::leader_search::{Audience, Refusal};

/// A live host on any sane network accepts within this; a dead one must not hold up the search.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// Pings find a half-open connection, or a stopped process, within two of these.
const KEEP_ALIVE: Duration = Duration::from_millis(1500);
/// How many addresses are remembered: leaders are named by coordinators, so the list must not grow without bound.
const CHANNELS_MAX: usize = 64;
/// The longest answer: the details of a job with thousands of sub-tasks.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a coordinator's stub is called here.
pub(crate) type Stub = pb::client_client::ClientClient<InterceptedService<Channel, NameVersion>>;

/// What a failed call means.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Ask somebody else.
    Next(Refusal),
    /// Asking somebody else would not help.
    Final(Error),
}

/// The channels.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    channels: Mutex<BTreeMap<String, Channel>>,
}

impl Connections {
    /// The stub of the coordinator at `address`; connects at the first call.
    pub(crate) fn stub(&self, address: &str) -> Result<Stub, Refusal> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(address) {
            return Ok(stub_over(channel.clone()));
        }
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|_| Refusal::Unreachable("the address is not host:port".to_owned()))?;
        let channel = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .connect_lazy();
        if channels.len() < CHANNELS_MAX {
            channels.insert(address.to_owned(), channel.clone());
        }
        Ok(stub_over(channel))
    }
}

fn stub_over(channel: Channel) -> Stub {
    let channel = InterceptedService::new(channel, NameVersion);
    Stub::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Reads a refusal; statuses without our detail come from the transport.
pub(crate) fn judge(audience: Audience, coordinator: &str, status: &tonic::Status) -> Verdict {
    let message = status.message().to_owned();
    let Some(detail) = convert::error_detail(status) else {
        return judge_transport(coordinator, status);
    };
    match detail.kind() {
        pb::ErrorKind::User => Verdict::Final(Error::Refused(message)),
        pb::ErrorKind::NotLeader => Verdict::Next(Refusal::NotLeader { leader: detail.leader }),
        // Calls are idempotent: whatever came of this one, it is asked again.
        pb::ErrorKind::NoLeader | pb::ErrorKind::UnknownOutcome => Verdict::Next(Refusal::NoLeader(message)),
        pb::ErrorKind::NotInitialized => Verdict::Next(Refusal::NotInitialized),
        pb::ErrorKind::NotFound => match audience {
            Audience::Leader | Audience::Reader => Verdict::Final(Error::NotFound(message)),
            Audience::Anyone => Verdict::Next(Refusal::NotFound(message)),
        },
        pb::ErrorKind::Internal | pb::ErrorKind::Unspecified => match audience {
            Audience::Leader => Verdict::Final(Error::Internal { coordinator: coordinator.to_owned(), message }),
            Audience::Reader | Audience::Anyone => Verdict::Next(Refusal::Unreachable(message)),
        },
    }
}

fn judge_transport(coordinator: &str, status: &tonic::Status) -> Verdict {
    let message = status.message().to_owned();
    match status.code() {
        tonic::Code::InvalidArgument | tonic::Code::OutOfRange | tonic::Code::ResourceExhausted => {
            Verdict::Final(Error::Refused(message))
        }
        tonic::Code::Unimplemented => Verdict::Final(Error::Internal {
            coordinator: coordinator.to_owned(),
            message: format!("it does not know this call ({message}); is it a Tidemill coordinator of this version?"),
        }),
        tonic::Code::Ok
        | tonic::Code::Cancelled
        | tonic::Code::Unknown
        | tonic::Code::DeadlineExceeded
        | tonic::Code::NotFound
        | tonic::Code::AlreadyExists
        | tonic::Code::PermissionDenied
        | tonic::Code::FailedPrecondition
        | tonic::Code::Aborted
        | tonic::Code::Internal
        | tonic::Code::Unavailable
        | tonic::Code::DataLoss
        | tonic::Code::Unauthenticated => Verdict::Next(Refusal::Unreachable(reason(status))),
    }
}

/// The innermost cause: "tcp connect error" alone helps nobody.
fn reason(status: &tonic::Status) -> String {
    let mut innermost = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        innermost = error.to_string();
        source = error.source();
    }
    innermost
}
