//! Refusals on the wire: an `ErrorDetail` inside a gRPC status, so that a caller knows who must react.

use bytes::Bytes;
use prost::Message;
use tonic::{Code, Status};

use crate::pb::{ErrorDetail, ErrorKind};

/// A refusal of this kind; `leader` is the `host:port` to ask instead, where it is known.
#[must_use]
pub fn status(kind: ErrorKind, message: impl Into<String>, leader: Option<String>) -> Status {
    let detail = ErrorDetail { kind: kind.into(), leader };
    Status::with_details(code(kind), message, Bytes::from(detail.encode_to_vec()))
}

/// What a refusal says about who must react; none when it does not come from a coordinator's service.
#[must_use]
pub fn error_detail(status: &Status) -> Option<ErrorDetail> {
    if status.details().is_empty() {
        return None;
    }
    ErrorDetail::decode(status.details()).ok()
}

fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::Unspecified => Code::Unknown,
        ErrorKind::User => Code::InvalidArgument,
        ErrorKind::NotLeader | ErrorKind::NotInitialized => Code::FailedPrecondition,
        ErrorKind::NoLeader | ErrorKind::UnknownOutcome => Code::Unavailable,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::Internal => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_carries_its_kind_and_the_leader() {
        let refusal = status(ErrorKind::NotLeader, "submit job: not the leader", Some("host:1".into()));
        assert_eq!(refusal.code(), Code::FailedPrecondition);
        assert_eq!(refusal.message(), "submit job: not the leader");
        let detail = error_detail(&refusal).expect("it has a detail");
        assert_eq!((detail.kind(), detail.leader.as_deref()), (ErrorKind::NotLeader, Some("host:1")));
    }

    #[test]
    fn a_foreign_status_has_no_detail() {
        assert_eq!(error_detail(&Status::unavailable("connection refused")), None);
        let garbage = Status::with_details(Code::Internal, "x", Bytes::from_static(&[0xff; 9]));
        assert_eq!(error_detail(&garbage), None);
    }

    #[test]
    fn a_malformed_message_is_the_users_fault() {
        let refusal = Status::from(crate::convert::Error::Missing { field: "JobSpec.graph" });
        assert_eq!(error_detail(&refusal).map(|detail| detail.kind()), Some(ErrorKind::User));
        assert!(refusal.message().contains("JobSpec.graph"), "{}", refusal.message());
    }
}
