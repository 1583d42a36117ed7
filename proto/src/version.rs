//! The version of the protocol between processes, and the refusal of a newer one.

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

use crate::convert;
use crate::pb::ErrorKind;

/// The version that this release speaks: of Raft frames, of hellos and of clients' calls.
///
/// A message that an older release would misunderstand raises it; a new optional field does not.
pub const PROTOCOL_VERSION: u32 = 1;

/// The metadata key under which a client's call names its version.
pub const PROTOCOL_METADATA: &str = "tidemill-protocol";

/// A peer that cannot be talked to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Its release is newer.
    #[error(
        "talk to {peer}: it speaks version {theirs} of the protocol and this process versions up to \
         {PROTOCOL_VERSION}; upgrade this process, coordinators before task managers before clients"
    )]
    Newer {
        /// Who.
        peer: String,
        /// Its version.
        theirs: u32,
    },
    /// It names no version.
    #[error(
        "talk to {peer}: it names no version of the protocol; it is not of a release that can be part of this cluster"
    )]
    Missing {
        /// Who.
        peer: String,
    },
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        convert::status(ErrorKind::User, error.to_string(), None)
    }
}

/// Whether messages of this version can be understood; `peer` names its sender in the error.
///
/// # Errors
///
/// When the version is newer than this release's, or missing.
pub fn check_version(theirs: u32, peer: impl FnOnce() -> String) -> Result<(), Error> {
    match theirs {
        0 => Err(Error::Missing { peer: peer() }),
        1..=PROTOCOL_VERSION => Ok(()),
        _ => Err(Error::Newer { peer: peer(), theirs }),
    }
}

/// Names this release's version in each call of a client.
#[derive(Debug, Clone, Copy, Default)]
pub struct NameVersion;

impl Interceptor for NameVersion {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert(PROTOCOL_METADATA, MetadataValue::<Ascii>::from(PROTOCOL_VERSION));
        Ok(request)
    }
}

/// Refuses calls of clients whose version is newer. One that names none is taken for one of this version.
#[derive(Debug, Clone, Copy, Default)]
pub struct CheckVersion;

impl Interceptor for CheckVersion {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(named) = request.metadata().get(PROTOCOL_METADATA) {
            let version = named.to_str().ok().and_then(|text| text.parse().ok()).unwrap_or(0);
            check_version(version, || "the client".to_owned())?;
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(version: Option<&'static str>) -> Result<(), String> {
        let mut request = Request::new(());
        if let Some(version) = version {
            request.metadata_mut().insert(PROTOCOL_METADATA, MetadataValue::from_static(version));
        }
        CheckVersion.call(request).map(drop).map_err(|status| status.message().to_owned())
    }

    #[test]
    fn a_newer_client_is_refused_and_told_what_to_upgrade() {
        assert_eq!(call(None), Ok(()));
        assert_eq!(call(Some("1")), Ok(()));
        let refused = call(Some("2")).expect_err("newer");
        assert!(refused.contains("version 2") && refused.contains("upgrade this process"), "{refused}");
        assert!(call(Some("x")).is_err());
    }

    #[test]
    fn every_call_of_a_client_names_its_version() {
        let request = NameVersion.call(Request::new(())).expect("it only adds");
        CheckVersion.call(request).expect("of this version");
    }
}
