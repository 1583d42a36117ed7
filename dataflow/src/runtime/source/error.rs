//! Why a source cannot go on: which source, which split, and the reason.

use std::io;

use tidemill_model::execution::FailureKind;

use crate::format::BadRecord;
use crate::runtime::sink::UserError;

/// Why a source cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its splits cannot be found.
    #[error("discover splits of {source_name:?}: {reason}")]
    Discover {
        /// The source.
        source_name: String,
        /// Why not.
        reason: UserError,
    },
    /// A split cannot be opened.
    #[error("open split {split} of {source_name:?}: {reason}")]
    Open {
        /// The source.
        source_name: String,
        /// The split.
        split: String,
        /// Why not.
        reason: UserError,
    },
    /// A split cannot be read on.
    #[error("read split {split} of {source_name:?}: {reason}")]
    Read {
        /// The source.
        source_name: String,
        /// The split, with how far it was read.
        split: String,
        /// Why not.
        reason: UserError,
    },
}

impl Error {
    /// What sort of failure it is for a task: what would be the same again is not tried again.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        let (Self::Discover { reason, .. } | Self::Open { reason, .. } | Self::Read { reason, .. }) = self;
        if is_hopeless(reason.as_ref()) { FailureKind::InvalidInput } else { FailureKind::Io }
    }
}

fn is_hopeless(reason: &(dyn std::error::Error + 'static)) -> bool {
    use io::ErrorKind::{InvalidData, NotADirectory, NotFound, PermissionDenied};
    if reason.is::<BadRecord>() {
        return true;
    }
    if let Some(error) = reason.downcast_ref::<io::Error>() {
        return matches!(error.kind(), NotFound | PermissionDenied | InvalidData | NotADirectory);
    }
    reason.source().is_some_and(is_hopeless)
}
